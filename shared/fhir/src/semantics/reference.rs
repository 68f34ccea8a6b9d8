//! References of one resource to another: `Patient/17`, `https://example.org/fhir/Patient/17/_history/2`.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::{Json, Resource, ResourceType};

/// What a literal reference names, without the version it may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalReference<'a> {
    /// The type in the reference's text.
    pub kind: ResourceType,
    /// The logical id, case-sensitive.
    pub id: &'a str,
}

/// Which absolute references are to resources of this lake.
///
/// By default all of them: a lake holds one system's resources, and the base under which that system wrote its
/// references is seldom the one under which they are exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bases(Option<Vec<String>>);

impl Bases {
    /// Takes every base.
    pub fn any() -> Self {
        Self(None)
    }

    /// Takes only these, such as `https://example.org/fhir`, with or without a slash at the end. Relative references
    /// are always taken.
    pub fn only(bases: impl IntoIterator<Item = String>) -> Self {
        Self(Some(bases.into_iter().map(|base| base.trim_end_matches('/').to_owned()).collect()))
    }

    fn contain(&self, base: &str) -> bool {
        match &self.0 {
            None => is_http(base),
            Some(bases) => bases.iter().any(|known| known == base),
        }
    }
}

fn is_http(base: &str) -> bool {
    base.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
}

/// Reads `Type/id` out of the text of `Reference.reference`.
///
/// * Relative, versioned (`Type/id/_history/2`) or absolute below one of `bases`.
/// * `None` for whatever names no resource of the lake: `#contained`, `urn:uuid:…`, `Patient?identifier=…`, another base,
///   a type that FHIR does not define.
/// * An id may be longer than FHIR's 64 characters and hold others than FHIR's: real servers use such ids, and a
///   resource must not leave its patient's compartment for it.
pub fn local_reference<'a>(text: &'a str, bases: &Bases) -> Option<LocalReference<'a>> {
    read(text, bases).map(|(named, _)| named)
}

/// The same, and whether it names a version.
pub(crate) fn read<'a>(text: &'a str, bases: &Bases) -> Option<(LocalReference<'a>, bool)> {
    if text.contains(['?', '#']) {
        return None;
    }
    let (current, version) = match text.rsplit_once("/_history/") {
        Some((current, version)) => (current, Some(version)),
        None => (text, None),
    };
    if version.is_some_and(|version| version.is_empty() || version.contains('/')) {
        return None;
    }
    let (before, id) = current.rsplit_once('/')?;
    let kind = match before.rsplit_once('/') {
        Some((base, kind)) if bases.contain(base) => kind,
        Some(_) => return None,
        None => before,
    };
    let kind = ResourceType::named(kind)?;
    (!id.is_empty()).then_some((LocalReference { kind, id }, version.is_some()))
}

/// Gives what a `Reference` object, or an array of them, names to `visit`, until that says `true`; whether it did.
pub(crate) fn any_of(value: Json<'_>, bases: &Bases, visit: &mut impl FnMut(LocalReference<'_>) -> bool) -> bool {
    value.items().any(|item| {
        let text = item.member("reference").and_then(Json::text);
        text.is_some_and(|text| local_reference(&text, bases).is_some_and(&mut *visit))
    })
}

/// Gives what every `reference` member of the resource names, at any depth and in contained resources too, to `visit`,
/// until that says `true`; whether it did.
pub fn any_reference(resource: &Resource<'_>, bases: &Bases, visit: &mut impl FnMut(LocalReference<'_>) -> bool) -> bool {
    // A flat walk from string to string: the one in front of a colon is a name.
    let mut rest = resource.json().as_str();
    let mut is_reference = false;
    while let Some((string, behind)) = next_string(rest) {
        rest = behind.trim_start_matches([' ', '\t', '\r', '\n']);
        if is_reference {
            let text = Json::of_valid(string).text();
            if text.is_some_and(|text| local_reference(&text, bases).is_some_and(&mut *visit)) {
                return true;
            }
        }
        is_reference = match rest.strip_prefix(':') {
            Some(value) => {
                rest = value.trim_start_matches([' ', '\t', '\r', '\n']);
                rest.starts_with('"') && is_named_reference(string)
            }
            None => false,
        };
    }
    false
}

fn is_named_reference(string: &str) -> bool {
    string == "\"reference\"" || (string.contains('\\') && Json::of_valid(string).text() == Some(Cow::Borrowed("reference")))
}

