//! Access of a registered client, from its key pair to its files, with the commands of the documentation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headrace_local::client::bulk::{BulkClient, ClientError};
use headrace_local::client::login::ClientCredential;
use headrace_local::client::login::LoginSettings;
use headrace_local::stores::client_key::read_client_key;
use headrace_tests::flows::{Result, run};
use headrace_tests::lake;
use reqwest::StatusCode;
use serde_json::Value;

use crate::clients_cli::{ClientsCli, text};
use crate::process::{Server, command_result, headrace};

/// Runs `headrace export` as a client and returns its output or its error text.
fn export(server: &Server, out: &Path, client: &str, key: &Path) -> Result<std::result::Result<String, String>> {
    let mut command = headrace(&["export", &server.base, "--client-id", client, "--client-key"]);
    Ok(command_result(command.arg(key).arg(out).output()?))
}

/// Counts the lines in a folder by type.
fn count_by_type(folder: &Path) -> Result<BTreeMap<String, u64>> {
    Ok(lake::count(folder)?.into_iter().map(|(kind, tally)| (kind, tally.lines)).collect())
}

/// Returns login settings of a client with this key file.
fn login(id: &str, key: &Path) -> Result<LoginSettings> {
    Ok(LoginSettings {
        client_id: id.to_owned(),
        credential: ClientCredential::Key(read_client_key(key, None)?),
        scope: None,
        token_url: None,
    })
}

/// Kicks off an export with an access token and returns the status of the response.
async fn status_with_token(server: &Server, token: &str) -> Result<StatusCode> {
    let request = reqwest::Client::new().get(format!("{}/$export", server.base)).header("prefer", "respond-async");
    Ok(request.header("accept", "application/fhir+json").bearer_auth(token).send().await?.status())
}

/// Kicks off an export and returns only whether that succeeded.
async fn try_kick_off(client: &BulkClient, server: &Server) -> std::result::Result<(), ClientError> {
    client.kick_off(&server.base, "$export", &[], false).await.map(drop)
}

/// Returns true if the client was rejected with 401, or got no token.
fn is_unauthorized(result: &std::result::Result<(), ClientError>) -> bool {
    matches!(result, Err(ClientError::Rejected { status: StatusCode::UNAUTHORIZED, .. } | ClientError::Login(_)))
}

// Holds: SEC-A3, SEC-A5, SEC-A11, SEC-A14
#[test]
fn a_client_with_a_new_key_pair_downloads_the_files_that_its_scopes_allow() -> Result<()> {
    let cli = ClientsCli::new()?;
    let out = |name: &str| cli.folder.path().join(name);
    let mut keys: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for alg in ["ES384", "RS384"] {
        let folder = cli.generate_key(alg, alg)?;
        let scopes = "system/Patient.rs system/Observation.rs?category=laboratory";
        cli.run(&["add", alg, "--scope", scopes, "--jwks", text(&folder.join("jwks.json"))?])??;
        keys.insert(alg, folder.join("private.jwk"));
    }
    let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &[])?;
    let is_laboratory = |line: &Value| line["category"][0]["coding"][0]["code"] == "laboratory";
    let all = count_by_type(&lake::sample_lake_dir())?;
    for (alg, key) in &keys {
        let out_folder = out(&format!("out-{alg}"));
        let output = export(&server, &out_folder, alg, key)??;
        assert!(output.contains("resources of 2 types"), "{output}");
        let counts = count_by_type(&out_folder)?;
        assert_eq!(counts.keys().collect::<Vec<_>>(), ["Observation", "Patient"]);
        assert_eq!(counts["Patient"], all["Patient"]);
        assert!(counts["Observation"] > 0 && counts["Observation"] < all["Observation"]);
        let observations = std::fs::read_to_string(out_folder.join("Observation-1.ndjson"))?;
        for line in observations.lines() {
            assert!(is_laboratory(&serde_json::from_str(line)?), "{line}");
        }
    }
    for (id, key, words) in [("ES384", &keys["RS384"], "invalid_client"), ("nobody", &keys["ES384"], "invalid_client")] {
        let error = export(&server, &out("refused"), id, key)?.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let error = command_result(headrace(&["export", &server.base]).arg(out("refused")).output()?).unwrap_err();
    assert!(error.contains("401"), "{error}");
    assert!(!out("refused").exists());
    Ok(())
}

