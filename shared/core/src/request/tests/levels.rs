use super::*;

fn at(level: Level, parameters: &[(&str, &str)]) -> Result<Resolved, Refusal> {
    resolve(&ask(level, "respond-async", parameters))
}

fn refused_at(level: Level, parameters: &[(&str, &str)]) -> (u16, String) {
    refused(&ask(level, "respond-async", parameters))
}

// Holds: K4
#[test]
fn every_level_is_accepted() {
    for level in [Level::System, Level::AllPatients, Level::OnePatient("p.1_A-b".into()), group()] {
        assert_eq!(at(level.clone(), &[]).unwrap().request.level, level);
    }
}

#[test]
fn what_cannot_be_an_id_is_not_found() {
    let long = "a".repeat(65);
    for id in ["", ".", "..", "../x", "a b", "a/b", "a\0", "\u{fffd}", "ä", "$export", long.as_str()] {
        for level in [Level::OnePatient(id.into()), Level::Group(id.into())] {
            assert_eq!(at(level, &[]).unwrap_err().status, 404, "{id:?}");
        }
    }
    assert!(at(Level::Group("a".repeat(64)), &[]).is_ok());
}

// Holds: P32
#[test]
fn types_outside_the_compartment_alone_are_refused_and_among_others_accepted() {
    // Neither Location nor Organization is in R4's Patient compartment; Observation is.
    for level in [Level::AllPatients, Level::OnePatient("p".into())] {
        assert_eq!(refused_at(level.clone(), &[("_type", "Organization,Location")]), by("_type"));
        let mixed = at(level.clone(), &[("_type", "Organization,Observation")]).unwrap();
        assert_eq!(mixed.request.types, Some(kinds(&["Organization", "Observation"])));
        assert!(at(level, &[("_type", "Patient")]).is_ok());
    }
    assert!(at(Level::System, &[("_type", "Organization")]).is_ok());
}

#[test]
fn a_group_may_be_of_practitioners_or_devices_but_not_of_questionnaires() {
    assert!(at(group(), &[("_type", "Practitioner,Device")]).is_ok());
    assert_eq!(refused_at(group(), &[("_type", "Questionnaire,ValueSet")]), by("_type"));
}

#[test]
fn patients_are_named_in_any_form_and_kept_once() {
    let resolved = at(
        Level::AllPatients,
        &[("patient", "Patient/7, 8"), ("patient", "https://ehr.example/fhir/Patient/9"), ("patient", "Patient/7/_history/2")],
    )
    .unwrap();
    assert_eq!(resolved.patients, ["7", "8", "9"]);
    assert_eq!(resolved.request.patients, Some(3));
}

#[test]
fn a_reference_to_anything_else_is_refused_by_its_place_and_not_by_its_text() {
    for reference in
        ["Group/secret", "Patient/", "secret id", "urn:uuid:secret", "#secret", "Patient?name=secret", "", "Patient/..", "a/Patient/1"]
    {
        let refusal = at(group(), &[("patient", "1"), ("patient", reference)]).unwrap_err();
        assert_eq!((refusal.status, refusal.expression.as_deref()), (400, Some("patient")), "{reference}");
        assert!(refusal.text.contains("reference 2") && !refusal.text.contains("secret"), "{}", refusal.text);
    }
}

#[test]
fn only_the_lakes_own_bases_count_where_they_are_set() {
    let policy = Policy { bases: Bases::only(["https://ours.example/fhir".to_owned()]), ..Policy::default() };
    let resolve =
        |reference| ExportRequest::resolve(&ask(group(), "respond-async", &[("patient", reference)]), &policy, &Reach::default(), NOW);
    assert!(resolve("https://ours.example/fhir/Patient/1").is_ok());
    assert!(resolve("https://theirs.example/fhir/Patient/1").is_err());
}

// Holds: P60
#[test]
fn patients_are_not_named_where_everything_or_one_patient_is_exported() {
    assert_eq!(refused_at(Level::System, &[("patient", "Patient/1")]), by("patient"));
    assert_eq!(refused_at(Level::OnePatient("1".into()), &[("patient", "Patient/1")]), by("patient"));
}

#[test]
fn more_ids_than_the_plan_can_keep_are_too_costly_and_one_fewer_are_not() {
    // 36 characters and 3 of frame: 6721 of them are 262,119 bytes, one more would be 262,158.
    let ids = |count: usize| (0..count).map(|n| format!("{n:036}")).collect::<Vec<_>>().join(",");
    assert_eq!(at(group(), &[("patient", &ids(6_721))]).unwrap().patients.len(), 6_721);
    let refusal = at(group(), &[("patient", &ids(6_722))]).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (413, IssueCode::TooCostly));
    assert!(refusal.text.contains("Group"), "{}", refusal.text);
    // Repeats are kept once, so they cost nothing.
    assert_eq!(at(group(), &[("patient", "1,".repeat(200_000).trim_end_matches(','))]).unwrap().patients, ["1"]);
}

#[test]
fn history_and_deletions_are_for_the_whole_system() {
    for value in ["_history", "_deleted"] {
        assert!(at(Level::System, &[("includeAssociatedData", value)]).is_ok());
        for level in [Level::AllPatients, Level::OnePatient("p".into()), group()] {
            assert_eq!(refused_at(level, &[("includeAssociatedData", value)]), by("includeAssociatedData"));
        }
    }
    for value in ["LatestProvenanceResources", "RelevantProvenanceResources"] {
        assert!(at(group(), &[("includeAssociatedData", value)]).is_ok());
    }
}