/// The next string with its quotes, and what stands behind it.
fn next_string(text: &str) -> Option<(&str, &str)> {
    let text = text.get(memchr(b'"', text.as_bytes())?..)?;
    let mut end = 1;
    loop {
        end += memchr2(b'"', b'\\', text.as_bytes().get(end..)?)?;
        if text.as_bytes().get(end) == Some(&b'"') {
            return Some((text.get(..=end)?, text.get(end + 1..)?));
        }
        end += 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Outline;

    fn read_any(text: &str) -> Option<(&str, &str)> {
        local_reference(text, &Bases::any()).map(|named| (named.kind.as_str(), named.id))
    }

    #[test]
    fn relative_versioned_and_absolute_references_name_the_same_resource() {
        for text in [
            "Patient/P-1.a",
            "Patient/P-1.a/_history/2",
            "http://example.org/Patient/P-1.a",
            "https://example.org:8080/r4/fhir/Patient/P-1.a",
            "HTTPS://example.org/fhir/Patient/P-1.a/_history/v.3",
            "https://example.org/Patient/Patient/P-1.a",
        ] {
            assert_eq!(read_any(text), Some(("Patient", "P-1.a")), "{text}");
        }
    }

    #[test]
    fn what_names_no_resource_of_the_lake_is_none() {
        for text in [
            "",
            "/",
            "Patient",
            "Patient/",
            "/Patient/1",
            "patient/1",
            "Dog/1",
            "#Patient/1",
            "#p1",
            "urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7",
            "urn:oid:1.2.3/Patient/1",
            "Patient?identifier=http://example.org/Patient/1",
            "Patient/1#part",
            "Patient/1/_history/",
            "Patient/1/_history/2/3",
            "Patient/_history/2",
            "Patient/1/name",
            "fhir/Patient/1",
            "ftp://example.org/Patient/1",
            "https://example.org/Patient/1/$everything",
        ] {
            assert_eq!(read_any(text), None, "{text}");
        }
    }

    #[test]
    fn ids_are_case_sensitive_and_may_be_those_of_real_servers() {
        assert_ne!(read_any("Patient/a"), read_any("Patient/A"));
        let long = "x_".repeat(60);
        assert_eq!(read_any(&format!("Patient/{long}")), Some(("Patient", long.as_str())));
    }

    #[test]
    fn listed_bases_restrict_absolute_references_only() {
        let bases = Bases::only(["https://a.example/fhir/".to_owned(), "https://b.example".to_owned()]);
        for (text, is_ours) in [
            ("Patient/1", true),
            ("https://a.example/fhir/Patient/1", true),
            ("https://b.example/Patient/1/_history/7", true),
            ("https://a.example/Patient/1", false),
            ("https://a.example/fhir/more/Patient/1", false),
            ("https://a.example/fhirs/Patient/1", false),
            ("https://c.example/fhir/Patient/1", false),
        ] {
            assert_eq!(local_reference(text, &bases).is_some(), is_ours, "{text}");
        }
    }

    fn references_in(line: &str) -> Vec<String> {
        let mut outline = Outline::default();
        let resource = Resource::read(line.as_bytes(), &mut outline).unwrap();
        let mut found = Vec::new();
        let is_stopped = any_reference(&resource, &Bases::any(), &mut |named| {
            found.push(format!("{}/{}", named.kind, named.id));
            false
        });
        assert!(!is_stopped);
        found
    }

    #[test]
    fn references_are_found_at_any_depth() {
        let line = r##"{"resourceType":"Procedure","id":"p","subject":{"reference" : "Patient/1"},"code":{"text":"reference"},
            "note":[{"text":"\"reference\":\"Patient/no\""}],"performer":[{"actor":{"reference":"Practitioner\/2"}},{"actor":{"display":"x"}}],
            "contained":[{"resourceType":"Device","id":"d","owner":{"ref\u0065rence":"Organization/3/_history/1"}}],
            "reason":[{"reference":{"reference":"https://example.org/Condition/4"}}],"used":[{"reference":"#d"}]}"##;
        assert_eq!(references_in(line), ["Patient/1", "Practitioner/2", "Organization/3", "Condition/4"]);
    }

    #[test]
    fn the_walk_ends_where_the_visitor_says_so() {
        let line = br#"{"resourceType":"List","id":"l","entry":[{"item":{"reference":"Device/1"}},{"item":{"reference":"Device/2"}}]}"#;
        let mut outline = Outline::default();
        let resource = Resource::read(line, &mut outline).unwrap();
        let mut met = 0;
        assert!(any_reference(&resource, &Bases::any(), &mut |_| {
            met += 1;
            true
        }));
        assert_eq!(met, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_text_makes_the_reader_panic(text in "(https?://|urn:|#)?([A-Za-z_./?#]|Patient/|/_history/|\\PC){0,12}") {
            if let Some(named) = local_reference(&text, &Bases::any()) {
                let relative = format!("{}/{}", named.kind, named.id);
                prop_assert!(text.contains(&relative));
                prop_assert_eq!(local_reference(&relative, &Bases::any()), Some(named));
            }
        }
    }
}
