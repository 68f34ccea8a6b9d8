//! `headrace clients`, also while other processes use the same state folder.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headrace_core::access::Client;
use headrace_core::ports::AccessStore as _;
use headrace_core::vocab::ids::Caller;
use headrace_local::client::bulk::{BulkClient, ClientError};
use headrace_local::server::state::StateFolder;
use headrace_tests::flows::{Result, run};
use headrace_tests::lake;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Server, command_result, headrace};

/// Poll interval of the client.
const POLL_INTERVAL: Option<std::time::Duration> = Some(std::time::Duration::from_millis(5));

/// `headrace clients` with a temporary state folder.
pub(crate) struct ClientsCli {
    pub(crate) folder: TempDir,
}

impl ClientsCli {
    /// Creates a temporary folder. The state folder in it does not exist yet.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    /// Returns the path of the state folder.
    pub(crate) fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    /// Runs a subcommand. Returns its output, or its error text if it fails.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<std::result::Result<String, String>> {
        let (subcommand, rest) = arguments.split_first().ok_or("no subcommand")?;
        let mut command = headrace(&["clients", subcommand]);
        if *subcommand != "keygen" {
            command.arg("--state").arg(self.state());
        }
        Ok(command_result(command.args(rest).output()?))
    }

    /// Generates a key pair and returns the folder with its two files.
    pub(crate) fn generate_key(&self, name: &str, alg: &str) -> Result<std::path::PathBuf> {
        let out = self.folder.path().join(name);
        self.run(&["keygen", "--alg", alg, "--out", text(&out)?])??;
        Ok(out)
    }

    /// Returns the registered clients.
    fn list(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.run(&["list", "--json"])??)?)
    }

    /// Returns the registration of a client.
    fn show(&self, id: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&["show", id, "--json"])??)?)
    }
}

/// Returns the path as text.
pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| "the path is not UTF-8".into())
}

// Holds: SEC-A4
#[test]
fn a_client_is_added_shown_disabled_rotated_and_removed() -> Result<()> {
    let cli = ClientsCli::new()?;
    let (first, second) = (cli.generate_key("first", "ES384")?.join("jwks.json"), cli.generate_key("second", "RS384")?.join("jwks.json"));
    let scopes = "system/Patient.rs system/Observation.rs?category=laboratory";
    let add =
        ["add", "lab", "--scope", scopes, "--jwks", text(&first)?, "--name", "The laboratory", "--group", "g-1", "--max-exports", "2"];
    let added = cli.run(&[&add[..], &["--base-url", "https://fhir.example.org/r4"]].concat())??;
    for words in ["lab", "https://fhir.example.org/r4/token", "system/Patient.rs", "headrace clients rotate"] {
        assert!(added.contains(words), "{words}: {added}");
    }
    assert!(!added.contains("[base]"), "{added}");
    let repeated = cli.run(&add)?.unwrap_err();
    assert!(repeated.contains("`lab` is already registered"), "{repeated}");
    let random = cli.run(&["add", "--scope", "system/*.read", "--jwks-url", "https://study.example/jwks.json"])??;
    assert!(random.contains("replace [base] by the URL of the server"), "{random}");
    let table = cli.run(&["list"])??;
    assert!(table.contains("system/Observation.rs?category=laboratory system/Patient.rs  only g-1  "), "{table}");
    assert!(table.contains("system/*.r") && table.contains("  any  "), "{table}");
    let clients = cli.list()?;
    assert_eq!(clients.len(), 2);
    let generated_id = clients.iter().filter_map(|client| client["id"].as_str()).find(|id| *id != "lab").ok_or("no generated client id")?;
    assert!(generated_id.len() == 32 && random.contains(generated_id), "{random}");

    let lab = cli.show("lab")?;
    assert_eq!(lab["keys"]["jwks"].as_str().ok_or("no keys")?, std::fs::read_to_string(&first)?);
    assert_eq!((&lab["groups"], &lab["max_exports"], &lab["name"]), (&serde_json::json!(["g-1"]), &2.into(), &"The laboratory".into()));
    let details = cli.run(&["show", "lab"])??;
    assert!(details.contains("system/Observation.rs?category=laboratory") && details.contains("only g-1"), "{details}");

    cli.run(&["disable", "lab"])??;
    assert_eq!(cli.show("lab")?["is_disabled"], true);
    assert!(cli.run(&["list"])??.contains("disabled"));
    cli.run(&["enable", "lab"])??;
    assert_eq!(cli.show("lab")?["is_disabled"], false);
    cli.run(&["rotate", "lab", "--jwks", text(&second)?])??;
    let rotated = cli.show("lab")?;
    assert_eq!(rotated["keys"]["jwks"].as_str().ok_or("no keys")?, std::fs::read_to_string(&second)?);
    assert!(rotated["changed_at"].as_u64() > lab["changed_at"].as_u64());
    assert_eq!((&rotated["created_at"], &rotated["scopes"]), (&lab["created_at"], &lab["scopes"]));
    assert_eq!((&rotated["key_changes"], &rotated["registration_id"]), (&1.into(), &lab["registration_id"]));
    cli.run(&["remove", "lab"])??;
    assert!(cli.run(&["show", "lab"])?.unwrap_err().contains("no client `lab` is registered"));
    assert_eq!(cli.list()?.len(), 1);
    cli.run(&add)??;
    let again = cli.show("lab")?["registration_id"].clone();
    assert!(
        again.as_str().is_some_and(|id| id.len() == 32) && again != lab["registration_id"],
        "a client with the same name is another one"
    );
    Ok(())
}

