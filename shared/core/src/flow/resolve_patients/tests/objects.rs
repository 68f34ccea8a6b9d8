use super::*;

const DAY: &str = "2025-01-01T00:00:00Z";

fn patients(level: Level) -> ExportRequest {
    ExportRequest { level, ..ExportRequest::default() }
}

#[tokio::test]
async fn an_export_of_all_patients_reads_nothing_to_resolve_them() {
    let lake = Lake::default().with("Patient.ndjson", [patient("a", DAY)]);
    for level in [Level::System, Level::AllPatients] {
        assert!(matches!(resolve_in(&lake, &patients(level), &[]).await, ResolvedPatients::All));
    }
    assert!(lake.read.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_patient_exists_if_its_resource_was_not_deleted() {
    let lake = Lake::default()
        .with("Patient.ndjson", [patient("a", DAY), patient("gone", DAY), patient("back", "2025-06-01"), patient("later", "2026-02-01")])
        .with(
            "Observation.ndjson",
            [patient("hidden", DAY), json!({ "resourceType": "Observation", "id": "o", "subject": { "reference": "Patient/mentioned" } })],
        )
        .with("deleted-1.ndjson", [deletion("Patient/gone", "2025-03-01"), deletion("Patient/back", "2025-03-01")]);
    let names = ["a", "gone", "back", "later", "hidden", "mentioned", "o"];
    let found_all = selected(resolve_in(&lake, &patients(Level::AllPatients), &names).await);
    assert_eq!(members_of(&found_all, &names), (vec!["a", "back", "hidden"], 0));
    assert_eq!(found_all.missing, ["gone", "later", "mentioned", "o"]);
    for id in names {
        let resolved = resolve_in(&lake, &patients(Level::OnePatient(id.into())), &[]).await;
        if ["a", "back", "hidden"].contains(&id) {
            assert_eq!(members_of(&selected(resolved), &names), (vec![id], 0));
        } else {
            assert!(matches!(resolved, ResolvedPatients::NoSuchPatient), "{id}");
        }
    }
}

#[tokio::test]
async fn named_patients_outside_the_group_are_missing() {
    let lake = Lake::default().with("Group.ndjson", [group("g", DAY, &["Patient/a", "Patient/b", "Practitioner/c"])]);
    let found = selected(resolve_in(&lake, &patients(Level::Group("g".into())), &["a", "c", "x"]).await);
    assert_eq!(members_of(&found, &["a", "b", "c", "x"]), (vec!["a"], 1));
    assert_eq!(found.missing, ["c", "x"]);
}

#[tokio::test]
async fn an_export_of_unknown_patients_has_an_empty_patient_set() {
    let lake = Lake::default().with("Group.ndjson", [group("g", DAY, &["Patient/a"])]).with("Patient.ndjson", [patient("a", DAY)]);
    for level in [Level::Group("g".into()), Level::AllPatients, Level::OnePatient("a".into())] {
        let found = selected(resolve_in(&lake, &patients(level), &["x"]).await);
        assert!(found.patient_set.is_empty());
        assert_eq!(found.missing, ["x"]);
    }
}

#[tokio::test]
async fn the_newest_version_counts_whatever_the_name_of_its_object_promises() {
    let lake = Lake::default()
        .with("Group.ndjson", [group("g", DAY, &["Patient/a"])])
        .with("Observation.ndjson", [group("g", "2025-06-01", &["Patient/b"])])
        .with("mixed.ndjson", [group("g", "2024-01-01", &["Patient/c"])])
        .with("deleted-1.ndjson", [deletion("Group/other", DAY)])
        .with("_notes/Group.ndjson", [group("g", "2025-06-01", &["Patient/d"])]);
    assert_eq!(members_of(&selected(resolve_group_in(&lake, "g").await), &["a", "b", "c", "d"]), (vec!["b"], 1));
    let mut read = lake.read.lock().unwrap().clone();
    read.sort();
    read.dedup();
    assert_eq!(read, ["Group.ndjson", "Observation.ndjson", "deleted-1.ndjson", "mixed.ndjson"]);
}

#[tokio::test]
async fn a_deletion_counts_whatever_the_name_of_its_object_promises() {
    for object in ["Observation/1.ndjson", "Observation.ndjson", "Patient/deleted/1.ndjson", "Basic-1.ndjson", "x.ndjson"] {
        let lake = Lake::default()
            .with("Group.ndjson", [group("g", DAY, &["Patient/a"])])
            .with("Patient.ndjson", [patient("a", DAY)])
            .with(object, [deletion("Group/g", "2025-03-01"), deletion("Patient/a", "2025-03-01")]);
        assert!(matches!(resolve_group_in(&lake, "g").await, ResolvedPatients::NoSuchGroup), "{object}");
        let patient = resolve_in(&lake, &patients(Level::OnePatient("a".into())), &[]).await;
        assert!(matches!(patient, ResolvedPatients::NoSuchPatient), "{object}");
    }
}

#[tokio::test]
async fn objects_without_a_promised_type_are_read_up_to_the_limit() {
    let lake = Lake::default()
        .with("1.ndjson", [group("first", DAY, &["Patient/a"])])
        .with("2.ndjson", [group("second", DAY, &["Patient/b"]), json!("x".repeat(1000))])
        .with("3.ndjson", [group("third", DAY, &["Patient/c"])]);
    let (job, bases) = (job(), BaseUrls::any());
    for (id, untyped_bytes, is_found) in
        [("first", 400, true), ("second", 400, false), ("third", 400, true), ("second", 4_000, true), ("first", 0, false)]
    {
        let request = patients(Level::Group(id.into()));
        let resolver = PatientResolver { job: &job, request: &request, patients: &[], bases: &bases };
        let catalogue = catalogue_of(&lake, &resolver, untyped_bytes);
        let resolved = resolver.resolve(&lake, &catalogue, NOW, &mut StepTimer(usize::MAX)).await.unwrap();
        match resolved.into_selected(&catalogue) {
            Ok(found) => assert!(is_found && found.is_some(), "{id}"),
            // The error says why the group may not have been found.
            Err(error) => assert!(!is_found && error.to_string().contains("do not promise its type"), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_resolution_ends_when_its_time_is_up() {
    let lake = (0..9).fold(Lake::default(), |lake, at| lake.with(&format!("Group/{at}.ndjson"), [group("g", DAY, &["Patient/a"])]));
    let (job, bases) = (job(), BaseUrls::any());
    let request = patients(Level::Group("g".into()));
    let resolver = PatientResolver { job: &job, request: &request, patients: &[], bases: &bases };
    let catalogue = catalogue_of(&lake, &resolver, 0);
    for steps in 0..15 {
        let resolved = resolver.resolve(&lake, &catalogue, NOW, &mut StepTimer(steps)).await.unwrap();
        // Once before the first object, and once after each.
        assert_eq!(matches!(resolved, ResolvedPatients::TimedOut), steps <= 10, "{steps}");
    }
}

#[tokio::test]
async fn a_folder_named_for_another_type_hides_no_group_and_no_patient() {
    let lake = Lake::default()
        .with("Account/export.ndjson", [group("g", DAY, &["Patient/a"]), patient("a", DAY)])
        .with("type=Account/export.ndjson", [patient("b", DAY)])
        .with("Account-7/export.ndjson", [group("h", DAY, &["Patient/a"])])
        .with("Observation.ndjson", [group("in-a-file-of-observations", DAY, &["Patient/a"])]);
    for id in ["g", "h", "in-a-file-of-observations"] {
        assert_eq!(members_of(&selected(resolve_group_in(&lake, id).await), &["a"]), (vec!["a"], 1), "{id}");
    }
    let found = selected(resolve_in(&lake, &patients(Level::AllPatients), &["a", "b", "c"]).await);
    assert_eq!((members_of(&found, &["a", "b"]), found.missing.as_slice()), ((vec!["a", "b"], 0), ["c".to_owned()].as_slice()));
}

#[tokio::test]
async fn few_objects_named_for_another_type_are_all_read_and_of_many_those_in_folders_for_what_is_missing() {
    let large = json!("x".repeat(1 << 20));
    let lake = Lake::default()
        .with("Group/1.ndjson", [group("g", DAY, &["Patient/a"])])
        .with("Account/1.ndjson", [large.clone()])
        .with("Account/2.ndjson", [group("hidden", DAY, &["Patient/a"])]);
    let (job, bases) = (job(), BaseUrls::any());
    for (id, untyped_bytes, objects) in [
        ("g", 64 << 20, 3),
        ("g", 1 << 20, 1),
        ("hidden", 64 << 20, 3),
        ("hidden", 1 << 20, 2),
        ("unknown", 64 << 20, 3),
        ("unknown", 0, 1),
    ] {
        let request = patients(Level::Group(id.into()));
        let resolver = PatientResolver { job: &job, request: &request, patients: &[], bases: &bases };
        let catalogue = catalogue_of(&lake, &resolver, untyped_bytes);
        lake.read.lock().unwrap().clear();
        let resolved = resolver.resolve(&lake, &catalogue, NOW, &mut StepTimer(usize::MAX)).await.unwrap();
        let read: std::collections::BTreeSet<String> = lake.read.lock().unwrap().iter().cloned().collect();
        assert_eq!(read.len(), objects, "{id} {untyped_bytes}: {read:?}");
        let is_found = id != "unknown";
        match resolved.into_selected(&catalogue) {
            Ok(_) => assert!(is_found, "{id}"),
            Err(error) => assert_eq!((is_found, error.to_string().contains("were not searched")), (false, untyped_bytes == 0), "{error}"),
        }
    }
}
