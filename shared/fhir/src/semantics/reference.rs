//! References from one resource to another: `Patient/17`, `https://example.org/fhir/Patient/17/_history/2`.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::definitions::ResourceType;
use crate::head::Resource;
use crate::json::JsonValue;

/// A literal reference to a resource of the lake, without a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalReference<'a> {
    /// The type in the text of the reference.
    pub resource_type: ResourceType,
    /// The logical id, case-sensitive.
    pub id: &'a str,
}

/// The base URLs whose absolute references point to resources of this lake.
///
/// By default any base URL does: a lake holds the resources of one system, and that system often writes its references with
/// a base URL other than the one that it is exported from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseUrls(Option<Vec<String>>);

impl BaseUrls {
    /// Accepts any base URL.
    pub fn any() -> Self {
        Self(None)
    }

    /// Accepts only these base URLs, such as `https://example.org/fhir`, with or without a slash at the end. Relative
    /// references are always accepted.
    pub fn only(base_urls: impl IntoIterator<Item = String>) -> Self {
        Self(Some(base_urls.into_iter().map(|url| url.trim_end_matches('/').to_owned()).collect()))
    }

    /// Returns only the base URLs that are named, and `own`. A request must not reach a resource by the URL of any system.
    pub fn named_and(&self, own: Option<&str>) -> Self {
        let own = own.filter(|own| !own.is_empty()).map(str::to_owned);
        Self::only(self.0.iter().flatten().cloned().chain(own))
    }

    /// Returns true if `base_url` is accepted.
    fn contains(&self, base_url: &str) -> bool {
        match &self.0 {
            None => is_http(base_url),
            Some(accepted) => accepted.iter().any(|url| url == base_url),
        }
    }
}

/// Returns true if the URL has the scheme `http` or `https`.
fn is_http(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
}

impl<'a> LocalReference<'a> {
    /// Parses `Type/id` from the text of `Reference.reference`.
    ///
    /// * The reference may be relative, versioned (`Type/id/_history/2`) or absolute below one of `base_urls`.
    /// * Returns `None` for everything else: `#contained`, `urn:uuid:…`, `Patient?identifier=…`, another base URL, a type that
    ///   FHIR does not define.
    /// * An id may break FHIR's rules for length and characters. Real servers use such ids, and a resource must not drop out
    ///   of its patient's compartment for that reason.
    pub fn parse(text: &'a str, base_urls: &BaseUrls) -> Option<Self> {
        Self::parse_versioned(text, base_urls).map(|(reference, _)| reference)
    }

    /// Parses a reference like [`Self::parse`], and also returns whether the reference names a version.
    pub(super) fn parse_versioned(text: &'a str, base_urls: &BaseUrls) -> Option<(Self, bool)> {
        if text.contains(['?', '#']) {
            return None;
        }
        let (unversioned, version) = match text.rsplit_once("/_history/") {
            Some((unversioned, version)) => (unversioned, Some(version)),
            None => (text, None),
        };
        if version.is_some_and(|version| version.is_empty() || version.contains('/')) {
            return None;
        }
        let (before_id, id) = unversioned.rsplit_once('/')?;
        let type_name = match before_id.rsplit_once('/') {
            Some((base_url, type_name)) if base_urls.contains(base_url) => type_name,
            Some(_) => return None,
            None => before_id,
        };
        let resource_type = ResourceType::parse(type_name)?;
        (!id.is_empty()).then_some((Self { resource_type, id }, version.is_some()))
    }
}

