//! The watermark that an addition writes is true: the lake has each change up to it.

use serde_json::{Value, json};

use super::*;

const REQUEST: &str = "https://h/fhir/$export";

/// Writes a file with this number of patients, whose ids begin with `id`.
fn write_patients(folder: &Folder, name: &str, id: &str, count: u64) {
    let lines: String =
        (0..count).map(|number| format!("{}\n", json!({ "resourceType": "Patient", "id": format!("{id}{number}") }))).collect();
    folder.write(name, lines.as_bytes());
}

/// Writes a manifest that lists files with the counts that are promised.
fn write_manifest(folder: &Folder, part: &str, time: &str, request: &str, files: &[(&str, Option<u64>)], more: &Value) {
    let output: Vec<Value> = files
        .iter()
        .map(|(name, count)| {
            let mut file = json!({ "type": "Patient", "url": format!("https://h/files/{name}") });
            if let Some(count) = count {
                file["count"] = (*count).into();
            }
            file
        })
        .collect();
    let mut manifest = json!({ "transactionTime": time, "request": request, "output": output });
    manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    folder.write(&format!("{part}/manifest.json"), manifest.to_string().as_bytes());
}

/// Writes an export of one patient, and adds it.
fn add_export(folder: &Folder, part: &str, time: &str, query: &str) -> AddReport {
    write_patients(folder, &format!("{part}/Patient.ndjson"), part, 1);
    write_manifest(folder, part, time, &format!("{REQUEST}{query}"), &[("Patient.ndjson", Some(1))], &json!({}));
    add_part(folder, part)
}

fn add_part(folder: &Folder, part: &str) -> AddReport {
    folder.add_part(part, folder.settings().rewrite.now.0)
}

fn complete_up_to(time: &str) -> Option<Value> {
    Some(json!({ "completeUpTo": time }))
}

fn millis(time: &str) -> Millis {
    Millis::from_instant(headrace_fhir::instant::Instant::parse(time).unwrap()).unwrap()
}

#[test]
fn files_that_were_added_before_are_counted_too() {
    let folder = Folder::new();
    write_patients(&folder, "first/o.ndjson", "o", 3);
    add_part(&folder, "first");
    write_patients(&folder, "second/o.ndjson", "o", 3);
    write_patients(&folder, "second/p.ndjson", "p", 1);
    let manifest = |count| {
        let files = [("o.ndjson", Some(3)), ("p.ndjson", Some(count))];
        write_manifest(&folder, "second", "2026-11-04T00:00:00Z", REQUEST, &files, &json!({}));
        add_part(&folder, "second")
    };
    let report = manifest(1_000);
    assert_eq!((report.files_added_before, report.resource_count()), (1, 1));
    assert!(report.watermark_problem.as_ref().is_some_and(|problem| problem.contains("1000")), "{report:?}");
    assert!(!report.is_complete() && folder.watermark().is_none());
    let lines = folder.lines();
    let report = manifest(1);
    assert!(report.is_repeat && report.is_complete(), "{report:?}");
    assert_eq!(folder.watermark(), complete_up_to("2026-11-04T00:00:00.000Z"));
    assert_eq!(folder.lines(), lines);
}

#[test]
fn a_line_that_was_left_out_before_is_still_missing() {
    let folder = Folder::new();
    folder.write("p.ndjson", b"{\"resourceType\":\"Patient\",\"id\":\"a\"}\n{\"resourceType\":\"Patient\"}\n");
    folder.add().unwrap();
    write_manifest(&folder, ".", "2026-11-04T00:00:00Z", REQUEST, &[("p.ndjson", Some(2))], &json!({}));
    let report = folder.add().unwrap();
    assert!(report.is_repeat && report.left_out.is_empty());
    assert_eq!(report.watermark_problem.as_deref(), Some("1 resource of the input was left out"));
    assert_eq!(folder.watermark(), None);
}

