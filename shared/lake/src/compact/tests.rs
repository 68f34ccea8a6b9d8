use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use headrace_fhir::instant::Instant;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::test_lake::TestLake;
use crate::writing::{FaultPoint, unfinished_runs};

const NOW: Millis = Millis(1_795_948_200_000); // 2026-11-29T10:30:00Z

fn settings(now: Millis, removes_now: bool) -> CompactSettings {
    CompactSettings {
        export_deadline: Duration::from_secs(3_600),
        removes_now,
        watermark: LakeWatermark::Auto,
        rewrite: RewriteSettings {
            temp_folder: std::env::temp_dir(),
            workers: 2,
            sort_bytes: 2_000,
            line_bytes: 10_000,
            now,
            seed: [5; 16],
        },
    }
}

/// Compacts a lake in a process that stops at a point.
fn compact_until(lake: &TestLake, settings: &CompactSettings, fault: FaultPoint) -> Result<CompactReport, CompactError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let lock = LakeLock::lock_with(&lake.0, fault)?;
    compact_locked(lake, &lock, settings, &Arc::new(Progress::default()), runtime.handle())
}

fn compact_lake(lake: &TestLake, settings: &CompactSettings) -> CompactReport {
    compact_until(lake, settings, FaultPoint::default()).unwrap()
}

/// A version of a resource: its id, the day of its time, and true for a deletion.
type Sample = (u8, u8, bool);

/// Returns the line of a version.
fn line((id, day, is_deletion): Sample) -> String {
    let time = format!("2026-01-{day:02}T00:00:00Z");
    let kind = if id % 2 == 0 { "Patient" } else { "Group" };
    if is_deletion {
        let time = Instant::parse(&time).ok();
        return deletion_bundle(ResourceType::parse(kind).unwrap(), &id.to_string(), time);
    }
    json!({ "resourceType": kind, "id": id.to_string(), "meta": { "lastUpdated": time }, "x": 1 }).to_string()
}

/// Returns the lines that are kept, found simply. Versions are in the order of the lake.
fn kept(versions: &[Sample], watermark: u8) -> Vec<String> {
    let mut resources = BTreeMap::<u8, Vec<Sample>>::new();
    versions.iter().for_each(|version| resources.entry(version.0).or_default().push(*version));
    let mut lines = Vec::new();
    for versions in resources.values() {
        // Equal ones are one.
        let later: BTreeSet<&Sample> = versions.iter().filter(|(_, day, _)| *day > watermark).collect();
        lines.extend(later.into_iter().map(|version| line(*version)));
        let newest = |is_deletion| versions.iter().filter(|one| one.2 == is_deletion && one.1 <= watermark).max_by_key(|one| one.1);
        let deletion = newest(true);
        let current = newest(false).filter(|current| deletion.is_none_or(|deletion| current.1 > deletion.1));
        lines.extend(current.or(deletion).map(|version| line(*version)));
    }
    lines.sort();
    lines
}