#[test]
fn the_configurations_of_a_client_are_fixed_shown_and_removed() -> Result<()> {
    let cli = ClientsCli::new()?;
    let keys = ["--jwks-url", "https://lab.example/jwks.json"];
    let add = [&["add", "lab", "--scope", "system/*.rs", "--anonymization-config", "study.json"][..], &keys].concat();
    let added = cli.run(&[&add[..], &["--anonymization-config", "b/other.json=x1"]].concat())??;
    assert!(added.contains("only with b/other.json=\"x1\", study.json") && added.contains("_anonymizationConfig"), "{added}");
    assert_eq!(cli.show("lab")?["anonymization_configs"], serde_json::json!({ "b/other.json": "\"x1\"", "study.json": null }));
    for arguments in [&["list"][..], &["show", "lab"]] {
        let shown = cli.run(arguments)??;
        assert!(shown.contains("only with b/other.json=\"x1\", study.json"), "{shown}");
    }
    let changed = cli.run(&["change", "lab", "--anonymization-config", "new.json"])??;
    assert!(changed.contains("only with new.json") && changed.contains("there is no `new.json` in"), "{changed}");
    let folder = cli.state().join("files/anonymization");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("new.json"), "{}")?;
    let found = cli.run(&["change", "lab", "--anonymization-config", "new.json"])??;
    assert!(found.contains("only with new.json") && !found.contains("attention"), "{found}");
    assert_eq!(cli.list()?[0]["anonymization_configs"], serde_json::json!({ "new.json": null }));
    let freed = cli.run(&["change", "lab", "--any-data"])??;
    assert!(freed.contains("any data"), "{freed}");
    assert_eq!(cli.show("lab")?["anonymization_configs"], Value::Null);
    for (arguments, words) in [
        (&["change", "lab"][..], "--any-data"),
        (&["change", "lab", "--any-data", "--anonymization-config", "a.json"], "cannot be used with"),
        (&["change", "lab", "--anonymization-config", "study.json.keys"], "NAME=ETAG"),
        (&["change", "lab", "--anonymization-config", "study.json="], "NAME=ETAG"),
        (&["change", "unknown", "--any-data"], "no client `unknown` is registered"),
    ] {
        let error = cli.run(arguments)?.unwrap_err();
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    Ok(())
}

