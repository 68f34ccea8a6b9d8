//! Queries as clients send them, and sets of queries.

use super::*;
use crate::definitions::SearchParamType;

#[test]
fn a_comma_between_queries_is_distinguished_from_one_within_a_query() {
    for (value, expected) in [
        ("Patient?active=true", vec!["Patient?active=true"]),
        ("Patient?active=true,Observation?code=a,b", vec!["Patient?active=true", "Observation?code=a,b"]),
        ("Observation?category=a,b,c", vec!["Observation?category=a,b,c"]),
        (r"Patient?name=a\,Observation?code=b", vec![r"Patient?name=a\,Observation?code=b"]),
        ("Patient?a=1, Observation?b=2", vec!["Patient?a=1", "Observation?b=2"]),
        ("Patient?a=1,Unknown?b=2", vec!["Patient?a=1", "Unknown?b=2"]),
        ("ValueSet?url=http://a,http://b?c", vec!["ValueSet?url=http://a,http://b?c"]),
        ("Patient?a=1,", vec!["Patient?a=1,"]),
        ("", vec![""]),
    ] {
        assert_eq!(split_queries(value), expected, "{value}");
    }
}

// Holds: P45, B13
#[test]
fn a_comma_that_was_encoded_twice_separates_alternatives() {
    // smart-fetch writes `category=laboratory%252Cvital-signs`, so that servers of version 2.0.0 do not split the query there.
    let members = r#""category":[{"coding":[{"code":"vital-signs"}]}]"#;
    let found = ["category=laboratory%2Cvital-signs", "category=laboratory,vital-signs"];
    assert_found("Observation", members, &found, &["category=laboratory%2Cexam"]);
    let literal = r#""code":{"coding":[{"system":"http://a","code":"x,y&z"}]}"#;
    assert_found("Observation", literal, &[r"code=x\%2Cy%26z", "code=http%3A%2F%2Fa%7Cx%5C,y%26z"], &["code=x%2Cy%26z"]);
}

#[test]
fn a_query_without_parameters_matches_all_resources_of_its_type() {
    assert!(is_found(&query("Patient?"), &resource("Patient", "")));
    assert!(!is_found(&query("Patient?"), &resource("Group", "")));
    assert!(is_found(&query("Patient?&_id=1&"), &resource("Patient", "")));
}

// Holds: P40
#[test]
fn one_matching_query_is_enough_and_types_without_a_filter_match() {
    let mut filters = TypeFilters::new();
    assert!(filters.is_empty());
    for text in ["Patient?gender=male", "Patient?active=true", "Group?type=person"] {
        filters.add(query(text));
    }
    let matches = |line: &str| {
        let mut member_index = MemberIndex::default();
        filters.matches(&Resource::parse(line.as_bytes(), &mut member_index).unwrap())
    };
    assert!(matches(&resource("Patient", r#""gender":"male","active":false"#)));
    assert!(matches(&resource("Patient", r#""gender":"female","active":true"#)));
    assert!(!matches(&resource("Patient", r#""gender":"female""#)));
    assert!(!matches(&resource("Group", "")));
    assert!(matches(&resource("Location", "")));
    let kinds: Vec<_> = ResourceType::all().filter(|kind| filters.types().contains(*kind)).map(ResourceType::as_str).collect();
    assert_eq!(kinds, ["Group", "Patient"]);
    let patients = filters.for_type(ResourceType::PATIENT).unwrap();
    assert_eq!(patients.resource_type().as_str(), "Patient");
}

#[test]
fn a_filter_can_be_shared_between_threads() {
    fn is_shared<T: Clone + Send + Sync + std::fmt::Debug + 'static>() {}
    is_shared::<Query>();
    is_shared::<TypeFilter>();
    is_shared::<TypeFilters>();
}

#[test]
fn every_supported_parameter_can_be_used() {
    for version in FhirVersion::ALL {
        let kinds = ResourceType::all().filter(|kind| version.types().contains(*kind));
        for kind in kinds {
            let parameters = supported_parameters(version, kind);
            assert!(parameters.iter().any(|parameter| parameter.code == "_id"), "{kind}");
            for parameter in parameters {
                let value = match parameter.param_type {
                    SearchParamType::Composite => continue,
                    SearchParamType::Date => "2020",
                    SearchParamType::Number | SearchParamType::Quantity => "1",
                    SearchParamType::Token | SearchParamType::String => "true",
                    SearchParamType::Reference | SearchParamType::Uri => "http://example.org/x",
                    SearchParamType::Special => panic!("{kind} {}", parameter.code),
                };
                let text = format!("{kind}?{}={value}", parameter.code);
                let read = Query::parse(&text, version, now());
                assert!(read.is_ok(), "{text}: {read:?}");
            }
        }
    }
}

#[test]
fn parameters_that_need_other_resources_are_not_supported() {
    let codes = |version, kind| -> Vec<_> {
        supported_parameters(version, ResourceType::parse(kind).unwrap()).into_iter().map(|parameter| parameter.code).collect()
    };
    assert!(codes(FhirVersion::R4, "Patient").contains(&"deceased"));
    for version in FhirVersion::ALL {
        for refused in ["_text", "_content", "_query", "_list", "_in", "_filter", "near"] {
            assert!(!codes(version, "Location").contains(&refused), "{refused}");
        }
    }
}