#[test]
fn a_file_or_a_page_that_is_missing_gives_no_watermark() {
    for (files, more, words) in [
        (&[("Patient.ndjson", None), ("Group.ndjson", None)][..], json!({}), "`Group.ndjson`"),
        (&[("Patient.ndjson", Some(1)), ("Group.ndjson", Some(0))], json!({}), "`Group.ndjson`"),
        (&[("Patient.ndjson", None)], json!({ "deleted": [{ "url": "https://h/deleted.ndjson" }] }), "`deleted.ndjson`"),
        (&[("Patient.ndjson", None)], json!({ "link": [{ "relation": "next", "url": "https://h/2" }] }), "next page"),
    ] {
        let folder = Folder::new();
        write_patients(&folder, "part/Patient.ndjson", "a", 1);
        write_manifest(&folder, "part", "2026-11-29T00:00:00Z", REQUEST, files, &more);
        let report = add_part(&folder, "part");
        assert!(report.watermark_problem.as_ref().is_some_and(|problem| problem.contains(words)), "{words}: {report:?}");
        assert!(!report.is_complete() && folder.watermark().is_none() && report.resource_count() == 1);
    }
}

/// Adds an export of one patient whose manifest lists a file with errors. The file has this content, if there is one.
fn add_with_errors(url: &str, count: Option<u64>, file: Option<(&str, &str)>) -> (AddReport, Option<Value>) {
    let folder = Folder::new();
    write_patients(&folder, "part/Patient.ndjson", "a", 1);
    if let Some((name, content)) = file {
        folder.write(&format!("part/{name}"), content.as_bytes());
    }
    let mut listed = json!({ "type": "OperationOutcome", "url": url });
    if let Some(count) = count {
        listed["count"] = count.into();
    }
    let files = [("Patient.ndjson", Some(1))];
    write_manifest(&folder, "part", "2026-11-29T00:00:00Z", REQUEST, &files, &json!({ "error": [listed] }));
    let report = add_part(&folder, "part");
    assert_eq!((report.resource_count(), report.left_out.len()), (1, 0), "the file with errors has no data");
    (report, folder.watermark())
}

#[test]
fn an_export_with_errors_gives_no_watermark_and_one_with_warnings_does() {
    let outcome = |severity: &str| {
        let issue = json!({ "severity": severity, "code": "exception", "diagnostics": "10 Patients could not be exported" });
        format!("{}\n", json!({ "resourceType": "OperationOutcome", "issue": [issue] }))
    };
    let url = "https://h/files/my%20errors.ndjson?sig=x";
    let (error, fatal) = (outcome("warning") + &outcome("error"), outcome("fatal"));
    let warnings = outcome("warning") + &outcome("information");
    for (url, count, file, problem) in [
        (url, Some(2), Some(("my errors.ndjson", error.as_str())), "reports 1 error in `my errors.ndjson`"),
        (url, None, Some(("my errors.ndjson.gz", error.as_str())), "reports 1 error in `my errors.ndjson.gz`"),
        ("https://h/e", None, Some(("error/e.ndjson", fatal.as_str())), "reports 1 error in `error/e.ndjson`"),
        (url, None, Some(("my errors.ndjson", "not JSON\n")), "reports 1 error"),
        (url, None, None, "lists errors of the export in `my errors.ndjson`, which is not among the files"),
        (url, None, Some(("my errors.ndjson", warnings.as_str())), ""),
        (url, Some(0), None, ""),
    ] {
        let (report, watermark) = add_with_errors(url, count, file);
        let found = report.watermark_problem.clone().unwrap_or_default();
        assert!(found.contains(problem), "{problem}: {report:?}");
        let is_complete = problem.is_empty();
        assert_eq!((report.is_complete(), found.is_empty(), watermark.is_some()), (is_complete, is_complete, is_complete), "{report:?}");
    }
}

#[test]
fn an_increment_moves_the_watermark_only_if_the_lake_has_everything_before_it() {
    let folder = Folder::new();
    let gap = |before: Option<&str>, after| {
        let change = WatermarkChange::KeptBeforeGap { before: before.map(millis), after: millis(after) };
        vec![(String::new(), change)]
    };
    let report = add_export(&folder, "early", "2026-11-21T00:00:00Z", "?_since=2026-11-19T00:00:00Z");
    assert_eq!((report.watermarks.clone(), report.is_complete()), (gap(None, "2026-11-19T00:00:00Z"), false));
    assert_eq!(folder.watermark(), None);
    assert!(add_export(&folder, "full", "2026-11-20T00:00:00Z", "").is_complete());
    assert_eq!(folder.watermark(), complete_up_to("2026-11-20T00:00:00.000Z"));
    let report = add_export(&folder, "late", "2026-11-29T00:00:00Z", "?_since=2026-11-27T00:00:00Z");
    assert_eq!(report.watermarks, gap(Some("2026-11-20T00:00:00Z"), "2026-11-27T00:00:00Z"));
    assert_eq!(folder.watermark(), complete_up_to("2026-11-20T00:00:00.000Z"));
    // The increment in between closes the gap, and then the later one counts without being added again.
    assert!(add_export(&folder, "between", "2026-11-27T00:00:00Z", "?_since=2026-11-20T00:00:00Z").is_complete());
    assert_eq!(folder.watermark(), complete_up_to("2026-11-27T00:00:00.000Z"));
    let report = add_part(&folder, "late");
    assert!(report.is_repeat && report.is_complete(), "{report:?}");
    assert_eq!(folder.watermark(), complete_up_to("2026-11-29T00:00:00.000Z"));
    let report = add_part(&folder, "early");
    assert_eq!(report.watermarks, [(String::new(), WatermarkChange::KeptLater(millis("2026-11-29T00:00:00Z")))]);
}