fn write(lake: &TestLake, objects: &[Vec<Sample>], watermark: Option<u8>) {
    for (number, versions) in objects.iter().enumerate() {
        lake.write(&format!("day-{number}/all.ndjson"), versions.iter().map(|one| line(*one) + "\n").collect::<String>().as_bytes());
    }
    if let Some(day) = watermark {
        lake.write("_headrace/watermark.json", format!("{{\"completeUpTo\":\"2026-01-{day:02}T00:00:00Z\"}}").as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn the_newest_versions_and_deletions_remain_and_everything_after_the_watermark(
        objects in prop::collection::vec(prop::collection::vec((0_u8..5, 1_u8..20, prop::bool::weighted(0.2)), 1..12), 1..5),
        watermark in prop::option::of(1_u8..20),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let lake = TestLake(folder.path().to_owned());
        write(&lake, &objects, watermark);
        let versions = objects.concat();
        let expected = kept(&versions, watermark.unwrap_or(u8::MAX));
        compact_lake(&lake, &settings(NOW, true));
        prop_assert_eq!(lake.lines(), expected.clone());
        let again = compact_lake(&lake, &settings(Millis(NOW.0 + 5_000), true));
        prop_assert_eq!((again.versions_before, again.versions_after), (again.versions_after, again.versions_before));
        prop_assert_eq!(lake.lines(), expected);
    }
}

#[test]
fn a_version_or_deletion_that_exports_leave_out_replaces_nothing() {
    let january = |day: u64| Millis(1_767_225_600_000 + (day - 1) * 86_400_000);
    let lag = LakeWatermark::Lag(Duration::from_secs(86_400));
    for (versions, watermark, now, expected) in [
        // The clock is at day 8: the versions of day 9 are ahead of it.
        ([(0, 3, false), (0, 9, false)], LakeWatermark::Auto, january(8), 2),
        ([(0, 3, false), (0, 9, true)], LakeWatermark::Auto, january(8), 2),
        ([(0, 3, false), (0, 9, false)], LakeWatermark::Now, january(8), 2),
        ([(0, 3, false), (0, 9, false)], LakeWatermark::Auto, january(9), 1),
        // The rule of exports is a delay of a day.
        ([(0, 3, false), (0, 9, false)], lag, january(9), 2),
        ([(0, 3, false), (0, 9, false)], lag, january(10), 1),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let lake = TestLake(folder.path().to_owned());
        write(&lake, &versions.map(|version| vec![version]), None);
        compact_lake(&lake, &CompactSettings { watermark, ..settings(now, true) });
        assert_eq!(lake.lines().len(), expected, "{versions:?} {watermark:?} {now}");
    }
}

#[test]
fn old_objects_stay_until_the_exports_that_read_them_have_ended() {
    let folder = tempfile::tempdir().unwrap();
    let lake = TestLake(folder.path().to_owned());
    write(&lake, &[vec![(0, 1, false), (2, 1, false)], vec![(0, 2, false)]], None);
    let old = lake.lines();
    let report = compact_lake(&lake, &settings(NOW, false));
    assert_eq!((report.versions_before, report.versions_after, report.replaced.objects, report.written.objects), (3, 2, 2, 1));
    assert_eq!((report.waiting.objects, report.removable_at), (2, Some(Millis(NOW.0 + 3_600_000))));
    assert_eq!(waiting_objects(&lake.0).unwrap(), (report.waiting, Some(NOW)), "whoever checks the lake is told");
    let mut both = [old, vec![line((0, 2, false)), line((2, 1, false))]].concat();
    both.sort();
    assert_eq!(lake.lines(), both, "an export that lists the lake now finds both");
    let early = compact_lake(&lake, &settings(Millis(NOW.0 + 3_599_000), false));
    assert_eq!((early.removed.objects, early.waiting.objects, early.replaced.objects), (0, 2, 0));
    let late = compact_lake(&lake, &settings(Millis(NOW.0 + 3_600_000), false));
    assert_eq!((late.removed.objects, late.waiting.objects), (2, 0));
    assert_eq!(lake.lines(), [line((0, 2, false)), line((2, 1, false))]);
    assert_eq!(waiting_objects(&lake.0).unwrap(), (ObjectCount::default(), None));
    assert!(lake.files().iter().all(|name| !name.contains("superseded") && !name.contains("day-")), "{:?}", lake.files());
}

#[cfg(unix)]
#[test]
fn objects_that_are_reached_through_a_link_stay() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let [shared, lake] = ["shared", "lake"].map(|name| TestLake(folder.path().join(name)));
    write(&lake, &[vec![(0, 1, false)], vec![(0, 2, false)], vec![(0, 3, false)]], None);
    shared.write("below/x.ndjson", format!("{}\n", line((0, 9, false))).as_bytes());
    shared.write("one.ndjson", format!("{}\n", line((2, 1, false))).as_bytes());
    symlink("../shared", lake.0.join("outside")).unwrap();
    symlink("day-2", lake.0.join("inside")).unwrap();
    // A marker of another program cannot have it removed either.
    let pins = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(lake.list(None)).unwrap().objects;
    let linked = pins.iter().map(|listed| &listed.pin).find(|pin| pin.object == "outside/below/x.ndjson").unwrap();
    let marker = format!("{}\n", json!({ "object": linked.object, "etag": linked.etag, "since": 0 }));
    lake.write("_headrace/superseded/x.ndjson", marker.as_bytes());
    let report = compact_lake(&lake, &settings(NOW, true));
    assert_eq!((report.linked_objects, report.replaced.objects, report.removed.objects), (3, 3, 3));
    assert_eq!(shared.lines(), [line((0, 9, false)), line((2, 1, false))], "the files of others are there");
    let mut expected = vec![line((0, 3, false)), line((0, 9, false)), line((2, 1, false))];
    expected.sort();
    assert_eq!(lake.lines(), expected, "the version in the lake stays, although a linked one is newer");
}

#[test]
fn an_object_that_has_changed_since_is_not_removed_and_one_with_invalid_lines_stays() {
    let folder = tempfile::tempdir().unwrap();
    let lake = TestLake(folder.path().to_owned());
    write(&lake, &[vec![(0, 1, false)], vec![(0, 2, false)], vec![(0, 1, false)]], None);
    let invalid = format!("{}\nnonsense\n", line((0, 3, false)));
    lake.write("day-9/invalid.ndjson", invalid.as_bytes());
    let report = compact_lake(&lake, &settings(NOW, false));
    assert_eq!((report.kept_objects, report.replaced.objects, report.written.objects), (1, 3, 0), "the newest version stays where it is");
    lake.write("day-1/all.ndjson", format!("{}\n", line((4, 5, false))).as_bytes());
    let late = compact_lake(&lake, &settings(Millis(NOW.0 + 3_600_000), true));
    assert_eq!(late.removed.objects, 2);
    let mut expected = vec![line((0, 3, false)), "nonsense".to_owned(), line((4, 5, false))];
    expected.sort();
    assert_eq!(lake.lines(), expected);
}

/// Returns the line of a version that nothing but its position distinguishes from others.
fn tied_line(value: &str) -> String {
    json!({ "resourceType": "Patient", "id": "p", "meta": { "lastUpdated": "2026-01-03T00:00:00Z" }, "language": value }).to_string()
}

#[test]
fn a_version_keeps_its_position_beside_equal_ones_in_objects_that_stay() {
    for (bad, good, more) in [
        ("Patient/zz-bad.ndjson", "Patient/zzz.ndjson", None),
        ("Patient/zz-bad.ndjson", "Practitioner/1.ndjson", None),
        // The second one stays because of the first, and the third because of the second.
        ("Patient/x-bad.ndjson", "Patient/y.ndjson", Some("Patient/z.ndjson")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let lake = TestLake(folder.path().to_owned());
        lake.write(bad, format!("{}\nnonsense\n", tied_line("old")).as_bytes());
        let other = |value: &str| tied_line(value).replace("\"p\"", "\"q\"");
        lake.write(good, format!("{}\n{}\n{}\n", tied_line("new"), other("old"), line((0, 1, false))).as_bytes());
        if let Some(more) = more {
            lake.write(more, format!("{}\n", other("new")).as_bytes());
        }
        write(&lake, &[vec![(0, 1, false)], vec![(0, 2, false)]], None);
        let before = lake.lines();
        let report = compact_lake(&lake, &settings(NOW, true));
        let tied = 1 + u64::from(more.is_some());
        assert_eq!((report.kept_objects, report.tied_objects, report.replaced.objects), (1, tied, 2), "{bad} {good}");
        let stays = [bad, good].into_iter().chain(more).all(|name| lake.files().contains(&name.to_owned()));
        assert!(stays, "{bad} {good}: {:?}", lake.files());
        assert_eq!(lake.lines().len(), before.len() - 1, "the older versions in other objects are gone: {bad} {good}");
    }
}

#[test]
fn of_equal_versions_after_the_watermark_the_last_one_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let lake = TestLake(folder.path().to_owned());
    let values = |values: &[&str]| values.iter().map(|value| tied_line(value) + "\n").collect::<String>();
    lake.write("Patient/1.ndjson", values(&["a", "b"]).as_bytes());
    lake.write("Patient/2.ndjson", values(&["c", "d"]).as_bytes());
    // Objects whose names promise no type come first.
    lake.write("zz.ndjson", values(&["e"]).as_bytes());
    lake.write("_headrace/watermark.json", br#"{"completeUpTo":"2026-01-01T00:00:00Z"}"#);
    compact_lake(&lake, &settings(NOW, true));
    assert_eq!(lake.lines(), [tied_line("d")]);
}

#[cfg(unix)]
#[test]
fn a_version_keeps_its_position_beside_an_equal_one_behind_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let [shared, lake] = ["shared", "lake"].map(|name| TestLake(folder.path().join(name)));
    shared.write("1.ndjson", format!("{}\n", tied_line("old")).as_bytes());
    lake.write("Patient/zzz.ndjson", format!("{}\n", tied_line("new")).as_bytes());
    write(&lake, &[vec![(0, 1, false)], vec![(0, 2, false)]], None);
    std::os::unix::fs::symlink("../../shared", lake.0.join("Patient/zz")).unwrap();
    let report = compact_lake(&lake, &settings(NOW, true));
    assert_eq!((report.linked_objects, report.tied_objects, report.replaced.objects), (1, 1, 2));
    assert!(lake.files().contains(&"Patient/zzz.ndjson".to_owned()), "{:?}", lake.files());
}

#[test]
fn a_deletion_in_the_far_future_removes_nothing_yet() {
    let folder = tempfile::tempdir().unwrap();
    let lake = TestLake(folder.path().to_owned());
    write(&lake, &[vec![(0, 1, false)], vec![(0, 2, false)]], None);
    let time = Instant::parse("9999-12-31T23:59:59Z").ok();
    let deletion = deletion_bundle(ResourceType::PATIENT, "0", time);
    lake.write("deleted/1.ndjson", format!("{deletion}\n").as_bytes());
    compact_lake(&lake, &settings(NOW, true));
    let mut expected = vec![deletion, line((0, 2, false))];
    expected.sort();
    assert_eq!(lake.lines(), expected);
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_marker_is_named_and_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let lake = TestLake(folder.path().to_owned());
    write(&lake, &[vec![(0, 1, false)]], None);
    lake.make_pipe("_headrace/superseded/x.ndjson");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(sender.send(compact_until(&lake, &settings(NOW, true), FaultPoint::default()))));
    let compacted = receiver.recv_timeout(Duration::from_secs(60)).expect("the compaction waits for the pipe");
    assert!(compacted.unwrap_err().to_string().contains("x.ndjson"));
}

