use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::head::MemberIndex;
use crate::semantics::mention::may_mention_patient;

fn compartment(version: FhirVersion) -> &'static PatientCompartment {
    static COMPARTMENTS: LazyLock<[PatientCompartment; 3]> = LazyLock::new(|| {
        [FhirVersion::R4, FhirVersion::R4b, FhirVersion::R5].map(|version| PatientCompartment::new(version, BaseUrls::any()))
    });
    let [r4, r4b, r5] = &*COMPARTMENTS;
    match version {
        FhirVersion::R4 => r4,
        FhirVersion::R4b => r4b,
        FhirVersion::R5 => r5,
    }
}

fn patients(compartment: &PatientCompartment, line: &str) -> BTreeSet<String> {
    let mut member_index = MemberIndex::default();
    let resource = Resource::parse(line.as_bytes(), &mut member_index).unwrap();
    let mut found = BTreeSet::new();
    let is_stopped = compartment.visit_patients(&resource, &mut |id| {
        found.insert(id.to_owned());
        false
    });
    assert!(!is_stopped);
    found
}

fn r4_patients(line: &str) -> Vec<String> {
    patients(compartment(FhirVersion::R4), line).into_iter().collect()
}

// Holds: R2
#[test]
fn a_resource_is_in_the_compartments_that_the_definition_lists() {
    for (line, expected) in [
        (
            r#"{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/1"},"performer":[{"reference":"Practitioner/9"},{"reference":"Patient/2"}]}"#,
            &["1", "2"][..],
        ),
        (
            r#"{"resourceType":"Observation","id":"o","subject":{"reference":"Group/1"},"focus":[{"reference":"Patient/2"}],"encounter":{"reference":"Encounter/3"}}"#,
            &[],
        ),
        (
            r#"{"resourceType":"AllergyIntolerance","id":"a","patient":{"reference":"Patient/1"},"recorder":{"reference":"Patient/2"},"asserter":{"reference":"Patient/3"}}"#,
            &["1", "2", "3"],
        ),
        (
            r#"{"resourceType":"Appointment","id":"a","participant":[{"actor":{"reference":"Patient/1"}},{"actor":{"reference":"Location/4"}},{"actor":{"reference":"Patient/2/_history/1"}}]}"#,
            &["1", "2"],
        ),
        (
            r#"{"resourceType":"Group","id":"g","member":[{"entity":{"reference":"Patient/1"}},{"entity":{"reference":"https://example.org/fhir/Patient/2"}}]}"#,
            &["1", "2"],
        ),
        (r#"{"resourceType":"Provenance","id":"p","target":[{"reference":"Patient/1"},{"reference":"Observation/2"}]}"#, &["1"]),
        (
            r#"{"resourceType":"RequestGroup","id":"r","action":[{"participant":[{"reference":"Device/5"},{"reference":"Patient/1"}]}]}"#,
            &["1"],
        ),
        (
            r#"{"resourceType":"Patient","id":"P","link":[{"other":{"reference":"Patient/1"}},{"other":{"reference":"RelatedPerson/4"}}]}"#,
            &["1", "P"],
        ),
        (r#"{"resourceType":"Patient","id":"P"}"#, &["P"]),
        (r#"{"resourceType":"Observation","id":"o","subject":{"reference":" Patient/1 "}}"#, &["1"]),
        (r#"{"resourceType":"Observation","id":"o","su\u0062ject":{"ref\u0065rence":"Pati\u0065nt\/1"}}"#, &["1"]),
    ] {
        assert_eq!(r4_patients(line), expected, "{line}");
    }
}

#[test]
fn a_resource_without_a_local_patient_reference_is_in_no_compartment() {
    for reference in [
        r##"{"reference":"#Patient/1"}"##,
        r##"{"reference":"#p"}"##,
        r#"{"reference":"urn:uuid:1","type":"Patient"}"#,
        r#"{"identifier":{"value":"1"},"type":"Patient"}"#,
        r#"{"reference":"RelatedPerson/1","display":"Patient/1"}"#,
        r#"{"reference":{"reference":"Patient/1"}}"#,
        r#"{"reference":null}"#,
        r#""Patient/1""#,
        "null",
        "[]",
    ] {
        let line =
            format!(r#"{{"resourceType":"Condition","id":"1","subject":{reference},"contained":[{{"resourceType":"Patient","id":"p"}}]}}"#);
        assert_eq!(r4_patients(&line), [""; 0], "{line}");
    }
}

#[test]
fn types_outside_the_compartment_definition_are_in_no_compartment() {
    let r4 = compartment(FhirVersion::R4);
    for name in ["Device", "Location", "Organization", "Practitioner", "PractitionerRole", "Medication", "Binary", "Task", "Contract"] {
        assert!(!r4.types().contains(ResourceType::parse(name).unwrap()), "{name}");
        let reference = r#"{"reference":"Patient/1"}"#;
        let line = format!(r#"{{"resourceType":"{name}","id":"1","patient":{reference},"subject":{reference},"for":{reference}}}"#);
        assert_eq!(r4_patients(&line), [""; 0], "{name}");
    }
    assert_eq!(ResourceType::all().filter(|kind| r4.types().contains(*kind)).count(), 66);
    let line = r#"{"resourceType":"Task","id":"t","for":{"reference":"Patient/1"}}"#;
    assert_eq!(patients(compartment(FhirVersion::R5), line).into_iter().collect::<Vec<_>>(), ["1"]);
}

#[test]
fn the_search_ends_when_the_visitor_returns_true() {
    let line = br#"{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/1"},"performer":[{"reference":"Patient/2"}]}"#;
    let mut member_index = MemberIndex::default();
    let resource = Resource::parse(line, &mut member_index).unwrap();
    let mut visited = Vec::new();
    assert!(compartment(FhirVersion::R4).visit_patients(&resource, &mut |id| {
        visited.push(id.to_owned());
        true
    }));
    assert_eq!(visited, ["1"]);
}

#[test]
fn the_first_patient_is_the_one_whom_a_resource_is_about() {
    let r4 = compartment(FhirVersion::R4);
    for (line, expected) in [
        (
            r#"{"resourceType":"Observation","id":"o","performer":[{"reference":"Patient/1"}],"subject":{"reference":"Patient/2"}}"#,
            Some("2"),
        ),
        (
            r#"{"resourceType":"AllergyIntolerance","id":"a","patient":{"reference":"Patient/2"},"recorder":{"reference":"Patient/1"}}"#,
            Some("2"),
        ),
        (
            r#"{"resourceType":"Coverage","id":"c","policyHolder":{"reference":"Patient/1"},"beneficiary":{"reference":"Patient/2"}}"#,
            Some("2"),
        ),
        // Several patients of one element, and patients of other elements, are equal.
        (r#"{"resourceType":"Account","id":"a","subject":[{"reference":"Patient/2"},{"reference":"Patient/1"}]}"#, Some("1")),
        (
            r#"{"resourceType":"Group","id":"g","member":[{"entity":{"reference":"Patient/2"}},{"entity":{"reference":"Patient/1"}}]}"#,
            Some("1"),
        ),
        (
            r#"{"resourceType":"Observation","id":"o","subject":{"reference":"Group/0"},"performer":[{"reference":"Patient/2"},{"reference":"Patient/1"}]}"#,
            Some("1"),
        ),
        (r#"{"resourceType":"Patient","id":"P","link":[{"other":{"reference":"Patient/1"}}]}"#, Some("P")),
        (r#"{"resourceType":"Observation","id":"o","subject":{"reference":"Device/1"}}"#, None),
    ] {
        let mut member_index = MemberIndex::default();
        let resource = Resource::parse(line.as_bytes(), &mut member_index).unwrap();
        assert_eq!(r4.first_patient(&resource).as_deref(), expected, "{line}");
        let nested = r4.first_patient_of_nested(resource.head.resource_type, JsonValue::from_valid(line), &BundlePatients::default());
        assert_eq!(nested.as_deref(), expected, "{line}");
    }
}

#[test]
fn listed_base_urls_restrict_the_patients() {
    let ours = PatientCompartment::new(FhirVersion::R4, BaseUrls::only(["https://a.example/fhir".to_owned()]));
    let line = r#"{"resourceType":"Communication","id":"c","subject":{"reference":"https://a.example/fhir/Patient/1"},"sender":{"reference":"https://b.example/fhir/Patient/2"}}"#;
    assert_eq!(patients(&ours, line).into_iter().collect::<Vec<_>>(), ["1"]);
    assert_eq!(r4_patients(line), ["1", "2"]);
}

/// Returns a resource whose only reference is at `path`. In arrays, an item without a reference precedes it.
fn with_reference_at(kind: ResourceType, path: &str, reference: &str) -> Value {
    let value = path.rsplit('.').fold(json!({ "reference": reference }), |value, step| match step.strip_suffix("[]") {
        Some(name) => json!({ name: [{"display": "Patient/no"}, value] }),
        None => json!({ step: value }),
    });
    let mut resource = value;
    resource["resourceType"] = json!(kind.as_str());
    resource["id"] = json!("r");
    resource
}

/// Returns every type, path and version of the compartment.
fn compartment_paths() -> impl Strategy<Value = (FhirVersion, ResourceType, &'static str)> {
    let of = |version: FhirVersion| {
        let paths = |kind| version.patient_compartment(kind).into_iter().flatten().map(move |path| (version, kind, path));
        ResourceType::all().flat_map(paths).filter(|(_, _, path)| !path.is_empty()).collect::<Vec<_>>()
    };
    prop::sample::select(FhirVersion::ALL.into_iter().flat_map(of).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_reference_at_any_path_of_the_compartment_is_found(
        (version, kind, path) in compartment_paths(),
        id in "[A-Za-z0-9.-]{1,64}",
        base in prop::sample::select(&["", "https://example.org/fhir/"][..]),
        history in prop::sample::select(&["", "/_history/2"][..]),
    ) {
        let compartment = compartment(version);
        prop_assert!(compartment.types().contains(kind));
        let line = with_reference_at(kind, path, &format!("{base}Patient/{id}{history}")).to_string();
        prop_assert!(patients(compartment, &line).contains(&id), "{}", line);
        prop_assert!(may_mention_patient(line.as_bytes(), &|member| member == id.as_bytes()), "{}", line);
        for other in [format!("Group/{id}"), format!("#Patient/{id}"), format!("urn:uuid:{id}"), format!("{base}patient/{id}")] {
            let line = with_reference_at(kind, path, &other).to_string();
            let own = if kind == ResourceType::PATIENT { &["r"][..] } else { &[] };
            prop_assert_eq!(patients(compartment, &line).into_iter().collect::<Vec<_>>(), own, "{}", line);
        }
    }
}

/// Returns the ids of the patients that a JSON tree refers to below a path.
fn collect_patients(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Value::Array(items) = value {
        return items.iter().for_each(|item| collect_patients(item, path, found));
    }
    if path.is_empty() {
        found.extend(value["reference"].as_str().and_then(|text| text.strip_prefix("Patient/")).map(str::to_owned));
        return;
    }
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    collect_patients(&value[step.trim_end_matches("[]")], rest, found);
}

/// Returns the uncompressed files of the sample lake, and of a larger lake if it is beside the checkout.
fn real_lines() -> Vec<String> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut folders = vec![root.join("tests/samples/lake"), root.join("../shared/data/100-patients")];
    let mut lines = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "ndjson") {
                let text = fs::read_to_string(path).unwrap();
                lines.extend(text.lines().step_by(3).map(str::to_owned));
            }
        }
    }
    lines
}

#[test]
fn the_patients_of_real_resources_agree_with_a_reference_implementation() {
    let r4 = compartment(FhirVersion::R4);
    let mut member_index = MemberIndex::default();
    let mut in_a_compartment = 0;
    for line in real_lines() {
        let Ok(resource) = Resource::parse(line.as_bytes(), &mut member_index) else { continue };
        let tree: Value = serde_json::from_str(&line).unwrap();
        let mut expected = BTreeSet::new();
        if resource.head.resource_type == ResourceType::PATIENT {
            expected.insert(tree["id"].as_str().unwrap().to_owned());
        }
        for path in FhirVersion::R4.patient_compartment(resource.head.resource_type).into_iter().flatten() {
            collect_patients(&tree, path, &mut expected);
        }
        let found = patients(r4, &line);
        assert_eq!(found, expected, "{line}");
        assert!(found.is_empty() || may_mention_patient(line.as_bytes(), &|id| found.iter().any(|one| one.as_bytes() == id)), "{line}");
        // Synthea does not write escapes, so the line cannot mention a patient who is not in it.
        assert!(!may_mention_patient(line.as_bytes(), &|id| id == b"stranger"), "{line}");
        in_a_compartment += usize::from(!found.is_empty());
    }
    assert!(in_a_compartment > 20, "{in_a_compartment}");
}
