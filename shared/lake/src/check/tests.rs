use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::test_lake::TestLake;

const NOW: Millis = Millis(1_795_948_200_000); // 2026-11-29T10:30:00Z

/// Checks a lake that is read in slices of this size.
fn check(folder: &tempfile::TempDir, slice_bytes: u64) -> LakeReport {
    check_by(folder, slice_bytes, LakeWatermark::Auto)
}

/// Checks a lake that exports read by this rule for the watermark.
fn check_by(folder: &tempfile::TempDir, slice_bytes: u64, watermark: LakeWatermark) -> LakeReport {
    let settings =
        CheckSettings { temp_folder: std::env::temp_dir(), workers: 3, sort_bytes: 2_000, slice_bytes, now: NOW, watermark, seed: [3; 16] };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let source = Arc::new(TestLake(folder.path().to_owned()));
    runtime.block_on(check_lake(source, &settings, &Arc::new(Progress::default()))).unwrap()
}

/// An object and the number of a line.
type Position = (String, Option<u64>);

/// Returns the kinds of findings with their counts and the positions of their examples.
fn findings(report: &LakeReport) -> Vec<(&'static str, u64, Vec<Position>)> {
    let positions = |finding: &Finding| finding.examples.iter().map(|example| (example.object.clone(), example.line)).collect();
    report.findings.iter().map(|finding| (finding.kind.as_str(), finding.count, positions(finding))).collect()
}

#[test]
fn everything_that_an_export_would_refuse_or_report_is_found_with_its_position() {
    let folder = tempfile::tempdir().unwrap();
    let lake = TestLake(folder.path().to_owned());
    let line = |kind: &str, id: &str, time: &str| json!({ "resourceType": kind, "id": id, "meta": { "lastUpdated": time } }).to_string();
    let lines = [
        line("Patient", "a", "2026-01-01T00:00:00Z"),
        String::new(),
        "nonsense".to_owned(),
        line("Patient", "b", "2030-01-01T00:00:00Z"),
        line("Patient", "c", "yesterday"),
        line("Group", "g", "2026-01-01T00:00:00Z"),
        line("Patient", "a_b", "2026-01-01T00:00:00Z"),
        r#"{"resourceType":"OperationOutcome"}"#.to_owned(),
        r#"{"resourceType":"Patient"}"#.to_owned(),
    ];
    lake.write("Patient.ndjson", format!("\u{feff}{}\r\n", lines.join("\n")).as_bytes());
    lake.write("broken.ndjson.gz", b"no gzip");
    lake.write("archived/old.ndjson", b"{}");
    lake.write("Observation.NDJSON", b"{}");
    lake.write("_headrace/watermark.json", b"{}");
    lake.write("_headrace/Patient.ndjson", b"nonsense");
    let report = check(&folder, 64 << 20);
    let at = |line: u64| ("Patient.ndjson".to_owned(), Some(line));
    let object = |name: &str| vec![(name.to_owned(), None)];
    assert_eq!(
        findings(&report),
        [
            ("watermark-invalid", 1, object("_headrace/watermark.json")),
            ("archived", 1, object("archived/old.ndjson")),
            ("unreadable", 1, object("broken.ndjson.gz")),
            ("rejected-line", 2, vec![at(3), at(9)]),
            ("ahead-of-clock", 1, vec![at(4)]),
            ("near-miss", 1, object("Observation.NDJSON")),
            ("other-type", 1, vec![at(6)]),
            ("unreadable-time", 1, vec![at(5)]),
            ("irregular-id", 1, vec![at(7)]),
        ]
    );
    assert!(!report.is_clean() && report.watermark.is_invalid);
    let text = format!("{:?}", report.findings);
    assert!(!text.contains("a_b") && !text.contains("nonsense"), "no data of patients: {text}");
}

