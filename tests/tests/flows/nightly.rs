//! `headrace export` as somebody runs it every night: what it prints and where, `manifest.json`, `--since-file`, `--overwrite`, and what it
//! tells about data that is odd.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use headrace_tests::flows::Result;
use serde_json::{Value, json};

use crate::process::headrace;

/// A lake, an output directory and a file for `--since-file`.
struct Nightly(tempfile::TempDir);

impl Nightly {
    /// Creates a lake of a patient of 2019 and one of 2021.
    fn new() -> Result<Self> {
        let folder = Self(tempfile::tempdir()?);
        folder
            .write("Patient.ndjson", &(patient("old", json!("2019-05-01T00:00:00Z")) + &patient("new", json!("2021-05-01T00:00:00Z"))))?;
        Ok(folder)
    }

    fn lake(&self) -> PathBuf {
        self.0.path().join("lake")
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn since_file(&self) -> PathBuf {
        self.0.path().join("last-export")
    }

    /// Writes a file of the lake.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.lake().join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        Ok(fs::write(path, text)?)
    }

    /// Exports the lake.
    fn export(&self, arguments: &[&str]) -> Result<Output> {
        Ok(headrace(&["export"]).arg(self.lake()).arg(self.out()).args(arguments).output()?)
    }

    /// Exports the lake like every night.
    fn export_increment(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = headrace(&["export", "--overwrite", "--since-file"]);
        Ok(command.arg(self.since_file()).arg(self.lake()).arg(self.out()).args(arguments).output()?)
    }

    /// Returns the time in the file of `--since-file`, its first line.
    fn saved_time(&self) -> Result<String> {
        Ok(fs::read_to_string(self.since_file())?.lines().next().unwrap_or_default().to_owned())
    }