#[test]
fn an_invalid_registration_is_rejected_with_a_reason_and_writes_nothing() -> Result<()> {
    let cli = ClientsCli::new()?;
    let key = cli.generate_key("key", "ES384")?;
    let (private, public) = (key.join("private.jwk"), key.join("jwks.json"));
    let public = text(&public)?;
    let add = |arguments: &[&str]| cli.run(&[&["add"], arguments].concat());
    for (arguments, words) in [
        (&["lab", "--scope", "system/*.rs", "--jwks", text(&private)?][..], "private key"),
        (&["lab", "--scope", "system/*.rs", "--jwks", "/nowhere/jwks.json"], "cannot be read"),
        (&["lab", "--scope", "system/*.rs", "--jwks-url", "http://study.example/"], "https://"),
        (&["lab", "--scope", "user/*.rs", "--jwks", public], "`user/*.rs`"),
        (&["lab", "--scope", "system/Patinet.rs", "--jwks", public], "`system/Patinet.rs`"),
        (&["lab", "--scope", "", "--jwks", public], "--scope is empty"),
        (&["--scope", "system/*.rs", "--external-identity"], "ARN"),
        (&["bob", "--scope", "system/*.rs", "--external-identity"], "issuer#subject"),
        (&["arn:aws:iam::111122223333:role/Lab", "--scope", "system/*.rs", "--external-identity"], "assumed-role/ROLE"),
        (&["*", "--scope", "system/*.rs", "--jwks", public], "use --external-identity"),
        (&["lab", "--scope", "system/*.rs", "--jwks", public, "--destination", "not/from/the/root"], "--destination"),
        (&["lab", "--scope", "system/*.rs"], "--jwks"),
        (&["lab", "--scope", "system/*.rs", "--jwks", public, "--external-identity"], "cannot be used with"),
        (&["local", "--scope", "system/*.rs", "--jwks", public], "`local`"),
        (&["a client", "--scope", "system/*.rs", "--jwks", public], "without spaces"),
        (&["lab", "--scope", "system/*.rs", "--jwks", public, "--container", "UPPER"], "container"),
        (&["lab", "--scope", "system/*.rs", "--jwks", public, "--group", "../x"], "an id has"),
        (&["lab", "--scope", "system/*.rs", "--jwks", public, "--name", "two\nlines"], "one line"),
        (&["lab", "--scope", "system/*.rs", "--jwks", public, "--max-exports", "0"], "--max-exports"),
    ] {
        let error = add(arguments)?.unwrap_err();
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    for command in [&["list"][..], &["show", "lab"], &["disable", "lab"], &["rotate", "lab", "--jwks", public], &["remove", "lab"]] {
        let error = cli.run(command)?.unwrap_err();
        assert!(error.contains("there is no state in"), "{command:?}: {error}");
    }
    assert!(!cli.state().exists(), "a wrong path creates no state");
    Ok(())
}

/// Uses the most permissive umask: the file modes must not depend on it.
#[cfg(unix)]
#[test]
fn a_new_key_pair_has_restrictive_file_modes_and_overwrites_nothing() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let cli = ClientsCli::new()?;
    let key = cli.folder.path().join("key");
    let keygen = headrace(&["clients", "keygen", "--out", text(&key)?]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(keygen.get_program()).args(keygen.get_args());
    command_result(shell.output()?)?;
    let private = key.join("private.jwk");
    for (file, mode) in [(&private, 0o600), (&key.join("jwks.json"), 0o644)] {
        assert_eq!(std::fs::metadata(file)?.permissions().mode() & 0o777, mode, "{}", file.display());
    }
    let before = std::fs::read_to_string(&private)?;
    let repeated = cli.run(&["keygen", "--out", text(&key)?])?.unwrap_err();
    assert!(repeated.contains("never replaced"), "{repeated}");
    assert_eq!(std::fs::read_to_string(&private)?, before);
    Ok(())
}

/// Client that several processes register and change concurrently. One registration succeeds, and no change is lost.
const CONTENDED_CLIENT: &str = "contended";

/// Registers and changes clients with one process after another. Returns how many of its registrations of the contended client
/// succeeded.
fn manage_clients(cli: &ClientsCli, public: &str, prefix: &str) -> Result<usize> {
    let mut registrations = 0;
    for number in 0..6 {
        let id = format!("{prefix}-{number}");
        cli.run(&["add", &id, "--scope", "system/*.rs", "--jwks", public])??;
        cli.run(&["disable", &id])??;
        cli.run(&["enable", &id])??;
        match cli.run(&["add", CONTENDED_CLIENT, "--scope", "system/*.rs", "--jwks", public])? {
            Ok(_) => registrations += 1,
            Err(error) => assert!(error.contains("already registered"), "{error}"),
        }
        let subcommand = if number % 2 == 0 { "disable" } else { "enable" };
        if let Err(error) = cli.run(&[subcommand, CONTENDED_CLIENT])? {
            assert!(error.contains("was changed by another command"), "{error}");
        }
    }
    Ok(registrations)
}

/// Checks that the table's engine serializes processes. Otherwise, a kick-off, a worker's update or a registration would fail with
/// "busy", or would overwrite the change of another process.
#[test]
fn clients_can_be_managed_while_a_server_uses_the_same_state() -> Result<()> {
    run(async || {
        let cli = Arc::new(ClientsCli::new()?);
        let public = cli.generate_key("key", "ES384")?.join("jwks.json");
        let log = cli.folder.path().join("log");
        let server = Server::start_logging(&lake::sample_lake_dir(), &cli.state(), &["--access", "none"], &log)?;
        let managed = ["a", "b", "c"].map(|prefix| {
            let (cli, public) = (cli.clone(), public.clone());
            tokio::task::spawn_blocking(move || manage_clients(&cli, text(&public)?, prefix))
        });
        let is_over = Arc::new(AtomicBool::new(false));
        let exporters = [1, 2].map(|_| tokio::spawn(export_until(server.base.clone(), is_over.clone())));
        let mut registrations = 0;
        for managed in managed {
            registrations += managed.await??;
        }
        is_over.store(true, Ordering::Relaxed);
        for exporter in exporters {
            assert!(exporter.await?? > 0, "the server exported meanwhile");
        }
        assert_eq!(registrations, 1, "exactly one registration of the contended client succeeded");
        // The server logged no retries.
        assert_eq!(std::fs::read_to_string(&log)?, "");
        // All changes survive a kill of the server.
        let client = BulkClient::without_credential(POLL_INTERVAL)?;
        let status = client.kick_off(&server.base, "$export", &[], false).await?;
        client.wait_for_manifest(&status, |_| {}).await?;
        server.kill()?;
        let mut expected: Vec<String> =
            ["a", "b", "c"].iter().flat_map(|prefix| (0..6).map(move |number| format!("{prefix}-{number}"))).collect();
        expected.push(CONTENDED_CLIENT.to_owned());
        let clients = cli.list()?;
        assert_eq!(clients.iter().filter_map(|client| client["id"].as_str()).collect::<Vec<_>>(), expected);
        assert!(clients.iter().all(|client| client["is_disabled"] == false || client["id"] == CONTENDED_CLIENT));
        let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &["--access", "none"])?;
        assert_eq!(client.wait_for_manifest(&server.rebase(&status)?, |_| {}).await?.output.len(), 15);
        Ok(())
    })
}

