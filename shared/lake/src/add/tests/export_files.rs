use headrace_fhir::definitions::ResourceType;
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
fn files_that_a_manifest_lists_are_those_of_an_export_under_any_name() {
    let folder = Folder::new();
    let deletion =
        json!({ "resourceType": "Bundle", "type": "transaction", "entry": [{ "request": { "method": "DELETE", "url": "Patient/c" } }] });
    folder.write("gone people.ndjson", format!("{deletion}\n").as_bytes());
    folder.write("people.ndjson", b"{\"resourceType\":\"Patient\",\"id\":\"a\"}\n");
    let manifest = json!({
        "transactionTime": "2026-01-31T08:00:00Z",
        "request": "https://h/fhir/$export",
        "output": [{ "type": "Patient", "url": "https://h/people.ndjson" }],
        "deleted": [{ "type": "Bundle", "url": "https://h/gone%20people.ndjson" }],
        "error": [],
    });
    folder.write("manifest.json", manifest.to_string().as_bytes());
    let report = folder.add().unwrap();
    assert_eq!((report.format, report.resource_count(), report.deletions), (Some(InputFormat::Ndjson), 1, 1));
    assert!(report.is_complete() && folder.watermark().is_some(), "{report:?}");
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

/// Returns the line of a patient.
fn patient(id: &str, updated: Option<&str>, city: &str) -> String {
    let mut patient = json!({ "resourceType": "Patient", "id": id, "address": [{ "city": city }] });
    if let Some(time) = updated {
        patient["meta"] = json!({ "versionId": "1", "lastUpdated": time });
    }
    format!("{patient}\n")
}

#[test]
fn of_lines_with_the_same_version_the_last_one_is_added() {
    let (day, next_day) = (Some("2026-11-01T00:00:00Z"), Some("2026-11-02T00:00:00Z"));
    let folder = Folder::new();
    let first = [patient("timed", day, "Ulm"), patient("plain", None, "Ulm"), patient("same", None, "Ulm"), patient("changed", day, "Ulm")];
    let second = [patient("timed", day, "Bonn"), patient("same", None, "Ulm"), patient("changed", next_day, "Bonn")];
    folder.write("1/a.ndjson", first.concat().as_bytes());
    folder.write("1/b.ndjson.gz", second.concat().as_bytes());
    folder.write("2/a.ndjson", [patient("plain", None, "Bonn"), patient("plain", None, "Kiel")].concat().as_bytes());
    let report = folder.add().unwrap();
    let mut expected = vec![
        patient("timed", day, "Bonn"),
        patient("plain", None, "Kiel"),
        patient("same", None, "Ulm"),
        patient("changed", day, "Ulm"),
        patient("changed", next_day, "Bonn"),
    ];
    expected.sort();
    let lines: Vec<String> = folder.lines().into_iter().map(|(_, line)| line + "\n").collect();
    assert_eq!((lines, report.resource_count()), (expected, 5));
    let conflicts = &report.left_out[&LeftOutReason::Conflicting];
    let places: Vec<_> = conflicts.examples.iter().map(|example| (example.file.as_str(), example.position)).collect();
    let expected = [("1/a.ndjson", InputPosition::Line(1)), ("1/a.ndjson", InputPosition::Line(2)), ("2/a.ndjson", InputPosition::Line(1))];
    assert_eq!((conflicts.count, places.as_slice()), (3, &expected[..]));
    assert_eq!(report.left_out[&LeftOutReason::Repeated].count, 1);
    assert!(!report.is_complete(), "two persons may have one id");
    // A file that is added later is newer, whatever its path is, and is not compared with those that were added before.
    folder.write("0.ndjson", patient("plain", None, "Jena").as_bytes());
    let report = folder.add_with(&folder.later_settings()).unwrap();
    assert_eq!((report.resource_count(), report.files_added_before, report.left_out.len()), (1, 3, 0));
    assert_eq!(folder.newest()["Patient/plain"]["address"][0]["city"], "Jena");
}

#[test]
fn a_conflict_gives_no_watermark_also_when_the_input_is_added_again() {
    let folder = Folder::new();
    folder.write("p.ndjson", [patient("a", None, "Ulm"), patient("a", None, "Bonn")].concat().as_bytes());
    let manifest = json!({
        "transactionTime": "2026-11-04T00:00:00Z",
        "request": "https://h/fhir/$export",
        "output": [{ "type": "Patient", "url": "https://h/p.ndjson", "count": 2 }],
    });
    folder.write("manifest.json", manifest.to_string().as_bytes());
    for is_repeat in [false, true] {
        let report = folder.add().unwrap();
        assert_eq!((report.is_repeat, report.watermark_problem.as_deref()), (is_repeat, Some("1 resource of the input was left out")));
        assert_eq!(folder.watermark(), None);
    }
}

#[test]
fn a_line_that_comes_twice_with_the_same_content_moves_the_watermark() {
    let folder = Folder::new();
    folder.write("p.ndjson", patient("a", None, "Ulm").repeat(3).as_bytes());
    let manifest = json!({
        "transactionTime": "2026-11-04T00:00:00Z",
        "request": "https://h/fhir/$export",
        "output": [{ "type": "Patient", "url": "https://h/p.ndjson", "count": 3 }],
    });
    folder.write("manifest.json", manifest.to_string().as_bytes());
    let report = folder.add().unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.resource_count(), report.left_out[&LeftOutReason::Repeated].count), (1, 2));
    assert_eq!(folder.watermark(), Some(json!({ "completeUpTo": "2026-11-04T00:00:00.000Z" })));
}

