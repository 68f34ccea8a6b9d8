//! The names of resources within an input: their full URLs and identifiers.

use std::hash::Hasher as _;

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::json::JsonValue;
use headrace_fhir::semantics::reference::rewrite_references;
use percent_encoding::percent_decode_str;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// The hashes of names.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameHasher(SipHasher13);

/// The position of a Bundle in the input: the file and the number of the Bundle in it.
pub(super) type BundleNumber = (usize, u64);

impl NameHasher {
    /// Creates hashes that depend on random bytes.
    pub(super) fn new(seed: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(seed))
    }

    /// Returns the hash of a full URL within the whole input.
    pub(super) fn url(&self, url: &str) -> u128 {
        self.hash(&["url", &normalized_url(url)])
    }

    /// Returns the hash of a full URL within one Bundle.
    pub(super) fn url_in_bundle(&self, bundle: BundleNumber, url: &str) -> u128 {
        self.hash(&["bundle", &bundle.0.to_string(), &bundle.1.to_string(), &normalized_url(url)])
    }

    /// Returns the hash of the value of a search for an identifier: `system|value`, `|value` or `value`.
    pub(super) fn identifier(&self, kind: ResourceType, value: &str) -> u128 {
        self.hash(&["identifier", kind.as_str(), value])
    }

    /// Returns the hash of a UUID that is the id of a resource.
    pub(super) fn uuid(&self, uuid: &str) -> u128 {
        self.hash(&["uuid", &uuid.to_ascii_lowercase()])
    }

    /// Returns the hash of a resource of a tenant.
    pub(super) fn resource(&self, tenant: &str, kind: ResourceType, id: &str) -> u128 {
        self.hash(&["resource", tenant, kind.as_str(), id])
    }

    /// Returns the hash of a resource without its references: those of one resource differ from Bundle to Bundle, and in the lake they are
    /// resolved.
    pub(super) fn content(&self, text: &str) -> u128 {
        let mut without_references = Vec::with_capacity(text.len());
        rewrite_references(text, &mut without_references, &mut |_| Some(String::new()));
        self.hash(&["content", &String::from_utf8_lossy(&without_references)])
    }

    /// Returns the hash of the name of a file.
    pub(super) fn file(&self, name: &str) -> u128 {
        self.hash(&["file", name])
    }

    /// Returns the hash of texts. Each is followed by a byte that no text has.
    fn hash(&self, texts: &[&str]) -> u128 {
        let mut hasher = self.0;
        for text in texts {
            hasher.write(text.as_bytes());
            hasher.write(&[0xff]);
        }
        hasher.finish128().as_u128()
    }
}

/// Returns true if a URL begins with `urn:uuid:` or `urn:oid:`: it identifies a resource but is not its address.
pub(super) fn is_urn(url: &str) -> bool {
    let has_prefix = |prefix: &str| url.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    has_prefix("urn:uuid:") || has_prefix("urn:oid:")
}

/// Returns the UUID of a `urn:uuid:`. `None` for other URLs, and for names that are not a UUID: they need not be the only ones.
pub(super) fn urn_uuid(url: &str) -> Option<&str> {
    url.rsplit(':').next().filter(|uuid| is_urn(url) && is_uuid(uuid))
}

/// Returns true if a text has the form of a UUID.
pub(super) fn is_uuid(text: &str) -> bool {
    let is_right = |(index, byte): (usize, u8)| if matches!(index, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 36 && text.bytes().enumerate().all(is_right)
}

/// Returns true if a later addition may resolve this reference: it searches for one identifier, or is a UUID.
pub(super) fn may_be_resolved_later(reference: &str) -> bool {
    ConditionalReference::parse(reference).is_some() || urn_uuid(reference).is_some()
}

/// Returns the form of a URL that is compared: UUIDs in lower case, because case does not matter.
fn normalized_url(url: &str) -> String {
    if is_urn(url) { url.to_ascii_lowercase() } else { url.to_owned() }
}

/// Returns the search values for an identifier that find a resource.
pub(super) fn identifier_values(resource: JsonValue<'_>) -> Vec<String> {
    let mut values = Vec::new();
    for identifier in resource.member("identifier").into_iter().flat_map(JsonValue::items) {
        let text = |name| identifier.member(name).and_then(JsonValue::text).filter(|text| !text.is_empty());
        let Some(value) = text("value") else { continue };
        values.push(format!("{}|{value}", text("system").unwrap_or_default()));
        values.push(value.into_owned());
    }
    values
}

/// A reference by a search for an identifier: `Practitioner?identifier=system|value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConditionalReference {
    pub(super) resource_type: ResourceType,
    /// The value of the search.
    pub(super) value: String,
}

