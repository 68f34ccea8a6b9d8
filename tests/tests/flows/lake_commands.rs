//! `headrace lake`: Bundles in Synthea's shape go through `add`, `check`, `compact` and `export`.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use headrace_tests::flows::Result;
use headrace_tests::lake::{broken, synthea_bundles};
use serde_json::{Value, json};

use crate::process::headrace;

/// A folder for an input, a lake and an output.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a command in the folder.
    fn run(&self, arguments: &[&str]) -> Result<Output> {
        Ok(headrace(arguments).current_dir(self.0.path()).output()?)
    }

    /// Runs a command with `--json`. Returns its exit status and its report.
    fn report(&self, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
        let output = self.run(&[arguments, &["--json"]].concat())?;
        let report = serde_json::from_slice(&output.stdout);
        let report = report.map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok((output.status.code(), report))
    }

    /// Exports the lake. Returns the lines of the output files, sorted.
    fn export(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let output = self.run(&[&["export", "lake", "out", "--overwrite"], arguments].concat())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.path("out"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "ndjson") {
                lines.extend(fs::read_to_string(path)?.lines().map(str::to_owned));
            }
        }
        lines.sort();
        Ok(lines)
    }
}

/// Returns the counts of lines by type, and `Type/id` of each.
fn summarize(lines: &[String]) -> Result<(BTreeMap<String, u64>, BTreeSet<String>)> {
    let (mut counts, mut ids) = (BTreeMap::new(), BTreeSet::new());
    for line in lines {
        let resource: Value = serde_json::from_str(line)?;
        let kind = resource["resourceType"].as_str().ok_or("no type")?;
        *counts.entry(kind.to_owned()).or_default() += 1;
        ids.insert(format!("{kind}/{}", resource["id"].as_str().ok_or("no id")?));
    }
    Ok((counts, ids))
}

/// Returns the texts of all references.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let own = members.get("reference").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(members.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

#[test]
fn bundles_are_added_checked_and_exported_with_every_reference_to_a_resource() -> Result<()> {
    let folder = Folder::new()?;
    fs::create_dir(folder.path("bundles"))?;
    let expected = synthea_bundles::write(&folder.path("bundles"), 20)?;
    let resources: BTreeMap<String, u64> = expected.resources.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
    let add = ["lake", "add", "bundles", "lake", "--complete-up-to", "2025-01-01T00:00:00Z"];
    let (status, added) = folder.report(&add)?;
    assert_eq!((status, &added["resources"]), (Some(0), &json!(resources)));
    assert_eq!(added["references"]["resolved"], expected.references);
    let (status, checked) = folder.report(&["lake", "check", "lake"])?;
    assert_eq!((status, &checked["findings"]), (Some(0), &json!([])));
    let shown = String::from_utf8(folder.run(&["lake", "check", "lake"])?.stdout)?;
    assert!(shown.contains(" resources have no valid meta.lastUpdated: every export contains them, whatever --since is"), "{shown}");
    let increment = folder.run(&["export", "lake", "increment", "--since", "2026-01-01"])?;
    let remarks = String::from_utf8(increment.stderr)?;
    assert!(remarks.contains("note: resources without a meta.lastUpdated are in every export"), "{remarks}");
    let found: BTreeMap<&String, &Value> =
        checked["types"].as_object().ok_or("no types")?.iter().map(|(kind, counts)| (kind, &counts["ids"])).collect();
    assert_eq!(json!(found), json!(resources));
    assert_eq!(checked["watermark"]["completeUpTo"], "2025-01-01T00:00:00.000Z");
    let lines = folder.export(&[])?;
    let (counts, ids) = summarize(&lines)?;
    assert_eq!(counts, resources);
    for line in &lines {
        for reference in references(&serde_json::from_str(line)?) {
            assert!(ids.contains(&reference) || reference == "#referral", "{reference}");
        }
        assert!(!line.contains("\"Observation\"") || line.contains("\"value\":1.10"), "{line}");
    }
    assert_eq!(folder.report(&add)?.1["isRepeat"], true);
    assert_eq!(folder.export(&[])?, lines);
    Ok(())
}