    /// Returns `manifest.json`.
    fn manifest(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.out().join("manifest.json"))?)?)
    }

    /// Returns the names of the files in the output directory and one level below, sorted.
    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.out())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                names.extend(fs::read_dir(entry.path())?.filter_map(|below| Some(format!("{name}/{}", below.ok()?.file_name().to_str()?))));
            } else {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Returns the line of a patient with this `meta.lastUpdated`.
fn patient(id: &str, changed: Value) -> String {
    json!({ "resourceType": "Patient", "id": id, "meta": { "lastUpdated": changed } }).to_string() + "\n"
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the ids in a file.
fn ids(path: &Path) -> Result<Vec<String>> {
    let id = |line: &str| Ok(serde_json::from_str::<Value>(line)?["id"].as_str().unwrap_or_default().to_owned());
    fs::read_to_string(path)?.lines().map(id).collect()
}

#[test]
fn each_night_exports_what_changed_since_the_last_complete_one() -> Result<()> {
    let nightly = Nightly::new()?;
    let first = nightly.export_increment(&[])?;
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stderr(&first).contains("exporting everything"), "{}", stderr(&first));
    assert_eq!(ids(&nightly.out().join("Patient-1.ndjson"))?, ["old", "new"]);
    let manifest = nightly.manifest()?;
    assert_eq!(nightly.saved_time()?, manifest["transactionTime"].as_str().unwrap_or_default());
    assert_eq!(
        manifest["output"],
        json!([{ "type": "Patient", "url": "Patient-1.ndjson", "count": 2, "size": manifest["output"][0]["size"] }])
    );

    // Files that no export has written stay.
    for name in ["notes.txt", "Patient.ndjson"] {
        fs::write(nightly.out().join(name), "mine")?;
    }
    let second = nightly.export_increment(&[])?;
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
    assert_eq!(
        nightly.names()?,
        ["Patient.ndjson", "manifest.json", "notes.txt"],
        "nothing changed, and nothing of the first night is left"
    );
    assert_eq!((&nightly.manifest()?["resources"], &nightly.manifest()?["output"]), (&json!(0), &json!([])));

    fs::write(nightly.since_file(), "2020-01-01\n")?;
    nightly.write("broken.ndjson", "}\n")?;
    let third = nightly.export_increment(&[])?;
    assert_eq!(third.status.code(), Some(3), "{}", stderr(&third));
    assert_eq!(ids(&nightly.out().join("Patient-1.ndjson"))?, ["new"]);
    assert!(stderr(&third).contains("does not say of which export its time is"), "{}", stderr(&third));
    let time = nightly.manifest()?["transactionTime"].as_str().unwrap_or_default().to_owned();
    assert_eq!(nightly.saved_time()?, time, "a line that nobody repairs does not stop the increments");
    for words in ["delete ", "last-export", "new meta.lastUpdated"] {
        assert!(stderr(&third).contains(words), "{words}: {}", stderr(&third));
    }

    let fourth = nightly.export_increment(&[])?;
    assert_eq!(fourth.status.code(), Some(3), "the line is reported until it is repaired: {}", stderr(&fourth));
    assert_eq!(nightly.manifest()?["resources"], 0, "an increment, not everything again");
    Ok(())
}

#[test]
fn a_time_of_a_clock_that_was_ahead_does_not_stop_the_increments() -> Result<()> {
    let nightly = Nightly::new()?;
    assert_eq!(nightly.export_increment(&[])?.status.code(), Some(0));
    let saved = fs::read_to_string(nightly.since_file())?;
    fs::write(nightly.since_file(), saved.replacen(&nightly.saved_time()?, "2999-01-01T00:00:00Z", 1))?;
    let healed = nightly.export_increment(&["--quiet"])?;
    assert_eq!(healed.status.code(), Some(0), "{}", stderr(&healed));
    assert!(stderr(&healed).contains("last-export is in the future"), "{}", stderr(&healed));
    assert_eq!(nightly.manifest()?["resources"], 2, "everything is exported");
    assert_eq!(nightly.saved_time()?, nightly.manifest()?["transactionTime"].as_str().unwrap_or_default());
    assert_eq!(nightly.export_increment(&[])?.status.code(), Some(0));
    assert_eq!(nightly.manifest()?["resources"], 0, "an increment again");
    Ok(())
}

#[test]
fn an_increment_of_another_export_is_refused_by_the_option_that_differs() -> Result<()> {
    let nightly = Nightly::new()?;
    let first = nightly.export_increment(&["--type", "Patient,Observation"])?;
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let saved = fs::read_to_string(nightly.since_file())?;
    for (arguments, option) in [
        (&["--type", "Patient,Observation,Group"][..], "another --type:"),
        (&["--type", "Patient,Observation", "--type-filter", "Patient?gender=female"], "another --type-filter:"),
        (&["--type", "Patient,Observation", "--level", "patient:new"], "another --level:"),
        (&["--type", "Patient,Observation", "--organize-by", "patient"], "another --organize-by:"),
        (&["--elements", "id"], "another --elements, --type:"),
        (&["--type", "Patient,Observation", "--level", "patient", "--dry-run"], "another --level:"),
    ] {
        let refused = nightly.export_increment(arguments)?;
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&refused).contains(option) && stderr(&refused).contains("delete"), "{arguments:?}: {}", stderr(&refused));
    }
    assert_eq!(fs::read_to_string(nightly.since_file())?, saved);
    assert_eq!(nightly.manifest()?["resources"], 2, "the result of the first export stays");
    let same = nightly.export_increment(&["--type", "Observation,Patient", "--quiet"])?;
    assert_eq!((same.status.code(), stderr(&same).as_str()), (Some(0), ""));
    let lake = nightly.0.path().join("moved");
    fs::rename(nightly.lake(), &lake)?;
    let mut command = headrace(&["export", "--overwrite", "--type", "Patient,Observation", "--since-file"]);
    let moved = command.arg(nightly.since_file()).arg(lake).arg(nightly.out()).output()?;
    assert!(!moved.status.success() && stderr(&moved).contains("another SOURCE:"), "{}", stderr(&moved));
    Ok(())
}

