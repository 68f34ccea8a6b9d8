//! A client is given access: the way from a key pair to its files, with the very commands that the README names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headrace_local::client::bulk::{BulkClient, ClientError};
use headrace_local::client::client_key::ClientKey;
use headrace_local::client::login::Login;
use headrace_tests::flows::{Result, run};
use headrace_tests::lake;
use reqwest::StatusCode;
use serde_json::Value;

use crate::clients::{Desk, text};
use crate::process::{Server, headrace, said};

/// `headrace export` as a client; what it said.
fn export(server: &Server, out: &Path, client: &str, key: &Path) -> Result<std::result::Result<String, String>> {
    let mut command = headrace(&["export", &server.base, "--client-id", client, "--client-key"]);
    Ok(said(command.arg(key).arg(out).output()?))
}

/// What a folder holds, by type.
fn counted(folder: &Path) -> Result<BTreeMap<String, u64>> {
    Ok(lake::count(folder)?.into_iter().map(|(kind, tally)| (kind, tally.lines)).collect())
}

fn login(id: &str, key: &Path) -> Result<Login> {
    Ok(Login { client_id: id.to_owned(), key: ClientKey::read(key, None)?, scope: None, token_url: None })
}

async fn knock(client: &BulkClient, server: &Server) -> std::result::Result<(), ClientError> {
    client.kick_off(&server.base, "$export", &[], false).await.map(drop)
}

fn is_shut_out(answer: &std::result::Result<(), ClientError>) -> bool {
    matches!(answer, Err(ClientError::Refused { status: StatusCode::UNAUTHORIZED, .. } | ClientError::Login(_)))
}

// Holds: SEC-A3, SEC-A5, SEC-A11, SEC-A14
#[test]
fn from_a_key_pair_to_the_files_that_its_scopes_allow() -> Result<()> {
    let desk = Desk::new()?;
    let out = |name: &str| desk.folder.path().join(name);
    let mut keys: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for alg in ["ES384", "RS384"] {
        let folder = desk.key(alg, alg)?;
        let scopes = "system/Patient.rs system/Observation.rs?category=laboratory";
        desk.run(&["add", alg, "--scope", scopes, "--jwks", text(&folder.join("jwks.json"))?])??;
        keys.insert(alg, folder.join("private.jwk"));
    }
    let server = Server::start(&lake::sample_dir(), &desk.state(), &[])?;
    let is_laboratory = |line: &Value| line["category"][0]["coding"][0]["code"] == "laboratory";
    let all = counted(&lake::sample_dir())?;
    for (alg, key) in &keys {
        let exported = out(&format!("out-{alg}"));
        let told = export(&server, &exported, alg, key)??;
        assert!(told.contains("resources of 2 types"), "{told}");
        let found = counted(&exported)?;
        assert_eq!(found.keys().collect::<Vec<_>>(), ["Observation", "Patient"]);
        assert_eq!(found["Patient"], all["Patient"]);
        assert!(found["Observation"] > 0 && found["Observation"] < all["Observation"]);
        let observations = std::fs::read_to_string(exported.join("Observation-1.ndjson"))?;
        for line in observations.lines() {
            assert!(is_laboratory(&serde_json::from_str(line)?), "{line}");
        }
    }
    for (id, key, words) in [("ES384", &keys["RS384"], "invalid_client"), ("nobody", &keys["ES384"], "invalid_client")] {
        let complaint = export(&server, &out("refused"), id, key)?.unwrap_err();
        assert!(complaint.contains(words), "{complaint}");
    }
    let complaint = said(headrace(&["export", &server.base]).arg(out("refused")).output()?).unwrap_err();
    assert!(complaint.contains("401"), "{complaint}");
    assert_eq!(std::fs::read_dir(out("refused"))?.count(), 0);
    Ok(())
}