#[test]
fn an_export_has_the_correction_although_later_inputs_contain_the_old_file() -> Result<()> {
    let folder = Folder::new()?;
    let write = |name: &str, resource: Value| -> Result<()> {
        let bundle = json!({ "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": resource }] });
        fs::create_dir_all(folder.path(name).parent().ok_or("no folder")?)?;
        Ok(fs::write(folder.path(name), bundle.to_string())?)
    };
    let patient = |family: &str| {
        json!({
            "resourceType": "Patient",
            "id": "p",
            "name": [{ "family": family }],
            "generalPractitioner": [{ "reference": "Practitioner?identifier=9" }],
        })
    };
    write("bundles/p.json", patient("Old"))?;
    assert_eq!(folder.report(&["lake", "add", "bundles", "lake"])?.0, Some(3), "the practitioner is missing");
    write("correction/p.json", patient("New"))?;
    folder.report(&["lake", "add", "correction", "lake"])?;
    write("bundles/x.json", json!({ "resourceType": "Practitioner", "id": "x", "identifier": [{ "value": "9" }] }))?;
    let output = folder.run(&["lake", "add", "bundles", "lake"])?;
    let report = String::from_utf8(output.stdout)?;
    for line in [
        "1 resource from 2 files, in 2 objects",
        "1 file was added before, and was not added again",
        "1 resource of the lake was written again: references in it are resolved now",
    ] {
        assert!(report.lines().any(|found| found == line), "{line}: {report}");
    }
    let lines = folder.export(&[])?;
    let patient = lines.iter().find(|line| line.contains("\"Patient\"")).ok_or("no patient")?;
    assert!(lines.len() == 2 && patient.contains("New") && patient.contains("\"Practitioner/x\""), "{lines:?}");
    Ok(())
}

