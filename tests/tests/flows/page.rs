//! The page for people at a browser: its headers, and the requests that a server and `headrace ui` refuse.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use headrace_local::server::service::ServerAccess;
use headrace_tests::flows::{Result, run, server_config, start_local_server};
use headrace_tests::lake;
use reqwest::{Client, Method, Response};
use serde_json::Value;

use crate::clients_cli::{ClientsCli, text};
use crate::process::{Server, headrace};
use crate::stub_deployment::{StubDeployment, TOKEN, export_id, write_key};

/// Sends a GET request with these headers.
async fn get(url: &str, headers: &[(&str, &str)]) -> Result<Response> {
    send(Method::GET, url, headers).await
}

/// Sends a request with these headers.
async fn send(method: Method, url: &str, headers: &[(&str, &str)]) -> Result<Response> {
    let request = headers.iter().fold(Client::new().request(method, url), |request, (name, value)| request.header(*name, *value));
    Ok(request.send().await?)
}

/// Reads the JSON of a response.
async fn json(response: Response) -> Result<Value> {
    Ok(serde_json::from_slice(&response.bytes().await?)?)
}

/// Returns the value of a header.
fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Checks the headers of the page and its files.
fn check_page_headers(response: &Response) {
    assert_eq!(response.status(), 200, "{}", response.url());
    let policy = header(response, "content-security-policy");
    for rule in
        ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "form-action 'none'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(rule), "{rule}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(header(response, name), value, "{name} of {}", response.url());
    }
    assert_eq!(header(response, "access-control-allow-origin"), "", "no other site may read it");
}

#[test]
fn the_root_of_a_server_is_the_page() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = start_local_server(server_config(&lake::sample_lake_dir(), state.path(), ServerAccess::None)).await?;
        let root = base.trim_end_matches("fhir").to_owned();
        let page = get(&root, &[("accept", "text/html")]).await?;
        check_page_headers(&page);
        assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
        let document = page.text().await?;
        for file in document.split('"').filter(|part| part.starts_with("ui/")) {
            check_page_headers(&get(&format!("{root}{file}"), &[]).await?);
        }
        let context = json(get(&format!("{root}ui/context"), &[]).await?).await?;
        assert_eq!((context["api"].as_str(), context["needsToken"].as_bool()), (Some("fhir/"), Some(false)));
        let filter = json(get(&format!("{root}ui/filter?version=4.0.1&query=Observation%3Fcolor%3Dred"), &[]).await?).await?;
        assert!(filter["problem"].as_str().is_some_and(|text| text.contains("color")), "{filter}");
        for path in ["ui/other.js", "ui/..%2f..%2fCargo.toml", "ui/", "index.html"] {
            assert_eq!(get(&format!("{root}{path}"), &[]).await?.status(), 404, "{path}");
        }
        Ok(())
    })
}

#[test]
fn a_server_without_access_control_refuses_the_pages_of_other_sites() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = start_local_server(server_config(&lake::sample_lake_dir(), state.path(), ServerAccess::None)).await?;
        let root = base.trim_end_matches("fhir").to_owned();
        let own = root.trim_end_matches('/').to_owned();
        let kick_off = [("accept", "application/fhir+json"), ("prefer", "respond-async")];
        for foreign in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "http://127.0.0.1:1")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            let response = get(&format!("{base}/$export"), &[&kick_off[..], foreign].concat()).await?;
            assert_eq!(response.status(), 403, "{foreign:?}");
            assert!(response.text().await?.contains("another site"));
            let list = get(&format!("{base}/_operations/export"), foreign).await?;
            assert_eq!(list.status(), 403, "{foreign:?}");
        }
        let preflight = [("origin", "https://evil.example"), ("access-control-request-method", "DELETE")];
        assert_eq!(send(Method::OPTIONS, &format!("{base}/_operations/export/0"), &preflight).await?.status(), 403);
        assert_eq!(get(&root, &[("host", "evil.example")]).await?.status(), 421, "DNS rebinding");
        let list = json(get(&format!("{base}/_operations/export"), &[]).await?).await?;
        assert!(list["entry"].is_null(), "no export was started: {list}");
        for accepted in [&[][..], &[("origin", own.as_str()), ("sec-fetch-site", "same-origin")]] {
            assert_eq!(get(&format!("{base}/$export"), &[&kick_off[..], accepted].concat()).await?.status(), 202, "{accepted:?}");
        }
        let visit = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert_eq!(get(&root, &visit).await?.status(), 200, "a link leads to the page");
        Ok(())
    })
}

