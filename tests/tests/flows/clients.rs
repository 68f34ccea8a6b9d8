//! Clients at the command line: two processes, one state.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headrace_core::access::Client;
use headrace_core::ports::AccessStore as _;
use headrace_core::vocab::ids::Caller;
use headrace_local::client::bulk::{BulkClient, ClientError};
use headrace_local::server::state::State;
use headrace_tests::flows::{Result, run};
use headrace_tests::lake;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Server, headrace, said};

const IMPATIENCE: Option<std::time::Duration> = Some(std::time::Duration::from_millis(5));

/// `headrace clients`, over one state.
pub(crate) struct Desk {
    pub(crate) folder: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    pub(crate) fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Result<std::result::Result<String, String>> {
        let (verb, rest) = arguments.split_first().ok_or("no verb")?;
        let mut command = headrace(&["clients", verb]);
        if *verb != "keygen" {
            command.arg("--state").arg(self.state());
        }
        Ok(said(command.args(rest).output()?))
    }

    /// A new key pair: the folder with both files.
    pub(crate) fn key(&self, name: &str, alg: &str) -> Result<std::path::PathBuf> {
        let out = self.folder.path().join(name);
        self.run(&["keygen", "--alg", alg, "--out", text(&out)?])??;
        Ok(out)
    }

    fn listed(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.run(&["list", "--json"])??)?)
    }

    fn shown(&self, id: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&["show", id, "--json"])??)?)
    }
}

pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| "not UTF-8".into())
}

