//! `headrace jobs` and `headrace token`, against a real server and against a deployment written by hand.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::process::{Command, Output};

use headrace_tests::flows::{Result, run};
use headrace_tests::lake;
use reqwest::Client;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::clients_cli::{ClientsCli, text};
use crate::process::{Server, command_result, headrace};
use crate::stub_deployment::{StubDeployment, TOKEN, export_id, write_key};

/// Runs a command while the servers of the test go on.
async fn output(mut command: Command) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

/// Runs `headrace jobs` for the server with this base URL.
async fn jobs(base: &str, arguments: &[&str]) -> Result<std::result::Result<String, String>> {
    let (subcommand, rest) = arguments.split_first().ok_or("no subcommand")?;
    Ok(command_result(output(headrace(&[&["jobs", subcommand, "--url", base], rest].concat())).await?))
}

/// Starts an export and returns its id.
async fn kick_off(base: &str, token: Option<&str>) -> Result<String> {
    let request = Client::new().get(format!("{base}/$export?_type=Patient")).header("accept", "application/fhir+json");
    let request = token.into_iter().fold(request.header("prefer", "respond-async"), |request, token| request.bearer_auth(token));
    let response = request.send().await?;
    assert_eq!(response.status(), 202);
    let location = response.headers().get("content-location").ok_or("no status URL")?.to_str()?;
    Ok(location.rsplit('/').next().unwrap_or_default().to_owned())
}

#[test]
fn exports_are_listed_shown_watched_and_cancelled() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let server = Server::start(&lake::sample_lake_dir(), state.path(), &[])?;
        let base = server.base.as_str();
        assert_eq!(jobs(base, &["list"]).await??, "no exports\n");
        let (first, second) = (kick_off(base, None).await?, kick_off(base, None).await?);
        let watched = jobs(base, &["watch", &first, &second]).await??;
        let mut lines: Vec<&str> = watched.lines().collect();
        lines.sort_unstable();
        let mut expected = [&first, &second].map(|id| format!("{id} complete: 12 resources in 1 file"));
        expected.sort();
        assert_eq!(lines, expected);
        let listed: Value = serde_json::from_str(&jobs(base, &["list", "--json"]).await??)?;
        let listed: Vec<&Value> = listed.as_array().ok_or("no array")?.iter().collect();
        assert_eq!(listed.len(), 2);
        for export in &listed {
            assert_eq!((export["state"].as_str(), export["data"].as_str()), (Some("complete"), Some("Export of the whole system")));
            assert_eq!(export["parameters"], serde_json::json!([{ "name": "_type", "value": "Patient" }]));
        }
        assert_eq!(jobs(base, &["list", "--open", "--json"]).await??, "[]\n");
        let table = jobs(base, &["list"]).await??;
        assert!(
            table.starts_with("EXPORT") && table.contains(&first) && table.contains("12 resources  the whole system, _type=Patient"),
            "{table}"
        );
        let beginning = first.get(..8).ok_or("a short id")?;
        let shown = jobs(base, &["show", beginning]).await??;
        for words in [
            "state        complete",
            "parameters   _type=Patient",
            "data up to   2",
            "$export?_type=Patient\n",
            "output  Patient  1      12",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        let shown: Value = serde_json::from_str(&jobs(base, &["show", &format!("{base}/_operations/export/{first}"), "--json"]).await??)?;
        assert_eq!((shown["id"].as_str(), shown["output"][0]["count"].as_u64()), (Some(first.as_str()), Some(12)));
        let refused = jobs(base, &["cancel", beginning]).await?.unwrap_err();
        assert!(refused.contains("nothing was deleted") && refused.contains("--finished") && !refused.contains("schedule"), "{refused}");
        assert!(jobs(base, &["list"]).await??.contains(&first));
        assert_eq!(jobs(base, &["cancel", beginning, "--finished"]).await??, format!("deleted {beginning}; its files are deleted\n"));
        let again = jobs(base, &["cancel", "--finished", &first, &second]).await?.unwrap_err();
        assert!(again.contains(&first) && again.contains("404") && !again.contains(&second), "{again}");
        assert_eq!(jobs(base, &["list"]).await??, "no exports\n");
        Ok(())
    })
}

