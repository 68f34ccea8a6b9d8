//! What `headrace deid` shows of an export is what the export does: with its keys, its settings and its time, however the lines are formatted.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use headrace_tests::flows::Result;
use headrace_tests::workspace::root;
use serde_json::{Value, json};
use time::Duration;
use time::macros::date;

use crate::process::{command_result, headrace};

/// The day up to which the lake is complete, so that every export has this `transactionTime`.
const COMPLETE_UP_TO: &str = "2024-06-15T00:00:00Z";

/// The options of a report or a preview with the keys of the export.
const KEYS: [&str; 2] = ["--deid-keys", "study.keys"];

/// A folder with the sample configuration `study.json`, the keys `study.keys` and the lake `lake`.
struct Study(tempfile::TempDir);

impl Study {
    /// Creates a lake of these lines.
    fn new(lines: &[String]) -> Result<Self> {
        let study = Self(tempfile::tempdir()?);
        fs::create_dir_all(study.path("lake/_headrace"))?;
        fs::write(study.path("lake/all.ndjson"), lines.join("\n"))?;
        fs::write(study.path("lake/_headrace/watermark.json"), json!({ "completeUpTo": COMPLETE_UP_TO }).to_string())?;
        fs::copy(root().join("tests/samples/anonymization/study.json"), study.path("study.json"))?;
        command_result(study.run(&["deid", "keygen", "--out", "study.keys"])?)?;
        Ok(study)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a command in the folder.
    fn run(&self, arguments: &[&str]) -> Result<Output> {
        Ok(headrace(arguments).current_dir(self.0.path()).output()?)
    }

    /// Runs a command in the folder with the keys in the environment.
    fn run_with_variable(&self, arguments: &[&str]) -> Result<Output> {
        let keys = fs::read_to_string(self.path("study.keys"))?;
        Ok(headrace(arguments).current_dir(self.0.path()).env("HEADRACE_DEID_KEYS", keys).output()?)
    }

    /// Exports the lake with the keys. Returns the lines of one type.
    fn export(&self, kind: &str, arguments: &[&str]) -> Result<Vec<String>> {
        let export = ["export", "lake", "out", "--anonymization-config", "study.json", "--accept-remarks", "shifted-increment"];
        command_result(self.run(&[&export[..], &KEYS, arguments].concat())?)?;
        let text = fs::read_to_string(self.path(&format!("out/{kind}-1.ndjson")))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// Returns the report on standard output.
fn report_of(output: Output) -> Result<Value> {
    Ok(serde_json::from_str(&command_result(output)?)?)
}

/// Returns the number of birth dates that the rules have removed, by a report.
fn removed_birth_dates(report: &Value) -> u64 {
    let elements = report["elements"].as_array().into_iter().flatten();
    elements.filter(|element| element["element"] == "Patient.birthDate").filter_map(|element| element["removed"].as_u64()).sum()
}

#[test]
fn a_report_with_the_keys_of_an_export_counts_what_the_export_removes() -> Result<()> {
    // They are 89 years old when the lake is complete. The shifted date decides whether a date is removed, and follows from the keys.
    let birth_dates = (0..20).map(|number| date!(1934 - 06 - 16) + Duration::days(2 * number));
    let lines = birth_dates.zip(0..).map(|(date, id)| format!(r#"{{"resourceType":"Patient","id":"p{id}","birthDate":"{date}"}}"#));
    let study = Study::new(&lines.collect::<Vec<_>>())?;
    let exported = study.export("Patient", &[])?;
    let removed = exported.iter().filter(|line| !line.contains("\"birthDate\"")).count() as u64;
    assert!(exported.len() == 20 && removed > 0, "{removed} of {}", exported.len());
    let report = ["deid", "report", "study.json", "lake", "--json"];
    let with_file = report_of(study.run(&[&report[..], &KEYS].concat())?)?;
    assert_eq!(removed_birth_dates(&with_file), removed, "{with_file}");
    assert_eq!((&with_file["transactionTime"], &with_file["derivedKeys"]), (&json!("2024-06-15T00:00:00.000Z"), &json!([])));
    let with_variable = report_of(study.run_with_variable(&report)?)?;
    assert_eq!(with_variable, with_file);
    // Without lasting keys, each run moves the dates by other days, so that it removes others.
    let without_keys = report_of(study.run(&report)?)?;
    assert!(without_keys["derivedKeys"].as_array().is_some_and(|keys| keys.contains(&json!("dateShiftKey"))), "{without_keys}");
    let text = command_result(study.run(&report[..4])?)?;
    assert!(text.contains("\nnot given      cryptoHashKey, dateShiftKey: ") && text.contains("\ntime           2024-06-15T"), "{text}");
    // Everybody is older, and nobody is born, at another time.
    for (time, expected) in [("2026-06-15T00:00:00Z", 20), ("2000-01-01T00:00:00Z", 0)] {
        let at_time = report_of(study.run(&[&report[..], &KEYS, &["--transaction-time", time]].concat())?)?;
        assert_eq!(removed_birth_dates(&at_time), expected, "{time}: {at_time}");
    }
    Ok(())
}

#[test]
fn a_report_explains_lines_in_any_formatting_in_both_forms() -> Result<()> {
    let study = Study::new(&[
        r#"{"resourceType": "Patient", "id": "a", "name": [{"family": "Mill", "given": ["A", "B"]}], "birthDate": "1990-03-01"}"#
            .to_owned(),
        r#"{"id":"b","gender":"m\u0061le","birthDate":"1990-03-01","resourceType":"Patient"}"#.to_owned(),
        r#"{"resourceType":"Patient","id":"c","maritalStatus":{"coding":[{"display":"verh\u00e9 \/ x" , "code":"M"}]}}"#.to_owned(),
        "{\t\"resourceType\" : \"Observation\" , \"id\" : \"d\" , \"referenceRange\" : [ { \"low\" : { \"value\" : 1.50 } } ] }".to_owned(),
        r#"{"resourceType": "Observation", "id": "e", "subject": {"reference": "Patient/a"}, "valueQuantity": {"value": 1E2}}"#.to_owned(),
    ])?;
    let output = study.run(&["deid", "report", "study.json", "lake"])?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    assert!(text.contains("5 of 2 types") && !text.contains("fault"), "{text}");
    let output = study.run(&["deid", "report", "study.json", "lake", "--json"])?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["unexplained"], 0, "{report}");
    Ok(())
}

#[test]
fn a_report_says_how_many_deletions_can_be_exported() -> Result<()> {
    let deletion = r#"{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/gone"}}]}"#;
    let outcome = r#"{"resourceType":"OperationOutcome","issue":[]}"#;
    let study = Study::new(&[deletion.to_owned(), outcome.to_owned()])?;
    let report = ["deid", "report", "study.json", "lake", "--json"];
    for (keys, hashed) in [(&[][..], 0), (&KEYS, 1)] {
        let report = report_of(study.run(&[&report[..], keys].concat())?)?;
        // An export skips outcomes of earlier exports without a word.
        let counts = ["deletions", "hashedDeletions", "rejectedLines"].map(|name| report[name].as_u64());
        assert_eq!(counts, [Some(1), Some(hashed), Some(0)], "{report}");
    }
    Ok(())
}

#[test]
fn a_preview_with_the_inputs_of_an_export_shows_the_resource_of_the_export() -> Result<()> {
    let observation = |id: &str, base: &str| {
        format!(
            r#"{{"resourceType":"Observation","id":"{id}","status":"final","subject":{{"reference":"{base}Patient/p"}},"effectiveDateTime":"2020-03-11"}}"#
        )
    };
    let lines =
        [observation("own", "https://own.example/r4/"), observation("other", "https://other.example/r4/"), observation("plain", "")];
    let study = Study::new(&lines)?;
    let base_urls = ["--source-base-urls", "https://own.example/r4"];
    let exported = study.export("Observation", &base_urls)?;
    assert_eq!(exported.len(), lines.len());
    for line in &lines {
        fs::write(study.path("resource.json"), line)?;
        let preview = [&["deid", "preview", "study.json", "resource.json"][..], &base_urls].concat();
        let with_file = command_result(study.run(&[&preview[..], &KEYS].concat())?)?;
        let (_, shown) = with_file.split_once("\n{\n").ok_or("no resource")?;
        let shown: Value = serde_json::from_str(&format!("{{{shown}"))?;
        let is_exported = |line: &String| serde_json::from_str::<Value>(line).is_ok_and(|resource| resource == shown);
        assert!(exported.iter().any(is_exported), "{shown} is not in {exported:?}");
        assert_eq!(command_result(study.run_with_variable(&preview)?)?, with_file);
    }
    Ok(())
}

#[test]
fn a_check_with_the_keys_of_an_export_has_the_remarks_of_the_export() -> Result<()> {
    let study = Study::new(&[r#"{"resourceType":"Patient","id":"p"}"#.to_owned()])?;
    let check = ["deid", "check", "study.json", "--type", "Patient"];
    let without_keys = study.run(&check)?;
    assert!(without_keys.status.success(), "{without_keys:?}");
    // A client whose registration fixes the configuration gets no export without keys.
    let refusal = "for clients with fixed configurations: no export starts without lasting keys";
    assert!(String::from_utf8(without_keys.stdout)?.contains(refusal));
    for (keys, reason) in [(&[][..], json!("missing-keys")), (&KEYS, Value::Null)] {
        let report: Value = serde_json::from_slice(&study.run(&[&check[..], &["--json"], keys].concat())?.stdout)?;
        assert_eq!(report["changingDraws"], reason, "{report}");
    }
    for output in [study.run(&[&check[..], &KEYS].concat())?, study.run_with_variable(&check)?] {
        let text = String::from_utf8(output.stdout)?;
        assert!(output.status.code() == Some(3) && text.contains("--accept-remarks shifted-increment\n"), "{text}");
        assert!(!text.contains("each export generates its own key") && !text.contains(refusal), "{text}");
    }
    let export = study.run(&[&["export", "lake", "out", "--anonymization-config", "study.json"][..], &KEYS].concat())?;
    assert!(export.status.code() == Some(1) && String::from_utf8_lossy(&export.stderr).contains("shifted-increment"), "{export:?}");
    Ok(())
}

#[test]
fn inputs_that_would_have_no_effect_are_errors() -> Result<()> {
    let patient = r#"{"resourceType":"Patient","id":"p"}"#;
    let study = Study::new(&[patient.to_owned()])?;
    fs::write(study.path("patient.json"), patient)?;
    fs::write(study.path("plain.json"), r#"{"fhirPathRules":[{"path":"Patient.name","method":"redact"}]}"#)?;
    for (arguments, words) in [
        (&["preview", "plain.json", "patient.json", "--patient", "q"][..], "--patient would have no effect"),
        (&["preview", "study.json", "-", "--deid-keys", "-"], "standard input can be read only once"),
        (&["check", "-", "--deid-keys", "-"], "standard input can be read only once"),
        (
            &["report", "study.json", "lake", "--transaction-time", "2024-01-01T00:00:00Z", "--lake-watermark", "now"],
            "--lake-watermark (HEADRACE_LAKE_WATERMARK) would have no effect",
        ),
        (&["report", "study.json", "lake", "--transaction-time", "yesterday"], "write an instant"),
        (&["report", "study.json", "lake", "--lake-watermark", "x"], "--lake-watermark is `x`"),
        (&["preview", "study.json", "patient.json", "--deid-keys", "none.keys"], "`none.keys` cannot be read"),
    ] {
        let output = study.run(&[&["deid"][..], arguments].concat())?;
        let complaint = String::from_utf8(output.stderr)?;
        assert!(!output.status.success() && complaint.contains(words), "{arguments:?}: {complaint}");
    }
    Ok(())
}