// Holds: SEC-A4
#[test]
fn a_client_is_registered_shown_shut_out_and_forgotten() -> Result<()> {
    let desk = Desk::new()?;
    let (first, second) = (desk.key("first", "ES384")?.join("jwks.json"), desk.key("second", "RS384")?.join("jwks.json"));
    let scopes = "system/Patient.rs system/Observation.rs?category=laboratory";
    let add = ["add", "lab", "--scope", scopes, "--jwks", text(&first)?, "--name", "The laboratory", "--group", "g-1", "--jobs", "2"];
    let told = desk.run(&[&add[..], &["--base-url", "https://fhir.example.org/r4"]].concat())??;
    for words in ["lab", "https://fhir.example.org/r4/token", "system/Patient.rs", "headrace clients rotate"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let again = desk.run(&add)?.unwrap_err();
    assert!(again.contains("`lab` is registered already"), "{again}");
    let random = desk.run(&["add", "--scope", "system/*.read", "--jwks-url", "https://study.example/jwks.json"])??;
    let listed = desk.listed()?;
    assert_eq!(listed.len(), 2);
    let other = listed.iter().filter_map(|client| client["id"].as_str()).find(|id| *id != "lab").ok_or("no random name")?;
    assert!(other.len() == 32 && random.contains(other), "{random}");

    let lab = desk.shown("lab")?;
    assert_eq!(lab["keys"]["jwks"].as_str().ok_or("no keys")?, std::fs::read_to_string(&first)?);
    assert_eq!((&lab["groups"], &lab["jobs"], &lab["name"]), (&serde_json::json!(["g-1"]), &2.into(), &"The laboratory".into()));
    let sheet = desk.run(&["show", "lab"])??;
    assert!(sheet.contains("system/Observation.rs?category=laboratory") && sheet.contains("g-1 and nothing else"), "{sheet}");

    desk.run(&["disable", "lab"])??;
    assert_eq!(desk.shown("lab")?["is_disabled"], true);
    assert!(desk.run(&["list"])??.contains("shut out"));
    desk.run(&["enable", "lab"])??;
    assert_eq!(desk.shown("lab")?["is_disabled"], false);
    desk.run(&["rotate", "lab", "--jwks", text(&second)?])??;
    let rotated = desk.shown("lab")?;
    assert_eq!(rotated["keys"]["jwks"].as_str().ok_or("no keys")?, std::fs::read_to_string(&second)?);
    assert!(rotated["changed_at"].as_u64() > lab["changed_at"].as_u64());
    assert_eq!((&rotated["created_at"], &rotated["scopes"]), (&lab["created_at"], &lab["scopes"]));
    desk.run(&["remove", "lab"])??;
    assert!(desk.run(&["show", "lab"])?.unwrap_err().contains("no client is named `lab`"));
    assert_eq!(desk.listed()?.len(), 1);
    Ok(())
}

#[test]
fn what_cannot_be_registered_is_said_and_nothing_is_written() -> Result<()> {
    let desk = Desk::new()?;
    let key = desk.key("key", "ES384")?;
    let (private, public) = (key.join("private.jwk"), key.join("jwks.json"));
    let public = text(&public)?;
    let add = |arguments: &[&str]| desk.run(&[&["add"], arguments].concat());
    for (arguments, words) in [
        (&["lab", "--scope", "system/*.rs", "--jwks", text(&private)?][..], "private key"),
        (&["lab", "--scope", "system/*.rs", "--jwks", "/nowhere/jwks.json"], "cannot be read"),
        (&["lab", "--scope", "system/*.rs", "--jwks-url", "http://study.example/"], "https://"),
        (&["lab", "--scope", "user/*.rs", "--jwks", public], "`user/*.rs`"),
        (&["lab", "--scope", "system/Patinet.rs", "--jwks", public], "`system/Patinet.rs`"),
        (&["lab", "--scope", "", "--jwks", public], "names nothing"),
        (&["--scope", "system/*.rs", "--known-elsewhere"], "ARN"),
        (&["lab", "--scope", "system/*.rs", "--jwks", public, "--destination", "not/from/the/root"], "--destination"),
        (&["lab", "--scope", "system/*.rs"], "--jwks"),
        (&["lab", "--scope", "system/*.rs", "--jwks", public, "--known-elsewhere"], "cannot be used with"),
        (&["local", "--scope", "system/*.rs", "--jwks", public], "`local`"),
        (&["a client", "--scope", "system/*.rs", "--jwks", public], "without blanks"),
        (&["lab", "--scope", "system/*.rs", "--jwks", public, "--container", "UPPER"], "container"),
        (&["lab", "--scope", "system/*.rs", "--jwks", public, "--group", "../x"], "an id is"),
        (&["lab", "--scope", "system/*.rs", "--jwks", public, "--name", "two\nlines"], "one line"),
        (&["lab", "--scope", "system/*.rs", "--jwks", public, "--jobs", "0"], "--jobs"),
    ] {
        let complaint = add(arguments)?.unwrap_err();
        assert!(complaint.contains(words), "{arguments:?}: {complaint}");
    }
    for verb in [&["list"][..], &["show", "lab"], &["disable", "lab"], &["rotate", "lab", "--jwks", public], &["remove", "lab"]] {
        let complaint = desk.run(verb)?.unwrap_err();
        assert!(complaint.contains("there is no state in"), "{verb:?}: {complaint}");
    }
    assert!(!desk.state().exists(), "a mistaken name makes no state");
    Ok(())
}

/// Whatever the umask: here one that forbids nobody anything.
#[cfg(unix)]
#[test]
fn a_new_key_pair_is_nobody_elses_to_change_nor_its_private_half_to_read_and_replaces_none() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new()?;
    let key = desk.folder.path().join("key");
    let keygen = headrace(&["clients", "keygen", "--out", text(&key)?]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(keygen.get_program()).args(keygen.get_args());
    said(shell.output()?)?;
    let private = key.join("private.jwk");
    for (file, mode) in [(&private, 0o600), (&key.join("jwks.json"), 0o644)] {
        assert_eq!(std::fs::metadata(file)?.permissions().mode() & 0o777, mode, "{}", file.display());
    }
    let before = std::fs::read_to_string(&private)?;
    let again = desk.run(&["keygen", "--out", text(&key)?])?.unwrap_err();
    assert!(again.contains("never replaced"), "{again}");
    assert_eq!(std::fs::read_to_string(&private)?, before);
    Ok(())
}

/// What several processes do to one client at the same moment: one of them registers it, and no change is lost.
const FOUGHT_OVER: &str = "fought-over";

/// Registers and changes clients, one process after another; how often it was the first to register the one that all want.
fn manage(desk: &Desk, public: &str, prefix: &str) -> Result<usize> {
    let mut first = 0;
    for number in 0..6 {
        let id = format!("{prefix}-{number}");
        desk.run(&["add", &id, "--scope", "system/*.rs", "--jwks", public])??;
        desk.run(&["disable", &id])??;
        desk.run(&["enable", &id])??;
        match desk.run(&["add", FOUGHT_OVER, "--scope", "system/*.rs", "--jwks", public])? {
            Ok(_) => first += 1,
            Err(complaint) => assert!(complaint.contains("registered already"), "{complaint}"),
        }
        let verb = if number % 2 == 0 { "disable" } else { "enable" };
        if let Err(complaint) = desk.run(&[verb, FOUGHT_OVER])? {
            assert!(complaint.contains("somebody else changed"), "{complaint}");
        }
    }
    Ok(first)
}

/// The engine takes turns between processes. Were it not so, a process would be told that the table is busy, and a kick-off,
/// a record of a worker or a registration would fail; or one would write over what another has just written.
#[test]
fn clients_are_managed_while_a_server_works_in_the_same_state() -> Result<()> {
    run(async || {
        let desk = Arc::new(Desk::new()?);
        let public = desk.key("key", "ES384")?.join("jwks.json");
        let log = desk.folder.path().join("log");
        let server = Server::start_logging(&lake::sample_dir(), &desk.state(), &[], &log)?;
        let managed = ["a", "b", "c"].map(|prefix| {
            let (desk, public) = (desk.clone(), public.clone());
            tokio::task::spawn_blocking(move || manage(&desk, text(&public)?, prefix))
        });
        let is_over = Arc::new(AtomicBool::new(false));
        let exports = [1, 2].map(|_| tokio::spawn(export_until(server.base.clone(), is_over.clone())));
        let mut first = 0;
        for managed in managed {
            first += managed.await??;
        }
        is_over.store(true, Ordering::Relaxed);
        for exports in exports {
            println!("{} exports meanwhile", exports.await??);
        }
        assert_eq!(first, 1, "one process registered what all of them wanted");
        // Nothing had to be tried twice.
        assert_eq!(std::fs::read_to_string(&log)?, "");
        // What was written by turns is there after a sudden end, too.
        let client = BulkClient::new(None, IMPATIENCE)?;
        let status = client.kick_off(&server.base, "$export", &[], false).await?;
        client.wait(&status, |_| {}).await?;
        server.kill()?;
        let mut expected: Vec<String> =
            ["a", "b", "c"].iter().flat_map(|one| (0..6).map(move |number| format!("{one}-{number}"))).collect();
        expected.push(FOUGHT_OVER.to_owned());
        let listed = desk.listed()?;
        assert_eq!(listed.iter().filter_map(|client| client["id"].as_str()).collect::<Vec<_>>(), expected);
        assert!(listed.iter().all(|client| client["is_disabled"] == false || client["id"] == FOUGHT_OVER));
        let server = Server::start(&lake::sample_dir(), &desk.state(), &["--access", "none"])?;
        assert_eq!(client.wait(&server.at(&status)?, |_| {}).await?.output.len(), 15);
        Ok(())
    })
}

/// Exports everything again and again; how often.
async fn export_until(base: String, is_over: Arc<AtomicBool>) -> std::result::Result<usize, ClientError> {
    let client = BulkClient::new(None, IMPATIENCE)?;
    let mut finished = 0;
    while finished == 0 || !is_over.load(Ordering::Relaxed) {
        let status = client.kick_off(&base, "$export", &[], false).await?;
        let manifest = client.wait(&status, |_| {}).await?;
        assert_eq!(manifest.output.len(), 15);
        client.delete(&status).await?;
        finished += 1;
    }
    Ok(finished)
}

/// A process that closes any handle on the table's file loses the locks that its engine holds on it (POSIX). Another
/// process would then take itself for the last one, and take the log of writes away under the first.
#[test]
fn a_state_that_is_opened_twice_in_a_process_is_still_held_against_others() -> Result<()> {
    run(async || {
        let desk = Desk::new()?;
        let public = desk.key("key", "ES384")?.join("jwks.json");
        let held = State::open(&desk.state()).await?;
        drop(State::open(&desk.state()).await?);
        desk.run(&["add", "one", "--scope", "system/*.rs", "--jwks", text(&public)?])??;
        let one = held.jobs.client(&Caller("one".to_owned())).await?.ok_or("what another process wrote is not seen")?;
        assert!(held.jobs.put_client(&Client { id: Caller("two".to_owned()), ..one }, None).await?);
        assert_eq!(desk.listed()?.len(), 2);
        Ok(())
    })
}