#[test]
fn an_export_of_some_types_does_not_move_the_watermark_of_all() {
    let folder = Folder::new();
    add_export(&folder, "full", "2026-11-20T00:00:00Z", "");
    for (number, query) in ["?_type=Patient", "?_typeFilter=Patient%3Factive%3Dtrue", "?_elements=id"].into_iter().enumerate() {
        let report = add_export(&folder, &format!("part{number}"), "2026-11-29T00:00:00Z", query);
        assert!(report.watermark_problem.is_some() && !report.is_complete(), "{query}");
    }
    assert_eq!(folder.watermark(), complete_up_to("2026-11-20T00:00:00.000Z"));
    let settings = AddSettings { complete_up_to: Some(millis("2026-11-29T00:00:00Z")), ..folder.settings() };
    let report = add(&folder.input().join("part0"), &folder.lake(), &settings, &Arc::new(Progress::default())).unwrap();
    assert!(report.is_repeat && report.is_complete(), "the operator knows that the other types have not changed: {report:?}");
    assert_eq!(folder.watermark(), complete_up_to("2026-11-29T00:00:00.000Z"));
}

#[test]
fn a_period_without_a_time_zone_does_not_move_the_watermark() {
    let folder = Folder::new();
    add_export(&folder, "full", "2026-11-20T00:00:00Z", "");
    let queries = ["?_since=2026-11-20T00:00:00", "?_since=2026-11-20", "?_until=2026-11-25T00:00:00", "?_since=2026-11"];
    for (number, query) in queries.into_iter().enumerate() {
        let report = add_export(&folder, &format!("part{number}"), "2026-11-29T00:00:00Z", query);
        assert!(report.watermark_problem.as_ref().is_some_and(|problem| problem.contains("time zone")), "{query}: {report:?}");
        assert_eq!((report.resource_count(), report.is_complete()), (1, false), "{query}");
    }
    assert_eq!(folder.watermark(), complete_up_to("2026-11-20T00:00:00.000Z"));
    assert!(add_export(&folder, "zoned", "2026-11-29T00:00:00Z", "?_since=2026-11-20T01:00:00%2B01:00").is_complete());
    assert_eq!(folder.watermark(), complete_up_to("2026-11-29T00:00:00.000Z"));
}