#[test]
fn a_file_that_no_export_has_written_is_not_replaced() -> Result<()> {
    let nightly = Nightly::new()?;
    assert_eq!(nightly.export(&[])?.status.code(), Some(0));
    let before = fs::read(nightly.out().join("manifest.json"))?;
    fs::create_dir(nightly.out().join("error"))?;
    for name in ["Patient-2.ndjson", "Observation-1.ndjson", "error/OperationOutcome-1.ndjson"] {
        let path = nightly.out().join(name);
        fs::write(&path, "mine")?;
        for arguments in [&["--overwrite"][..], &["--overwrite", "--dry-run"]] {
            let output = nightly.export(arguments)?;
            assert_eq!(output.status.code(), Some(1), "{name}: {}", stderr(&output));
            assert!(stderr(&output).contains(name) && stderr(&output).contains("move it"), "{name}: {}", stderr(&output));
        }
        assert_eq!((fs::read_to_string(&path)?.as_str(), &fs::read(nightly.out().join("manifest.json"))?), ("mine", &before), "{name}");
        fs::remove_file(path)?;
    }
    assert_eq!(nightly.export(&["--overwrite"])?.status.code(), Some(0));
    Ok(())
}

#[test]
fn settings_of_a_server_for_its_clients_have_no_effect_on_an_export_of_a_directory() -> Result<()> {
    let nightly = Nightly::new()?;
    let configuration = nightly.0.path().join("night.json");
    fs::write(&configuration, r#"{"fhirPathRules":[{"path":"Patient.name","method":"redact"}]}"#)?;
    for (variable, value) in [
        ("HEADRACE_BASE_URL", "https://fhir.example.org/r4"),
        ("HEADRACE_BASE_URL", "not a URL"),
        ("HEADRACE_CONTAINERS", "nightly"),
        ("HEADRACE_FOLDER_LAYOUTS", "not a layout"),
        ("HEADRACE_MAX_CONCURRENT_EXPORTS", "1"),
    ] {
        let mut command = headrace(&["export", "--overwrite", "--type", "Patient", "--anonymization-config"]);
        let output = command.arg(&configuration).arg(nightly.lake()).arg(nightly.out()).env(variable, value).output()?;
        assert_eq!(output.status.code(), Some(0), "{variable}={value}: {}", stderr(&output));
        let request = nightly.manifest()?["request"].as_str().unwrap_or_default().to_owned();
        assert!(request.starts_with("$export") && !request.contains("://"), "{variable}={value}: {request}");
        // The path of the lake can name a clinic or a person.
        let text = fs::read_to_string(nightly.out().join("manifest.json"))?;
        assert!(nightly.manifest()?["source"].is_null() && !text.contains(&*nightly.0.path().to_string_lossy()), "{text}");
    }
    Ok(())
}

#[test]
fn an_error_about_a_configuration_has_the_path_that_was_typed() -> Result<()> {
    let nightly = Nightly::new()?;
    let path = |name: &str| nightly.0.path().join(name);
    fs::write(path("long.json"), " ".repeat((1 << 20) + 1))?;
    for (name, words) in [("missing.json", "cannot be read"), ("long.json", "longer than 1 MB")] {
        let path = path(name);
        let output = headrace(&["export", "--anonymization-config"]).arg(&path).arg(nightly.lake()).arg(nightly.out()).output()?;
        assert_eq!((output.status.code(), nightly.out().exists()), (Some(1), false), "{name}");
        let shown = format!("`{}`", path.display());
        assert!(stderr(&output).contains(&shown) && stderr(&output).contains(words), "{name}: {}", stderr(&output));
    }
    fs::write(path("broken.json"), "{")?;
    let output =
        headrace(&["export", "--anonymization-config"]).arg(path("broken.json")).arg(nightly.lake()).arg(nightly.out()).output()?;
    assert!(!output.status.success() && stderr(&output).contains("broken.json"), "{}", stderr(&output));
    Ok(())
}

#[test]
fn an_invalid_value_is_reported_by_the_option_that_was_typed() -> Result<()> {
    let nightly = Nightly::new()?;
    for (option, value) in [("--lake-watermark", "later"), ("--fhir-version", "6"), ("--lake-versions", "two")] {
        let output = nightly.export(&[option, value])?;
        assert_eq!(output.status.code(), Some(1), "{option}");
        let expected = format!("headrace: {option} is `{value}`: ");
        assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    }
    Ok(())
}

#[test]
fn a_file_that_cannot_be_the_time_or_the_manifest_of_an_export_is_refused_and_kept() -> Result<()> {
    let nightly = Nightly::new()?;
    fs::write(nightly.since_file(), "yesterday")?;
    let output = nightly.export_increment(&[])?;
    assert_eq!((output.status.code(), nightly.out().exists()), (Some(1), false), "{}", stderr(&output));
    assert!(stderr(&output).contains("--since-file") && stderr(&output).contains("instant"), "{}", stderr(&output));
    fs::remove_file(nightly.since_file())?;

    fs::create_dir(nightly.out())?;
    fs::write(nightly.out().join("manifest.json"), "{\"name\":\"my app\"}")?;
    let output = nightly.export_increment(&[])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("manifest.json"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(nightly.out().join("manifest.json"))?, "{\"name\":\"my app\"}");
    assert!(!nightly.since_file().exists());

    let into_itself = headrace(&["export", "--overwrite"]).arg(nightly.lake()).arg(nightly.lake()).output()?;
    assert_eq!(into_itself.status.code(), Some(1));
    assert_eq!(ids(&nightly.lake().join("Patient.ndjson"))?, ["old", "new"]);
    Ok(())
}

#[test]
fn an_export_of_a_period_does_not_move_the_time_past_its_end() -> Result<()> {
    let nightly = Nightly::new()?;
    let refused = nightly.export_increment(&["--until", "2020-01-01"])?;
    assert!(!refused.status.success() && stderr(&refused).contains("--until"), "{}", stderr(&refused));
    assert!(!nightly.since_file().exists() && !nightly.out().exists());
    let period = nightly.export(&["--until", "2020-01-01"])?;
    assert_eq!(ids(&nightly.out().join("Patient-1.ndjson"))?, ["old"]);
    assert!(stdout(&period).ends_with("next time: --since 2019-12-31T23:59:59.999Z\n"), "{}", stdout(&period));
    let rest = nightly.export(&["--overwrite", "--since", "2019-12-31T23:59:59.999Z"])?;
    assert_eq!(rest.status.code(), Some(0));
    assert_eq!(ids(&nightly.out().join("Patient-1.ndjson"))?, ["new"]);
    Ok(())
}

#[test]
fn a_time_that_could_not_be_recorded_stops_the_export_before_it_begins() -> Result<()> {
    let nightly = Nightly::new()?;
    for (file, arguments) in [("none/last-export", &[][..]), ("none/last-export", &["--dry-run"])] {
        let output = nightly.export(&[&["--since-file", file][..], arguments].concat())?;
        assert_eq!((output.status.code(), nightly.out().exists()), (Some(1), false), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("its folder must exist") && stdout(&output).is_empty(), "{}", stderr(&output));
    }
    assert_eq!(nightly.export(&[])?.status.code(), Some(0));
    let before = fs::read(nightly.out().join("manifest.json"))?;
    let manifest = nightly.out().join("manifest.json");
    let output = nightly.export(&["--overwrite", "--since-file", manifest.to_str().ok_or("not UTF-8")?])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("choose another name"), "{}", stderr(&output));
    assert_eq!(fs::read(&manifest)?, before);
    Ok(())
}