#[test]
fn the_report_says_whether_the_watermark_moves_and_why_not() -> Result<()> {
    let folder = Folder::new()?;
    fs::create_dir(folder.path("day"))?;
    fs::write(folder.path("day/Patient.ndjson"), "{\"resourceType\":\"Patient\",\"id\":\"p\"}\n")?;
    let manifest = |query: &str| {
        let output = json!([{ "type": "Patient", "url": "https://h/Patient.ndjson", "count": 1 }]);
        json!({ "transactionTime": "2025-01-02T00:00:00Z", "request": format!("https://h/$export{query}"), "output": output }).to_string()
    };
    let remedy = "; if you know up to when the lake is complete, run the command again with --complete-up-to";
    let repeat = "the same input was added before";
    fs::write(folder.path("day/manifest.json"), manifest("?_since=2025-01-01T00:00:00Z"))?;
    let output = folder.run(&["lake", "add", "day", "lake"])?;
    let gap = format!(
        "attention: watermark: none was written, because the changes of the input begin at 2025-01-01T00:00:00.000Z, and nothing says that the \
         lake is complete up to then{remedy}\n"
    );
    let shown = String::from_utf8(output.stdout)?;
    assert!(output.status.code() == Some(3) && shown.ends_with(&gap), "{shown}");
    fs::write(folder.path("day/manifest.json"), manifest("?_type=Patient"))?;
    let output = folder.run(&["lake", "add", "day", "lake"])?;
    let expected = format!(
        "nothing to do: {repeat}\nattention: no watermark was written: the export has only what its parameter _type selects{remedy}\n"
    );
    assert_eq!((output.status.code(), String::from_utf8(output.stdout)?), (Some(3), expected));
    let output = folder.run(&["lake", "add", "day", "lake", "--complete-up-to", "2025-01-01T00:00:00Z"])?;
    let expected = format!("nothing was added: {repeat}\nwatermark: complete up to 2025-01-01T00:00:00.000Z\n");
    assert_eq!((output.status.code(), String::from_utf8(output.stdout)?), (Some(0), expected));
    fs::write(folder.path("day/manifest.json"), manifest("?_since=2025-01-01T00:00:00Z"))?;
    let (status, report) = folder.report(&["lake", "add", "day", "lake"])?;
    let written = json!([{ "folder": "", "completeUpTo": "2025-01-02T00:00:00.000Z", "isWritten": true }]);
    assert_eq!((status, &report["watermarks"]), (Some(0), &written));
    fs::write(folder.path("day/manifest.json"), r#"{"transac"#)?;
    let output = folder.run(&["lake", "add", "day", "lake"])?;
    let complaint = String::from_utf8(output.stderr)?;
    assert!(output.status.code() == Some(1) && complaint.contains("`manifest.json`"), "{complaint}");
    Ok(())
}

#[test]
fn changes_behind_the_watermark_are_reported_because_no_increment_has_them() -> Result<()> {
    let folder = Folder::new()?;
    let write = |part: &str, id: &str, month: u32| {
        fs::create_dir(folder.path(part))?;
        let time = format!("2025-{month:02}-01T00:00:00Z");
        let patient = json!({ "resourceType": "Patient", "id": id, "meta": { "lastUpdated": time } });
        fs::write(folder.path(part).join("Patient.ndjson"), format!("{patient}\n"))
    };
    write("first", "p", 1)?;
    let output = folder.run(&["lake", "add", "first", "lake", "--complete-up-to", "2025-06-01T00:00:00Z"])?;
    assert!(output.status.success() && !String::from_utf8(output.stdout)?.contains("_since"));
    write("second", "q", 5)?;
    let output = folder.run(&["lake", "add", "second", "lake"])?;
    let shown = String::from_utf8(output.stdout)?;
    let expected = "\n1 resource (Patient 1) changed at or before the watermark 2025-06-01T00:00:00.000Z: exports with _since after it do not \
                    contain it; a full export does\n";
    assert!(output.status.code() == Some(0) && shown.contains(expected), "{shown}");
    write("third", "r", 6)?;
    let (status, report) = folder.report(&["lake", "add", "third", "lake"])?;
    let late = json!([{ "folder": "", "completeUpTo": "2025-06-01T00:00:00.000Z", "resources": { "Patient": 1 }, "deletions": {} }]);
    assert_eq!((status, &report["lateChanges"]), (Some(0), &late));
    let (status, checked) = folder.report(&["lake", "check", "lake"])?;
    assert_eq!((status, &checked["findings"]), (Some(0), &json!([])));
    assert_eq!(folder.export(&["--since", "2025-06-01T00:00:00Z"])?, Vec::<String>::new());
    assert_eq!(folder.export(&[])?.len(), 3);
    Ok(())
}

#[test]
fn the_check_names_each_line_that_an_export_leaves_out() -> Result<()> {
    let folder = Folder::new()?;
    fs::create_dir(folder.path("lake"))?;
    broken::write(&folder.path("lake"))?;
    let (status, checked) = folder.report(&["lake", "check", "lake"])?;
    let rejected = checked["findings"].as_array().ok_or("no findings")?.iter().find(|finding| finding["kind"] == "rejected-line");
    let rejected = rejected.ok_or("no rejected line")?;
    assert_eq!((status, &rejected["count"]), (Some(3), &json!(broken::bad_lines().len())));
    let found: Vec<(String, u64, u64)> = rejected["examples"]
        .as_array()
        .ok_or("no examples")?
        .iter()
        .filter_map(|example| Some((example["object"].as_str()?.to_owned(), example["line"].as_u64()?, example["byte"].as_u64()?)))
        .collect();
    let mut expected = Vec::new();
    for bad in broken::bad_lines() {
        let text = fs::read(folder.path("lake").join(bad.file))?;
        let before = text.iter().take(usize::try_from(bad.offset)?).filter(|byte| **byte == b'\n').count() as u64;
        expected.push((bad.file.to_owned(), before + 1, bad.offset));
    }
    expected.sort();
    expected.truncate(20);
    assert_eq!(found, expected);
    Ok(())
}

/// Writes an object of a lake with versions of two patients.
fn write_versions(lake: &Path, name: &str, versions: &[(&str, u32)]) -> Result<()> {
    fs::create_dir_all(lake)?;
    let line = |(id, day): &(&str, u32)| {
        let time = format!("2026-01-{day:02}T00:00:00Z");
        format!("{}\n", json!({ "resourceType": "Patient", "id": id, "meta": { "lastUpdated": time, "versionId": day.to_string() } }))
    };
    Ok(fs::write(lake.join(name), versions.iter().map(line).collect::<String>())?)
}

#[test]
fn exports_are_the_same_before_during_and_after_a_compaction() -> Result<()> {
    let folder = Folder::new()?;
    let lake = folder.path("lake");
    write_versions(&lake, "base.ndjson", &[("a", 1), ("b", 1), ("c", 1)])?;
    write_versions(&lake, "day-2.ndjson", &[("a", 2), ("b", 2)])?;
    let deletion = json!({ "request": { "method": "DELETE", "url": "Patient/b" }, "response": { "lastModified": "2026-01-03T00:00:00Z" } });
    let deletion = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [deletion] });
    fs::write(lake.join("deleted.ndjson"), format!("{deletion}\n"))?;
    let before = folder.export(&[])?;
    assert_eq!(before.len(), 2);
    let refused = headrace(&["lake", "compact", "lake"]).env("HEADRACE_LAKE_VERSIONS", "one").current_dir(folder.0.path()).output()?;
    assert_eq!(refused.status.code(), Some(1));
    let complaint = String::from_utf8(refused.stderr)?;
    let expected = "headrace: --lake-versions (HEADRACE_LAKE_VERSIONS) is `one`: ";
    assert!(complaint.starts_with(expected) && complaint.contains("--now"), "{complaint}");
    let (status, compacted) = folder.report(&["lake", "compact", "lake"])?;
    assert_eq!((status, &compacted["versions"]), (Some(0), &json!({ "before": 5, "after": 2 })));
    assert_eq!(compacted["waiting"]["objects"], 3);
    let (status, checked) = folder.report(&["lake", "check", "lake"])?;
    assert_eq!((status, &checked["waitingObjects"]["objects"]), (Some(0), &json!(3)));
    let shown = String::from_utf8(folder.run(&["lake", "check", "lake"])?.stdout)?;
    assert!(shown.contains("note: 3 objects (") && shown.contains(") wait for their removal, since newer ones replaced them"), "{shown}");
    for mode in ["auto", "many"] {
        assert_eq!(folder.export(&["--lake-versions", mode])?, before, "old and new objects are both there");
    }
    let (_, removed) = folder.report(&["lake", "compact", "lake", "--now"])?;
    assert_eq!((&removed["removed"]["objects"], &removed["waiting"]["objects"]), (&json!(3), &json!(0)));
    for mode in ["auto", "many", "one"] {
        assert_eq!(folder.export(&["--lake-versions", mode])?, before, "{mode}");
    }
    let deleted = folder.export(&["--since", "2026-01-02T12:00:00Z", "--include-associated-data", "_deleted"])?;
    assert!(deleted.is_empty());
    let deleted = fs::read_to_string(folder.path("out/deleted/Bundle-1.ndjson"))?;
    assert!(deleted.contains("Patient/b"), "the deletion is still reported");
    Ok(())
}

