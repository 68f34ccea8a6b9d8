//! Addresses of resources in elements of the types uri, url and canonical, such as `Patient/1` in a `valueUri`.

use crate::definitions::{FhirVersion, ResourceType, TypeSet};
use crate::semantics::reference::{BaseUrls, LocalReference};

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

    /// Returns true if a text is a reference to a resource, such as `Patient/1`, `https://example.org/r4/Patient/1/_history/2` and
    /// `Patient/1#name`, or a search for resources, such as `Patient?identifier=1`.
    pub(super) fn is_address(&self, text: &str) -> bool {
        let end = text.find(['?', '#', '|']).unwrap_or(text.len());
        let (path, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        let is_absolute = path.contains("://");
        let can_be_named = |kind: ResourceType| !(is_absolute && self.definitions.contains(kind));
        let path = path.strip_prefix('/').unwrap_or(path);
        if let Some(reference) = LocalReference::parse(path, &BaseUrls::any()) {
            return can_be_named(reference.resource_type);
        }
        let searched = path.rsplit('/').next().and_then(ResourceType::parse);
        rest.starts_with('?') && searched.is_some_and(can_be_named)
    }
}

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