#[test]
fn a_failed_export_leaves_the_files_of_the_earlier_one() -> Result<()> {
    let nightly = Nightly::new()?;
    assert_eq!(nightly.export(&[])?.status.code(), Some(0));
    let before = fs::read(nightly.out().join("manifest.json"))?;
    let output = nightly.export(&["--overwrite", "--level", "group:unknown"])?;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(nightly.names()?, ["Patient-1.ndjson", "manifest.json"]);
    assert_eq!(fs::read(nightly.out().join("manifest.json"))?, before);
    Ok(())
}

#[test]
fn the_result_is_on_standard_output_and_everything_else_on_standard_error() -> Result<()> {
    let nightly = Nightly::new()?;
    nightly.write("broken.ndjson", "}\n[]\n")?;
    nightly.write("ahead.ndjson", &patient("ahead", json!("2999-01-01T00:00:00Z")))?;
    let output = nightly.export(&["--type", "Patient,Observation"])?;
    assert_eq!(output.status.code(), Some(3));
    let result = stdout(&output);
    let rows: Vec<Vec<&str>> = result.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.iter().any(|row| row.starts_with(&["Observation", "0", "-"])), "{result}");
    assert!(rows.iter().any(|row| row.starts_with(&["error/OperationOutcome-1.ndjson", "-"])), "{result}");
    assert!(result.contains("\n2 resources of 1 type in 1 file, "), "{result}");
    assert!(!result.contains("warning") && !result.contains("attention"), "{result}");
    let remarks = stderr(&output);
    assert!(remarks.contains("attention: 2 errors in error/OperationOutcome-1.ndjson: 2 structure."), "{remarks}");
    assert!(
        remarks.contains("warning: 1 version of a resource was left out, because it has a `meta.lastUpdated` that is later"),
        "{remarks}"
    );

    let quiet = nightly.export(&["--overwrite", "--quiet"])?;
    assert_eq!((quiet.status.code(), stdout(&quiet).as_str()), (Some(3), ""));
    assert!(stderr(&quiet).contains("attention: 2 errors") && !stderr(&quiet).contains("% done"), "{}", stderr(&quiet));

    fs::remove_file(nightly.lake().join("broken.ndjson"))?;
    fs::remove_file(nightly.lake().join("ahead.ndjson"))?;
    let json = nightly.export(&["--overwrite", "--json", "--quiet"])?;
    assert_eq!((json.status.code(), stderr(&json).as_str()), (Some(0), ""));
    assert_eq!(stdout(&json).lines().count(), 1);
    let printed: Value = serde_json::from_str(&stdout(&json))?;
    assert_eq!(printed, nightly.manifest()?);
    assert_eq!((&printed["resources"], &printed["deletions"], &printed["outcomes"]), (&json!(2), &json!(0), &json!([])));
    assert!(printed["source"].as_str().is_some_and(|source| source.ends_with("lake")), "{printed}");
    Ok(())
}