#[test]
fn no_lake_is_complete_up_to_a_time_in_the_future() {
    let folder = Folder::new();
    let report = add_export(&folder, "full", "2099-01-01T00:00:00Z", "");
    assert!(report.watermark_problem.as_ref().is_some_and(|problem| problem.contains("2099-01-01")), "{report:?}");
    assert_eq!(folder.watermark(), None);
    folder.write("b/b.json", br#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Group","id":"g"}}]}"#);
    let lines = folder.lines();
    let settings = AddSettings { complete_up_to: Some(millis("2099-01-01T00:00:00Z")), ..folder.settings() };
    let error = add(&folder.input().join("b"), &folder.lake(), &settings, &Arc::new(Progress::default())).unwrap_err().to_string();
    assert!(error.contains("2099-01-01") && error.contains("nothing was added"), "{error}");
    assert_eq!((folder.lines(), folder.watermark()), (lines, None));
    // A watermark in the future is not taken for one that is later.
    fs::write(folder.lake().join("_headrace/watermark.json"), r#"{"completeUpTo":"2099-01-01T00:00:00Z"}"#).unwrap();
    let report = add_export(&folder, "next", "2026-11-20T00:00:00Z", "");
    assert_eq!((report.watermarks.as_slice(), report.is_complete()), (&[(String::new(), WatermarkChange::KeptInvalid)][..], false));
}

#[test]
fn the_same_bundles_with_a_time_move_the_watermark() {
    let folder = Folder::new();
    folder.write("b.json", br#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Group","id":"g"}}]}"#);
    folder.add().unwrap();
    let settings = AddSettings { complete_up_to: Some(millis("2026-11-20T00:00:00Z")), ..folder.settings() };
    let report = folder.add_with(&settings).unwrap();
    let written = [(String::new(), WatermarkChange::Written(millis("2026-11-20T00:00:00Z")))];
    assert_eq!((report.is_repeat, report.objects, report.watermarks.as_slice()), (true, 0, &written[..]));
    assert_eq!((folder.watermark(), folder.lines().len()), (complete_up_to("2026-11-20T00:00:00.000Z"), 1));
    let report = folder.add_with(&settings).unwrap();
    assert_eq!(report.watermarks, [(String::new(), WatermarkChange::KeptLater(millis("2026-11-20T00:00:00Z")))]);
    assert_eq!(fs::read_dir(folder.lake().join("_headrace/staging")).unwrap().count(), 0);
}

#[test]
fn the_watermark_of_another_pipeline_is_moved_by_the_operator_alone() {
    let folder = Folder::new();
    fs::create_dir_all(folder.lake().join("_headrace")).unwrap();
    let object = json!({ "completeUpTo": "2026-11-19T00:00:00Z", "origin": "https://other/fhir" });
    fs::write(folder.lake().join("_headrace/watermark.json"), object.to_string()).unwrap();
    let report = add_export(&folder, "full", "2026-11-20T00:00:00Z", "");
    assert_eq!((report.watermarks.as_slice(), report.is_complete()), (&[(String::new(), WatermarkChange::KeptOfOthers)][..], false));
    assert_eq!(folder.watermark(), Some(object));
}

#[cfg(unix)]
#[test]
fn a_watermark_that_cannot_be_read_is_not_replaced() {
    let folder = Folder::new();
    fs::create_dir_all(folder.lake().join("_headrace")).unwrap();
    let path = folder.lake().join("_headrace/watermark.json");
    std::os::unix::fs::symlink("nowhere.json", &path).unwrap();
    let report = add_export(&folder, "full", "2026-11-20T00:00:00Z", "");
    assert_eq!(report.watermarks, [(String::new(), WatermarkChange::KeptInvalid)]);
    assert!(fs::symlink_metadata(path).unwrap().is_symlink());
}

#[test]
fn a_lake_whose_first_synchronization_is_not_complete_keeps_the_mark_of_it() {
    let folder = Folder::new();
    let mark = r#"{"origin":"https://h/fhir","publishing":"j"}"#;
    fs::create_dir_all(folder.lake().join("_headrace")).unwrap();
    fs::write(folder.lake().join("_headrace/watermark.json"), mark).unwrap();
    write_patients(&folder, "p.ndjson", "p", 1);
    let settings = AddSettings { complete_up_to: Some(millis("2026-11-04T00:00:00Z")), ..folder.settings() };
    let report = folder.add_with(&settings).unwrap();
    assert_eq!(report.watermarks, [(String::new(), WatermarkChange::KeptForSync)]);
    assert_eq!((report.is_complete(), folder.watermark()), (false, Some(serde_json::from_str(mark).unwrap())));
}

#[test]
fn a_manifest_that_was_cut_off_is_refused_by_name() {
    let whole = json!({ "request": REQUEST, "transactionTime": "2026-11-29T00:00:00Z", "output": [] }).to_string();
    for length in 0..whole.len() {
        let folder = Folder::new();
        write_patients(&folder, "p.ndjson", "p", 1);
        folder.write("manifest.json", &whole.as_bytes()[..length]);
        let error = folder.add().unwrap_err().to_string();
        assert!(error.contains("`manifest.json`"), "{length}: {error}");
        assert!(folder.objects().is_empty());
    }
}

#[test]
fn a_manifest_is_known_although_its_time_comes_behind_a_long_list() {
    let folder = Folder::new();
    write_patients(&folder, "p.ndjson", "p", 1);
    let file = json!({ "url": format!("https://h/{}/p.ndjson", "x".repeat(100_000)) });
    let text = format!(r#"{{"request":"{REQUEST}","output":[{file}],"transactionTime":"2026-11-29T00:00:00Z"}}"#);
    folder.write("manifest.json", text.as_bytes());
    assert!(folder.add().unwrap().is_complete());
    assert_eq!(folder.watermark(), complete_up_to("2026-11-29T00:00:00.000Z"));
}