// Holds: SEC-A4
#[test]
fn a_client_that_is_disabled_while_the_server_runs_is_rejected_at_its_next_request() -> Result<()> {
    run(async || {
        let cli = ClientsCli::new()?;
        let folder = cli.generate_key("key", "ES384")?;
        for id in ["lab", "study"] {
            cli.run(&["add", id, "--scope", "system/*.rs", "--jwks", text(&folder.join("jwks.json"))?])??;
        }
        let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &[])?;
        let key = folder.join("private.jwk");
        let lab = BulkClient::with_login(login("lab", &key)?, &server.base, None)?;
        let study = BulkClient::with_login(login("study", &key)?, &server.base, None)?;
        let status = lab.kick_off(&server.base, "$export", &[], false).await?;
        try_kick_off(&study, &server).await?;
        cli.run(&["disable", "lab"])??;
        // Its token is still valid for minutes.
        for result in [try_kick_off(&lab, &server).await, lab.wait_for_manifest(&status, |_| {}).await.map(drop), lab.delete(&status).await]
        {
            assert!(is_unauthorized(&result), "{result:?}");
        }
        try_kick_off(&study, &server).await?;
        cli.run(&["enable", "lab"])??;
        assert_eq!(lab.wait_for_manifest(&status, |_| {}).await?.output.len(), 15, "the export that it had started continued");
        cli.run(&["remove", "study"])??;
        let removed = try_kick_off(&study, &server).await;
        assert!(is_unauthorized(&removed), "{removed:?}");
        Ok(())
    })
}

// Holds: SEC-A13
#[test]
fn tokens_of_the_previous_signing_key_stay_valid_after_a_rotation() -> Result<()> {
    run(async || {
        let cli = ClientsCli::new()?;
        let (first, second) = (cli.generate_key("first", "ES384")?, cli.generate_key("second", "ES384")?);
        cli.run(&["add", "lab", "--scope", "system/*.rs", "--jwks", text(&first.join("jwks.json"))?])??;
        let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &[])?;
        let port = reqwest::Url::parse(&server.base)?.port().ok_or("no port")?.to_string();
        let private = first.join("private.jwk");
        let printed = headrace(&["token", &server.base, "--client-id", "lab", "--client-key", text(&private)?]).output()?;
        let token = String::from_utf8(printed.stdout)?.trim_end().to_owned();
        assert_eq!(status_with_token(&server, &token).await?, StatusCode::ACCEPTED);
        let keys = |subcommand: &[&str]| -> Result<String> {
            Ok(command_result(headrace(&[&["keys"], subcommand].concat()).arg("--state").arg(cli.state()).output()?)?)
        };
        assert_eq!(keys(&["list"])?.lines().count(), 1);
        keys(&["rotate", "--alg", "RS384"])?;
        let key_list = keys(&["list"])?;
        let [newest, older] = key_list.lines().collect::<Vec<_>>()[..] else { return Err(key_list.into()) };
        assert!(newest.contains("RS384") && newest.contains("signs"), "{key_list}");
        assert!(older.contains("ES384") && older.ends_with("older"), "{key_list}");
        server.kill()?;
        let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &["--port", &port])?;
        assert_eq!(
            status_with_token(&server, &token).await?,
            StatusCode::ACCEPTED,
            "the key of the server has changed, not that of the client"
        );
        cli.run(&["rotate", "lab", "--jwks", text(&second.join("jwks.json"))?])??;
        assert_eq!(status_with_token(&server, &token).await?, StatusCode::UNAUTHORIZED, "a replaced key of the client ends its tokens");
        let second_key_client = BulkClient::with_login(login("lab", &second.join("private.jwk"))?, &server.base, None)?;
        try_kick_off(&second_key_client, &server).await?;
        let replaced_key_client = BulkClient::with_login(login("lab", &private)?, &server.base, None)?;
        assert!(is_unauthorized(&try_kick_off(&replaced_key_client, &server).await), "a replaced key gets no token");
        Ok(())
    })
}

/// Checks that the server decides about access control when it starts: by `--access`, or else by whether clients are registered.
#[test]
fn a_server_is_open_until_a_client_is_registered_and_logs_which() -> Result<()> {
    run(async || {
        let cli = ClientsCli::new()?;
        let log = cli.folder.path().join("log");
        let http = reqwest::Client::new();
        let start_and_kick_off = async |arguments: &[&str]| -> Result<(u16, String)> {
            let server = Server::start_logging(&lake::sample_lake_dir(), &cli.state(), &[&["--log", "info"], arguments].concat(), &log)?;
            let kick_off =
                http.get(format!("{}/$export", server.base)).header("accept", "application/fhir+json").header("prefer", "respond-async");
            let status = kick_off.send().await?.status().as_u16();
            server.kill()?;
            Ok((status, std::fs::read_to_string(&log)?))
        };
        let (status, log) = start_and_kick_off(&[]).await?;
        assert!(status == 202 && log.contains("anyone who can reach this server can export"), "{status} {log}");
        let public = cli.generate_key("key", "ES384")?.join("jwks.json");
        cli.run(&["add", "lab", "--scope", "system/*.rs", "--jwks", text(&public)?])??;
        let (status, log) = start_and_kick_off(&[]).await?;
        assert!(status == 401 && log.contains("registered clients can export"), "{status} {log}");
        let (status, log) = start_and_kick_off(&["--access", "none"]).await?;
        assert!(status == 202 && log.contains("anyone who can reach this server can export"), "{status} {log}");
        Ok(())
    })
}
