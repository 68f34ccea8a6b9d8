//! Addresses of resources in elements of the types uri, url and canonical, such as `Patient/1` in a `valueUri`.

use percent_encoding::percent_decode_str;

use crate::definitions::{FhirVersion, ResourceType, TypeSet};

/// The knowledge of a FHIR version that tells an address of a resource from the name of a definition.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResourceAddresses {
    /// The types of definitions. A URL such as `http://terminology.hl7.org/CodeSystem/v2-0203` is the name of one, and no id.
    definitions: TypeSet,
}

impl ResourceAddresses {
    /// Creates the addresses of a FHIR version.
    pub(super) fn new(version: FhirVersion) -> Self {
        let types = version.type_definitions();
        // All definitions, and only they, say for which context they are.
        let is_definition = |kind: &ResourceType| types.of_resource(*kind).is_some_and(|kind| types.member(kind, "useContext").is_some());
        Self { definitions: version.types().iter().filter(is_definition).collect() }
    }

    /// Returns true if a text is the address of a resource, such as `Patient/1`, `https://example.org/r4/Patient/1/_history/2` and
    /// `Patient/1/$everything`, of a resource in a Bundle (`urn:uuid:…`), or a search for resources, such as `Patient?identifier=1`.
    pub(super) fn is_address(&self, text: &str) -> bool {
        self.is_plain_address(&percent_decode_str(text).decode_utf8_lossy())
    }

    /// Returns true if a text without percent encoding is an address.
    fn is_plain_address(&self, text: &str) -> bool {
        let end = text.find(['?', '#', '|']).unwrap_or(text.len());
        let (path, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        if path.get(..URN_UUID.len()).is_some_and(|start| start.eq_ignore_ascii_case(URN_UUID)) {
            return true;
        }
        let (host, path) = match path.split_once("//") {
            Some((scheme, behind)) if scheme.is_empty() || scheme.ends_with(':') => behind.split_once('/').unwrap_or((behind, "")),
            Some(_) | None => ("", path),
        };
        let is_absolute = !host.is_empty();
        self.names_resource(path, is_absolute)
            || rest.split(['?', '#', '&', '=', ',']).any(|part| self.names_resource(part, is_absolute))
            || rest.strip_prefix('?').is_some_and(|query| self.is_search(path, query, is_absolute))
    }

    /// Returns true if two segments of a path are a resource type and an id. In a URL with a host, what follows the type of a definition is its
    /// name.
    fn names_resource(&self, path: &str, is_absolute: bool) -> bool {
        let is_step = |segment: &str| matches!(segment, "_history" | "_search") || segment.starts_with('$');
        let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
        while let Some(segment) = segments.next() {
            let (Some(kind), Some(id)) = (ResourceType::parse(segment), segments.peek()) else { continue };
            if is_absolute && self.definitions.contains(kind) {
                return false;
            }
            if !is_step(id) && ResourceType::parse(id).is_none() {
                return true;
            }
        }
        false
    }

    /// Returns true if a query searches for resources: those of a type, or any of a server.
    fn is_search(&self, path: &str, query: &str, is_absolute: bool) -> bool {
        let searched = path.trim_end_matches('/').trim_end_matches("/_search").rsplit('/').next().and_then(ResourceType::parse);
        let is_parameter = |pair: &str| {
            let name = pair.split(['=', ':', '.']).next().unwrap_or_default();
            SEARCH_PARAMETERS.contains(&name)
        };
        let of_type = searched.is_some_and(|kind| !(is_absolute && self.definitions.contains(kind)));
        of_type || (path.is_empty() && !is_absolute) || query.split('&').any(is_parameter)
    }
}

/// The beginning of the address of a resource in a Bundle.
const URN_UUID: &str = "urn:uuid:";

/// The parameters of a search across types that select by ids or identifiers, or that only such a search has.
const SEARCH_PARAMETERS: [&str; 7] = ["_type", "_id", "_has", "_filter", "identifier", "patient", "subject"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_resource_and_no_definition() {
        let addresses = ResourceAddresses::new(FhirVersion::R4);
        for (text, is_address) in [
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
            ("urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7", true),
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
            ("https://example.org/dog/1", false),
        ] {
            assert_eq!(addresses.is_address(text), is_address, "{text}");
        }
    }
}
