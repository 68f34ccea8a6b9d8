//! Changes at or before the watermark, which the watermark has promised to be in the lake.

use headrace_fhir::definitions::ResourceType;
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_795_948_200_000;

fn resource(kind: &str, id: &str, day: u32) -> Value {
    json!({ "resourceType": kind, "id": id, "meta": { "versionId": "1", "lastUpdated": format!("2026-11-{day:02}T00:00:00Z") } })
}

/// Writes a part of the input: resources and the deletion of one, as files of lines or as a Bundle.
fn write_part(folder: &Folder, part: &str, is_bundle: bool, resources: &[Value], deleted: Option<&str>) {
    let time = json!({ "lastModified": "2026-11-04T00:00:00Z" });
    let deletion = deleted.map(|url| json!({ "request": { "method": "DELETE", "url": url }, "response": time }));
    if is_bundle {
        let entries: Vec<Value> = resources.iter().map(|resource| json!({ "resource": resource })).chain(deletion).collect();
        let bundle = json!({ "resourceType": "Bundle", "type": "collection", "entry": entries });
        folder.write(&format!("{part}/b.json"), bundle.to_string().as_bytes());
        return;
    }
    let lines: String = resources.iter().map(|resource| format!("{resource}\n")).collect();
    folder.write(&format!("{part}/a.ndjson"), lines.as_bytes());
    if let Some(deletion) = deletion {
        let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [deletion] });
        folder.write(&format!("{part}/deleted.ndjson"), format!("{bundle}\n").as_bytes());
    }
}

/// Writes the watermark of a lake, which says that the lake is complete up to 2026-11-10.
fn write_watermark(folder: &Folder) -> Millis {
    fs::write(folder.lake().join("_headrace/watermark.json"), r#"{"completeUpTo":"2026-11-10T00:00:00Z"}"#).unwrap();
    Millis(1_794_268_800_000)
}

#[test]
fn changes_at_or_before_the_watermark_are_counted_unless_the_lake_has_them() {
    for is_bundle in [false, true] {
        let folder = Folder::new();
        let known = [resource("Patient", "known", 1), resource("Patient", "newer", 9), resource("Patient", "deleted", 2)];
        write_part(&folder, "first", is_bundle, &known, None);
        assert!(folder.add_part("first", NOW).late.is_empty(), "the lake had no watermark");
        let complete_up_to = write_watermark(&folder);
        let mut without_time = resource("Patient", "without-time", 1);
        without_time["meta"] = json!({});
        let added = [
            resource("Patient", "known", 1),
            resource("Patient", "newer", 3),
            resource("Patient", "late", 5),
            resource("Patient", "at-the-watermark", 10),
            resource("Patient", "later", 11),
            resource("Observation", "late", 3),
            without_time,
        ];
        write_part(&folder, "second", is_bundle, &added, Some("Patient/deleted"));
        let report = folder.add_part("second", NOW + 100_000);
        let expected = LateChanges {
            resources: [(ResourceType::PATIENT, 2), (ResourceType::OBSERVATION, 1)].into(),
            deletions: [(ResourceType::PATIENT, 1)].into(),
            ..LateChanges::new("", complete_up_to)
        };
        assert_eq!((report.late.as_slice(), report.is_complete()), (&[expected][..], true), "{is_bundle}");
        assert_eq!(report.resource_count(), 7, "all of them were added");
        let receipt = folder.lake().join(AddedFiles::receipt_name(&report.run));
        let receipt = fs::read_to_string(receipt).unwrap();
        assert!(receipt.lines().next().is_some_and(|line| line.ends_with(r#""lost":0,"late":4}"#)), "{receipt}");
    }
}

#[test]
fn an_addition_without_late_changes_does_not_read_the_lake_for_them() {
    let folder = Folder::new();
    write_part(&folder, "first", false, &[resource("Patient", "p", 1)], None);
    folder.add_part("first", NOW);
    write_watermark(&folder);
    fs::write(folder.lake().join("damaged.ndjson.zst"), "nonsense").unwrap();
    write_part(&folder, "second", false, &[resource("Patient", "p", 11)], None);
    assert!(folder.add_part("second", NOW + 100_000).late.is_empty());
    write_part(&folder, "third", false, &[resource("Patient", "q", 2)], None);
    let settings = folder.later_settings();
    let error = add(&folder.input().join("third"), &folder.lake(), &settings, &Arc::new(Progress::default())).unwrap_err();
    assert!(matches!(&error, AddError::LakeObject { object, .. } if object == "damaged.ndjson.zst"), "{error:?}");
}