#[test]
fn a_folder_of_lakes_is_no_lake_for_any_command() -> Result<()> {
    let folder = Folder::new()?;
    fs::create_dir(folder.path("input"))?;
    fs::write(folder.path("input/x.json"), r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"p"}}]}"#)?;
    for lake in ["lakes/t1", "lakes/2026/t2"] {
        assert!(folder.run(&["lake", "add", "input", lake])?.status.success());
    }
    for (arguments, words) in [
        (&["lake", "add", "input", "lakes"][..], "`lakes` contains the lake `lakes/"),
        (&["lake", "check", "lakes"], "contains another one in its folder `"),
        (&["lake", "compact", "lakes"], "contains another one in its folder `"),
        (&["export", "lakes", "out"], "contains another one in its folder `"),
    ] {
        let output = folder.run(arguments)?;
        let complaint = String::from_utf8(output.stderr)?;
        assert!(output.status.code() == Some(1) && complaint.contains(words), "{arguments:?}: {complaint}");
    }
    assert!(folder.run(&["export", "lakes/t1", "out", "--overwrite"])?.status.success());
    Ok(())
}

#[test]
fn the_reason_why_a_lake_is_not_compacted_is_said_once() -> Result<()> {
    let folder = Folder::new()?;
    fs::create_dir_all(folder.path("lake/_headrace"))?;
    fs::write(folder.path("lake/_headrace/watermark.json"), r#"{"completeUpTo":"yesterday"}"#)?;
    fs::write(folder.path("lake/Patient.ndjson"), "{\"resourceType\":\"Patient\",\"id\":\"p\"}\n")?;
    let complaint = String::from_utf8(folder.run(&["lake", "compact", "lake"])?.stderr)?;
    assert_eq!(complaint.matches("not an instant").count(), 1, "{complaint}");
    Ok(())
}

#[test]
fn a_failure_is_one_line_with_the_place_and_the_status_1() -> Result<()> {
    let folder = Folder::new()?;
    fs::create_dir(folder.path("input"))?;
    fs::write(folder.path("input/x.json"), r#"{"resourceType":"Bundle","entry":[{"resource":{"id":tru}}]}"#)?;
    fs::create_dir_all(folder.path("outer/_headrace"))?;
    for (arguments, words) in [
        (&["lake", "add", "input", "lake"][..], "`x.json`"),
        (&["lake", "add", "nowhere", "lake"], "`nowhere`"),
        (&["lake", "add", "input", "input"], "must not contain each other: name another directory for the lake"),
        (&["lake", "add", "input", "input/lake"], "must not contain each other: name another directory for the lake"),
        (&["lake", "add", "input", "outer/lake"], "`outer/lake` is inside the lake `"),
        (&["lake", "check", "nowhere"], "`nowhere`"),
        (&["lake", "compact", "nowhere"], "`nowhere`"),
        (&["lake", "compact", "lake", "--lake-versions", "one"], "headrace: --lake-versions is `one`: "),
        (&["lake", "compact", "lake", "--lake-versions", "two"], "headrace: --lake-versions is `two`: "),
        (&["lake", "compact", "lake", "--lake-watermark", "later"], "headrace: --lake-watermark is `later`: "),
        (&["lake", "add", "input", "lake", "--complete-up-to", "2026-11-29T10:00:00"], "time zone"),
        (&["lake", "add", "input", "lake", "--complete-up-to", "2199-01-01T00:00:00Z"], "no lake can be complete up to 2199-01-01"),
    ] {
        let output = folder.run(arguments)?;
        let complaint = String::from_utf8(output.stderr)?;
        assert!(!output.status.success() && complaint.contains(words), "{arguments:?}: {complaint}");
        assert!(output.stdout.is_empty());
    }
    Ok(())
}

/// Returns the values of the Patient resources of an export, whatever else it reports.
fn exported_languages(folder: &Folder) -> Result<BTreeSet<String>> {
    let output = folder.run(&["export", "lake", "out", "--overwrite"])?;
    if !matches!(output.status.code(), Some(0 | 3)) {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let text = fs::read_to_string(folder.path("out/Patient-1.ndjson"))?;
    text.lines().map(|line| Ok(serde_json::from_str::<Value>(line)?["language"].as_str().ok_or("no language")?.to_owned())).collect()
}

#[test]
fn exports_take_the_same_one_of_equal_versions_before_and_after_a_compaction() -> Result<()> {
    let patient = |id: &str, value: &str| format!("{}\n", json!({ "resourceType": "Patient", "id": id, "language": value }));
    let nonsense = "{\"resourceType\":\"Patient\"\n";
    for (old, new) in [
        ("zz/1.ndjson", "zz/2.ndjson"),
        ("Patient/zz-bad.ndjson", "Patient/zzz.ndjson"),
        ("X-bad.ndjson", "Y.ndjson"),
        ("Patient/1.ndjson", "Practitioner/2.ndjson"),
    ] {
        let folder = Folder::new()?;
        for name in [old, new] {
            fs::create_dir_all(folder.path("lake").join(name).parent().ok_or("no folder")?)?;
        }
        fs::write(folder.path("lake").join(old), patient("a", "old") + nonsense)?;
        fs::write(folder.path("lake").join(new), patient("a", "new") + &patient("b", "first") + &patient("b", "last"))?;
        let before = exported_languages(&folder)?;
        assert_eq!(before, BTreeSet::from(["new".to_owned(), "last".to_owned()]), "{old} {new}");
        for arguments in [&["lake", "compact", "lake"][..], &["lake", "compact", "lake", "--now"]] {
            assert_eq!(folder.run(arguments)?.status.code(), Some(3));
            assert_eq!(exported_languages(&folder)?, before, "{old} {new} {arguments:?}");
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn an_ndjson_file_whose_name_is_not_utf8_is_refused_by_name_and_other_skipped_entries_are_found() -> Result<()> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    let folder = Folder::new()?;
    fs::create_dir(folder.path("lake"))?;
    let patient = "{\"resourceType\":\"Patient\",\"id\":\"a\"}\n";
    fs::write(folder.path("lake/Patient.ndjson"), patient)?;
    fs::write(folder.path("lake").join(OsStr::from_bytes(b"_not\xeb.ndjson")), patient)?;
    fs::write(folder.path("lake").join(OsStr::from_bytes(b"notes\xeb.txt")), patient)?;
    symlink("nowhere", folder.path("lake/gone.ndjson"))?;
    let (status, checked) = folder.report(&["lake", "check", "lake"])?;
    let found = &checked["findings"][0];
    assert_eq!((status, &found["kind"], &found["count"]), (Some(3), &json!("skipped"), &json!(1)), "{checked}");
    assert_eq!(folder.export(&[])?.len(), 1);
    fs::write(folder.path("lake").join(OsStr::from_bytes(b"Pati\xebnten.ndjson")), patient)?;
    for arguments in [&["export", "lake", "out", "--overwrite"][..], &["lake", "check", "lake"], &["lake", "compact", "lake"]] {
        let output = folder.run(arguments)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(text.contains("nten.ndjson") && text.contains("not UTF-8"), "{arguments:?}: {text}");
    }
    Ok(())
}