impl ConditionalReference {
    /// Returns true if a text is a reference by a search, of any kind.
    pub(super) fn is_conditional(text: &str) -> bool {
        text.split_once('?').is_some_and(|(kind, _)| ResourceType::parse(kind).is_some())
    }

    /// Parses a reference. Returns `None` if it searches for anything else than one identifier.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, query) = text.split_once('?')?;
        let value = query.strip_prefix("identifier=").filter(|value| !value.is_empty() && !value.contains(['&', ',']))?;
        let value = percent_decode_str(value).decode_utf8().ok()?.into_owned();
        Some(Self { resource_type: ResourceType::parse(kind)?, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conditional_reference_is_a_search_for_one_identifier() {
        let value = |text: &str| ConditionalReference::parse(text).map(|reference| reference.value);
        assert_eq!(value("Practitioner?identifier=http://a/b|9").as_deref(), Some("http://a/b|9"));
        assert_eq!(value("Practitioner?identifier=http%3A%2F%2Fa%7C9").as_deref(), Some("http://a|9"));
        assert_eq!(value("Practitioner?identifier=9").as_deref(), Some("9"));
        for text in ["Practitioner?name=x", "Practitioner?identifier=", "Practitioner?identifier=a&active=true", "Dog?identifier=1", "x"] {
            assert_eq!(value(text), None, "{text}");
        }
        assert!(ConditionalReference::is_conditional("Practitioner?name=x") && !ConditionalReference::is_conditional("https://h?a=b"));
    }

    #[test]
    fn names_differ_by_kind_type_and_bundle() {
        let names = NameHasher::new(&[1; 16]);
        let hashes = [
            names.url("a"),
            names.url("b"),
            names.url_in_bundle((0, 0), "a"),
            names.url_in_bundle((0, 1), "a"),
            names.url_in_bundle((1, 0), "a"),
            names.identifier(ResourceType::PATIENT, "a"),
            names.identifier(ResourceType::PRACTITIONER, "a"),
            names.file("a"),
            names.uuid("a"),
        ];
        let distinct: std::collections::BTreeSet<u128> = hashes.into_iter().collect();
        assert_eq!(distinct.len(), hashes.len());
        assert_eq!(names.url("urn:uuid:AB"), names.url("URN:uuid:ab"));
        assert_ne!(names.url("http://h/A"), names.url("http://h/a"));
    }

    #[test]
    fn only_names_that_mean_the_same_everywhere_are_resolved_later() {
        for reference in [
            "urn:uuid:53FEFA32-fcbb-4ff8-8a92-55ee120877b7",
            "URN:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7",
            "Practitioner?identifier=s|1",
        ] {
            assert!(may_be_resolved_later(reference), "{reference}");
        }
        for reference in ["urn:uuid:p", "urn:oid:1.2.3", "Patient/1", "Patient?name=x", "53fefa32-fcbb-4ff8-8a92-55ee120877b7", "#c"] {
            assert!(!may_be_resolved_later(reference), "{reference}");
        }
    }

    #[test]
    fn an_identifier_is_found_with_and_without_its_system() {
        let json = JsonValue::from_valid(r#"{"identifier":[{"system":"s","value":"1"},{"value":"2"},{"system":"s"},{"value":""}]}"#);
        assert_eq!(identifier_values(json), ["s|1", "1", "|2", "2"]);
    }
}
