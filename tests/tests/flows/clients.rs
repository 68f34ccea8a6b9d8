//! Clients at the command line: two processes, one state.

use std::path::Path;

use headrace_local::client::BulkClient;
use headrace_tests::flows::{Result, run};
use headrace_tests::lake;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Server, headrace, said};

const IMPATIENCE: Option<std::time::Duration> = Some(std::time::Duration::from_millis(5));

/// `headrace clients`, over one state.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    fn run(&self, arguments: &[&str]) -> Result<std::result::Result<String, String>> {
        let (verb, rest) = arguments.split_first().ok_or("no verb")?;
        let mut command = headrace(&["clients", verb]);
        if *verb != "keygen" {
            command.arg("--state").arg(self.state());
        }
        Ok(said(command.args(rest).output()?))
    }

    /// A new key pair: the folder with both files.
    fn key(&self, name: &str, alg: &str) -> Result<std::path::PathBuf> {
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

fn text(path: &Path) -> Result<&str> {
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

#[cfg(unix)]
#[test]
fn a_new_private_key_is_its_owners_alone_and_replaces_none() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new()?;
    let key = desk.key("key", "ES384")?;
    let private = key.join("private.jwk");
    assert_eq!(std::fs::metadata(&private)?.permissions().mode() & 0o777, 0o600);
    let before = std::fs::read_to_string(&private)?;
    let again = desk.run(&["keygen", "--out", text(&key)?])?.unwrap_err();
    assert!(again.contains("never replaced"), "{again}");
    assert_eq!(std::fs::read_to_string(&private)?, before);
    Ok(())
}

/// The engine takes turns between processes. Were it not so, one of them would be told that the table is busy, and a
/// kick-off, a record of a worker or a registration would fail.
#[test]
fn clients_are_managed_while_a_server_works_in_the_same_state() -> Result<()> {
    run(async || {
        const CLIENTS: usize = 12;
        let desk = Desk::new()?;
        let public = desk.key("key", "ES384")?.join("jwks.json");
        let server = Server::start(&lake::sample_dir(), &desk.state(), &[])?;
        let base = server.base.clone();
        let exports = tokio::spawn(async move {
            let client = BulkClient::new(None, IMPATIENCE)?;
            let mut finished = 0;
            loop {
                let status = client.kick_off(&base, "$export", &[], false).await?;
                let manifest = client.wait(&status, |_| {}).await?;
                assert_eq!(manifest.output.len(), 15);
                client.delete(&status).await?;
                finished += 1;
                if finished >= 12 {
                    return Ok::<_, headrace_local::client::ClientError>(finished);
                }
            }
        });
        let managed = tokio::task::spawn_blocking(move || -> std::result::Result<(Desk, Vec<String>), String> {
            let run = |arguments: &[&str]| desk.run(arguments).map_err(|error| error.to_string())?;
            let public = text(&public).map_err(|error| error.to_string())?;
            let mut slowest = std::time::Duration::ZERO;
            for number in 0..CLIENTS {
                let (id, began) = (format!("c-{number:02}"), std::time::Instant::now());
                run(&["add", &id, "--scope", "system/*.rs", "--jwks", public])?;
                run(&["disable", &id])?;
                run(&["enable", &id])?;
                slowest = slowest.max(began.elapsed());
            }
            println!("three commands took {slowest:?} at most");
            let listed = desk.listed().map_err(|error| error.to_string())?;
            let names = listed.iter().filter_map(|client| client["id"].as_str()).map(str::to_owned).collect();
            Ok((desk, names))
        });
        // The server works in the desk's state: that goes last.
        let (_desk, listed) = managed.await??;
        assert_eq!(listed, (0..CLIENTS).map(|number| format!("c-{number:02}")).collect::<Vec<_>>());
        assert_eq!(exports.await??, 12);
        Ok(())
    })
}