#[test]
fn a_list_without_exports_or_without_a_server_says_where_exports_may_be() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let server = Server::start(&lake::sample_lake_dir(), state.path(), &[])?;
        let base = server.base.clone();
        let listed = output(headrace(&["jobs", "list", "--url", &base])).await?;
        let (result, hint) = (String::from_utf8(listed.stdout)?, String::from_utf8(listed.stderr)?);
        assert_eq!(result, "no exports\n");
        drop(server);
        let unreachable = jobs(&base, &["list"]).await?.unwrap_err();
        for words in [base.as_str(), "headrace serve LAKE --state DIR", "--url", "OUT/manifest.json"] {
            assert!(hint.contains(words), "{words}: {hint}");
            assert!(unreachable.contains(words), "{words}: {unreachable}");
        }
        Ok(())
    })
}

#[test]
fn a_url_with_the_wrong_scheme_is_told_the_other() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let server = Server::start(&lake::sample_lake_dir(), state.path(), &[])?;
        let origin = server.base.strip_suffix("/fhir").ok_or("another base URL")?;
        let refused = jobs(&server.base.replacen("http:", "https:", 1), &["list"]).await?.unwrap_err();
        assert!(refused.contains("does not speak TLS") && refused.contains(&format!("the URL begins with {origin}")), "{refused}");

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let answers = tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = [0; 1024];
                if connection.read(&mut request).await.is_ok() {
                    // The alert with which a server answers a first message that is not TLS: unexpected_message.
                    drop(connection.write_all(&[0x15, 3, 3, 0, 2, 2, 10]).await);
                }
            }
        });
        let out = state.path().join("out");
        let refused = output(headrace(&["export", &format!("http://{address}/fhir"), text(&out)?])).await?;
        let error = String::from_utf8(refused.stderr)?;
        assert!(error.contains("the answer is not HTTP") && error.contains(&format!("begins with https://{address}")), "{error}");
        answers.abort();
        Ok(())
    })
}

#[test]
fn a_failed_export_is_shown_with_its_reason_and_ends_a_watch_with_status_1() -> Result<()> {
    run(async || {
        let (state, source) = (tempfile::tempdir()?, tempfile::tempdir()?);
        std::fs::write(source.path().join("Patient.ndjson"), "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n")?;
        std::fs::write(source.path().join("Observation.ndjson.gz"), "this is not gzip")?;
        let server = Server::start(source.path(), state.path(), &[])?;
        let base = server.base.as_str();
        let request = Client::new().get(format!("{base}/$export")).header("accept", "application/fhir+json");
        let response = request.header("prefer", "respond-async").send().await?;
        let location = response.headers().get("content-location").ok_or("no status URL")?.to_str()?.to_owned();
        let watched = output(headrace(&["jobs", "watch", "--url", base, &location, "--json"])).await?;
        assert_eq!(watched.status.code(), Some(1));
        let last: Value = serde_json::from_str(String::from_utf8(watched.stdout)?.lines().last().unwrap_or_default())?;
        assert_eq!(last["state"], "failed");
        let shown = jobs(base, &["show", &location]).await??;
        assert!(shown.contains("state        failed") && shown.contains("reason       "), "{shown}");
        let listed = jobs(base, &["list"]).await??;
        assert!(listed.contains("failed") && listed.contains("Observation.ndjson.gz"), "{listed}");
        Ok(())
    })
}