#[test]
fn a_json_file_beside_an_export_that_is_no_manifest_is_refused_by_name() {
    let bundle =
        json!({ "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": { "resourceType": "Patient", "id": "b" } }] });
    for (name, content) in [
        ("bundle.json", bundle.clone()),
        ("bundle.json.gz", bundle.clone()),
        ("patient.json", json!({ "resourceType": "Patient", "id": "b" })),
        ("patients.json", json!([{ "resourceType": "Patient", "id": "b" }])),
        ("wrapped.json", json!({ "data": { "patients": [{ "resourceType": "Patient", "id": "b" }] } })),
        ("table.json", json!({ "Item": { "resourceType": { "S": "Patient" } } })),
    ] {
        for has_manifest in [false, true] {
            let folder = Folder::new();
            folder.write("b.ndjson", patient("a", None, "Ulm").as_bytes());
            folder.write(name, content.to_string().as_bytes());
            if has_manifest {
                let output = json!([{ "type": "Patient", "url": "https://h/b.ndjson", "count": 1 }]);
                let manifest = json!({ "transactionTime": "2026-11-04T00:00:00Z", "request": "https://h/fhir/$export", "output": output });
                folder.write("manifest.json", manifest.to_string().as_bytes());
            }
            let error = folder.add().unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")) && error.contains("nothing was added"), "{error}");
            assert_eq!((folder.objects(), folder.watermark()), (Vec::new(), None), "{name}");
        }
    }
}