#[test]
fn times_that_are_not_instants_are_counted_once() -> Result<()> {
    let nightly = Nightly::new()?;
    nightly.write(
        "odd.ndjson",
        &(patient("a", json!("yesterday")) + &patient("b", json!(7)) + &patient("c", json!("2020-01-01T00:00:00+0000"))),
    )?;
    for mode in ["auto", "one", "many"] {
        let output = nightly.export(&["--overwrite", "--lake-versions", mode, "--since", "2020-06-01", "--lake-watermark", "now"])?;
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("warning: 2 versions of resources in the lake have a `meta.lastUpdated` that is not an instant"),
            "{mode}: {}",
            stderr(&output)
        );
        let outcomes = nightly.manifest()?["outcomes"].clone();
        assert_eq!(outcomes, json!([{ "severity": "warning", "code": "value", "count": 1 }]), "{mode}");
        let mut exported = ids(&nightly.out().join("Patient-1.ndjson"))?;
        exported.sort();
        assert_eq!(exported, ["a", "b", "new"], "{mode}");
    }
    Ok(())
}

#[test]
fn versions_with_odd_times_are_counted_as_versions_and_each_warning_is_printed_once() -> Result<()> {
    let nightly = Nightly::new()?;
    let ahead = patient("old", json!("2999-01-01T00:00:00Z"));
    nightly.write("odd.ndjson", &(patient("old", json!("yesterday")).repeat(2) + &ahead.repeat(3)))?;
    for arguments in [&["--overwrite"][..], &["--overwrite", "--quiet"]] {
        let output = nightly.export(arguments)?;
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(fs::read_to_string(nightly.out().join("Patient-1.ndjson"))?.lines().count(), 2);
        let remarks = stderr(&output);
        for text in ["2 versions of resources in the lake have a `meta.lastUpdated`", "3 versions of resources were left out"] {
            assert_eq!(remarks.matches(text).count(), 1, "{text}: {remarks}");
        }
    }
    Ok(())
}

#[test]
fn deletions_are_not_resources() -> Result<()> {
    let nightly = Nightly::new()?;
    let deletion = json!({
        "resourceType": "Bundle", "type": "transaction", "meta": { "lastUpdated": "2022-01-01T00:00:00Z" },
        "entry": [{ "request": { "method": "DELETE", "url": "Patient/old" } }],
    });
    nightly.write("deleted-1.ndjson", &format!("{deletion}\n"))?;
    let output = nightly.export(&["--since", "2020-01-01", "--include-associated-data", "_deleted"])?;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("\n1 resource of 1 type in 1 file and 1 deletion, "), "{}", stdout(&output));
    assert_eq!((&nightly.manifest()?["resources"], &nightly.manifest()?["deletions"]), (&json!(1), &json!(1)));
    Ok(())
}