#[test]
fn long_lists_are_read_page_by_page_and_what_a_server_says_is_escaped() -> Result<()> {
    run(async || {
        let deployment = StubDeployment::start(250).await?;
        let listed = jobs(&deployment.base, &["list", "--limit", "201"]).await??;
        assert_eq!(listed.lines().count(), 202, "a heading and the exports");
        assert!(listed.contains("\\u{1b}[2Jcleared") && listed.contains("Group/\\u{202e}x") && !listed.contains('\u{1b}'), "{listed}");
        assert!(!listed.contains('\u{202e}'));
        let json = jobs(&deployment.base, &["list", "--limit", "1", "--json"]).await??;
        assert!(!json.contains('\u{1b}') && !json.contains('\u{202e}'), "{json}");
        assert_eq!(serde_json::from_str::<Value>(&json)?[0]["progress"], "\u{1b}[2Jcleared");
        let ambiguous = jobs(&deployment.base, &["show", "0000"]).await?.unwrap_err();
        assert!(ambiguous.contains("250 exports begin with `0000`"), "{ambiguous}");
        let shown = jobs(&deployment.base, &["show", &export_id(249)]).await??;
        assert!(shown.contains("state        complete") && shown.contains("Export of Group/\\u{202e}x"), "{shown}");
        Ok(())
    })
}

#[test]
fn a_token_is_printed_alone_and_works_until_the_time_that_is_named() -> Result<()> {
    run(async || {
        let cli = ClientsCli::new()?;
        let key = cli.generate_key("lab", "ES384")?;
        cli.run(&["add", "lab", "--scope", "system/*.rs", "--jwks", text(&key.join("jwks.json"))?])??;
        let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &[])?;
        let base = server.base.as_str();
        let private = key.join("private.jwk");
        let login = ["--client-id", "lab", "--client-key", text(&private)?];
        let printed = output(headrace(&[&["token", base][..], &login].concat())).await?;
        assert!(printed.status.success());
        let token = String::from_utf8(printed.stdout)?;
        assert_eq!(String::from_utf8(printed.stderr)?, "valid for 5 min\n");
        let id = kick_off(base, Some(token.trim_end())).await?;
        let watched = jobs(base, &[&["watch", id.as_str()][..], &login].concat()).await??;
        assert_eq!(watched, format!("{id} complete: 12 resources in 1 file\n"));
        assert!(jobs(base, &[&["list"][..], &["--token", token.trim_end()]].concat()).await??.contains(&id));
        let rejected = jobs(base, &["list"]).await?.unwrap_err();
        assert!(rejected.contains("401"), "{rejected}");
        for (arguments, words) in [
            (&["token", base][..], "--client-id and --client-key"),
            (&["token", "http://fhir.example.org/r4", "--client-id", "lab", "--client-key", text(&private)?], "https://"),
        ] {
            let error = command_result(output(headrace(arguments)).await?).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        Ok(())
    })
}

#[test]
fn only_the_server_itself_gets_the_token() -> Result<()> {
    run(async || {
        let (deployment, folder) = (StubDeployment::start(3).await?, tempfile::tempdir()?);
        let login = ["--client-id".to_owned(), "lab".to_owned(), "--client-key".to_owned(), write_key(&folder)?];
        let login: Vec<&str> = login.iter().map(String::as_str).collect();
        jobs(&deployment.base, &[&["list"][..], &login].concat()).await??;
        let other = StubDeployment::start(3).await?;
        let elsewhere = format!("{}/_operations/export/{}", other.base, export_id(0));
        jobs(&deployment.base, &[&["show", elsewhere.as_str()][..], &login].concat()).await??;
        let bearer = format!("Bearer {TOKEN}");
        assert!(deployment.received().iter().any(|request| request.header("authorization") == Some(&bearer)));
        assert!(!other.received().is_empty() && other.received().iter().all(|request| request.header("authorization").is_none()));
        Ok(())
    })
}

#[test]
fn a_server_that_does_not_run_is_named_with_what_to_do() -> Result<()> {
    run(async || {
        let error = jobs("http://127.0.0.1:1/fhir", &["list"]).await?.unwrap_err();
        assert!(error.contains("headrace serve") && error.contains("--url"), "{error}");
        Ok(())
    })
}