#[test]
fn the_rule_for_the_watermark_is_that_of_exports() {
    let folder = tempfile::tempdir().unwrap();
    let lake = TestLake(folder.path().to_owned());
    let line = |id: &str, time: &str| json!({ "resourceType": "Patient", "id": id, "meta": { "lastUpdated": time } }).to_string();
    // 15 minutes and 5 minutes before the check.
    lake.write("Patient.ndjson", format!("{}\n{}", line("a", "2026-11-29T10:15:00Z"), line("b", "2026-11-29T10:25:00Z")).as_bytes());
    let later = |report: &LakeReport| report.types.values().map(|counts| counts.after_watermark).sum::<u64>();
    let report = check_by(&folder, 64 << 20, LakeWatermark::Object);
    assert_eq!(findings(&report), [("watermark-invalid", 1, vec![("_headrace/watermark.json".to_owned(), None)])]);
    assert!(report.watermark.is_invalid, "no export starts");
    lake.write("_headrace/watermark.json", b"{}");
    for (rule, expected) in [
        (LakeWatermark::Now, 0),
        (LakeWatermark::Arrival, 0),
        (LakeWatermark::Lag(Duration::from_secs(600)), 1),
        (LakeWatermark::Lag(Duration::from_secs(1_200)), 2),
    ] {
        let report = check_by(&folder, 64 << 20, rule);
        assert!(report.is_clean(), "exports do not read the object: {rule:?}");
        assert_eq!(later(&report), expected, "{rule:?}");
    }
    assert!(!check_by(&folder, 64 << 20, LakeWatermark::Auto).is_clean());
}

#[test]
fn an_empty_lake_is_a_finding_and_a_lake_without_faults_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(findings(&check(&folder, 100)), [("no-objects", 1, vec![(String::new(), None)])]);
    TestLake(folder.path().to_owned()).write("Patient.ndjson", br#"{"resourceType":"Patient","id":"p"}"#);
    assert!(check(&folder, 100).is_clean());
}

#[test]
fn different_content_under_one_id_is_found_where_nothing_says_which_is_newer() {
    let folder = tempfile::tempdir().unwrap();
    let lake = TestLake(folder.path().to_owned());
    let line = |id: &str, family: &str, meta: Option<(&str, &str)>, reference: &str| {
        let mut resource = json!({ "resourceType": "Patient", "id": id, "name": [{ "family": family }] });
        resource["managingOrganization"] = json!({ "reference": reference });
        if let Some((time, version)) = meta {
            resource["meta"] = json!({ "lastUpdated": format!("2026-01-{time}T00:00:00Z"), "versionId": version });
        }
        format!("{resource}\n")
    };
    let base = [
        line("no-time", "Anna", None, "Organization/o"),
        line("same-time", "Anna", Some(("02", "1")), "Organization/o"),
        line("other-time", "Anna", Some(("02", "1")), "Organization/o"),
        line("other-version", "Anna", Some(("02", "1")), "Organization/o"),
        line("resolved", "Anna", None, "Organization?identifier=1"),
        line("settled", "Anna", Some(("02", "1")), "Organization/o"),
        line("settled", "Bert", Some(("02", "1")), "Organization/o"),
        line("equal", "Anna", None, "Organization/o"),
    ];
    let later = [
        line("no-time", "Bert", None, "Organization/o"),
        line("same-time", "Bert", Some(("02", "1")), "Organization/o"),
        line("other-time", "Bert", Some(("03", "1")), "Organization/o"),
        line("other-version", "Bert", Some(("02", "2")), "Organization/o"),
        line("resolved", "Anna", None, "Organization/o"),
        line("settled", "Carl", Some(("03", "1")), "Organization/o"),
        line("equal", "Anna", None, "Organization/o"),
    ];
    lake.write("base.ndjson", base.concat().as_bytes());
    lake.write("later.ndjson", later.concat().as_bytes());
    let deletion = json!({ "request": { "method": "DELETE", "url": "Patient/gone" } });
    let deletions = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [deletion] }).to_string();
    lake.write("deleted.ndjson", deletions.as_bytes());
    let report = check(&folder, 64 << 20);
    assert_eq!(findings(&report), [("conflicting-versions", 2, Vec::new())]);
    let counts: Vec<_> = report.types.values().map(|counts| (counts.conflicting, counts.deletions_without_time)).collect();
    assert_eq!(counts, [(2, 1)]);
}

/// A line of a generated lake.
#[derive(Clone, Debug)]
enum SampleLine {
    /// A version: the type, the id and the day of its time.
    Version(usize, u8, Option<u8>),
    /// A deletion: the type, the id and the day.
    Deletion(usize, u8, u8),
    Invalid,
    Blank,
}

const KINDS: [&str; 3] = ["Patient", "Group", "Observation"];

impl SampleLine {
    fn text(&self) -> String {
        let time = |day: &u8| format!("2026-01-{day:02}T00:00:00Z");
        match self {
            Self::Version(kind, id, day) => {
                let mut resource = json!({ "resourceType": KINDS[*kind], "id": id.to_string() });
                if let Some(day) = day {
                    resource["meta"] = json!({ "lastUpdated": time(day) });
                }
                resource.to_string()
            }
            Self::Deletion(kind, id, day) => {
                let entry = json!({ "request": { "method": "DELETE", "url": format!("{}/{id}", KINDS[*kind]) } });
                json!({ "resourceType": "Bundle", "type": "transaction", "meta": { "lastUpdated": time(day) }, "entry": [entry] })
                    .to_string()
            }
            Self::Invalid => "{".to_owned(),
            Self::Blank => " ".to_owned(),
        }
    }
}

