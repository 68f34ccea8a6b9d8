use std::collections::BTreeSet;
use std::fs;
use std::path::Path as FilePath;

use serde_json::Value;

use super::*;

fn kind(name: &str) -> ResourceType {
    ResourceType::named(name).unwrap()
}

#[test]
fn the_compartment_of_r4_has_its_66_types() {
    assert_eq!(FhirVersion::R4.patient_compartment_types().iter().count(), 66);
    assert_eq!(FhirVersion::R4b.patient_compartment_types(), FhirVersion::R4.patient_compartment_types());
    assert_eq!(FhirVersion::R5.patient_compartment_types().iter().count(), 73);
}

#[test]
fn the_compartment_looks_where_its_definition_says() {
    let paths = |version: FhirVersion, name| version.patient_compartment(kind(name));
    assert_eq!(paths(FhirVersion::R4, "AllergyIntolerance"), Some(vec!["patient", "recorder", "asserter"]));
    assert_eq!(paths(FhirVersion::R4, "Appointment"), Some(vec!["participant[].actor"]));
    assert_eq!(paths(FhirVersion::R4, "Patient"), Some(vec!["link[].other"]));
    for outside in ["Device", "Location", "Medication", "Organization", "Practitioner", "Task"] {
        assert_eq!(paths(FhirVersion::R4, outside), None, "{outside}");
    }
    assert!(paths(FhirVersion::R5, "Task").is_some());
}

#[test]
fn a_parameter_is_what_its_definition_says() {
    let code = FhirVersion::R4.search_parameter(kind("Observation"), "code").unwrap();
    assert_eq!((code.kind, code.definition.as_str()), (ParameterKind::Token, "http://hl7.org/fhir/SearchParameter/clinical-code"));
    assert_eq!(code.paths, [TypedPath { path: "code", ends_in: "CodeableConcept", system: None }]);
    let status = FhirVersion::R4.search_parameter(kind("Observation"), "status").unwrap();
    assert_eq!(status.paths[0].system, Some("http://hl7.org/fhir/observation-status"));
    let both = FhirVersion::R4.search_parameter(kind("Observation"), "combo-code-value-quantity").unwrap();
    assert_eq!(both.paths.iter().map(|path| path.path).collect::<Vec<_>>(), ["", "component[]"]);
    assert_eq!(both.components.iter().map(|component| component.kind).collect::<Vec<_>>(), [ParameterKind::Token, ParameterKind::Quantity]);
    let id = FhirVersion::R5.search_parameter(kind("Patient"), "_id").unwrap();
    assert_eq!((id.definition.as_str(), id.paths[0].path), ("http://hl7.org/fhir/SearchParameter/Resource-id", "id"));
    let deceased = FhirVersion::R4.search_parameter(kind("Patient"), "deceased").unwrap();
    assert_eq!(deceased.support, Support::Deceased);
    let subject = FhirVersion::R4.search_parameter(kind("Observation"), "subject").unwrap();
    assert_eq!(subject.targets, ["Device", "Group", "Location", "Patient"].map(kind));
    assert_eq!(FhirVersion::R4.search_parameter(kind("Observation"), "nothing"), None);
}

#[test]
fn elements_know_their_choices_and_whether_they_must_be_there() {
    let elements = FhirVersion::R4.elements(kind("Observation"));
    let mandatory: BTreeSet<_> = elements.iter().filter(|element| element.is_mandatory).map(|element| element.name).collect();
    assert_eq!(mandatory, BTreeSet::from(["code", "status"]));
    let value = elements.iter().find(|element| element.name == "value").unwrap();
    assert!(value.members.contains(&"valueQuantity") && value.members.contains(&"valueDateTime") && value.members.len() == 11);
    assert!(["id", "meta", "text", "contained"].iter().all(|name| elements.iter().any(|element| element.name == *name)));
}

/// Nothing in the texts is passed over.
#[test]
fn every_line_of_every_table_is_read() {
    for version in FhirVersion::ALL {
        for kind in version.types().iter() {
            let parameters = version.search_parameters(kind);
            let codes = version.lines(kind).filter_map(|(_, line)| line.strip_prefix('?')?.split(' ').next());
            assert!(parameters.iter().map(|parameter| parameter.code).eq(codes.collect::<BTreeSet<_>>()), "{version} {kind}");
            for parameter in &parameters {
                let is_empty = parameter.paths.is_empty();
                assert_eq!(is_empty, parameter.support == Support::NotCompiled, "{version} {kind} {}", parameter.code);
                assert_eq!(version.search_parameter(kind, parameter.code).as_ref(), Some(parameter));
            }
            let others = version.lines(kind).filter(|(_, line)| !line.starts_with(['?', '.', '@'])).count();
            assert_eq!(others, 0, "{version} {kind}");
        }
    }
}

/// The part of a CodeableReference that a parameter is about is chosen in our tables.
fn plain(path: &str) -> &str {
    path.strip_suffix(".concept").or_else(|| path.strip_suffix(".reference")).unwrap_or(path)
}

/// Against tables that were derived independently, where they lie beside the checkout.
///
/// Those list every choice of an element; ours leave out those that the parameter's kind cannot match (a `scheduledString` for a
/// date) or that its expression casts away (`source as uri`). There are no other differences.
#[test]
fn independently_derived_tables_agree_where_present() {
    let mut differing = 0;
    let beside = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tables");
    for (version, name) in [(FhirVersion::R4, "r4"), (FhirVersion::R4b, "r4b"), (FhirVersion::R5, "r5")] {
        let Ok(text) = fs::read(beside.join(format!("patient-compartment-{name}.json"))) else { return };
        let table: Value = serde_json::from_slice(&text).unwrap();
        for (name, paths) in table["members"].as_object().unwrap() {
            let theirs: BTreeSet<_> = paths.as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
            let ours: BTreeSet<_> = version.patient_compartment(kind(name)).unwrap().into_iter().collect();
            assert_eq!(ours, theirs, "{version} {name}");
        }
        let table: Value = serde_json::from_slice(&fs::read(beside.join(format!("search-params-{name}.json"))).unwrap()).unwrap();
        for (name, parameters) in table["types"].as_object().unwrap() {
            let Some(kind) = ResourceType::named(name) else { continue };
            for (code, theirs) in parameters.as_object().unwrap() {
                let Some(ours) = version.search_parameter(kind, code) else { panic!("{version} {name} lacks {code}") };
                assert_eq!(ours.kind.as_str(), theirs["t"].as_str().unwrap(), "{version} {name} {code}");
                if ours.support == Support::Compiled && theirs.get("fhirpath").is_none() {
                    let theirs = theirs["paths"].as_array().unwrap().iter();
                    let theirs: BTreeSet<_> = theirs.map(|path| plain(path["p"].as_str().unwrap())).collect();
                    let own: BTreeSet<_> = ours.paths.iter().map(|path| plain(path.path)).collect();
                    assert!(own.is_subset(&theirs), "{version} {name} {code}: {own:?}, {theirs:?}");
                    differing += usize::from(own != theirs);
                }
            }
        }
    }
    assert!(differing < 30, "{differing} parameters differ");
}