/// Exports everything again and again until `is_over` is set. Returns the number of exports, at least one.
async fn export_until(base: String, is_over: Arc<AtomicBool>) -> std::result::Result<usize, ClientError> {
    let client = BulkClient::without_credential(POLL_INTERVAL)?;
    let mut completed = 0;
    while completed == 0 || !is_over.load(Ordering::Relaxed) {
        let status = client.kick_off(&base, "$export", &[], false).await?;
        let manifest = client.wait_for_manifest(&status, |_| {}).await?;
        assert_eq!(manifest.output.len(), 15);
        client.delete(&status).await?;
        completed += 1;
    }
    Ok(completed)
}

/// Checks a trap of POSIX locks: a process that closes any handle of the table's file loses all its locks on it. Another process
/// would then believe that it is alone, and delete the write-ahead log that the first still uses.
#[test]
fn a_state_folder_opened_twice_in_one_process_keeps_its_locks_against_other_processes() -> Result<()> {
    run(async || {
        let cli = ClientsCli::new()?;
        let public = cli.generate_key("key", "ES384")?.join("jwks.json");
        let state = StateFolder::open(&cli.state()).await?;
        drop(StateFolder::open(&cli.state()).await?);
        cli.run(&["add", "one", "--scope", "system/*.rs", "--jwks", text(&public)?])??;
        let first_client =
            state.jobs.client(&Caller("one".to_owned())).await?.ok_or("a client that another process registered is not visible")?;
        assert!(state.jobs.put_client(&Client { id: Caller("two".to_owned()), ..first_client }, None).await?);
        assert_eq!(cli.list()?.len(), 2);
        Ok(())
    })
}