#[test]
fn an_exported_file_is_saved_and_never_shown() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = start_local_server(server_config(&lake::sample_lake_dir(), state.path(), ServerAccess::None)).await?;
        let client = headrace_local::client::bulk::BulkClient::without_credential(Some(std::time::Duration::from_millis(20)))?;
        let url = client.kick_off(&base, "$export", &[("_type", "Patient".to_owned())], false).await?;
        let manifest = client.wait_for_manifest(&url, |_| {}).await?;
        let file = manifest.output.first().ok_or("no file")?;
        for range in [&[][..], &[("range", "bytes=0-0")]] {
            let response = get(&file.url, range).await?;
            assert!(response.status().is_success());
            assert_eq!(header(&response, "content-disposition"), "attachment; filename=\"Patient-1.ndjson\"");
            assert!(header(&response, "content-security-policy").contains("sandbox"), "{response:?}");
            assert_eq!(header(&response, "x-content-type-options"), "nosniff");
        }
        Ok(())
    })
}

#[test]
fn the_page_of_a_server_with_access_control_says_that_it_needs_a_token() -> Result<()> {
    run(async || {
        let cli = ClientsCli::new()?;
        let key = cli.generate_key("lab", "ES384")?.join("jwks.json");
        cli.run(&["add", "lab", "--scope", "system/*.rs", "--jwks", text(&key)?])??;
        let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &[])?;
        let root = server.base.trim_end_matches("fhir").to_owned();
        check_page_headers(&get(&root, &[]).await?);
        let context = json(get(&format!("{root}ui/context"), &[]).await?).await?;
        assert_eq!((context["needsToken"].as_bool(), context["server"].as_str()), (Some(true), Some(server.base.as_str())));
        assert_eq!(get(&format!("{}/_operations/export", server.base), &[]).await?.status(), 401);
        Ok(())
    })
}

/// Process of `headrace ui`, which is killed on drop.
pub(crate) struct Page {
    child: Child,
    /// Address of the page, with its secret.
    pub(crate) url: String,
}

