//! `headrace schedules` on a state folder, and a server that starts the exports.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use headrace_tests::flows::Result;
use headrace_tests::lake;
use serde_json::Value;
use tempfile::TempDir;

use super::process::{Server, command_result, headrace};

/// The longest wait for a run.
const PATIENCE: Duration = Duration::from_secs(60);

/// `headrace schedules` with a temporary state folder.
struct SchedulesCli(TempDir);

impl SchedulesCli {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// Runs a subcommand of a command. Returns its output, or its error text if it fails.
    fn command(&self, command: &str, arguments: &[&str]) -> Result<std::result::Result<String, String>> {
        let (subcommand, rest) = arguments.split_first().ok_or("no subcommand")?;
        Ok(command_result(headrace(&[command, subcommand]).arg("--state").arg(self.state()).args(rest).output()?))
    }

    fn run(&self, arguments: &[&str]) -> Result<std::result::Result<String, String>> {
        self.command("schedules", arguments)
    }

    fn show(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&["show", name, "--json"])??)?)
    }
}

#[test]
fn a_schedule_is_added_shown_paused_resumed_and_removed() -> Result<()> {
    let cli = SchedulesCli::new()?;
    let times = ["--every", "cron(0 2 * * *)", "--zone", "Europe/Berlin"];
    let what = ["--incremental", "--container", "nightly", "--type", "Patient", "--keep", "7"];
    let added = cli.run(&[&["add", "nightly"][..], &times, &what].concat())??;
    assert!(added.starts_with("added `nightly`; its next run starts at 20"), "{added}");
    assert!(added.contains("--retention-hours 168"), "{added}");
    let repeated = cli.run(&[&["add", "nightly"][..], &times].concat())?.unwrap_err();
    assert!(repeated.contains("there is a schedule `nightly`"), "{repeated}");
    let shown = cli.run(&["show", "nightly"])??;
    for words in ["cron(0 2 * * *) in Europe/Berlin", "_type=Patient _container=nightly", "the next run exports everything", "enabled"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(cli.run(&["list"])??.contains("nightly"));
    cli.run(&["pause", "nightly"])??;
    assert!(cli.run(&["list"])??.contains("paused"));
    assert_eq!(cli.show("nightly")?["next"], Value::Null);
    assert!(cli.run(&["resume", "nightly"])??.contains("its next run starts at"));
    assert!(cli.run(&["run", "nightly"])??.contains("headrace serve"));
    assert!(cli.show("nightly")?["state"]["requested_at"].is_u64());
    cli.run(&["remove", "nightly"])??;
    assert!(cli.run(&["show", "nightly"])?.unwrap_err().contains("there is no schedule `nightly`"));
    assert!(cli.run(&["list"])??.contains("there are no schedules"));
    Ok(())
}

#[test]
fn a_schedule_is_changed_and_keeps_what_the_change_does_not_name() -> Result<()> {
    let cli = SchedulesCli::new()?;
    let times = ["--every", "cron(0 2 * * *)", "--zone", "Europe/Berlin"];
    let what = ["--incremental", "--container", "nightly", "--type", "Patient", "--keep", "7"];
    cli.run(&[&["add", "nightly"][..], &times, &what].concat())??;
    let first = cli.show("nightly")?;
    let changed = cli.run(&["change", "nightly", "--every", "cron(30 3 * * *)", "--unset", "keep"])??;
    assert!(changed.starts_with("changed `nightly`; its next run starts at 20"), "{changed}");
    let shown = cli.run(&["show", "nightly"])??;
    for words in ["cron(30 3 * * *) in Europe/Berlin", "_type=Patient", "_container=nightly", "the next run exports everything"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let second = cli.show("nightly")?;
    assert_eq!((&first["definition"]["keep"], &second["definition"]["keep"]), (&Value::from(7), &Value::Null));
    assert_eq!(first["definition"]["created_at"], second["definition"]["created_at"]);
    // A change that was made for an earlier version changes nothing.
    let seen = first["version"].as_str().ok_or("no version")?;
    let late = cli.run(&["change", "nightly", "--keep", "3", "--if-version", seen])?.unwrap_err();
    assert!(late.contains("`nightly` was changed by another command"), "{late}");
    let nothing: &[&str] = &[];
    for (arguments, words) in [
        (nothing, "nothing to change"),
        (&["--type", "Nothing"], "--type"),
        (&["--every", "PT30S"], "a minute"),
        (&["--since", "2026-01-01"], "--since"),
        (&["--client", "unknown"], "no client `unknown` is registered"),
        (&["--type", "Patient", "--unset", "type"], "--type and --unset type exclude each other"),
        (&["--unset", "every"], "every"),
    ] {
        let error = cli.run(&[&["change", "nightly"][..], arguments].concat())?.unwrap_err();
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    assert_eq!(cli.show("nightly")?, second, "nothing was changed");
    let seen = second["version"].as_str().ok_or("no version")?;
    cli.run(&["change", "nightly", "--keep", "3", "--type", "Patient,Observation", "--if-version", seen])??;
    assert!(cli.run(&["show", "nightly"])??.contains("_type=Patient,Observation"));
    assert!(cli.run(&["change", "nightly", "--keep", "3"])??.contains("`nightly` is like that already"));
    assert!(cli.run(&["change", "weekly", "--keep", "3"])?.unwrap_err().contains("there is no schedule `weekly`"));
    Ok(())
}

#[test]
fn a_schedule_is_rejected_for_an_anonymization_configuration_that_no_run_would_use() -> Result<()> {
    let cli = SchedulesCli::new()?;
    let folder = cli.state().join("files/anonymization");
    std::fs::create_dir_all(&folder)?;
    std::fs::set_permissions(cli.state(), std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    let write = |name: &str, rules: &str| {
        std::fs::write(folder.join(name), format!(r#"{{"fhirPathRules":[{rules}],"parameters":{{"dateShiftScope":"patient"}}}}"#))
    };
    write("typo.json", r#"{"path":"Patient.nmae","method":"redact"},{"path":"Patient.name","method":"redact"}"#)?;
    write("broken.json", r#"{"path":"Patient.name.where(","method":"redact"}"#)?;
    write("good.json", r#"{"path":"Patient.name","method":"redact"}"#)?;
    let shifts = ["date", "dateTime"].map(|name| format!(r#"{{"path":"nodesByType('{name}')","method":"dateShift"}}"#));
    let known = r#"{"path":"nodesByType('instant')","method":"redact"}"#;
    write("shifted.json", &[&[known.to_owned()][..], &shifts].concat().join(","))?;
    let anonymized = |name: &str, more: &[&str]| -> Vec<String> {
        let all = ["--every", "P1D", "--container", "study", "--anonymization-config", name];
        all.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
    };
    let run = |command: &str, name: &str, more: &[&str]| {
        let arguments = anonymized(name, more);
        cli.run(&[command, "study"].into_iter().chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>())
    };
    let accepted = ["--accept-remarks", "selects-nothing:1"];
    for (name, more, words) in [
        ("missing.json", &[][..], "there is no configuration `missing.json` in the folder `anonymization`"),
        ("broken.json", &[], "the configuration `broken.json` cannot be used"),
        ("typo.json", &[], "accept the remarks: --accept-remarks selects-nothing:1"),
        ("shifted.json", &["--accept-remarks", "known-date", "--incremental"], "shifted-increment"),
    ] {
        let error = run("add", name, more)?.unwrap_err();
        assert!(error.contains("the export would be rejected") && error.contains(words), "{name}: {error}");
    }
    assert!(cli.run(&["list"])??.contains("there are no schedules"), "nothing was added");
    run("add", "typo.json", &accepted)??;
    run("change", "good.json", &[])??;
    let error = run("change", "typo.json", &[])?.unwrap_err();
    assert!(error.contains("selects-nothing:1"), "{error}");
    assert!(cli.run(&["show", "study"])??.contains("_anonymizationConfig=good.json"));
    Ok(())
}

#[test]
fn a_schedule_that_could_never_run_is_rejected_when_it_is_added() -> Result<()> {
    let cli = SchedulesCli::new()?;
    for (arguments, words) in [
        (&["--every", "cron(0 0 30 2 *)"][..], "never fires"),
        (&["--every", "cron(0 2 * * *)", "--zone", "Mars/Olympus"], "--zone: `Mars/Olympus`"),
        (&["--every", "PT30S"], "--every: the interval"),
        (&["--every", "cron(0 * 2 * * *)"], "five fields"),
        (&["--every", "P1D", "--type", "Nothing"], "--type"),
        (&["--every", "P1D", "--type-filter", "Patient?nothing=1"], "--type-filter"),
        (&["--every", "P1D", "--client", "unknown"], "no client `unknown` is registered"),
        (&["--every", "P1D", "--container", "../etc"], "--container"),
        (&["--every", "P1D", "--incremental", "--since", "2026-01-01"], "--since"),
        (&["--every", "P1D", "--incremental", "--until", "2026-01-01"], "--until"),
        (&["--every", "P1D", "--keep", "0"], "--keep"),
    ] {
        let error = cli.run(&[&["add", "x"][..], arguments].concat())?.unwrap_err();
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    assert!(cli.run(&["add", "Nightly!", "--every", "P1D"])?.unwrap_err().contains("a-z, 0-9 and -"));
    // With access control, a schedule needs a client, and the client must be allowed to export.
    let scope = ["add", "lab", "--scope", "system/Observation.rs", "--jwks-url", "https://lab.example/jwks.json"];
    cli.command("clients", &scope)??;
    assert!(cli.run(&["add", "x", "--every", "P1D"])?.unwrap_err().contains("--client"));
    let error = cli.run(&["add", "x", "--every", "P1D", "--client", "lab", "--type", "Patient"])?.unwrap_err();
    assert!(error.contains("Patient"), "{error}");
    cli.run(&["add", "x", "--every", "P1D", "--client", "lab", "--type", "Observation"])??;
    cli.command("clients", &["disable", "lab"])??;
    let error = cli.run(&["add", "y", "--every", "P1D", "--client", "lab", "--type", "Observation"])?.unwrap_err();
    assert!(error.contains("`lab` is disabled") && error.contains("headrace clients enable"), "{error}");
    // A server that runs without access control has no clients.
    let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &["--access", "none"])?;
    cli.run(&["add", "open", "--every", "P1D"])??;
    drop(server);
    Ok(())
}

#[test]
fn a_server_starts_a_requested_run() -> Result<()> {
    let cli = SchedulesCli::new()?;
    cli.run(&["add", "nightly", "--every", "P1D", "--incremental", "--container", "nightly"])??;
    cli.run(&["run", "nightly"])??;
    let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &[])?;
    let started = Instant::now();
    while cli.show("nightly")?["result"] != "complete" {
        assert!(started.elapsed() < PATIENCE, "{}", cli.run(&["show", "nightly"])??);
        std::thread::sleep(Duration::from_millis(50));
    }
    let shown = cli.show("nightly")?;
    assert!(shown["complete_run"]["transaction_time"].is_u64(), "{shown}");
    let files = cli.state().join("files/nightly");
    assert_eq!(std::fs::read_dir(&files)?.count(), 1, "one export");
    assert!(cli.run(&["show", "nightly"])??.contains("incremental      since 20"));
    let job = shown["complete_run"]["job"].as_str().ok_or("no job")?;
    let cancel = |options: &[&str]| -> Result<std::result::Result<String, String>> {
        Ok(command_result(headrace(&["jobs", "cancel", "--url", &server.base, job]).args(options).output()?))
    };
    let refused = cancel(&[])?.unwrap_err();
    assert!(refused.contains("--finished") && refused.contains("schedule nightly"), "{refused}");
    assert!(cli.run(&["list"])??.contains("complete\n"), "nothing was deleted");
    assert!(cancel(&["--finished"])??.contains("deleted"));
    assert!(cli.run(&["list"])??.contains("complete, deleted\n"));
    let shown = cli.run(&["show", "nightly"])??;
    assert!(shown.contains("attention        the files of the last complete run were deleted"), "{shown}");
    Ok(())
}

#[test]
fn a_run_that_leaves_out_lines_says_so_and_moves_the_time() -> Result<()> {
    let cli = SchedulesCli::new()?;
    let lake = tempfile::tempdir()?;
    std::fs::write(lake.path().join("1.ndjson"), "{\"resourceType\":\"Patient\",\"id\":\"1\"}\nnot a resource\n")?;
    cli.run(&["add", "nightly", "--every", "P1D", "--incremental"])??;
    cli.run(&["run", "nightly"])??;
    let _server = Server::start(lake.path(), &cli.state(), &[])?;
    let started = Instant::now();
    while cli.show("nightly")?["result"] != "complete" {
        assert!(started.elapsed() < PATIENCE, "{}", cli.run(&["show", "nightly"])??);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(cli.run(&["list"])??.contains("complete, 1 line left out\n"));
    let shown = cli.run(&["show", "nightly"])??;
    for words in
        ["incremental      since 20", "attention        1 line of the lake is not a resource and was left out", "new meta.lastUpdated"]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert_eq!(cli.show("nightly")?["lines_rejected"], 1);
    Ok(())
}