#[test]
fn members_who_are_not_in_the_lake_are_counted_and_not_named() -> Result<()> {
    let nightly = Nightly::new()?;
    let members =
        ["Patient/old", "Patient/new", "Patient/gone-1", "Patient/gone-2"].map(|reference| json!({ "entity": { "reference": reference } }));
    let group = json!({ "resourceType": "Group", "id": "g", "type": "person", "actual": true, "member": members });
    // The folder is named for a type other than Group.
    nightly.write("Account/export.ndjson", &format!("{group}\n"))?;
    for mode in ["auto", "one", "many"] {
        let increment = ["--overwrite", "--level", "group:g", "--lake-versions", mode, "--since", "2020-01-01", "--lake-watermark", "now"];
        let output = nightly.export(&increment)?;
        assert_eq!(output.status.code(), Some(0), "{mode}: {}", stderr(&output));
        let remarks = stderr(&output);
        assert!(remarks.contains("note: 2 members of the group have no Patient resource in the lake"), "{mode}: {remarks}");
        let written = fs::read_to_string(nightly.out().join("error/OperationOutcome-1.ndjson"))?;
        assert!(!remarks.contains("gone-") && !written.contains("gone-") && written.lines().count() == 1, "{mode}: {written}");
        assert_eq!(ids(&nightly.out().join("Patient-1.ndjson"))?, ["new"], "{mode}");
    }
    let without_patients = nightly.export(&["--overwrite", "--level", "group:g", "--type", "Observation"])?;
    assert!(!stderr(&without_patients).contains("members of the group"), "{}", stderr(&without_patients));
    Ok(())
}

#[test]
fn names_that_are_nearly_right_are_reported_in_one_line_with_the_remedy() -> Result<()> {
    let nightly = Nightly::new()?;
    for name in ["Patient.2.NDJSON", "a.jsonl", "b.jsonl.gz", "Patient.ndjson.bz2", "d/Observation.json", "manifest.json", "README"] {
        nightly.write(name, "")?;
    }
    let output = nightly.export(&[])?;
    assert_eq!(output.status.code(), Some(0));
    let remarks = stderr(&output);
    let lines: Vec<&str> = remarks.lines().filter(|line| line.contains("objects of the lake are skipped")).collect();
    let [line] = lines.as_slice() else { return Err(format!("not one line: {remarks}").into()) };
    for words in [
        "1 file ends in .ndjson in another letter case",
        "2 files end in .jsonl",
        "1 file is .ndjson in a compression",
        "1 file ends in .json ",
        "rename",
    ] {
        assert!(line.contains(words), "`{words}` is not in {line}");
    }
    fs::remove_file(nightly.lake().join("Patient.ndjson"))?;
    let nothing = nightly.export(&["--overwrite"])?;
    assert_eq!(nothing.status.code(), Some(1));
    assert!(stderr(&nothing).contains("nothing to export") && stderr(&nothing).contains("2 files end in .jsonl"), "{}", stderr(&nothing));
    Ok(())
}

#[test]
fn a_filter_without_types_reports_that_other_types_are_exported_whole() -> Result<()> {
    let nightly = Nightly::new()?;
    nightly.write("Observation.ndjson", "{\"resourceType\":\"Observation\",\"id\":\"o\"}\n")?;
    let output = nightly.export(&["--type-filter", "Observation?status=final"])?;
    assert!(stderr(&output).contains("note: 1 type is not filtered and is exported whole; add --type Observation"), "{}", stderr(&output));
    Ok(())
}

