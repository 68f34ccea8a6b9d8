//! `Prefer: handling=lenient`.

use super::*;
use crate::request::error::Handling;
use crate::request::raw::RawParameters;

// Holds: K12, P44, P95
#[test]
fn unsupported_values_are_rejected_or_ignored_and_reported() {
    let filter = ("_typeFilter", "Patient?status=active");
    let history = ("includeAssociatedData", "_history");
    for (level, parameters, parameter_at_fault) in [
        (Level::System, &[("foo", "x")][..], "foo"),
        (Level::System, &[("_type", "Patient,Pet")], "_type"),
        (Level::System, &[filter], "_typeFilter"),
        (Level::System, &[("_type", "Patient"), ("_typeFilter", "Observation?status=final")], "_typeFilter"),
        (Level::System, &[("_elements", "id,wheels")], "_elements"),
        (Level::System, &[("_elements", "Patient.name.family")], "_elements"),
        (Level::System, &[("includeAssociatedData", "_custom")], "includeAssociatedData"),
        (Level::System, &[history, ("_typeFilter", "Observation?status=final")], "includeAssociatedData"),
        (Level::System, &[("organizeOutputBy", "Encounter")], "organizeOutputBy"),
        (Level::System, &[("patient", "Patient/1")], "patient"),
        (group_level(), &[history], "includeAssociatedData"),
        (Level::AllPatients, &[("_type", "Organization")], "_type"),
    ] {
        assert_eq!(rejection(&kick_off_at(level.clone(), STRICT, parameters)), bad_request(parameter_at_fault));
        assert_eq!(lenient(level, parameters).1, [parameter_at_fault], "{parameters:?}");
    }
}

#[test]
fn a_name_that_is_nearly_right_is_rejected_with_the_name_that_is_meant() {
    for (name, meant) in [
        ("_Type", "_type"),
        ("type", "_type"),
        ("_types", "_type"),
        ("_outputformat", "_outputFormat"),
        ("_output-format", "_outputFormat"),
        ("_TypeFilter", "_typeFilter"),
        ("typefilter", "_typeFilter"),
        ("Since", "_since"),
        ("_element", "_elements"),
        ("_patient", "patient"),
        ("_includeAssociatedData", "includeAssociatedData"),
    ] {
        let parameters = [(name.to_owned(), "Patient".to_owned())];
        let text = RawParameters::new(&parameters, &mut Handling::default()).unwrap_err().text;
        assert_eq!(text, format!("the parameter `{name}` is not supported: did you mean `{meant}`?"));
    }
    let parameters = [("_typefilter".to_owned(), "Patient?active=true".to_owned())];
    let raw = RawParameters::new(&parameters, &mut Handling::default()).unwrap();
    assert_eq!(raw.values(Parameter::TypeFilter), ["Patient?active=true"]);
}

#[test]
fn supported_values_beside_unsupported_ones_are_kept() {
    let (request, _) = lenient(
        Level::System,
        &[
            ("_type", "Pet,Patient,Observation"),
            ("_typeFilter", "Patient?status=active,Patient?gender=female"),
            ("_elements", "wheels,Patient.name"),
            ("includeAssociatedData", "_custom,_deleted"),
        ],
    );
    assert_eq!(request.types, Some(types(&["Observation", "Patient"])));
    assert_eq!(request.type_filters, ["Patient?gender=female"]);
    assert_eq!(request.elements, ["Patient.name"]);
    assert_eq!(request.associated_data, [AssociatedData::Deleted].into());
}

#[test]
fn only_unknown_types_export_nothing_rather_than_everything() {
    assert_eq!(lenient(Level::System, &[("_type", "Pet,Watermill")]).0.types, Some(types(&[])));
}

#[test]
fn patients_are_not_kept_if_the_level_does_not_support_them() {
    let resolved = resolve(&kick_off_at(Level::System, LENIENT, &[("patient", "Patient/1")])).unwrap();
    assert_eq!((resolved.patients.len(), resolved.request.patients), (0, None));
}

#[test]
fn malformed_values_are_rejected_nevertheless() {
    for (name, value) in [
        ("_since", "yesterday"),
        ("_since", "2999-01-01"),
        ("_until", "0000-60-01"),
        ("_type", "Patient,,Observation"),
        ("_typeFilter", "Observation?date=soon"),
        ("_typeFilter", "status=final"),
        ("_typeFilter", "Observation?code=%ff"),
        ("_elements", "id,"),
        ("_elements", "wheels,"),
        ("includeAssociatedData", ""),
        ("allowPartialManifests", "perhaps"),
        ("_maxCount", "many"),
    ] {
        assert_eq!(rejection(&kick_off_at(Level::System, LENIENT, &[(name, value)])), bad_request(name), "{value}");
    }
    assert_eq!(rejection(&kick_off_at(group_level(), LENIENT, &[("patient", "Group/1")])), bad_request("patient"));
    assert_eq!(rejection(&kick_off_at(Level::System, LENIENT, &[("", "x")])).0, 400);
}

#[test]
fn parameters_about_place_and_format_of_files_are_never_ignored() {
    for (name, value) in [("_outputFormat", "text/csv"), ("_container", "../x"), ("_format", "unknown"), ("_encryptionKey", "unknown")] {
        assert_eq!(rejection(&kick_off_at(Level::System, LENIENT, &[(name, value)])), bad_request(name));
    }
}

#[test]
fn a_parameter_with_several_faults_is_reported_once() {
    let (request, ignored) = lenient(
        Level::System,
        &[("_type", "Pet,Watermill,Pet"), ("foo", "1"), ("foo", "2"), ("_typeFilter", "Pet?x=1"), ("_type", "Cart")],
    );
    assert_eq!(ignored, ["foo", "_type", "_typeFilter"]);
    let text = &request.ignored[1].text;
    assert!(["`Pet`", "`Watermill`", "`Cart`"].iter().all(|name| text.matches(name).count() == 1), "{text}");
}

#[test]
fn ignored_parameters_stay_small_enough_to_be_stored() {
    let wrong = (0..900).map(|n| format!("Wrong{n}")).collect::<Vec<_>>().join(",");
    let (request, _) = lenient(Level::System, &[("_type", &wrong)]);
    assert!(serde_json::to_string(&request).unwrap().len() < 2_000);
    let names: Vec<String> = (0..21).map(|n| format!("{n}{}", "x".repeat(1_000))).collect();
    let parameters: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    assert!(serde_json::to_string(&lenient(Level::System, &parameters[..20]).0).unwrap().len() < 10_000);
    let error = resolve(&kick_off_at(Level::System, LENIENT, &parameters)).unwrap_err();
    assert_eq!(error.code, IssueCode::TooCostly);
}

// Holds: B8
#[test]
fn an_ignored_parameter_is_information_and_not_an_error() {
    let (request, _) = lenient(Level::System, &[("foo", "secret")]);
    let issue = request.ignored[0].issue();
    assert_eq!(issue.severity, crate::vocab::outcome::Severity::Information);
    assert_eq!(issue.location, ["http.foo"]);
    assert!(issue.diagnostics.contains("`foo`") && !issue.diagnostics.contains("secret"));
}
