use super::*;

const DAY: &str = "2025-01-01T00:00:00Z";

fn patients(level: Level) -> ExportRequest {
    ExportRequest { level, ..ExportRequest::default() }
}

#[tokio::test]
async fn exports_about_everybody_look_nothing_up() {
    let lake = Lake::default().with("Patient.ndjson", [patient("a", DAY)]);
    for level in [Level::System, Level::AllPatients] {
        assert!(matches!(look_up_in(&lake, &patients(level), &[]).await, LookedUp::Everybody));
    }
    assert!(lake.read.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_patient_is_known_by_a_resource_that_was_not_deleted() {
    let lake = Lake::default()
        .with("Patient.ndjson", [patient("a", DAY), patient("gone", DAY), patient("back", "2025-06-01"), patient("later", "2026-02-01")])
        .with(
            "Observation.ndjson",
            [patient("hidden", DAY), json!({ "resourceType": "Observation", "id": "o", "subject": { "reference": "Patient/mentioned" } })],
        )
        .with("deleted-1.ndjson", [deletion("Patient/gone", "2025-03-01"), deletion("Patient/back", "2025-03-01")]);
    let names = ["a", "gone", "back", "later", "hidden", "mentioned", "o"];
    let found_all = found(look_up_in(&lake, &patients(Level::AllPatients), &names).await);
    assert_eq!(on_it(&found_all, &names), (vec!["a", "back"], 0));
    assert_eq!(found_all.absent, ["gone", "later", "hidden", "mentioned", "o"]);
    for id in names {
        let looked_up = look_up_in(&lake, &patients(Level::OnePatient(id.into())), &[]).await;
        if ["a", "back"].contains(&id) {
            assert_eq!(on_it(&found(looked_up), &names), (vec![id], 0));
        } else {
            assert!(matches!(looked_up, LookedUp::NoSuchPatient), "{id}");
        }
    }
}

#[tokio::test]
async fn named_patients_count_as_far_as_they_are_in_the_group() {
    let lake = Lake::default().with("Group.ndjson", [group("g", DAY, &["Patient/a", "Patient/b", "Practitioner/c"])]);
    let found = found(look_up_in(&lake, &patients(Level::Group("g".into())), &["a", "c", "x"]).await);
    assert_eq!(on_it(&found, &["a", "b", "c", "x"]), (vec!["a"], 1));
    assert_eq!(found.absent, ["c", "x"]);
}

#[tokio::test]
async fn an_export_of_strangers_is_an_export_of_nobody() {
    let lake = Lake::default().with("Group.ndjson", [group("g", DAY, &["Patient/a"])]).with("Patient.ndjson", [patient("a", DAY)]);
    for level in [Level::Group("g".into()), Level::AllPatients, Level::OnePatient("a".into())] {
        let found = found(look_up_in(&lake, &patients(level), &["x"]).await);
        assert!(found.roster.is_empty());
        assert_eq!(found.absent, ["x"]);
    }
}

#[tokio::test]
async fn only_objects_that_may_hold_what_is_wanted_are_read() {
    let lake = Lake::default()
        .with("Group.ndjson", [group("g", DAY, &["Patient/a"])])
        .with("Observation.ndjson", [group("g", "2025-06-01", &["Patient/b"])])
        .with("mixed.ndjson", [group("g", "2024-01-01", &["Patient/c"])])
        .with("deleted-1.ndjson", [deletion("Group/other", DAY)])
        .with("_notes/Group.ndjson", [group("g", "2025-06-01", &["Patient/d"])]);
    assert_eq!(on_it(&found(group_in(&lake, "g").await), &["a", "b", "c", "d"]), (vec!["a"], 1));
    let mut read = lake.read.lock().unwrap().clone();
    read.sort();
    read.dedup();
    assert_eq!(read, ["Group.ndjson", "deleted-1.ndjson", "mixed.ndjson"]);
}

#[tokio::test]
async fn objects_that_promise_no_type_are_read_as_far_as_their_bytes_reach() {
    let lake = Lake::default()
        .with("1.ndjson", [group("first", DAY, &["Patient/a"])])
        .with("2.ndjson", [group("second", DAY, &["Patient/b"]), json!("x".repeat(1000))])
        .with("3.ndjson", [group("third", DAY, &["Patient/c"])]);
    let (job, bases) = (job(), Bases::any());
    for (id, mixed_bytes, is_found) in
        [("first", 400, true), ("second", 400, false), ("third", 400, true), ("second", 4_000, true), ("first", 0, false)]
    {
        let request = patients(Level::Group(id.into()));
        let subjects = Subjects { job: &job, request: &request, patients: &[], bases: &bases };
        let catalogue = catalogue_of(&lake, &subjects, mixed_bytes);
        let looked_up = subjects.look_up(&lake, &catalogue, NOW, &mut Steps(usize::MAX)).await.unwrap();
        match looked_up.found(&catalogue) {
            Ok(found) => assert!(is_found && found.is_some(), "{id}"),
            // Whoever is told that it is unknown is told why.
            Err(error) => assert!(!is_found && error.to_string().contains("promise no type"), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_look_up_ends_when_its_time_is_up() {
    let lake = (0..9).fold(Lake::default(), |lake, at| lake.with(&format!("Group/{at}.ndjson"), [group("g", DAY, &["Patient/a"])]));
    let (job, bases) = (job(), Bases::any());
    let request = patients(Level::Group("g".into()));
    let subjects = Subjects { job: &job, request: &request, patients: &[], bases: &bases };
    let catalogue = catalogue_of(&lake, &subjects, 0);
    for steps in 0..15 {
        let looked_up = subjects.look_up(&lake, &catalogue, NOW, &mut Steps(steps)).await.unwrap();
        // Once before the first object, and once after each.
        assert_eq!(matches!(looked_up, LookedUp::Unfinished), steps <= 10, "{steps}");
    }
}
