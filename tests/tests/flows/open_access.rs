//! Ways in which access could open although nobody has said so, and the one base URL of a server.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use headrace_core::ports::Clock as _;
use headrace_edge::system::SystemClock;
use headrace_tests::flows::{Result, SmartClient, run, token_request_form};
use headrace_tests::lake;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use crate::clients_cli::{ClientsCli, text};
use crate::process::{Server, command_result, headrace};

/// Creates a kick-off request.
fn kick_off(base: &str) -> RequestBuilder {
    Client::new().get(format!("{base}/$export")).header("accept", "application/fhir+json").header("prefer", "respond-async")
}

/// Starts a server on the state folder, and returns the status of a kick-off without a token and what the server has logged.
async fn start_and_kick_off(cli: &ClientsCli, arguments: &[&str]) -> Result<(u16, String)> {
    let log = cli.folder.path().join("log");
    let server = Server::start_logging(&lake::sample_lake_dir(), &cli.state(), &[&["--log", "info"], arguments].concat(), &log)?;
    let status = kick_off(&server.base).header("host", host_of(arguments)).send().await?.status().as_u16();
    server.kill()?;
    Ok((status, fs::read_to_string(&log)?))
}

/// Returns the host name that a proxy in front of the server sends.
fn host_of(arguments: &[&str]) -> &'static str {
    if arguments.iter().any(|argument| argument.contains("fhir.example.org")) { "fhir.example.org" } else { "localhost" }
}

/// Registers a client, which creates the state folder.
fn register(cli: &ClientsCli) -> Result<String> {
    let public = cli.generate_key("key", "ES384")?.join("jwks.json");
    Ok(cli.run(&["add", "lab", "--scope", "system/*.rs", "--jwks", text(&public)?])??)
}

/// A way to remove something from a state folder.
type Removal = (&'static str, fn(&ClientsCli) -> Result<()>);

/// Deletes files of the state folder, whose names begin with the prefix.
fn delete(state: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(state)? {
        let path = entry?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix)) {
            if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        }
    }
    Ok(())
}

/// Returns the ways in which state is lost, other than all of it.
fn removals() -> [Removal; 8] {
    [
        ("the last client", |cli| cli.run(&["remove", "lab"])?.map(drop).map_err(Into::into)),
        ("the last client, disabled", |cli| {
            cli.run(&["disable", "lab"])??;
            cli.run(&["remove", "lab"])?.map(drop).map_err(Into::into)
        }),
        ("the job table", |cli| delete(&cli.state(), "jobs.db")),
        ("the job table and the record", |cli| {
            delete(&cli.state(), "jobs.db")?;
            delete(&cli.state(), "access-control")
        }),
        ("the keys", |cli| delete(&cli.state(), "keys")),
        ("the last client and the record", |cli| {
            cli.run(&["remove", "lab"])??;
            delete(&cli.state(), "access-control")
        }),
        ("the last client and the keys", |cli| {
            cli.run(&["remove", "lab"])??;
            delete(&cli.state(), "keys")
        }),
        ("all but the audit records", |cli| {
            fs::create_dir_all(cli.state().join("audit"))?;
            ["jobs.db", "access-control", "keys", "lock"].iter().try_for_each(|name| delete(&cli.state(), name))
        }),
    ]
}

#[test]
fn access_stays_closed_whatever_is_removed() -> Result<()> {
    run(async || {
        for (name, remove) in removals() {
            let cli = ClientsCli::new()?;
            register(&cli)?;
            assert_eq!(start_and_kick_off(&cli, &[]).await?.0, 401, "with a client");
            remove(&cli)?;
            let (status, log) = start_and_kick_off(&cli, &[]).await?;
            assert_eq!(status, 401, "{name}: {log}");
            assert!(log.contains("headrace clients add") || name == "the keys", "{name}: {log}");
        }
        Ok(())
    })
}

