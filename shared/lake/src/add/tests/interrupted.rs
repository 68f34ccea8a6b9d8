use serde_json::json;

use super::*;
use crate::writing::{FaultPoint, lock_watermark, unfinished_runs};

/// Adds the input in a process that stops after a number of changes to the file system. Returns true if it did not stop.
fn add_until(folder: &Folder, changes: u64) -> bool {
    let fault = FaultPoint::after(changes);
    let lake = LakeLock::lock_with(&folder.lake(), fault.clone()).unwrap();
    let settings = AddSettings { complete_up_to: Some(Millis(1_700_000_000_000)), ..folder.settings() };
    let settings = AddSettings { rewrite: RewriteSettings { workers: 1, ..settings.rewrite.clone() }, ..settings };
    let added = add_locked(&folder.input(), &lake, &settings, &Arc::new(Progress::default()));
    assert!(added.is_ok() || fault.left() == 0, "{added:?}");
    added.is_ok()
}

#[test]
fn a_process_that_stops_at_any_write_leaves_nothing_half_visible_and_nothing_twice() {
    let folder = Folder::new();
    for file in 0..3 {
        let resources =
            ["Patient", "Group", "Observation"].map(|kind| json!({ "resource": { "resourceType": kind, "id": format!("{file}") } }));
        folder.write(&format!("{file}.json"), json!({ "resourceType": "Bundle", "entry": resources }).to_string().as_bytes());
    }
    assert!(add_until(&folder, u64::MAX - 1));
    let expected = folder.lines();
    assert_eq!((expected.len(), folder.objects().len()), (9, 3));
    let mut stops = 0;
    for changes in 0.. {
        fs::remove_dir_all(folder.lake()).unwrap();
        let is_complete = add_until(&folder, changes);
        let is_unfinished = unfinished_runs(&folder.lake()).unwrap() > 0;
        // Before the list of names is written no object is visible. After it the run is reported as unfinished until all are.
        assert!(is_unfinished || folder.objects().is_empty() || folder.lines() == expected, "after {changes} changes");
        assert!(folder.lines().iter().all(|line| expected.contains(line)), "after {changes} changes");
        assert!(folder.watermark().is_none() || folder.lines() == expected, "the watermark is written last");
        add_until(&folder, u64::MAX - 1);
        assert_eq!(folder.lines(), expected, "after {changes} changes");
        assert!(folder.watermark().is_some());
        assert_eq!(unfinished_runs(&folder.lake()).unwrap(), 0);
        assert_eq!(fs::read_dir(folder.lake().join("_headrace/staging")).unwrap().count(), 0, "after {changes} changes");
        if is_complete {
            break;
        }
        stops += 1;
    }
    assert!(stops > 15, "only {stops} stops");
}

#[test]
fn a_run_that_was_interrupted_while_it_renamed_files_is_completed_by_a_run_with_other_input() {
    let folder = Folder::new();
    let bundle =
        |kind: &str| json!({ "resourceType": "Bundle", "entry": [{ "resource": { "resourceType": kind, "id": "1" } }] }).to_string();
    folder.write("a.json", bundle("Patient").as_bytes());
    let unfinished = (0..).find(|changes| !add_until(&folder, *changes) && unfinished_runs(&folder.lake()).unwrap() > 0);
    assert!(unfinished.is_some());
    fs::remove_file(folder.input().join("a.json")).unwrap();
    folder.write("b.json", bundle("Group").as_bytes());
    assert!(add_until(&folder, u64::MAX - 1));
    let kinds: Vec<String> = folder.lines().into_iter().map(|(folder, _)| folder).collect();
    assert_eq!(kinds, ["Group", "Patient"]);
}

#[test]
fn one_process_writes_a_lake_at_a_time() {
    let folder = Folder::new();
    folder.write("a.json", br#"{"resourceType":"Bundle"}"#);
    let lock = LakeLock::lock(&folder.lake()).unwrap();
    assert!(matches!(folder.add(), Err(AddError::Write(WriteError::Locked(_)))));
    drop(lock);
    assert!(folder.add().is_ok());
}

#[test]
fn a_watermark_that_a_synchronization_moves_meanwhile_is_not_overwritten() {
    let folder = Folder::new();
    folder.write("a.json", br#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"p"}}]}"#);
    let settings = AddSettings { complete_up_to: Some(Millis(1_700_000_000_000)), ..folder.settings() };
    let watermark = folder.lake().join("_headrace/watermark.json");
    let lock = lock_watermark(&watermark).unwrap();
    let moved = r#"{"completeUpTo":"2026-11-29T10:00:00Z","origin":"https://h/fhir"}"#;
    let report = std::thread::scope(|scope| {
        let addition = scope.spawn(|| folder.add_with(&settings).unwrap());
        let files = || WalkDir::new(folder.lake().join("_headrace/staging")).into_iter().filter_map(Result::ok);
        let is_staged = || files().any(|entry| entry.file_name() == "receipt-0");
        while !is_staged() {
            std::thread::yield_now();
        }
        (0..200_000).for_each(|_| std::thread::yield_now());
        assert!(!addition.is_finished() && folder.objects().is_empty(), "the addition waits");
        fs::write(&watermark, moved).unwrap();
        drop(lock);
        addition.join().unwrap()
    });
    assert!(matches!(report.watermarks.as_slice(), [(_, WatermarkChange::KeptLater(_))]), "{report:?}");
    assert_eq!(fs::read_to_string(&watermark).unwrap(), moved);
}
