use super::*;

#[test]
fn a_reference_matches_by_id_by_type_and_by_url() {
    let relative = r#""subject":{"reference":"Patient/23"}"#;
    let found = ["subject=23", "subject=Patient/23", "subject:Patient=23", "patient=23", "patient=Patient/23", "subject=Group/23,23"];
    let missed = ["subject=2", "subject=Group/23", "subject:Group=23", "patient=Group/23", "subject=http://example.org/fhir/Patient/23"];
    assert_found("Observation", relative, &found, &missed);
    let absolute = r#""subject":{"reference":"http://example.org/fhir/Patient/23"}"#;
    let found =
        ["subject=http://example.org/fhir/Patient/23", "patient=http://example.org/fhir/Patient/23", "subject=Patient/23", "patient=23"];
    assert_found("Observation", absolute, &found, &["subject=http://other.org/fhir/Patient/23", "subject=Group/23", "subject=2"]);
}

#[test]
fn a_parameter_for_one_type_matches_only_references_to_that_type() {
    let group = r#""subject":{"reference":"Group/23"}"#;
    assert_found("Observation", group, &["subject=23", "patient:missing=true"], &["patient=23", "patient:missing=false"]);
    let typed = r#""subject":{"reference":"urn:uuid:c757873d-ec9a-4326-a141-556f43239520","type":"Patient"}"#;
    let found = ["patient=urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "patient:missing=false"];
    assert_found("Observation", typed, &found, &["patient=c757873d-ec9a-4326-a141-556f43239520"]);
}

#[test]
fn a_version_counts_only_if_the_query_has_one() {
    let members = r#""subject":{"reference":"Patient/23/_history/2"}"#;
    let found = ["subject=23", "subject=Patient/23", "subject=Patient/23/_history/2"];
    assert_found("Observation", members, &found, &["subject=Patient/23/_history/1", "subject=2"]);
    assert_found("Observation", r#""subject":{"reference":"Patient/23"}"#, &[], &["subject=Patient/23/_history/2"]);
}

#[test]
fn a_reference_to_a_contained_resource_does_not_match_by_id() {
    assert_found("Observation", r##""subject":{"reference":"#23"}"##, &["subject:missing=false"], &["subject=23", "patient=23"]);
}

#[test]
fn identifier_matches_the_identifier_of_a_reference() {
    let members = r#""subject":{"identifier":{"system":"http://mrn","value":"7"},"reference":"Patient/1"}"#;
    let found = ["subject:identifier=http://mrn|7", "subject:identifier=7", "patient:identifier=7"];
    assert_found("Observation", members, &found, &["subject:identifier=8", "subject=7", "subject:identifier=1"]);
}

#[test]
fn every_reference_of_a_list_is_compared() {
    let members = r#""participant":[{"actor":{"reference":"Location/1"}},{"actor":{"reference":"Patient/2"}}]"#;
    let found = ["actor=1", "actor=2", "patient=2", "location=1", "patient=2&location=1"];
    assert_found("Appointment", members, &found, &["patient=1", "location=2", "practitioner=1"]);
}

#[test]
fn canonical_references_match_with_or_without_a_version() {
    let members = r#""instantiatesCanonical":["http://example.org/Plan|2.0"]"#;
    let found = ["instantiates-canonical=http://example.org/Plan", "instantiates-canonical=http://example.org/Plan|2.0"];
    let missed = ["instantiates-canonical=http://example.org/Plan|1.0", "instantiates-canonical=http://example.org/Pl"];
    assert_found("CarePlan", members, &found, &missed);
}
