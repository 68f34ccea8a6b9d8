//! `headrace audit` over the audit files of a running server.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use headrace_core::access::{Actor, Agent, Origin};
use headrace_core::audit::{AuditAction, AuditOutcome, AuditRecord};
use headrace_core::flow::upkeep::seal::{SealSettings, seal};
use headrace_core::ports::{AuditTrail as _, Clock as _};
use headrace_core::vocab::ids::Caller;
use headrace_edge::system::SystemClock;
use headrace_local::client::bulk::BulkClient;
use headrace_local::server::state::StateFolder;
use headrace_local::stores::directory::DirectoryAudit;
use headrace_tests::flows::{Result, canary, run};
use headrace_tests::lake;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Server, headrace};

/// Poll interval of the client.
const POLL_INTERVAL: Option<Duration> = Some(Duration::from_millis(5));

/// Time limit for sealing. The server's reaper runs every few seconds; the rest is reserve for a busy machine.
const SEAL_TIMEOUT: Duration = Duration::from_secs(120);

/// Exit status of `audit verify` if records were changed.
const EXIT_BROKEN: i32 = 3;

/// State folder of a stopped server that completed and then deleted an export.
struct AuditedState {
    folder: TempDir,
    /// Job id of the export.
    job: String,
}

impl AuditedState {
    /// Returns the state folder.
    fn state_dir(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Returns the folder of the audit files.
    fn audit_dir(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    /// Returns the paths of the audit files, in order.
    fn paths(&self) -> Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for day in std::fs::read_dir(self.audit_dir())? {
            for file in std::fs::read_dir(day?.path())? {
                names.push(file?.path());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Runs `audit verify`, with the job table if `knows_end`.
    fn verify(&self, knows_end: bool) -> Result<(Option<i32>, String)> {
        let state = self.state_dir();
        let head: &[&Path] = if knows_end { &[Path::new("--state"), &state] } else { &[] };
        audit("verify", &self.audit_dir(), head)
    }

    /// Runs `audit show`, which must succeed, and returns its table.
    fn show(&self, arguments: &[&str]) -> Result<String> {
        let arguments: Vec<&Path> = arguments.iter().map(Path::new).collect();
        match audit("show", &self.audit_dir(), &arguments)? {
            (Some(0), table) => Ok(table),
            (status, output) => Err(format!("{status:?}: {output}").into()),
        }
    }
}

/// Runs `headrace audit` and returns its exit status and output.
fn audit(verb: &str, files: &Path, arguments: &[&Path]) -> Result<(Option<i32>, String)> {
    let output = headrace(&["audit", verb]).arg(files).args(arguments).output()?;
    let text = String::from_utf8([output.stdout, output.stderr].concat())?;
    canary::check_log_line("the output of `headrace audit`", &text);
    Ok((output.status.code(), text))
}

/// Exports over HTTP and verifies the audit files while the server seals them.
async fn audited_state() -> Result<AuditedState> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(&lake::sample_lake_dir(), folder.path(), &[])?;
    let (client, out) = (BulkClient::without_credential(POLL_INTERVAL)?, tempfile::tempdir()?);
    let status = client.kick_off(&server.base, "$export", &[("_type", "Patient,Observation".to_owned())], false).await?;
    let manifest = client.wait_for_manifest(&status, |_| {}).await?;
    client.download(&manifest, out.path(), |_| {}).await?;
    let rejected = reqwest::get(format!("{}/$export?_type=Okonlind", server.base)).await?;
    assert!(rejected.status().is_client_error());
    client.delete(&status).await?;
    let job = status.path().rsplit('/').next().unwrap_or_default().to_owned();
    let state = AuditedState { folder, job };
    let started_at = Instant::now();
    // The files must be valid at any moment of sealing.
    while !state.audit_dir().is_dir() || !state.show(&["--job", &state.job])?.contains("  cancel  ") {
        if started_at.elapsed() > SEAL_TIMEOUT {
            return Err("the cancellation was not sealed in time".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        if state.audit_dir().is_dir() {
            let (code, text) = state.verify(true)?;
            assert_eq!(code, Some(0), "{text}");
        }
    }
    // The last file is written before the job table records it. The server must not stop in between.
    let trail = StateFolder::open_existing(&state.state_dir()).await?.jobs;
    while trail.chain_state().await?.pending.is_some() {
        if started_at.elapsed() > SEAL_TIMEOUT {
            return Err("the job table did not record the last file in time".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(state)
}

// Holds: SEC-A16
#[test]
fn an_auditor_can_list_the_actions_and_detect_tampering() -> Result<()> {
    run(async || {
        let state = audited_state().await?;
        let (code, text) = state.verify(true)?;
        assert_eq!(code, Some(0), "{text}");
        assert!(text.starts_with("intact: records 1 to ") && text.contains("the end of the chain matches the job table"), "{text}");

        let table = state.show(&[])?;
        let mut lines = table.lines();
        let titles: Vec<_> = lines.next().unwrap_or_default().split_whitespace().collect();
        assert_eq!(titles, ["RECORD", "TIME", "ACTOR", "ADDRESS", "ACTION", "OUTCOME", "EXPORT", "DETAILS"]);
        let actions = |table: &str| {
            let rows = table.lines().skip(1).map(|row| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
            let mut actions: Vec<_> = rows.map(|row| row.get(2..6).unwrap_or_default().join(" ")).collect();
            actions.sort();
            actions
        };
        let succeeded = |action: &str| format!("local 127.0.0.1 {action} succeeded");
        let mut expected =
            vec![succeeded("cancel"), "Headrace complete succeeded ".to_owned() + &state.job, succeeded("download"), succeeded("download")];
        expected.push(succeeded("kick-off"));
        expected.sort();
        assert_eq!(actions(&state.show(&["--job", &state.job])?), expected);
        expected.push("local 127.0.0.1 kick-off rejected".to_owned());
        expected.sort();
        assert_eq!(actions(&table), expected);
        assert_eq!(state.show(&["--client", "local"])?, table, "actions of the service on the client's exports are included");
        for filter in [["--client", "somebody"], ["--day", "2020-01-01"], ["--job", &"0".repeat(32)]] {
            assert_eq!(state.show(&filter)?, "no matching records\n");
        }
        for (detail, action) in [("Patient-1.ndjson size-bytes=", "download"), ("types=Observation,Patient", "kick-off")] {
            assert!(table.lines().any(|line| line.contains(detail) && line.contains(action)), "{detail}: {table}");
        }
        check_tampering(&state)
    })
}

/// Checks that `audit verify` detects every kind of change to the files.
fn check_tampering(state: &AuditedState) -> Result<()> {
    let paths = state.paths()?;
    let (first, last) = (paths.first().ok_or("no file")?, paths.last().ok_or("no file")?);
    let whole = std::fs::read_to_string(first)?;
    let check_broken = |change: &str, file: &Path, bytes: &str, knows_end: bool, words: &[&str]| -> Result<()> {
        let before = std::fs::read(file)?;
        std::fs::write(file, bytes)?;
        let (code, text) = state.verify(knows_end)?;
        assert_eq!(code, Some(EXIT_BROKEN), "{change}: {text}");
        let name = file.strip_prefix(state.audit_dir())?.to_str().unwrap_or_default();
        assert!(words.iter().all(|word| text.contains(&word.replace("FILE", name))), "{change}: {text}");
        Ok(std::fs::write(file, before)?)
    };
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let [one, two, others @ ..] = lines.as_slice() else { return Err("the first file has too few lines".into()) };
    let edited = whole.replacen("\"value\":\"local\"", "\"value\":\"other\"", 1);
    assert!(edited != whole && one.contains("local"));
    check_broken("an edit", first, &edited, false, &["broken: ", "FILE, line 2", "record 1 was changed"])?;
    check_broken("a removal", first, &[&[*one][..], others].concat().concat(), false, &["broken: FILE, line 2"])?;
    check_broken("an insertion", first, &[&[*one, *one, *two][..], others].concat().concat(), false, &["broken: FILE, line 2"])?;
    check_broken("another order", first, &[&[*two, *one][..], others].concat().concat(), false, &["broken: FILE, line 1"])?;
    check_broken(
        "half a line",
        last,
        std::fs::read_to_string(last)?.trim_end(),
        false,
        &["not an audit record of this service, or truncated"],
    )?;
    assert_eq!(state.verify(true)?.0, Some(0), "the files are restored");

    // Only the job table reveals that the last records were cut off.
    let original = std::fs::read_to_string(last)?;
    let (_, last_line) = original.trim_end().rsplit_once('\n').map_or(("", original.as_str()), |(rest, last_line)| (rest, last_line));
    match original.strip_suffix(&format!("{}\n", last_line.trim_end())).unwrap_or_default() {
        "" => std::fs::remove_file(last)?,
        rest => std::fs::write(last, rest)?,
    }
    let (code, text) = state.verify(false)?;
    assert!(code == Some(0) && text.contains("the end of the chain was not verified"), "{text}");
    let (code, text) = state.verify(true)?;
    assert!(code == Some(EXIT_BROKEN) && text.contains("the last records are missing"), "{text}");
    std::fs::write(last, original)?;
    assert_eq!(state.verify(true)?.0, Some(0));

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| -> Result<u32> { Ok(std::fs::metadata(path)?.permissions().mode() & 0o077) };
        let untouched = paths.iter().find(|path| *path != first && *path != last);
        for path in [Some(&state.audit_dir()), untouched].into_iter().flatten() {
            assert_eq!(mode(path)?, 0, "{path:?} is accessible to others than its owner");
        }
    }
    Ok(())
}

#[test]
fn records_that_are_not_sealed_yet_are_shown_after_the_sealed_ones_and_none_twice() -> Result<()> {
    run(async || {
        let folder = tempfile::tempdir()?;
        let state = folder.path().join("state");
        let added = headrace(&["schedules", "add", "x", "--every", "P1D", "--state"]).arg(&state).output()?;
        assert!(added.status.success());
        let show = |arguments: &[&str]| -> Result<String> {
            let output = headrace(&["audit", "show", "--state"]).arg(&state).args(arguments).output()?;
            assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(String::from_utf8(output.stdout)?)
        };
        let jobs = StateFolder::open_existing(&state).await?.jobs;
        let agent = Agent { actor: Actor::Caller(Caller("lab".to_owned())), origin: Origin::default() };
        let record =
            |id: &str, action| AuditRecord::new(id.to_owned(), SystemClock.now(), action, agent.clone(), AuditOutcome::Rejected(401));
        let token = record("one", AuditAction::Token);
        jobs.add_record(&token).await?;
        let numbers =
            |table: &str| table.lines().skip(1).filter_map(|row| row.split_whitespace().next().map(str::to_owned)).collect::<Vec<_>>();
        let table = show(&[])?;
        assert!(table.contains(" lab ") && table.contains("token") && table.contains("rejected 401"), "{table}");
        assert_eq!(numbers(&table), ["-"]);
        let event: Value = serde_json::from_str(&show(&["--json"])?)?;
        let text = |event: &Value, name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_eq!((text(&event, "resourceType"), text(&event, "id")), ("AuditEvent".to_owned(), "one".to_owned()));
        assert_eq!(event.get("extension"), None, "it has no place in the chain");

        let settings = SealSettings { min_age: Duration::ZERO, ..SealSettings::default() };
        seal(&jobs, &DirectoryAudit::open(state.join("audit")), &SystemClock, settings).await?;
        // A record can be in a file and still in the job table, because one is written before the other.
        jobs.add_record(&token).await?;
        jobs.add_record(&record("two", AuditAction::List)).await?;
        assert_eq!(numbers(&show(&[])?), ["1", "-"]);
        assert_eq!(numbers(&show(&["--action", "list"])?), ["-"]);
        assert_eq!(
            (show(&["--action", "download"])?.as_str(), show(&["--action", "download", "--json"])?.as_str()),
            ("no matching records\n", "")
        );
        let events = show(&["--json"])?;
        let ids = events.lines().map(|line| Ok(text(&serde_json::from_str(line)?, "id"))).collect::<Result<Vec<_>>>()?;
        assert_eq!(ids, ["one", "two"]);

        // Copied files are shown without their job table.
        let copy = folder.path().join("copy");
        std::fs::create_dir(&copy)?;
        std::fs::rename(state.join("audit"), copy.join("audit"))?;
        let output = headrace(&["audit", "show", "--state"]).arg(&copy).output()?;
        assert_eq!(numbers(&String::from_utf8(output.stdout)?), ["1"]);
        let output = headrace(&["audit", "show", "--action", "look"]).output()?;
        assert!(String::from_utf8(output.stderr)?.contains("the actions are token, kick-off"));
        Ok(())
    })
}

#[test]
fn the_audit_commands_fail_with_a_reason_if_there_is_nothing_to_check() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let absent = folder.path().join("absent");
    for (verb, files, arguments, words) in [
        ("verify", folder.path(), vec![], "there are no records to verify"),
        ("verify", &absent, vec![], "does not exist"),
        ("show", &absent, vec![], "does not exist"),
        ("verify", folder.path(), vec![Path::new("--state"), &absent], "there is no state in"),
        ("verify", folder.path(), vec![Path::new("--state"), Path::new("x"), Path::new("--table"), Path::new("y")], "cannot be used with"),
        ("show", folder.path(), vec![Path::new("--day"), Path::new("31.1.2026")], "2026-01-31"),
        ("show", folder.path(), vec![Path::new("--job"), Path::new("x")], "status URL"),
        ("verify", Path::new("s3://"), vec![], "s3://bucket/prefix"),
    ] {
        let (code, text) = audit(verb, files, &arguments)?;
        assert!(code.is_some_and(|code| code != 0 && code != EXIT_BROKEN) && text.contains(words), "{verb} {arguments:?}: {code:?} {text}");
    }
    assert!(!absent.exists(), "a wrong path creates no state");
    // A state folder whose first record is not sealed yet: records are there once the reaper has run.
    let state = folder.path().join("state");
    let added = headrace(&["schedules", "add", "x", "--every", "P1D", "--state"]).arg(&state).output()?;
    assert!(added.status.success());
    let of_state = |verb: &str| -> Result<(Option<i32>, String)> {
        let output = headrace(&["audit", verb, "--state"]).arg(&state).output()?;
        Ok((output.status.code(), String::from_utf8([output.stdout, output.stderr].concat())?))
    };
    let (code, text) = of_state("show")?;
    assert!(code == Some(0) && text.starts_with("no record has been written yet"), "{text}");
    assert_eq!(of_state("verify")?, (Some(0), "intact: no record has been sealed yet\n".to_owned()));
    let day = folder.path().join("2026-01-31");
    std::fs::create_dir(&day)?;
    std::fs::write(day.join("0000000001.ndjson"), "{}\n")?;
    let (code, text) = audit("show", folder.path(), &[])?;
    assert!(code == Some(1) && text.contains("2026-01-31/0000000001.ndjson, line 1"), "{text}");
    Ok(())
}
