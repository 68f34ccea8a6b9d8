//! Addresses of resources in elements of the types uri, url, uuid and canonical, such as `Patient/1` in a `valueUri`.

use std::sync::LazyLock;

use percent_encoding::percent_decode_str;

use crate::definitions::{FhirVersion, ResourceType, TypeSet};

/// The types of definitions in any version of FHIR. A URL such as `http://terminology.hl7.org/CodeSystem/v2-0203` is the name of one, and no id.
static DEFINITIONS: LazyLock<TypeSet> = LazyLock::new(|| ResourceType::all().filter(|kind| is_definition(*kind)).collect());

/// Returns true for a type of definitions.
fn is_definition(kind: ResourceType) -> bool {
    let has_context = |version: FhirVersion| version.root_elements(kind).iter().any(|element| element.name == "useContext");
    let is_about_patients = |version: FhirVersion| version.patient_compartment(kind).is_some();
    // All definitions say for which context they are. In R5 a Composition does so, too, which is a document about a patient.
    FhirVersion::ALL.into_iter().any(has_context) && !FhirVersion::ALL.into_iter().any(is_about_patients)
}

/// The beginning of the address of a resource in a Bundle.
const URN_UUID: &str = "urn:uuid:";

/// The parameters of a search across types that select by ids or identifiers, or that only such a search has.
const SEARCH_PARAMETERS: [&str; 7] = ["_type", "_id", "_has", "_filter", "identifier", "patient", "subject"];

/// The largest number of percent encodings inside each other, such as those of an address in the query of an address in a query.
const MAX_ENCODINGS: usize = 3;

/// Returns true if a text is the address of a resource, such as `Patient/1`, `https://example.org/r4/Patient/1/_history/2` and
/// `Patient/1/$everything`, of a resource in a Bundle (`urn:uuid:…`), of a contained one (`#1`), or a search for resources, such as
/// `Patient?identifier=1`.
///
/// People and servers write types in any letter case.
pub(super) fn is_address(text: &str) -> bool {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let decoded = text.contains('%').then(|| decode(text));
    let mut decoded = std::iter::successors(decoded, |text| Some(decode(text))).take(MAX_ENCODINGS);
    is_plain_address(text) || decoded.any(|text| is_plain_address(&text))
}