#[test]
fn a_json_file_with_errors_of_the_export_is_no_other_file() {
    let folder = Folder::new();
    folder.write("b.ndjson", patient("a", None, "Ulm").as_bytes());
    folder.write("error/1.json", br#"{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational"}]}"#);
    let report = folder.add().unwrap();
    assert_eq!((report.resource_count(), report.files_without_data), (1, 1));
}

#[test]
fn bundles_among_files_of_resources_are_refused_by_name_unless_they_are_data() {
    let entry = json!({ "request": { "method": "PUT", "url": "Patient/b" }, "resource": { "resourceType": "Patient", "id": "b" } });
    let deletion = json!({ "request": { "method": "DELETE", "url": "Patient/a" } });
    let bundle = |kind: &str| json!({ "resourceType": "Bundle", "id": "x", "type": kind, "entry": [entry, deletion] }).to_string();
    for kind in ["searchset", "transaction", "batch", "history", "collection"] {
        for lines in [bundle(kind), format!("{}{}", patient("c", None, "Ulm"), bundle(kind))] {
            let folder = Folder::new();
            folder.write("a.ndjson", patient("a", None, "Ulm").as_bytes());
            folder.write("b.ndjson", lines.as_bytes());
            let error = folder.add().unwrap_err().to_string();
            assert!(error.contains("`b.ndjson`") && error.contains("--format ndjson"), "{kind}: {error}");
            assert!(folder.objects().is_empty());
            let stated = AddSettings { format: Some(InputFormat::Ndjson), ..folder.settings() };
            assert!(folder.add_with(&stated).unwrap().is_complete(), "{kind}: the operator says that they are resources");
        }
    }
    for (name, kind) in
        [("Bundle-1.ndjson", "searchset"), ("Bundle/1.ndjson", "searchset"), ("b.ndjson", "document"), ("b.ndjson", "message")]
    {
        let folder = Folder::new();
        folder.write("A.ndjson", patient("a", None, "Ulm").as_bytes());
        folder.write(name, bundle(kind).as_bytes());
        assert_eq!(folder.add().unwrap().resource_count(), 2, "{name} {kind}");
    }
}

#[test]
fn json_files_beside_an_export_that_have_no_resources_are_named_and_nothing_is_lost() {
    let folder = Folder::new();
    folder.write("b.ndjson", patient("a", None, "Ulm").as_bytes());
    let files = [
        (
            "1-outcome.json",
            json!({ "resourceType": "OperationOutcome", "issue": [{ "severity": "information", "code": "informational" }] }),
        ),
        ("2-metadata.json", json!({ "resourceType": "CapabilityStatement", "status": "active" })),
        ("3-manifest.json", json!({ "resourceType": null, "output": [{ "type": "Patient", "url": "https://h/b.ndjson" }], "error": [] })),
        ("4-log.json", json!({ "run": 7, "seed": { "value": 1.5, "isFixed": true } })),
        ("5.json", json!({})),
        (
            "6.json",
            json!({ "request": "https://h/fhir/$export", "requiresAccessToken": true, "output": [{ "url": "https://h/b.ndjson" }] }),
        ),
    ];
    for (name, content) in &files {
        folder.write(name, content.to_string().as_bytes());
    }
    let report = folder.add().unwrap();
    assert!(report.is_complete(), "{report:?}");
    let names: Vec<_> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!((report.resource_count(), report.files_without_data, report.ignored_json), (1, 6, names));
    assert_eq!(folder.watermark(), None, "a manifest without a time says nothing");
}

#[test]
fn deletions_documents_and_messages_are_accepted_before_and_after_resources() {
    let entry = json!({ "resource": { "resourceType": "Patient", "id": "in" } });
    let document = |kind: &str| format!("{}\n", json!({ "resourceType": "Bundle", "id": kind, "type": kind, "entry": [entry] }));
    let deletion =
        json!({ "resourceType": "Bundle", "type": "transaction", "entry": [{ "request": { "method": "DELETE", "url": "Patient/z" } }] });
    let (deletion, resource) = (format!("{deletion}\n"), patient("p", None, "Ulm"));
    for bundle in [deletion, document("document"), document("message")] {
        for files in [[bundle.clone(), resource.clone()], [resource.clone(), bundle.clone()], [bundle.clone() + &resource, String::new()]] {
            let folder = Folder::new();
            folder.write("a.ndjson", files[0].as_bytes());
            folder.write("b.ndjson", files[1].as_bytes());
            let report = folder.add().unwrap();
            assert_eq!((report.format, report.is_complete()), (Some(InputFormat::Ndjson), true), "{files:?}");
            assert_eq!(folder.lines().len(), 2, "{files:?}: the Bundle is a line of the lake");
        }
    }
}

#[test]
fn the_word_bundle_in_a_name_says_that_bundles_beside_resources_are_resources() {
    let entry = json!({ "resource": { "resourceType": "Patient", "id": "in" } });
    let bundle = format!("{}\n", json!({ "resourceType": "Bundle", "id": "x", "type": "collection", "entry": [entry] }));
    for name in [
        "1.Bundle.ndjson",
        "0001_Bundle.ndjson",
        "20260101-Bundle-1.ndjson",
        "export.Bundle.ndjson",
        "bundle.ndjson",
        "fhir_BUNDLE.ndjson.gz",
        "Bundle/part-0.ndjson",
    ] {
        let folder = Folder::new();
        folder.write("Patient.ndjson", patient("p", None, "Ulm").as_bytes());
        folder.write(name, bundle.as_bytes());
        let report = folder.add().unwrap();
        assert_eq!((report.format, report.resource_count()), (Some(InputFormat::Ndjson), 2), "{name}");
    }
    // Without files of resources, the Bundles are what there is to add.
    let folder = Folder::new();
    folder.write("bundle.ndjson", bundle.as_bytes());
    let report = folder.add().unwrap();
    assert_eq!(
        (report.format, report.resources.keys().next().map(|(_, kind)| *kind)),
        (Some(InputFormat::Bundles), Some(ResourceType::PATIENT))
    );
}

#[test]
fn resources_among_bundles_are_refused_with_a_remedy_and_no_other_file_is_blamed() {
    let entry = json!({ "resource": { "resourceType": "Patient", "id": "in" } });
    let bundle = format!("{}\n", json!({ "resourceType": "Bundle", "id": "x", "type": "collection", "entry": [entry] }));
    for lines in [bundle.clone() + &patient("p", None, "Ulm"), patient("p", None, "Ulm") + &bundle] {
        let folder = Folder::new();
        folder.write("all.ndjson", lines.as_bytes());
        let error = folder.add().unwrap_err().to_string();
        assert!(error.contains("`all.ndjson`") && error.contains("--format ndjson") && !error.contains("other file"), "{error}");
        let stated = AddSettings { format: Some(InputFormat::Ndjson), ..folder.settings() };
        assert_eq!(folder.add_with(&stated).unwrap().resource_count(), 2);
    }
}
