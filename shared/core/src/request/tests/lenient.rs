//! `Prefer: handling=lenient`.

use super::*;

// Holds: K12, P44, P95
#[test]
fn what_is_not_supported_is_refused_or_left_out_and_told() {
    let filter = ("_typeFilter", "Patient?status=active");
    let history = ("includeAssociatedData", "_history");
    for (level, parameters, at_fault) in [
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
        (group(), &[history], "includeAssociatedData"),
        (Level::AllPatients, &[("_type", "Organization")], "_type"),
    ] {
        assert_eq!(refused(&ask(level.clone(), "respond-async, handling=strict", parameters)), by(at_fault));
        assert_eq!(lenient(level, parameters).1, [at_fault], "{parameters:?}");
    }
}

#[test]
fn what_is_supported_beside_it_is_kept() {
    let (request, _) = lenient(
        Level::System,
        &[
            ("_type", "Pet,Patient,Observation"),
            ("_typeFilter", "Patient?status=active,Patient?gender=female"),
            ("_elements", "wheels,Patient.name"),
            ("includeAssociatedData", "_custom,_deleted"),
        ],
    );
    assert_eq!(request.types, Some(kinds(&["Observation", "Patient"])));
    assert_eq!(request.type_filters, ["Patient?gender=female"]);
    assert_eq!(request.elements, ["Patient.name"]);
    assert_eq!(request.associated, [Associated::Deleted].into());
}

#[test]
fn unknown_types_alone_export_nothing_rather_than_everything() {
    assert_eq!(lenient(Level::System, &[("_type", "Pet,Watermill")]).0.types, Some(kinds(&[])));
}

#[test]
fn patients_are_not_kept_where_the_level_does_not_know_them() {
    let resolved = resolve(&ask(Level::System, "respond-async, handling=lenient", &[("patient", "Patient/1")])).unwrap();
    assert_eq!((resolved.patients.len(), resolved.request.patients), (0, None));
}

#[test]
fn what_cannot_be_read_is_refused_all_the_same() {
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
        assert_eq!(refused(&ask(Level::System, "respond-async, handling=lenient", &[(name, value)])), by(name), "{value}");
    }
    assert_eq!(refused(&ask(group(), "respond-async, handling=lenient", &[("patient", "Group/1")])), by("patient"));
    assert_eq!(refused(&ask(Level::System, "respond-async, handling=lenient", &[("", "x")])).0, 400);
}

#[test]
fn where_the_files_go_and_how_they_look_is_never_guessed() {
    for (name, value) in [("_outputFormat", "text/csv"), ("_container", "../x"), ("_format", "unknown"), ("_encryptionKey", "unknown")] {
        assert_eq!(refused(&ask(Level::System, "respond-async, handling=lenient", &[(name, value)])), by(name));
    }
}

#[test]
fn a_parameter_is_told_once_however_often_it_is_wrong() {
    let (request, ignored) = lenient(
        Level::System,
        &[("_type", "Pet,Watermill,Pet"), ("foo", "1"), ("foo", "2"), ("_typeFilter", "Pet?x=1"), ("_type", "Cart")],
    );
    assert_eq!(ignored, ["foo", "_type", "_typeFilter"]);
    let text = &request.ignored[1].text;
    assert!(["`Pet`", "`Watermill`", "`Cart`"].iter().all(|name| text.matches(name).count() == 1), "{text}");
}

#[test]
fn what_is_left_out_stays_short_enough_to_be_stored() {
    let wrong = (0..900).map(|n| format!("Wrong{n}")).collect::<Vec<_>>().join(",");
    let (request, _) = lenient(Level::System, &[("_type", &wrong)]);
    assert!(serde_json::to_string(&request).unwrap().len() < 2_000);
    let names: Vec<String> = (0..21).map(|n| format!("{n}{}", "x".repeat(1_000))).collect();
    let parameters: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    assert!(serde_json::to_string(&lenient(Level::System, &parameters[..20]).0).unwrap().len() < 10_000);
    let refusal = resolve(&ask(Level::System, "respond-async, handling=lenient", &parameters)).unwrap_err();
    assert_eq!(refusal.code, IssueCode::TooCostly);
}

// Holds: B8
#[test]
fn an_entry_is_information_and_no_error() {
    let (request, _) = lenient(Level::System, &[("foo", "secret")]);
    let issue = request.ignored[0].issue();
    assert_eq!(issue.severity, crate::vocab::outcome::Severity::Information);
    assert_eq!(issue.expression, ["foo"]);
    assert!(issue.diagnostics.contains("`foo`") && !issue.diagnostics.contains("secret"));
}