/// Returns true if a text without percent encoding is an address.
fn is_plain_address(text: &str) -> bool {
    let end = text.find(['?', '#', '|']).unwrap_or(text.len());
    let (path, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let is_in_bundle = path.get(..URN_UUID.len()).is_some_and(|start| start.eq_ignore_ascii_case(URN_UUID));
    let is_contained = path.is_empty() && rest.strip_prefix('#').is_some_and(|id| !id.is_empty());
    if is_in_bundle || is_contained {
        return true;
    }
    let (host, path) = match path.split_once("//") {
        Some((scheme, behind)) if scheme.is_empty() || scheme.ends_with(':') => behind.split_once('/').unwrap_or((behind, "")),
        Some(_) | None => ("", path),
    };
    let is_absolute = !host.is_empty();
    names_resource(path, is_absolute)
        || rest.split(['?', '#', '&', '=', ',']).any(|part| names_resource(part, is_absolute))
        || rest.strip_prefix('?').is_some_and(|query| is_search(path, query, is_absolute))
}

/// Returns true if two segments of a path are a resource type and an id. In a URL with a host, what follows the type of a definition is its
/// name.
fn names_resource(path: &str, is_absolute: bool) -> bool {
    let is_step = |segment: &str| matches!(segment, "_history" | "_search") || segment.starts_with('$');
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
    while let Some(segment) = segments.next() {
        let (Some(kind), Some(next)) = (ResourceType::parse_ignoring_case(segment), segments.peek().copied()) else { continue };
        if is_absolute && DEFINITIONS.contains(kind) {
            // The name of a definition can be that of a type. In another letter case, the type can be any word of a path, such as `library`.
            if segment == kind.as_str() {
                segments.next();
            }
        } else if !is_step(next) && ResourceType::parse(next).is_none() {
            return true;
        }
    }
    false
}

/// Returns true if a query searches for resources: those of a type, or any of a server.
fn is_search(path: &str, query: &str, is_absolute: bool) -> bool {
    let path_of_type = path.trim_end_matches('/').trim_end_matches("/_search");
    let searched = path_of_type.rsplit('/').next().and_then(ResourceType::parse_ignoring_case);
    let is_parameter = |pair: &str| {
        let name = pair.split(['=', ':', '.']).next().unwrap_or_default();
        SEARCH_PARAMETERS.iter().any(|parameter| parameter.eq_ignore_ascii_case(name))
    };
    let of_type = searched.is_some_and(|kind| !(is_absolute && DEFINITIONS.contains(kind)));
    of_type || (path.is_empty() && !is_absolute) || query.split('&').any(is_parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_resource_and_no_definition() {
        for (text, expected) in [
            ("Patient/1", true),
            ("/Patient/1", true),
            ("Binary/MRN-1", true),
            ("Questionnaire/1", true),
            ("https://example.org/r4/Patient/1/_history/2", true),
            ("https://example.org/r4/Device/1", true),
            ("Patient/1#name", true),
            ("Patient/1/_history/2?_format=json", true),
            ("Patient?identifier=MRN-1", true),
            ("https://example.org/r4/Patient?identifier=MRN-1", true),
            ("https://example.org/r4/Patient/_search?identifier=MRN-1", true),
            ("https://example.org/r4/Patient/1/", true),
            ("./Patient/1", true),
            ("r4/Patient/1", true),
            ("//example.org/Patient/1", true),
            ("ftp://example.org/Patient/1", true),
            ("Patient/1/$everything", true),
            ("https://example.org/r4/Patient/1/_history", true),
            ("https://example.org/r4/Patient/1/Observation?code=x", true),
            ("https://example.org/r4/?_type=Patient&_id=1", true),
            ("https://example.org/r4?identifier:exact=1", true),
            ("?identifier=1", true),
            ("https://example.org/view?of=Patient/1", true),
            ("https://example.org/#/Patient/1", true),
            ("https://example.org/r4/Patient%2F1", true),
            ("%50atient%2f1", true),
            ("https://example.org/view?of=https%3A%2F%2Fexample.org%2Fr4%3Fx%3DPatient%252F1", true),
            ("urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7", true),
            ("#1", true),
            ("#", false),
            ("https://example.org/page#1", false),
            ("http://x/patient/1", true),
            ("PATIENT/1", true),
            ("https://example.org/api/medicationRequest/1", true),
            ("https://example.org/r4/Patient/patient", true),
            ("patient?identifier=MRN-1", true),
            ("https://example.org/r4?Identifier=MRN-1", true),
            // The type of a definition, or a word like it, does not hide the address behind it.
            ("https://example.org/library/Patient/1", true),
            ("https://example.org/Questionnaire/7/Patient/1", true),
            ("https://example.org/r4/Composition/1", true),
            // Nothing tells the name of a definition from the address of a Medication.
            ("http://example.org/Medication/aspirin", true),
            ("https://example.org/StructureDefinition/Patient/1", false),
            ("https://example.org/StructureDefinition/Patient", false),
            ("https://example.org/r4/Patient", false),
            ("https://example.org/r4/Patient/_history", false),
            ("https://example.org/r4/Patient/$everything", false),
            ("https://Patient/1", false),
            ("https://example.org/page?x=1", false),
            ("https://example.org/100%", false),
            ("https://example.org/%F0%9F/%2", false),
            ("", false),
            ("Patient", false),
            ("/", false),
            ("urn:oid:1.2.3", false),
            ("https://example.org/r4", false),
            ("http://terminology.hl7.org/CodeSystem/v2-0203", false),
            ("http://hl7.org/fhir/StructureDefinition/patient-birthPlace", false),
            ("https://example.org/Questionnaire/1|2.0", false),
            ("https://example.org/ValueSet/1?x", false),
            ("https://example.org/SubscriptionTopic/admission", false),
            ("https://example.org/valueset/1", false),
            ("https://example.org/dog/1", false),
            ("https://example.org/patients/1", false),
            ("%", false),
        ] {
            assert_eq!(is_address(text), expected, "{text}");
        }
    }
}