/// Passes the local references of a `Reference`, or of an array of them, to `visit`, until `visit` returns true. Returns true if
/// it did.
pub(super) fn visit_reference_elements(
    value: JsonValue<'_>,
    base_urls: &BaseUrls,
    visit: &mut impl FnMut(LocalReference<'_>) -> bool,
) -> bool {
    visit_reference_texts(value, &mut |text| LocalReference::parse(text, base_urls).is_some_and(&mut *visit))
}

/// Passes the texts of a `Reference`, or of an array of them, to `visit`, until `visit` returns true. Returns true if it did.
///
/// FHIR forbids leading and trailing whitespace. Where it occurs, it must not take a resource out of its patient's compartment.
pub(super) fn visit_reference_texts(value: JsonValue<'_>, visit: &mut impl FnMut(&str) -> bool) -> bool {
    value.items().any(|item| item.member("reference").and_then(JsonValue::text).is_some_and(|text| visit(text.trim())))
}

/// Passes the local references of all `reference` members to `visit`, until `visit` returns true. Returns true if it did.
/// Members at any depth count, also those of contained resources.
pub fn visit_references(resource: &Resource<'_>, base_urls: &BaseUrls, visit: &mut impl FnMut(LocalReference<'_>) -> bool) -> bool {
    // Goes from string to string without regard to nesting. A string before a colon is a member name.
    let mut rest = resource.json().as_str();
    let mut is_reference = false;
    while let Some((string, behind)) = next_string(rest) {
        rest = behind.trim_start_matches([' ', '\t', '\r', '\n']);
        if is_reference {
            let text = JsonValue::from_valid(string).text();
            if text.is_some_and(|text| LocalReference::parse(text.trim(), base_urls).is_some_and(&mut *visit)) {
                return true;
            }
        }
        is_reference = match rest.strip_prefix(':') {
            Some(value) => {
                rest = value.trim_start_matches([' ', '\t', '\r', '\n']);
                rest.starts_with('"') && is_reference_name(string)
            }
            None => false,
        };
    }
    false
}

/// Appends a resource to `out` with other texts in its `reference` members, at any depth. `text` is valid JSON, and all its other bytes
/// are copied.
///
/// * `replace`: receives the unescaped text of a reference, and returns the text in its place or `None`.
pub fn rewrite_references(text: &str, out: &mut Vec<u8>, replace: &mut impl FnMut(&str) -> Option<String>) {
    let mut copied = 0;
    let mut rest = text;
    let mut is_reference = false;
    while let Some((string, behind)) = next_string(rest) {
        let end = text.len() - behind.len();
        rest = behind.trim_start_matches([' ', '\t', '\r', '\n']);
        if is_reference
            && let Some(reference) = JsonValue::from_valid(string).text()
            && let Some(replacement) = replace(&reference)
        {
            out.extend_from_slice(text.as_bytes().get(copied..end - string.len()).unwrap_or_default());
            out.extend_from_slice(serde_json::Value::from(replacement).to_string().as_bytes());
            copied = end;
        }
        is_reference = match rest.strip_prefix(':') {
            Some(value) => {
                rest = value.trim_start_matches([' ', '\t', '\r', '\n']);
                rest.starts_with('"') && is_reference_name(string)
            }
            None => false,
        };
    }
    out.extend_from_slice(text.as_bytes().get(copied..).unwrap_or_default());
}

/// Returns true if a JSON string, with its quotes, is the member name `reference`.
fn is_reference_name(string: &str) -> bool {
    string == "\"reference\"" || (string.contains('\\') && JsonValue::from_valid(string).text() == Some(Cow::Borrowed("reference")))
}

