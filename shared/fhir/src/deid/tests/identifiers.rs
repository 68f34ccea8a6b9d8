//! No identifier of a resource is left after the rules of HIPAA's safe harbor method.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// A short form of the rules of the safe harbor method. The complete configuration is not part of this repository.
const SAFE_HARBOR: &[[&str; 2]] = &[
    ["nodesByType('Extension')", r#""method":"redact""#],
    ["nodesByType('HumanName').use", r#""method":"keep""#],
    ["nodesByType('Address').state", r#""method":"keep""#],
    ["Resource.id", r#""method":"cryptoHash""#],
    ["nodesByType('Identifier')", r#""method":"redact""#],
    ["nodesByType('Reference').display", r#""method":"redact""#],
    ["nodesByType('Reference').reference", r#""method":"cryptoHash""#],
    ["nodesByType('Narrative')", r#""method":"redact""#],
    ["nodesByType('date')", r#""method":"dateshift""#],
    ["nodesByType('dateTime')", r#""method":"dateshift""#],
    ["nodesByType('instant')", r#""method":"dateshift""#],
    ["nodesByType('Address')", r#""method":"redact""#],
    ["nodesByType('HumanName')", r#""method":"redact""#],
    ["nodesByType('ContactPoint')", r#""method":"redact""#],
    ["Organization.name", r#""method":"redact""#],
];

const PARAMETERS: &str = r#""enablePartialDatesForRedact":true,"enablePartialZipCodesForRedact":true"#;

const PATIENT: &str = r#"{"resourceType":"Patient","id":"7a1b2c3d-patient","text":{"status":"generated","div":"<div>Brigitte Musterfrau</div>"},
    "extension":[{"url":"http://x/mothersMaidenName","valueString":"Altmann"}],"identifier":[{"system":"http://hl7.org/fhir/sid/us-ssn","value":"999-12-3456"}],
    "name":[{"use":"official","family":"Musterfrau","given":["Brigitte"]}],"telecom":[{"system":"phone","value":"555-867-5309"}],"birthDate":"1971-03-14",
    "address":[{"line":["12 Langer Weg"],"city":"Smallville","state":"MA","postalCode":"02138"}],
    "contact":[{"name":{"family":"Nebenmann"},"telecom":[{"value":"555-111-2222"}]}],"managingOrganization":{"reference":"Organization/9-org","display":"Saint Elsewhere"}}"#;

const OBSERVATION: &str = r#"{"resourceType":"Observation","id":"4e5f-observation","subject":{"reference":"Patient/7a1b2c3d-patient","display":"Brigitte Musterfrau"},
    "effectiveDateTime":"2019-08-07T13:14:15+02:00","contained":[{"resourceType":"Patient","name":[{"text":"Brigitte Musterfrau"}]}]}"#;

#[test]
fn no_identifier_of_a_resource_is_kept() {
    let deidentifier = deidentifier(&configuration(SAFE_HARBOR, PARAMETERS));
    let secrets = [
        "7a1b2c3d",
        "4e5f",
        "9-org",
        "Brigitte",
        "Musterfrau",
        "Altmann",
        "999-12-3456",
        "555-867",
        "555-111",
        "1971-03-14",
        "Langer",
        "Smallville",
        "02138",
        "Nebenmann",
        "Elsewhere",
        "2019-08-07",
        "13:14:15",
    ];
    for resource in [PATIENT, OBSERVATION] {
        let output = deidentify(&deidentifier, &resource.replace("\n    ", "")).unwrap();
        for secret in secrets {
            assert!(!output.contains(secret), "{secret}: {output}");
        }
    }
    let output = parse_json(&deidentify(&deidentifier, &PATIENT.replace("\n    ", "")).unwrap());
    assert_eq!(output["address"], serde_json::json!([{ "state": "MA", "postalCode": "02100" }]));
}

#[test]
fn no_part_of_an_absolute_reference_identifies_a_person() {
    let deidentifier = deidentifier(&configuration(SAFE_HARBOR, PARAMETERS));
    for (reference, secret) in [
        ("http://x/Patient/018f428e-34f6-4707-8009-5ad742f901e7/Observation/7", "018f428e"),
        ("https://x/r4/MRN-123-JohnDoe/Patient/7", "MRN"),
        ("http://john-doe@x/Patient/7", "john"),
        ("http://x/PATIENT/MRN4711/Observation/7", "MRN"),
    ] {
        let resource = format!(r#"{{"resourceType":"Observation","id":"1","subject":{{"reference":"{reference}"}}}}"#);
        let output = deidentify(&deidentifier, &resource).unwrap();
        let written = parse_json(&output)["subject"]["reference"].to_string();
        assert!(!output.contains(secret) && !written.contains("://"), "{reference}: {output}");
    }
}

/// Returns a path of the test data beside the checkout, if it exists.
fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    path.exists().then_some(path)
}

/// Collects the values that identify a person: ids, names, numbers, addresses, complete birth dates.
fn secrets(resource: &Value, found: &mut BTreeSet<String>) {
    match resource {
        Value::Array(items) => items.iter().for_each(|item| secrets(item, found)),
        Value::Object(members) => {
            let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
            if members.contains_key("resourceType") {
                found.extend(text("id"));
                // Other dates move, and the new date can be another date of the data by chance.
                found.extend(text("birthDate"));
            }
            let list =
                |name: &str| members.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
            if members.contains_key("family") {
                found.extend(text("family").into_iter().chain(list("given")));
            }
            if members.contains_key("postalCode") {
                // Some zip codes are unchanged, because only zeros follow their first three digits.
                let zip = text("postalCode").filter(|zip| !zip.chars().skip(3).all(|digit| digit == '0'));
                found.extend(zip.into_iter().chain(list("line")).chain(text("city")));
            }
            let is_contact = matches!(text("system").as_deref(), Some("phone" | "email"));
            if is_contact || text("system").is_some_and(|system| system.contains("us-ssn") || system.contains("medicalrecord")) {
                found.extend(text("value"));
            }
            members.values().for_each(|value| secrets(value, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns true for an Organization. The configuration keeps its identifiers, telecoms and addresses, because they do not
/// identify people.
fn is_of_organization(line: &str) -> bool {
    line.contains(r#""resourceType":"Organization""#)
}

#[test]
fn no_identifier_of_synthetic_patients_is_kept() {
    let (Some(data), Some(config)) = (shared("data/10-patients"), shared("vectors/anonymizer/samples/configuration-sample.json")) else {
        return;
    };
    let deidentifier = deidentifier(fs::read_to_string(config).unwrap().trim_start_matches('\u{feff}'));
    let files: Vec<_> = fs::read_dir(data).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    let lines = || files.iter().flat_map(|file| file.lines()).filter(|line| !is_of_organization(line));
    let mut found = BTreeSet::new();
    lines().for_each(|line| secrets(&parse_json(line), &mut found));
    // Ids of contained resources, such as `#coverage`, can also be names of elements.
    found.retain(|secret| !secret.chars().all(|c| c.is_ascii_lowercase()));
    assert!(found.len() > 1000, "{}", found.len());
    for line in lines() {
        let output = deidentify(&deidentifier, line).unwrap();
        let texts: BTreeSet<&str> = output.split(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '.' | '@')).collect();
        for secret in &found {
            let is_present = if secret.contains(' ') { output.contains(secret) } else { texts.contains(secret.as_str()) };
            assert!(!is_present, "{secret}: {output}");
        }
    }
}