// Holds: SEC-A4
#[test]
fn a_client_that_is_shut_out_while_the_server_runs_is_out_at_its_next_request() -> Result<()> {
    run(async || {
        let desk = Desk::new()?;
        let folder = desk.key("key", "ES384")?;
        for id in ["lab", "study"] {
            desk.run(&["add", id, "--scope", "system/*.rs", "--jwks", text(&folder.join("jwks.json"))?])??;
        }
        let server = Server::start(&lake::sample_dir(), &desk.state(), &[])?;
        let key = folder.join("private.jwk");
        let lab = BulkClient::logging_in(login("lab", &key)?, &server.base, None)?;
        let study = BulkClient::logging_in(login("study", &key)?, &server.base, None)?;
        let status = lab.kick_off(&server.base, "$export", &[], false).await?;
        knock(&study, &server).await?;
        desk.run(&["disable", "lab"])??;
        // Its token is good for minutes yet.
        for answer in [knock(&lab, &server).await, lab.wait(&status, |_| {}).await.map(drop), lab.delete(&status).await] {
            assert!(is_shut_out(&answer), "{answer:?}");
        }
        knock(&study, &server).await?;
        desk.run(&["enable", "lab"])??;
        assert_eq!(lab.wait(&status, |_| {}).await?.output.len(), 15, "what it has started went on");
        desk.run(&["remove", "study"])??;
        let removed = knock(&study, &server).await;
        assert!(is_shut_out(&removed), "{removed:?}");
        Ok(())
    })
}

// Holds: SEC-A13
#[test]
fn tokens_of_the_key_before_stay_valid_when_another_signs() -> Result<()> {
    run(async || {
        let desk = Desk::new()?;
        let (first, second) = (desk.key("first", "ES384")?, desk.key("second", "ES384")?);
        desk.run(&["add", "lab", "--scope", "system/*.rs", "--jwks", text(&first.join("jwks.json"))?])??;
        let server = Server::start(&lake::sample_dir(), &desk.state(), &[])?;
        let port = reqwest::Url::parse(&server.base)?.port().ok_or("no port")?.to_string();
        let holder = BulkClient::logging_in(login("lab", &first.join("private.jwk"))?, &server.base, None)?;
        knock(&holder, &server).await?;
        // From now on it can get no other token: what lets it in is the one that it has.
        desk.run(&["rotate", "lab", "--jwks", text(&second.join("jwks.json"))?])??;
        let keys = |verb: &[&str]| -> Result<String> {
            Ok(said(headrace(&[&["keys"], verb].concat()).arg("--state").arg(desk.state()).output()?)?)
        };
        assert_eq!(keys(&["list"])?.lines().count(), 1);
        keys(&["rotate", "--alg", "RS384"])?;
        let listed = keys(&["list"])?;
        let [newest, older] = listed.lines().collect::<Vec<_>>()[..] else { return Err(listed.into()) };
        assert!(newest.contains("RS384") && newest.contains("signs"), "{listed}");
        assert!(older.contains("ES384") && older.ends_with("older"), "{listed}");
        server.kill()?;
        let server = Server::start(&lake::sample_dir(), &desk.state(), &["--port", &port])?;
        let mut held = knock(&holder, &server).await;
        if matches!(held, Err(ClientError::Http(..))) {
            // It was the connection to the server before that broke.
            held = knock(&holder, &server).await;
        }
        held?;
        let newcomer = BulkClient::logging_in(login("lab", &second.join("private.jwk"))?, &server.base, None)?;
        knock(&newcomer, &server).await?;
        let replaced = BulkClient::logging_in(login("lab", &first.join("private.jwk"))?, &server.base, None)?;
        assert!(is_shut_out(&knock(&replaced, &server).await), "a key that was replaced gets no token");
        Ok(())
    })
}

/// Who may ask is decided when the server starts, by what it is told or else by who is registered.
#[test]
fn a_server_is_open_until_a_client_is_registered_and_says_so() -> Result<()> {
    run(async || {
        let desk = Desk::new()?;
        let log = desk.folder.path().join("log");
        let http = reqwest::Client::new();
        let answers = async |arguments: &[&str]| -> Result<(u16, String)> {
            let server = Server::start_logging(&lake::sample_dir(), &desk.state(), &[&["--log", "info"], arguments].concat(), &log)?;
            let asked =
                http.get(format!("{}/$export", server.base)).header("accept", "application/fhir+json").header("prefer", "respond-async");
            let status = asked.send().await?.status().as_u16();
            server.kill()?;
            Ok((status, std::fs::read_to_string(&log)?))
        };
        let (status, told) = answers(&[]).await?;
        assert!(status == 202 && told.contains("whoever reaches this server may export"), "{status} {told}");
        let public = desk.key("key", "ES384")?.join("jwks.json");
        desk.run(&["add", "lab", "--scope", "system/*.rs", "--jwks", text(&public)?])??;
        let (status, told) = answers(&[]).await?;
        assert!(status == 401 && told.contains("registered clients may export"), "{status} {told}");
        let (status, told) = answers(&["--access", "none"]).await?;
        assert!(status == 202 && told.contains("whoever reaches this server may export"), "{status} {told}");
        Ok(())
    })
}