/// Returns the next JSON string with its quotes, and the text behind it.
fn next_string(text: &str) -> Option<(&str, &str)> {
    let text = text.get(memchr(b'"', text.as_bytes())?..)?;
    let mut end = 1;
    loop {
        end += memchr2(b'"', b'\\', text.as_bytes().get(end..)?)?;
        if text.as_bytes().get(end) == Some(&b'"') {
            return Some((text.get(..=end)?, text.get(end + 1..)?));
        }
        // A backslash escapes at least the next byte.
        end += 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::head::MemberIndex;

    /// Parses a reference with any base URL and returns its type and id.
    fn parse_any(text: &str) -> Option<(&str, &str)> {
        LocalReference::parse(text, &BaseUrls::any()).map(|reference| (reference.resource_type.as_str(), reference.id))
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
            assert_eq!(parse_any(text), Some(("Patient", "P-1.a")), "{text}");
        }
    }

    #[test]
    fn a_reference_to_anything_else_is_not_local() {
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
            assert_eq!(parse_any(text), None, "{text}");
        }
    }

    #[test]
    fn ids_are_case_sensitive_and_may_break_the_rules_of_fhir() {
        assert_ne!(parse_any("Patient/a"), parse_any("Patient/A"));
        let long = "x_".repeat(60);
        assert_eq!(parse_any(&format!("Patient/{long}")), Some(("Patient", long.as_str())));
    }

    #[test]
    fn listed_base_urls_restrict_only_absolute_references() {
        let base_urls = BaseUrls::only(["https://a.example/fhir/".to_owned(), "https://b.example".to_owned()]);
        for (text, is_local) in [
            ("Patient/1", true),
            ("https://a.example/fhir/Patient/1", true),
            ("https://b.example/Patient/1/_history/7", true),
            ("https://a.example/Patient/1", false),
            ("https://a.example/fhir/more/Patient/1", false),
            ("https://a.example/fhirs/Patient/1", false),
            ("https://c.example/fhir/Patient/1", false),
        ] {
            assert_eq!(LocalReference::parse(text, &base_urls).is_some(), is_local, "{text}");
        }
    }

    /// Parses a resource and returns all references in it, each as `Type/id`.
    fn references_in(line: &str) -> Vec<String> {
        let mut member_index = MemberIndex::default();
        let resource = Resource::parse(line.as_bytes(), &mut member_index).unwrap();
        let mut found = Vec::new();
        let is_stopped = visit_references(&resource, &BaseUrls::any(), &mut |reference| {
            found.push(format!("{}/{}", reference.resource_type, reference.id));
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
    fn only_the_references_that_are_replaced_change() {
        let line = r#"{"subject":{"reference" : "urn:uuid:a"},"value":1.10,"note":"\"reference\":\"urn:uuid:a\"","of":["reference","urn:uuid:a"],
            "x":{"ref\u0065rence":"urn:uuid:\u0061","reference2":"urn:uuid:a"},"y":[{"reference":"Patient\/1"},{"reference":{"reference":"urn:uuid:a"}}]}"#;
        let mut out = Vec::new();
        rewrite_references(line, &mut out, &mut |text| (text == "urn:uuid:a").then(|| "Patient/\"a".to_owned()));
        let expected = r#"{"subject":{"reference" : "Patient/\"a"},"value":1.10,"note":"\"reference\":\"urn:uuid:a\"","of":["reference","urn:uuid:a"],
            "x":{"ref\u0065rence":"Patient/\"a","reference2":"urn:uuid:a"},"y":[{"reference":"Patient\/1"},{"reference":{"reference":"Patient/\"a"}}]}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_search_ends_when_the_visitor_returns_true() {
        let line = br#"{"resourceType":"List","id":"l","entry":[{"item":{"reference":"Device/1"}},{"item":{"reference":"Device/2"}}]}"#;
        let mut member_index = MemberIndex::default();
        let resource = Resource::parse(line, &mut member_index).unwrap();
        let mut visits = 0;
        assert!(visit_references(&resource, &BaseUrls::any(), &mut |_| {
            visits += 1;
            true
        }));
        assert_eq!(visits, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_text_causes_a_panic(text in "(https?://|urn:|#)?([A-Za-z_./?#]|Patient/|/_history/|\\PC){0,12}") {
            if let Some(reference) = LocalReference::parse(&text, &BaseUrls::any()) {
                let relative = format!("{}/{}", reference.resource_type, reference.id);
                prop_assert!(text.contains(&relative));
                prop_assert_eq!(LocalReference::parse(&relative, &BaseUrls::any()), Some(reference));
            }
        }
    }
}
