use super::*;

fn at(level: Level, parameters: &[(&str, &str)]) -> Result<ResolvedRequest, RequestError> {
    resolve(&kick_off_at(level, STRICT, parameters))
}

fn rejection_at(level: Level, parameters: &[(&str, &str)]) -> (u16, String) {
    rejection(&kick_off_at(level, STRICT, parameters))
}

// Holds: K4
#[test]
fn every_level_is_accepted() {
    for level in [Level::System, Level::AllPatients, Level::OnePatient("p.1_A-b".into()), group_level()] {
        assert_eq!(at(level.clone(), &[]).unwrap().request.level, level);
    }
}

#[test]
fn an_invalid_id_is_not_found() {
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
fn types_outside_the_compartment_are_accepted_only_with_others() {
    // Neither Location nor Organization is in R4's Patient compartment; Observation is.
    for level in [Level::AllPatients, Level::OnePatient("p".into())] {
        assert_eq!(rejection_at(level.clone(), &[("_type", "Organization,Location")]), bad_request("_type"));
        let mixed = at(level.clone(), &[("_type", "Organization,Observation")]).unwrap();
        assert_eq!(mixed.request.types, Some(types(&["Organization", "Observation"])));
        assert!(at(level, &[("_type", "Patient")]).is_ok());
    }
    assert!(at(Level::System, &[("_type", "Organization")]).is_ok());
}

#[test]
fn a_group_can_have_practitioners_and_devices_but_not_questionnaires() {
    assert!(at(group_level(), &[("_type", "Practitioner,Device")]).is_ok());
    assert_eq!(rejection_at(group_level(), &[("_type", "Questionnaire,ValueSet")]), bad_request("_type"));
}

#[test]
fn patients_are_accepted_in_every_form_and_deduplicated() {
    let resolved = at(Level::AllPatients, &[("patient", "Patient/7, 8"), ("patient", "Patient/7/_history/2")]).unwrap();
    assert_eq!(resolved.patients, ["7", "8"]);
    assert_eq!(resolved.request.patients, Some(2));
}

#[test]
fn an_invalid_reference_is_rejected_by_its_position_without_its_text() {
    for reference in [
        "Group/secret",
        "Patient/",
        "secret id",
        "urn:uuid:secret",
        "#secret",
        "Patient?name=secret",
        "",
        "Patient/..",
        "a/Patient/1",
        "http://evil.example/Patient/secret",
        "https://x.example/a/b/Patient/secret/_history/3",
    ] {
        let error = at(group_level(), &[("patient", "1"), ("patient", reference)]).unwrap_err();
        assert_eq!((error.status, error.expression.as_deref()), (400, Some("patient")), "{reference}");
        assert!(error.text.contains("reference 2") && !error.text.contains("secret"), "{}", error.text);
    }
}

#[test]
fn configured_base_urls_exclude_all_others() {
    let policy = ExportPolicy { bases: BaseUrls::only(["https://ours.example/fhir".to_owned()]), ..ExportPolicy::default() };
    let resolve = |reference| {
        ExportRequest::resolve(&kick_off_at(group_level(), STRICT, &[("patient", reference)]), &policy, &Permissions::default(), NOW)
    };
    assert!(resolve("https://ours.example/fhir/Patient/1").is_ok());
    assert!(resolve("https://theirs.example/fhir/Patient/1").is_err());
}

// Holds: P60
#[test]
fn the_parameter_patient_is_rejected_for_a_system_and_for_one_patient() {
    assert_eq!(rejection_at(Level::System, &[("patient", "Patient/1")]), bad_request("patient"));
    assert_eq!(rejection_at(Level::OnePatient("1".into()), &[("patient", "Patient/1")]), bad_request("patient"));
}

#[test]
fn more_ids_than_a_plan_can_store_are_too_costly() {
    // 36 characters and 3 of frame: 6721 of them are 262,119 bytes, one more would be 262,158.
    let ids = |count: usize| (0..count).map(|n| format!("{n:036}")).collect::<Vec<_>>().join(",");
    assert_eq!(at(group_level(), &[("patient", &ids(6_721))]).unwrap().patients.len(), 6_721);
    let error = at(group_level(), &[("patient", &ids(6_722))]).unwrap_err();
    assert_eq!((error.status, error.code), (413, IssueCode::TooCostly));
    assert!(error.text.contains("Group"), "{}", error.text);
    // Repeats are kept once, so they cost nothing.
    assert_eq!(at(group_level(), &[("patient", "1,".repeat(200_000).trim_end_matches(','))]).unwrap().patients, ["1"]);
}

#[test]
fn history_and_deletions_require_the_system_level() {
    for value in ["_history", "_deleted"] {
        assert!(at(Level::System, &[("includeAssociatedData", value)]).is_ok());
        for level in [Level::AllPatients, Level::OnePatient("p".into()), group_level()] {
            assert_eq!(rejection_at(level, &[("includeAssociatedData", value)]), bad_request("includeAssociatedData"));
        }
    }
    for value in ["LatestProvenanceResources", "RelevantProvenanceResources"] {
        assert!(at(group_level(), &[("includeAssociatedData", value)]).is_ok());
    }
}
