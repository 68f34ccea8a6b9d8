use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::head::MemberIndex;

const OBSERVATION: &str = r#"{"resourceType":"Observation","id":"o","meta":{"versionId":"1"},"status":"final","_status":{"id":"s"},"code":{"text":"Größe\u00e9\/"},"subject":{"reference":"Patient/1"},"valueQuantity":{"value":1.10,"unit":"m"},"note":[{"text":"x"}]}"#;

fn parse(list: &str) -> Result<Elements, ElementsError> {
    Elements::parse(&[list.to_owned()], FhirVersion::R4)
}

fn apply(list: &str, line: &str) -> Option<String> {
    let mut member_index = MemberIndex::default();
    let resource = Resource::parse(line.as_bytes(), &mut member_index).unwrap();
    let mut out = b"before\n".to_vec();
    let is_reduced = parse(list).unwrap().apply(&resource, &mut out);
    let out = String::from_utf8(out).unwrap();
    let written = out.strip_prefix("before\n").unwrap();
    assert!(is_reduced || written.is_empty());
    is_reduced.then(|| written.to_owned())
}

fn meta(list: &str, meta: &str) -> String {
    let reduced = apply(list, &format!(r#"{{"resourceType":"Patient","id":"p","meta":{meta},"gender":"male"}}"#)).unwrap();
    reduced.strip_prefix(r#"{"resourceType":"Patient","id":"p","meta":"#).unwrap().strip_suffix('}').unwrap().to_owned()
}

// Holds: P50
#[test]
fn requested_and_mandatory_elements_remain_byte_for_byte() {
    let expected = r#"{"resourceType":"Observation","id":"o","meta":{"versionId":"1","tag":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}]},"status":"final","_status":{"id":"s"},"code":{"text":"Größe\u00e9\/"},"valueQuantity":{"value":1.10,"unit":"m"}}"#;
    for list in ["value", "Observation.value", "value[x]", "valueQuantity", "Observation.valueQuantity", " id , Observation.value ,value"] {
        assert_eq!(apply(list, OBSERVATION).as_deref(), Some(expected), "{list}");
    }
}

#[test]
fn a_name_with_a_type_does_not_affect_other_types() {
    assert_eq!(apply("Patient.name", OBSERVATION), None);
    // Observation has no birthDate, so only its mandatory elements remain.
    let reduced: Value = serde_json::from_str(&apply("birthDate,Patient.name", OBSERVATION).unwrap()).unwrap();
    let names: Vec<_> = reduced.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["_status", "code", "id", "meta", "resourceType", "status"]);
    assert_eq!(Elements::parse(&[], FhirVersion::R4).map(|elements| elements.kept.len()), Ok(0));
}

#[test]
fn a_choice_keeps_any_of_its_members_and_a_member_name_keeps_only_that_member() {
    let line = r#"{"resourceType":"MedicationRequest","id":"m","medicationReference":{"reference":"Medication/1"},"intent":"order","status":"active","subject":{"reference":"Patient/1"},"reportedBoolean":true,"_reportedBoolean":{"id":"x"},"note":[]}"#;
    let kept = |list| {
        let reduced: Value = serde_json::from_str(&apply(list, line).unwrap()).unwrap();
        reduced.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    // MedicationRequest 4.0.1: status, intent, medication[x] and subject are 1..1.
    let mandatory = ["id", "intent", "medicationReference", "meta", "resourceType", "status", "subject"];
    assert_eq!(kept("id"), mandatory);
    assert_eq!(kept("reportedReference"), mandatory);
    assert_eq!(kept("reported").len(), mandatory.len() + 2);
}

#[test]
fn several_parameter_values_are_combined() {
    let values = ["Observation.subject", "Observation.note,Patient.name"].map(str::to_owned);
    let mut member_index = MemberIndex::default();
    let resource = Resource::parse(OBSERVATION.as_bytes(), &mut member_index).unwrap();
    let mut out = Vec::new();
    assert!(Elements::parse(&values, FhirVersion::R4).unwrap().apply(&resource, &mut out));
    let reduced: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&reduced["subject"]["reference"], &reduced["note"][0]["text"]), (&json!("Patient/1"), &json!("x")));
    assert_eq!(reduced.get("valueQuantity"), None);
}

// Holds: P50
#[test]
fn the_tag_is_added_once_to_the_existing_tags() {
    let other = r#"{"system":"https://example.org","code":"SUBSETTED"}"#;
    for (before, after) in [
        ("{}".to_owned(), format!(r#"{{"tag":[{SUBSETTED}]}}"#)),
        (r#"{ "versionId" : "1" }"#.to_owned(), format!(r#"{{ "versionId" : "1" ,"tag":[{SUBSETTED}]}}"#)),
        (r#"{"tag":[]}"#.to_owned(), format!(r#"{{"tag":[{SUBSETTED}]}}"#)),
        (format!(r#"{{"tag":[ {other} ],"a\"b":1.10}}"#), format!(r#"{{"tag":[ {other} ,{SUBSETTED}],"a\"b":1.10}}"#)),
        (format!(r#"{{"versionId":"1","tag":{other}}}"#), format!(r#"{{"versionId":"1","tag":[{other},{SUBSETTED}]}}"#)),
        (r#"{"tag":null}"#.to_owned(), format!(r#"{{"tag":[{SUBSETTED}]}}"#)),
        (format!(r#"{{"tag":[{other}, {SUBSETTED}]}}"#), format!(r#"{{"tag":[{other}, {SUBSETTED}]}}"#)),
        ("null".to_owned(), format!(r#"{{"tag":[{SUBSETTED}]}}"#)),
    ] {
        assert_eq!(meta("id", &before), after, "{before}");
    }
}

#[test]
fn a_resource_without_meta_gets_one() {
    let reduced = apply("Patient.gender", r#"{ "id" : "p" , "gender" : "male", "active":true, "resourceType" : "Patient" }"#).unwrap();
    assert_eq!(reduced, format!(r#"{{"id":"p","gender":"male","resourceType":"Patient","meta":{{"tag":[{SUBSETTED}]}}}}"#));
}

#[test]
fn an_escaped_name_is_the_same_name() {
    let reduced =
        apply("gender", r#"{"resource\u0054ype":"Patient","\u0069d":"p","m\u0065ta":{},"gend\u0065r":"male","act\u0069ve":true}"#);
    assert_eq!(reduced.unwrap(), format!(r#"{{"resourceType":"Patient","id":"p","meta":{{"tag":[{SUBSETTED}]}},"gender":"male"}}"#));
}

#[test]
fn an_unknown_element_is_rejected_by_name() {
    let (name, version) = (String::from, "4.0.1");
    for (list, error) in [
        ("", ElementsError::Empty),
        ("id,,name", ElementsError::Empty),
        ("name.family", ElementsError::Nested(name("name.family"))),
        ("id,Patient.name.family", ElementsError::Nested(name("Patient.name.family"))),
        ("Dog.name", ElementsError::UnknownType { name: name("Dog.name"), version }),
        // Defined in R5 only.
        ("Transport.status", ElementsError::UnknownType { name: name("Transport.status"), version }),
        ("Patient.colour", ElementsError::UnknownElement { name: name("Patient.colour"), version }),
        ("Patient.valueQuantity", ElementsError::UnknownElement { name: name("Patient.valueQuantity"), version }),
        ("id,colour", ElementsError::UnknownElement { name: name("colour"), version }),
        ("gender[x]", ElementsError::UnknownElement { name: name("gender[x]"), version }),
        ("Patient", ElementsError::UnknownElement { name: name("Patient"), version }),
        ("Patient.", ElementsError::UnknownElement { name: name("Patient."), version }),
        ("Name", ElementsError::UnknownElement { name: name("Name"), version }),
    ] {
        assert_eq!(parse(list), Err(error.clone()), "{list}");
        assert!(
            list.is_empty() || error == ElementsError::Empty || error.to_string().contains(list.split(',').next_back().unwrap()),
            "{error}"
        );
    }
    assert!(parse(&"x".repeat(5_000)).unwrap_err().to_string().len() < 200);
}

/// Root members of a Patient. Some would change if they were rewritten through a JSON tree.
const MEMBERS: [(&str, &str); 10] = [
    ("active", "true"),
    ("_birthDate", r#"{"extension":[]}"#),
    ("birthDate", r#""1970-01""#),
    ("deceasedBoolean", "false"),
    ("multipleBirthInteger", "12345678901234567890"),
    ("extension", r#"[{"url":"x","valueDecimal":1.10}, {"url":"y","valueDecimal":-0.0e+05}]"#),
    ("name", r#"[ {"family":"Z\u0308\ud83d\ude00\"}","given":["Å"]} ]"#),
    ("text", r#"{"div":"<div>\/\n</div>"}"#),
    ("telecom", "[]"),
    ("contained", r#"[{"resourceType":"Patient","id":"c","meta":{}}]"#),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn members_are_kept_or_removed_as_a_whole(
        order in Just((0..MEMBERS.len()).collect::<Vec<_>>()).prop_shuffle(),
        count in 0..=MEMBERS.len(),
        requested in prop::sample::subsequence(&["active", "birthDate", "deceased", "multipleBirthInteger", "extension", "name", "telecom"][..], 1..7),
    ) {
        let members: Vec<_> = order.into_iter().take(count).map(|at| MEMBERS[at]).collect();
        let text = |members: &[(&str, &str)]| members.iter().map(|(name, value)| format!(",\"{name}\":{value}")).collect::<String>();
        let line = format!(r#"{{"resourceType":"Patient","id":"p","meta":{{}}{}}}"#, text(&members));
        let is_requested = |name: &str| requested.contains(&name.trim_start_matches('_')) || (name == "deceasedBoolean" && requested.contains(&"deceased"));
        let remaining: Vec<_> = members.into_iter().filter(|(name, _)| is_requested(name)).collect();
        let expected = format!(r#"{{"resourceType":"Patient","id":"p","meta":{{"tag":[{SUBSETTED}]}}{}}}"#, text(&remaining));
        let list = requested.iter().map(|name| format!("Patient.{name}")).collect::<Vec<_>>().join(",");
        prop_assert_eq!(apply(&list, &line), Some(expected));
    }

    #[test]
    fn no_list_causes_a_panic(list in "([A-Za-z.,\\[\\] ]|Patient|name|\\PC){0,12}") {
        if let Err(error) = parse(&list) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
