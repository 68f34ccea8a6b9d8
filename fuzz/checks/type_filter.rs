//! `_typeFilter` queries. No input may make the parser panic, and every accepted query can be matched.

use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::head::{MemberIndex, Resource};
use headrace_fhir::instant::Instant;
use headrace_fhir::search::{Query, split_queries};

/// Resource with a value for every kind of search parameter.
const OBSERVATION: &str = r#"{"resourceType":"Observation","id":"o-1","meta":{"versionId":"2","lastUpdated":"2025-03-01T10:00:00.5+01:00","profile":["http://example.org/p|1"],"tag":[{"system":"s","code":"t"}]},"identifier":[{"system":"urn:x","value":"1,2"}],"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"1234-5"}],"text":"Blöd"},"subject":{"reference":"Patient/p-1"},"effectivePeriod":{"start":"2024-12-31","end":"2025"},"valueQuantity":{"value":1.10e1,"unit":"mg","system":"http://unitsofmeasure.org","code":"mg"},"component":[{"code":{"coding":[{"code":"x"}]},"valueQuantity":{"value":-0}}]}"#;

/// Panics if parsing or matching panics.
pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(now) = Instant::parse("2026-01-31T08:00:00Z") else { return };
    let mut member_index = MemberIndex::default();
    let Ok(resource) = Resource::parse(OBSERVATION.as_bytes(), &mut member_index) else { return };
    for query in split_queries(&text) {
        assert!(text.contains(query), "a query is not part of the input");
        for version in FhirVersion::ALL {
            match Query::parse(query, version, now) {
                Ok(query) => drop(query.matches(&resource)),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}
