//! The Patients in the entries of a Bundle, to which other entries refer by full URLs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::definitions::ResourceType;
use crate::json::JsonValue;

/// The ids of the Patients in the entries of one Bundle, by the `fullUrl` of the entry.
///
/// A `fullUrl` is an address such as `urn:uuid:…` or `https://example.org/fhir/Patient/1`. Texts without escapes are borrowed from the
/// Bundle.
#[derive(Clone, Debug, Default)]
pub(crate) struct BundlePatients<'a>(BTreeMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> BundlePatients<'a> {
    /// Collects the Patients of a Bundle, without those of a Bundle inside it. Of several Patients with one `fullUrl`, the first counts.
    ///
    /// `bundle` begins with the Bundle. It must be valid JSON up to the end of the Bundle.
    pub(crate) fn from_bundle(bundle: JsonValue<'a>) -> Self {
        let mut ids = BTreeMap::new();
        let entries = bundle.member("entry").into_iter().flat_map(JsonValue::items);
        for (full_url, id) in entries.filter_map(patient_of_entry) {
            ids.entry(full_url).or_insert(id);
        }
        Self(ids)
    }

    /// Returns the id of the Patient to whom a reference refers by a `fullUrl`, with or without a version. The reference has no whitespace
    /// around it. The id is empty if the Patient has none, as in a request that creates it.
    pub(crate) fn id_of(&self, reference: &str) -> Option<&str> {
        let unversioned = reference.rsplit_once("/_history/").map_or(reference, |(unversioned, _)| unversioned);
        self.0.get(unversioned).map(|id| &**id)
    }
}

/// Returns the `fullUrl` of an entry and the id of its resource, if the resource is a Patient.
fn patient_of_entry(entry: JsonValue<'_>) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let resource = entry.member("resource")?;
    let type_name = resource.member("resourceType").and_then(JsonValue::text)?;
    if type_name != ResourceType::PATIENT.as_str() {
        return None;
    }
    let full_url = match entry.member("fullUrl").and_then(JsonValue::text)? {
        Cow::Borrowed(url) => Cow::Borrowed(url.trim()),
        Cow::Owned(url) => Cow::Owned(url.trim().to_owned()),
    };
    Some((full_url, resource.member("id").and_then(JsonValue::text).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_full_urls_of_patients_name_a_patient() {
        let bundle = r#"{"entry":[
            {"fullUrl":"urn:uuid:1 ","resource":{"resourceType":"Patient","id":"a"}},
            {"resource":{"id":"b","resourceType":"Patient"},"fullUrl":"https:\/\/x.org\/Patient\/b"},
            {"fullUrl":"urn:uuid:1","resource":{"resourceType":"Patient","id":"second"}},
            {"fullUrl":"urn:oid:1.2","resource":{"resourceType":"Patient"}},
            {"fullUrl":"urn:uuid:2","resource":{"resourceType":"Group","id":"g"}},
            {"fullUrl":"urn:uuid:3","resource":{"resourceType":"Bundle","entry":[{"fullUrl":"urn:uuid:4","resource":{"resourceType":"Patient","id":"c"}}]}},
            {"resource":{"resourceType":"Patient","id":"d"}},{"fullUrl":"urn:uuid:5"}],"resourceType":"Bundle"} trailing"#;
        let patients = BundlePatients::from_bundle(JsonValue::from_valid(bundle));
        for (reference, id) in [
            ("urn:uuid:1", Some("a")),
            ("https://x.org/Patient/b", Some("b")),
            ("https://x.org/Patient/b/_history/7", Some("b")),
            ("urn:oid:1.2", Some("")),
            ("urn:uuid:2", None),
            ("urn:uuid:3", None),
            ("urn:uuid:4", None),
            ("urn:uuid:5", None),
            ("Patient/d", None),
        ] {
            assert_eq!(patients.id_of(reference), id, "{reference}");
        }
    }
}