#[test]
fn an_object_with_a_delete_request_that_names_no_resource_stays() {
    for url in ["Patient?identifier=x", "Patient/4/_history/1", "Dog/1"] {
        let folder = tempfile::tempdir().unwrap();
        let lake = TestLake(folder.path().to_owned());
        write(&lake, &[vec![(0, 1, false), (2, 1, false)], vec![(2, 2, false)]], None);
        let requests = ["Patient/0", url].map(|url| json!({ "request": { "method": "DELETE", "url": url } }));
        let time = json!({ "lastUpdated": "2026-01-03T00:00:00Z" });
        let deletions = json!({ "resourceType": "Bundle", "type": "transaction", "meta": time, "entry": requests }).to_string();
        lake.write("deleted/one.ndjson", format!("{deletions}\n").as_bytes());
        let report = compact_lake(&lake, &settings(NOW, true));
        assert_eq!((report.kept_objects, report.replaced.objects, report.deletions), (1, 2, (1, 1)), "{url}");
        let mut expected = vec![deletions, line((2, 2, false))];
        expected.sort();
        assert_eq!(lake.lines(), expected, "the deletion that was read removes its resource, and the request is still there: {url}");
    }
}

#[test]
fn a_process_that_stops_at_any_write_loses_nothing() {
    let objects = [vec![(0, 1, false), (1, 1, false)], vec![(0, 2, false), (1, 2, true)], vec![(2, 1, false)]];
    let expected = kept(&objects.concat(), u8::MAX);
    let mut stops = 0;
    for changes in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let lake = TestLake(folder.path().to_owned());
        write(&lake, &objects, None);
        let compacted = compact_until(&lake, &settings(NOW, true), FaultPoint::after(changes));
        let lines = lake.lines();
        assert!(expected.iter().all(|line| lines.contains(line)), "after {changes} changes");
        compact_lake(&lake, &settings(Millis(NOW.0 + 5_000), true));
        assert_eq!(lake.lines(), expected, "after {changes} changes");
        assert_eq!(unfinished_runs(&lake.0).unwrap(), 0);
        if compacted.is_ok() {
            break;
        }
        stops += 1;
    }
    assert!(stops > 12, "only {stops} stops");
}

#[test]
fn a_marker_of_superseded_objects_cannot_name_a_file_outside_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let lake = TestLake(folder.path().join("lake"));
    write(&lake, &[vec![(0, 1, false)]], Some(9));
    fs::write(folder.path().join("x.ndjson"), "").unwrap();
    let names = ["../x.ndjson", "_headrace/watermark.json", "/etc/x.ndjson", "day-0/../day-0/all.ndjson"];
    let marker: String = names.map(|name| format!("{}\n", json!({ "object": name, "etag": "0-0", "since": 0 }))).concat();
    lake.write("_headrace/superseded/x.ndjson", marker.as_bytes());
    assert_eq!(compact_lake(&lake, &settings(NOW, true)).removed.objects, 0);
    assert!(folder.path().join("x.ndjson").exists() && lake.0.join("_headrace/watermark.json").exists());
    assert_eq!(lake.lines(), [line((0, 1, false))]);
}