fn sample_line() -> impl Strategy<Value = SampleLine> {
    prop_oneof![
        8 => (0_usize..3, 0_u8..5, prop::option::weighted(0.8, 1_u8..20)).prop_map(|(kind, id, day)| SampleLine::Version(kind, id, day)),
        2 => (0_usize..3, 0_u8..5, 1_u8..20).prop_map(|(kind, id, day)| SampleLine::Deletion(kind, id, day)),
        1 => Just(SampleLine::Invalid),
        1 => Just(SampleLine::Blank),
    ]
}

/// Counts the lines of one type simply.
fn expected(objects: &[Vec<SampleLine>], kind: usize, watermark: u8) -> Value {
    let mut versions = BTreeMap::<u8, Vec<i16>>::new();
    let mut deleted = BTreeMap::<u8, i16>::new();
    let (mut found, mut without_time, mut later, mut deletions) = (BTreeSet::new(), 0, 0, 0);
    for (object, lines) in objects.iter().enumerate() {
        for line in lines {
            match line {
                SampleLine::Version(of, id, day) if *of == kind => {
                    found.insert(object);
                    versions.entry(*id).or_default().push(day.map_or(-1, i16::from));
                    without_time += u64::from(day.is_none());
                    later += u64::from(day.is_some_and(|day| day > watermark));
                }
                SampleLine::Deletion(of, id, day) if *of == kind => {
                    deletions += 1;
                    let last = deleted.entry(*id).or_insert(-1);
                    *last = (*last).max(i16::from(*day));
                }
                SampleLine::Version(..) | SampleLine::Deletion(..) | SampleLine::Invalid | SampleLine::Blank => {}
            }
        }
    }
    let resources: usize = versions.values().map(Vec::len).sum();
    let is_deleted = |(id, days): &(&u8, &Vec<i16>)| deleted.get(id).is_some_and(|at| days.iter().all(|day| day <= at));
    json!({
        "objects": found.len(),
        "resources": resources,
        "ids": versions.len(),
        "older": resources - versions.len(),
        "deletions": deletions,
        "deleted": versions.iter().filter(is_deleted).count(),
        "without time": without_time,
        "later": later,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_report_is_that_of_a_simple_count_however_objects_are_sliced(
        objects in prop::collection::vec(prop::collection::vec(sample_line(), 0..30), 1..4),
        slice_bytes in 20_u64..3_000,
        watermark in 1_u8..20,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let lake = TestLake(folder.path().to_owned());
        lake.write("_headrace/watermark.json", format!("{{\"completeUpTo\":\"2026-01-{watermark:02}T00:00:00Z\"}}").as_bytes());
        let mut invalid = Vec::new();
        for (number, lines) in objects.iter().enumerate() {
            let name = format!("{number}.ndjson");
            lake.write(&name, lines.iter().map(|line| line.text() + "\n").collect::<String>().as_bytes());
            let is_invalid = |(_, line): &(u64, &SampleLine)| matches!(line, SampleLine::Invalid);
            invalid.extend((1..).zip(lines).filter(is_invalid).map(|(line, _)| (name.clone(), Some(line))));
        }
        let report = check(&folder, slice_bytes);
        for (kind, name) in KINDS.iter().enumerate() {
            let counts = report.types.get(&headrace_fhir::definitions::ResourceType::parse(name).unwrap()).copied().unwrap_or_default();
            let found = json!({
                "objects": counts.objects,
                "resources": counts.resources,
                "ids": counts.ids,
                "older": counts.older_versions,
                "deletions": counts.deletions,
                "deleted": counts.deleted,
                "without time": counts.without_time,
                "later": counts.after_watermark,
            });
            prop_assert_eq!(found, expected(&objects, kind, watermark), "{}", name);
        }
        let shown: Vec<_> = invalid.iter().take(20).cloned().collect();
        let rejected = findings(&report).into_iter().find(|(kind, ..)| *kind == "rejected-line");
        prop_assert_eq!(rejected, (!invalid.is_empty()).then_some(("rejected-line", invalid.len() as u64, shown)));
    }
}