#[test]
fn two_megabytes_of_garbage_make_a_small_error_file() -> Result<()> {
    let nightly = Nightly::new()?;
    nightly.write("garbage.ndjson", &"}\n".repeat(1 << 20))?;
    let output = nightly.export(&[])?;
    assert_eq!(output.status.code(), Some(3));
    let errors = fs::read_to_string(nightly.out().join("error/OperationOutcome-1.ndjson"))?;
    // A slow machine records its cursor more often, and each time the first 200 lines are reported one by one.
    assert!(errors.len() < 1_000_000, "{} bytes", errors.len());
    assert_eq!(reported_lines(&errors)?, 1 << 20);
    assert!(errors.lines().last().is_some_and(|last| last.contains("the last at byte 2097150")), "{}", errors.len());
    Ok(())
}

/// Returns the number of lines that an error file reports, one by one or by their number.
fn reported_lines(errors: &str) -> Result<u64> {
    let reported = errors.lines().map(|line| {
        let outcome: Value = serde_json::from_str(line)?;
        let text = outcome["issue"][0]["diagnostics"].as_str().unwrap_or_default();
        Ok(text.split_once(" more lines of the lake were left out").map_or(Ok(1), |(count, _)| count.parse::<u64>())?)
    });
    reported.sum()
}

#[test]
fn garbage_in_hundreds_of_objects_makes_a_small_error_file() -> Result<()> {
    let nightly = Nightly::new()?;
    for number in 0..400 {
        nightly.write(&format!("garbage-{number}.ndjson"), &"}\n".repeat(100))?;
    }
    let output = nightly.export(&[])?;
    assert_eq!(output.status.code(), Some(3));
    let errors = fs::read_to_string(nightly.out().join("error/OperationOutcome-1.ndjson"))?;
    // A task reads up to 200 objects, and reports up to 1,000 lines of them one by one.
    assert!(errors.len() < 2_000_000, "{} bytes", errors.len());
    assert_eq!(reported_lines(&errors)?, 40_000);
    assert!(errors.contains(" objects: the last is object `garbage-"), "{} bytes", errors.len());
    Ok(())
}

#[test]
fn a_copied_lake_has_no_note_about_older_changes_and_one_that_grows_has() -> Result<()> {
    let nightly = Nightly::new()?;
    let copied = nightly.export(&["--since", "2020-01-01"])?;
    assert_eq!((copied.status.code(), stderr(&copied).contains("left out")), (Some(0), false), "{}", stderr(&copied));
    assert_eq!(ids(&nightly.out().join("Patient-1.ndjson"))?, ["new"]);
    assert!(!nightly.out().join("error").exists(), "nothing is wrong");

    nightly.write("first.ndjson", &patient("first", json!("2018-01-01T00:00:00Z")))?;
    let arrived = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_550_000_000);
    fs::File::options().write(true).open(nightly.lake().join("first.ndjson"))?.set_modified(arrived)?;
    let growing = nightly.export(&["--overwrite", "--since", "2020-01-01"])?;
    assert_eq!(growing.status.code(), Some(0));
    for words in
        ["note: 1 change was left out, because `meta.lastUpdated` is not after `--since`", "copied or rewritten", "--lake-watermark"]
    {
        assert!(stderr(&growing).contains(words), "{words}: {}", stderr(&growing));
    }
    Ok(())
}

#[test]
fn errors_of_an_export_of_a_directory_are_said_once_in_the_words_of_the_command_line() -> Result<()> {
    let nightly = Nightly::new()?;
    let failure = |arguments: &[&str]| -> Result<String> {
        let output = nightly.export(arguments)?;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", stderr(&output));
        let text = stderr(&output);
        assert!(!["400", "500", "kick-off", "WARN", "ERROR", "server ("].iter().any(|word| text.contains(word)), "{arguments:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        Ok(text)
    };
    for (arguments, beginning) in [
        (&["--since", "yesterday"][..], "headrace: --since is not a FHIR instant"),
        (&["--since", "2020-01-01", "--until", "2019-01-01"], "headrace: --until is not later than --since"),
        (&["--type-filter", "Patient?nothing=1"], "headrace: --type-filter: Patient has no search parameter `nothing`"),
    ] {
        assert!(failure(arguments)?.starts_with(beginning), "{}", failure(arguments)?);
    }
    nightly.write("broken.ndjson.gz", "this is not gzip")?;
    assert!(failure(&[])?.starts_with("headrace: the export failed: the object `broken.ndjson.gz` of the lake cannot be read"));
    Ok(())
}