impl Page {
    /// Starts the program and waits until it prints the address of the page.
    pub(crate) async fn start(arguments: Vec<String>) -> Result<Self> {
        let started = move || -> std::io::Result<(Child, String)> {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let mut child = headrace(&[&["ui"], &arguments[..]].concat()).stdout(Stdio::piped()).spawn()?;
            let mut url = String::new();
            if let Some(stdout) = child.stdout.take() {
                BufReader::new(stdout).read_line(&mut url)?;
            }
            Ok((child, url.trim_end().to_owned()))
        };
        let (child, url) = tokio::task::spawn_blocking(started).await??;
        Ok(Self { child, url })
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The header that the page sends with its requests.
pub(crate) const FROM_PAGE: (&str, &str) = ("x-headrace-page", "1");

#[test]
fn the_page_of_a_deployment_reaches_its_api_and_nothing_else() -> Result<()> {
    run(async || {
        let (deployment, folder) = (StubDeployment::start(3).await?, tempfile::tempdir()?);
        let key = write_key(&folder)?;
        let arguments = ["--client-id", "lab", "--client-key", key.as_str(), deployment.base.as_str()];
        let page = Page::start(arguments.map(str::to_owned).to_vec()).await?;
        let url = page.url.as_str();
        check_page_headers(&get(url, &[]).await?);
        let context = json(get(&format!("{url}ui/context"), &[]).await?).await?;
        assert_eq!((context["client"].as_str(), context["server"].as_str()), (Some("lab"), Some(deployment.base.as_str())));

        let list =
            get(&format!("{url}api/_operations/export?_count=2"), &[FROM_PAGE, ("cookie", "a=b"), ("authorization", "Bearer x")]).await?;
        assert_eq!((list.status().as_u16(), header(&list, "set-cookie")), (200, ""));
        assert_eq!(json(list).await?["entry"].as_array().map(Vec::len), Some(2));
        let last = deployment.received().pop().ok_or("no request")?;
        assert_eq!((last.header("authorization"), last.header("cookie")), (Some(&*format!("Bearer {TOKEN}")), None));

        let kick_off = [FROM_PAGE, ("accept", "application/fhir+json"), ("prefer", "respond-async, handling=lenient")];
        let started = get(&format!("{url}api/$export?_type=Patient"), &kick_off).await?;
        assert_eq!(started.status(), 202);
        assert!(header(&started, "content-location").ends_with(&export_id(0)));
        let last = deployment.received().pop().ok_or("no request")?;
        assert_eq!((last.target.as_str(), last.header("prefer")), ("/fhir/$export?_type=Patient", Some("respond-async, handling=lenient")));
        let cancelled = send(Method::DELETE, &format!("{url}api/_operations/export/{}", export_id(1)), &[FROM_PAGE]).await?;
        assert_eq!(cancelled.status(), 202);

        let file = get(&format!("{url}api/_operations/files/{}/Patient-1.ndjson", export_id(0)), &[]).await?;
        assert_eq!(header(&file, "content-disposition"), "attachment; filename=\"Patient-1.ndjson\"");
        assert!(header(&file, "content-security-policy").contains("sandbox"));
        assert!(file.text().await?.contains("Patient"));
        let stored = deployment.stored();
        assert!(stored.len() == 1 && stored.iter().all(|request| request.header("authorization").is_none()), "{stored:?}");

        let before = deployment.received().len();
        let unsent = |path: &str| format!("{url}api/{path}");
        for path in [
            "token",
            "Patient",
            "_operations/export/%2e%2e",
            "_operations/export/..%2f..%2fadmin",
            "admin",
            "Group/x/members",
            "%2e%2e/admin",
        ] {
            assert_eq!(get(&unsent(path), &[FROM_PAGE]).await?.status(), 404, "{path}");
        }
        assert_eq!(send(Method::POST, &unsent("$export"), &[FROM_PAGE]).await?.status(), 404);
        assert_eq!(deployment.received().len(), before, "the deployment got none of them");
        let key_text = std::fs::read_to_string(&key)?;
        let private: Value = serde_json::from_str(&key_text)?;
        let secret = private["d"].as_str().ok_or("no private key")?;
        assert!(deployment.received().iter().all(|request| !request.body.contains(secret) && !format!("{request:?}").contains(secret)));
        Ok(())
    })
}

#[test]
fn whoever_does_not_have_the_address_of_the_page_gets_nothing() -> Result<()> {
    run(async || {
        let deployment = StubDeployment::start(3).await?;
        let page = Page::start(vec![deployment.base.clone()]).await?;
        let url = reqwest::Url::parse(&page.url)?;
        let secret = url.path().trim_matches('/').to_owned();
        assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{url}");
        let before = deployment.received().len();
        let root = page.url.replace(&format!("{secret}/"), "");
        for path in ["", "ui/context", "api/_operations/export", "00000000000000000000000000000000/api/_operations/export"] {
            assert_eq!(get(&format!("{root}{path}"), &[FROM_PAGE]).await?.status(), 404, "{path}");
        }
        let api = format!("{}api/_operations/export", page.url);
        for (headers, status) in [
            (&[][..], 403),
            (&[FROM_PAGE, ("origin", "https://evil.example")], 403),
            (&[FROM_PAGE, ("sec-fetch-site", "cross-site")], 403),
            (&[FROM_PAGE, ("host", "evil.example")], 421),
        ] {
            assert_eq!(get(&api, headers).await?.status(), status, "{headers:?}");
        }
        let frame = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
        assert_eq!(get(&page.url, &frame).await?.status(), 403);
        assert_eq!(deployment.received().len(), before, "the deployment got none of them");
        assert_eq!(get(&api, &[FROM_PAGE]).await?.status(), 200);
        Ok(())
    })
}

#[test]
fn a_server_that_rejects_the_client_is_named_before_the_page_is_served() -> Result<()> {
    run(async || {
        let cli = ClientsCli::new()?;
        let (known, other) = (cli.generate_key("lab", "ES384")?, cli.generate_key("other", "ES384")?);
        cli.run(&["add", "lab", "--scope", "system/*.rs", "--jwks", text(&known.join("jwks.json"))?])??;
        let server = Server::start(&lake::sample_lake_dir(), &cli.state(), &[])?;
        let key = other.join("private.jwk");
        for (arguments, words) in [
            (&["ui", &server.base, "--client-id", "lab", "--client-key", text(&key)?][..], "the token request was rejected"),
            (&["ui", &server.base], "401"),
            (&["ui", "http://fhir.example.org/r4", "--client-id", "lab", "--client-key", text(&key)?], "https://"),
        ] {
            let output = headrace(arguments).output()?;
            let error = String::from_utf8(output.stderr)?;
            assert!(!output.status.success() && error.contains(words) && output.stdout.is_empty(), "{error}");
        }
        Ok(())
    })
}
