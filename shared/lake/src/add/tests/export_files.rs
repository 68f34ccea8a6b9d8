use serde_json::json;

use super::*;

/// Writes the export of another server: two patients, a group, a deletion and an outcome.
fn write_export(folder: &Folder, count: u64) {
    folder.write(
        "0001_patients.ndjson",
        b"{\"resourceType\":\"Patient\",\"id\":\"a\",\"x\":1.10}\r\n\n{\"resourceType\":\"Patient\",\"id\":\"b\"}",
    );
    folder.write("more/0002.ndjson.gz", b"{\"resourceType\":\"Group\",\"id\":\"g\"}\n");
    let deletion =
        json!({ "resourceType": "Bundle", "type": "transaction", "entry": [{ "request": { "method": "DELETE", "url": "Patient/c" } }] });
    folder.write("0003_deleted.ndjson", format!("{deletion}\n").as_bytes());
    folder.write("0004_errors.ndjson", b"{\"resourceType\":\"OperationOutcome\",\"id\":\"o\"}\n");
    let manifest = json!({
        "transactionTime": "2026-01-31T08:00:00Z",
        "request": "https://h/fhir/$export",
        "output": [{ "type": "Patient", "url": "https://h/files/0001_patients.ndjson?sig=x", "count": count }, { "url": "https://h/0002", "count": 1 }],
        "deleted": [{ "type": "Bundle", "url": "https://h/0003_deleted.ndjson" }],
        "error": [{ "type": "OperationOutcome", "url": "https://h/0004_errors.ndjson" }],
    });
    folder.write("manifest.json", manifest.to_string().as_bytes());
}

#[test]
fn an_export_is_copied_under_the_names_of_its_types_with_its_deletions_and_its_time() {
    let folder = Folder::new();
    write_export(&folder, 2);
    let report = folder.add().unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.resource_count(), report.deletions), (3, 1));
    let lines = folder.lines();
    assert!(lines.contains(&("Patient".to_owned(), r#"{"resourceType":"Patient","id":"a","x":1.10}"#.to_owned())), "{lines:?}");
    assert_eq!(lines.iter().map(|(folder, _)| folder.as_str()).collect::<Vec<_>>(), ["Bundle", "Group", "Patient", "Patient"]);
    assert_eq!(folder.watermark(), Some(json!({ "completeUpTo": "2026-01-31T08:00:00.000Z" })));
    assert!(folder.objects().iter().all(|name| name.ends_with("/20261129T103000-000001.ndjson.zst")), "{:?}", folder.objects());
    assert!(folder.add().unwrap().is_repeat);
}

#[test]
fn a_manifest_that_promises_other_resources_gives_no_watermark() {
    let folder = Folder::new();
    write_export(&folder, 7);
    let report = folder.add().unwrap();
    assert_eq!(
        report.watermark_problem.as_deref(),
        Some("the manifest promises 7 resources in `0001_patients.ndjson`, and the file has 2")
    );
    assert!(!report.is_complete() && folder.watermark().is_none());
    assert_eq!(folder.lines().len(), 4);
}

#[test]
fn lines_that_are_not_resources_are_left_out_with_file_and_line() {
    let folder = Folder::new();
    folder.write("a.ndjson", b"{\"resourceType\":\"Patient\",\"id\":\"a\"}\n\nnonsense\n{\"resourceType\":\"Patient\"}\n");
    folder.write("b.ndjson", format!("{{\"resourceType\":\"Binary\",\"id\":\"b\",\"data\":\"{}\"}}\n", "A".repeat(65 << 20)).as_bytes());
    let report = folder.add().unwrap();
    assert_eq!(report.resource_count(), 1);
    let lines: Vec<_> = report.left_out[&LeftOutReason::InvalidResource].examples.iter().map(|example| example.position).collect();
    assert_eq!(lines, [InputPosition::Line(3), InputPosition::Line(4)]);
    assert_eq!(report.left_out[&LeftOutReason::OverlongLine].examples[0].file, "b.ndjson");
    assert!(folder.watermark().is_none(), "nobody has said up to when the files are complete");
}