#[test]
fn a_removed_client_that_no_server_has_seen_keeps_access_closed_and_the_last_removal_says_so() -> Result<()> {
    run(async || {
        let cli = ClientsCli::new()?;
        let added = register(&cli)?;
        assert!(added.contains("This is the first client.") && !added.contains("A running server"), "no server runs: {added}");
        let removed = cli.run(&["remove", "lab"])??;
        assert!(removed.contains("No client is left") && removed.contains("--access none"), "{removed}");
        assert_eq!(start_and_kick_off(&cli, &[]).await?.0, 401);
        assert_eq!(start_and_kick_off(&cli, &["--access", "none"]).await?.0, 202, "somebody said so");
        assert_eq!(start_and_kick_off(&cli, &[]).await?.0, 401, "and it is not remembered");
        Ok(())
    })
}

#[test]
fn a_public_base_url_without_clients_stays_closed_and_the_log_says_what_to_do() -> Result<()> {
    run(async || {
        let cli = ClientsCli::new()?;
        for arguments in [&["--base-url", "https://fhir.example.org/r4"][..], &["--access", "smart"]] {
            let (status, log) = start_and_kick_off(&cli, arguments).await?;
            assert_eq!(status, 401, "{log}");
            for words in ["no client is registered", "headrace clients keygen", "headrace clients add", "--access none"] {
                assert!(log.contains(words), "{words}: {log}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_server_whose_operator_says_that_a_proxy_is_in_front_is_never_open_by_default() -> Result<()> {
    run(async || {
        // Such as that of nginx with a bare `proxy_pass`: no header, and the server's own address as host.
        let (status, log) = start_and_kick_off(&ClientsCli::new()?, &["--behind-tls-proxy"]).await?;
        assert_eq!(status, 401, "{log}");
        Ok(())
    })
}

#[test]
fn settings_of_an_identity_provider_without_its_mode_open_nothing() -> Result<()> {
    let cli = ClientsCli::new()?;
    let (lake, state) = (lake::sample_lake_dir(), cli.state());
    let serve = |arguments: &[&str]| -> Result<std::process::Command> {
        let mut command = headrace(&[&["serve", text(&lake)?, "--state", text(&state)?, "--port", "0"][..], arguments].concat());
        command.env_remove("HEADRACE_ACCESS");
        Ok(command)
    };
    let by_options = serve(&["--issuer", "https://idp", "--audience", "x", "--jwks-url", "https://idp/jwks"])?;
    let mut by_variables = serve(&[])?;
    by_variables.env("HEADRACE_ISSUER", "https://idp").env("HEADRACE_AUDIENCE", "x").env("HEADRACE_JWKS_URL", "https://idp/jwks");
    for mut command in [by_options, by_variables, serve(&["--access", "none", "--scope-claim", "scp"])?] {
        let error = command_result(command.output()?).err().ok_or("the server has started and stopped")?;
        assert!(error.contains("would have no effect") && error.contains("--access external"), "{error}");
        assert!(!state.exists(), "nothing was written");
    }
    Ok(())
}

#[test]
fn a_server_that_cannot_start_records_no_access_control() -> Result<()> {
    let cli = ClientsCli::new()?;
    let (lake, state) = (lake::sample_lake_dir(), cli.state());
    for (lake, option) in [
        (text(&lake)?, "--fhir-version=6"),
        (text(&lake)?, "--event-webhook-url=https://hooks.example.org/x"),
        ("/nowhere/lake", "--port=0"),
    ] {
        let arguments = ["serve", lake, "--state", text(&state)?, "--access", "smart", option];
        assert!(command_result(headrace(&arguments).output()?).is_err(), "{option}: the server has started and stopped");
        assert!(!state.exists(), "{option}: nothing was written");
    }
    Ok(())
}

#[test]
fn a_server_that_is_open_by_default_closes_with_the_first_registration_and_to_proxies() -> Result<()> {
    run(async || {
        let cli = ClientsCli::new()?;
        let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &[])?;
        assert_eq!(kick_off(&server.base).send().await?.status(), 202);
        for header in ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"] {
            let response = kick_off(&server.base).header(header, "host=fhir.example.org").send().await?;
            assert_eq!(response.status(), 403, "{header}");
            assert!(response.text().await?.contains("--base-url"), "{header}");
        }
        let added = register(&cli)?;
        assert!(added.contains("From now on it rejects every request: restart it"), "{added}");
        let response = kick_off(&server.base).send().await?;
        assert_eq!(response.status(), 401);
        assert!(response.text().await?.contains("restart it"));
        Ok(())
    })
}

#[test]
fn a_registration_describes_a_running_server_correctly() -> Result<()> {
    let cli = ClientsCli::new()?;
    let add = |id: &str| -> Result<String> {
        let public = cli.folder.path().join("key").join("jwks.json");
        if !public.exists() {
            cli.generate_key("key", "ES384")?;
        }
        Ok(cli.run(&["add", id, "--scope", "system/*.rs", "--jwks", text(&public)?])??)
    };
    let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &["--access", "smart"])?;
    let added = add("one")?;
    assert!(!added.contains("server that runs") && !added.contains("first client"), "it has access control: {added}");
    server.kill()?;
    let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &["--access", "none"])?;
    let added = add("two")?;
    assert!(added.contains("was started with --access none"), "{added}");
    server.kill()?;
    let added = add("three")?;
    assert!(!added.contains("server that runs"), "no server runs: {added}");
    Ok(())
}

/// Sends an assertion for this audience to the server, with these headers.
pub(crate) async fn send_assertion(server: &Server, client: &SmartClient, audience: &str, headers: &[(&str, &str)]) -> Result<Response> {
    let assertion = client.sign(&client.assertion_header(), &client.assertion_claims(audience, SystemClock.now()))?;
    let mut request = Client::new().post(format!("{}/token", server.base)).timeout(Duration::from_secs(60));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let form = token_request_form(&assertion, "system/*.rs");
    Ok(request.header("content-type", "application/x-www-form-urlencoded").body(form).send().await?)
}

/// Starts a server with a registered client.
fn start_with_client(cli: &ClientsCli, client: &SmartClient, arguments: &[&str]) -> Result<Server> {
    let jwks = cli.folder.path().join("jwks.json");
    fs::write(&jwks, client.jwks()?)?;
    cli.run(&["add", &client.id, "--scope", "system/*.rs", "--jwks", text(&jwks)?])??;
    Server::start(&lake::sample_lake_dir(), &cli.state(), arguments)
}

// Holds: SEC-A6
#[test]
fn an_assertion_for_another_port_is_rejected_whatever_the_headers_say() -> Result<()> {
    run(async || {
        let (cli, client) = (ClientsCli::new()?, SmartClient::new_es384("lab")?);
        let server = start_with_client(&cli, &client, &[])?;
        let port = reqwest::Url::parse(&server.base)?.port().ok_or("no port")?;
        let other = if port == 9999 { 9998 } else { 9999 };
        for host in [format!("localhost:{other}"), format!("127.0.0.1:{other}"), format!("[::1]:{other}"), format!("127.0.0.2:{port}")] {
            let audience = format!("http://{host}/fhir/token");
            let forwarded = format!("host={host}");
            for headers in [&[("host", host.as_str())][..], &[("x-forwarded-host", host.as_str())], &[("forwarded", forwarded.as_str())]] {
                let response = send_assertion(&server, &client, &audience, headers).await?;
                assert_eq!(response.status(), 401, "{audience} {headers:?}");
            }
        }
        let (own, localhost) = (format!("{}/token", server.base), format!("http://localhost:{port}/fhir/token"));
        assert_eq!(send_assertion(&server, &client, &own, &[]).await?.status(), 200);
        let host = format!("localhost:{port}");
        assert_eq!(send_assertion(&server, &client, &localhost, &[("host", host.as_str())]).await?.status(), 200);
        Ok(())
    })
}

/// Returns the base URLs that the server shows: in its metadata, its discovery document and the Content-Location of an export.
async fn shown_base_urls(server: &Server, client: &SmartClient, audience: &str, headers: &[(&str, &str)]) -> Result<Vec<String>> {
    let with_headers = |mut request: RequestBuilder| {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
    };
    let http = Client::new();
    let json = async |path: &str| -> Result<Value> {
        let response = with_headers(http.get(format!("{}{path}", server.base))).header("accept", "application/json").send().await?;
        Ok(serde_json::from_str(&response.text().await?)?)
    };
    let (statement, discovery) = (json("/metadata").await?, json("/.well-known/smart-configuration").await?);
    let token: Value = serde_json::from_str(&send_assertion(server, client, audience, headers).await?.text().await?)?;
    let token = token["access_token"].as_str().ok_or_else(|| format!("no token: {token}"))?;
    let accepted = with_headers(kick_off(&server.base)).header("authorization", format!("Bearer {token}")).send().await?;
    let location = accepted.headers().get("content-location").ok_or("no Content-Location")?.to_str()?.to_owned();
    let oauth = statement.pointer("/rest/0/security/extension/0/extension/0/valueUri").and_then(Value::as_str).ok_or("no token URL")?;
    let shown = [
        (statement["implementation"]["url"].as_str(), ""),
        (Some(oauth), "/token"),
        (discovery["token_endpoint"].as_str(), "/token"),
        (location.rsplit_once("/_operations/").map(|(base, _)| base), ""),
    ];
    let base = |(url, suffix): (Option<&str>, &str)| url.and_then(|url| url.strip_suffix(suffix)).map(str::to_owned);
    shown.into_iter().map(|shown| base(shown).ok_or_else(|| "a URL is missing".into())).collect()
}

#[test]
fn one_base_url_is_in_every_url_whatever_the_headers_say() -> Result<()> {
    run(async || {
        let hostile = [("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "https"), ("x-forwarded-prefix", "/x")];
        for base in [None, Some("https://fhir.example.org/r4")] {
            let (cli, client) = (ClientsCli::new()?, SmartClient::new_es384("lab")?);
            let arguments = base.map_or_else(Vec::new, |base| vec!["--base-url", base]);
            let server = start_with_client(&cli, &client, &arguments)?;
            let expected = base.unwrap_or(&server.base);
            for headers in [&[][..], &hostile, &[("forwarded", "host=evil.example;proto=https")]] {
                let shown = shown_base_urls(&server, &client, &format!("{expected}/token"), headers).await?;
                assert!(shown.iter().all(|shown| shown == expected), "{headers:?}: {shown:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_base_url_without_tls_is_warned_of_if_clients_send_tokens_to_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (number, arguments, warns) in [
        (0, &["--base-url", "http://fhir.example.org/r4", "--access", "smart"][..], true),
        (1, &["--base-url", "https://fhir.example.org/r4", "--access", "smart"][..], false),
        (2, &["--base-url", "http://127.0.0.1:8080/fhir", "--access", "smart"][..], false),
        (3, &["--base-url", "http://fhir.example.org/r4", "--access", "none"][..], false),
    ] {
        let (state, log) = (folder.path().join(format!("state-{number}")), folder.path().join(format!("log-{number}")));
        drop(Server::start_logging(&lake::sample_lake_dir(), &state, arguments, &log)?);
        let text = fs::read_to_string(&log)?;
        assert_eq!(text.contains("cross the network in plain text"), warns, "{arguments:?}: {text}");
    }
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_secret_of_the_webhook_that_others_can_read_is_warned_of() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir()?;
    let secret = folder.path().join("webhook.secret");
    fs::write(&secret, format!("whsec_{}", "A".repeat(44)))?;
    for (mode, warns) in [(0o644, true), (0o600, false)] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode))?;
        let (state, log) = (folder.path().join(format!("state-{mode}")), folder.path().join(format!("log-{mode}")));
        let webhook = ["--event-webhook-url", "https://hooks.example.org/x", "--event-webhook-secret-file", text(&secret)?];
        drop(Server::start_logging(&lake::sample_lake_dir(), &state, &webhook, &log)?);
        let logged = fs::read_to_string(&log)?;
        assert_eq!(logged.contains("chmod 600"), warns, "{logged}");
    }
    Ok(())
}

#[test]
fn open_access_on_the_network_names_the_options_that_it_needs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let state = text(folder.path())?.to_owned();
    let serve = |arguments: &[&str]| -> Result<String> {
        let lake = lake::sample_lake_dir();
        let line = [&["serve", text(&lake)?, "--state", &state, "--listen", "0.0.0.0", "--port", "0"][..], arguments].concat();
        command_result(headrace(&line).output()?).err().ok_or_else(|| "the server has started and stopped".into())
    };
    let error = serve(&["--access", "none"])?;
    assert!(error.contains("leave out --access none") && error.contains("--allow-unauthenticated"), "{error}");
    for arguments in [&[][..], &["--allow-unauthenticated"]] {
        let error = serve(arguments)?;
        assert!(error.contains("--behind-tls-proxy") && error.contains("--access none --allow-unauthenticated"), "{error}");
    }
    Ok(())
}
