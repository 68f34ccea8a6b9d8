use super::*;

#[test]
fn a_uri_matches_exactly() {
    let members = r#""url":"http://acme.org/fhir/ValueSet/123""#;
    let found = ["url=http://acme.org/fhir/ValueSet/123", "url=http://x,http://acme.org/fhir/ValueSet/123"];
    assert_found("ValueSet", members, &found, &["url=http://acme.org/fhir/valueset/123", "url=http://acme.org/fhir/ValueSet"]);
    assert_found("ValueSet", r#""url":"urn:oid:1.2.3""#, &["url=urn:oid:1.2.3"], &["url=urn:oid:1.2"]);
}

#[test]
fn below_and_above_compare_whole_path_segments() {
    let members = r#""url":"http://acme.org/fhir/ValueSet/123""#;
    let found = [
        "url:below=http://acme.org/fhir/",
        "url:below=http://acme.org/fhir",
        "url:below=http://acme.org/fhir/ValueSet/123",
        "url:above=http://acme.org/fhir/ValueSet/123/_history/5",
        "url:above=http://acme.org/fhir/ValueSet/123",
    ];
    let missed = ["url:below=http://acme.org/fh", "url:below=http://acme.org/fhir/ValueSet/12", "url:above=http://acme.org/fhir"];
    assert_found("ValueSet", members, &found, &missed);
}

#[test]
fn profiles_are_canonical_urls_and_sources_are_plain_uris() {
    let members = r#""meta":{"profile":["http://example.org/p|3.1"],"source":"http://example.org/s|x"}"#;
    let found = ["_profile=http://example.org/p", "_profile=http://example.org/p|3.1", "_source=http://example.org/s|x"];
    assert_found("Patient", members, &found, &["_profile=http://example.org/p|3", "_source=http://example.org/s"]);
    assert_found("Patient", members, &["_profile:below=http://example.org", "_profile:missing=false"], &["_profile:missing=true"]);
}
