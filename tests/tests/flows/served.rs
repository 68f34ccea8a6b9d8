//! Exports over real HTTP, as `headrace serve` answers it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use headrace_local::client::bulk::{BulkClient, Downloaded};
use headrace_local::server::http;
use headrace_local::server::service::{Access, Plan, Service};
use headrace_tests::flows::{Result, oracle, run};
use headrace_tests::lake;
use reqwest::Url;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::process::Server;

const IMPATIENCE: Option<std::time::Duration> = Some(std::time::Duration::from_millis(5));

async fn serve(lake: &Path, state: &TempDir) -> Result<String> {
    let plan = Plan {
        lake: lake.to_path_buf(),
        state: state.path().to_path_buf(),
        terms: Default::default(),
        lake_terms: Default::default(),
        trust_lake_names: false,
        workers: 2,
        access: Access::None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = http::base_of(listener.local_addr()?);
    let service = Arc::new(Service::start(plan).await?);
    tokio::spawn(http::serve(service, listener));
    Ok(base)
}

async fn download(client: &BulkClient, status: &Url, out: &Path) -> Result<Vec<Downloaded>> {
    let manifest = client.wait(status, |_| {}).await?;
    Ok(client.download(&manifest, out, |_| {}).await?)
}

fn sorted_lines(files: &[Downloaded]) -> Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    for file in files.iter().filter(|file| !file.is_error) {
        let bytes = std::fs::read(&file.path)?;
        lines.extend(bytes.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line).to_vec()));
    }
    lines.sort();
    Ok(lines)
}

// Holds: K1, K2, M5, M10, R4, R5, B7
#[test]
fn over_http_what_comes_out_is_what_went_in() -> Result<()> {
    run(async || {
        for dir in [Some(lake::sample_dir()), lake::ten_patients()].into_iter().flatten() {
            let (state, out) = (tempfile::tempdir()?, tempfile::tempdir()?);
            let base = serve(&dir, &state).await?;
            let client = BulkClient::new(None, IMPATIENCE)?;
            let status = client.kick_off(&base, "$export", &[], false).await?;
            let files = download(&client, &status, out.path()).await?;
            assert_eq!(sorted_lines(&files)?, oracle::expected(&dir, None, None)?);
            let counted: BTreeMap<_, _> =
                files.iter().map(|file| (file.kind.clone().unwrap_or_default(), (file.lines, file.bytes))).collect();
            let expected: BTreeMap<_, _> = lake::count(&dir)?.into_iter().map(|(kind, tally)| (kind, (tally.lines, tally.bytes))).collect();
            assert_eq!(counted, expected);
            assert_eq!(files.len(), expected.len());
        }
        Ok(())
    })
}

// Holds: C2, C3, F1, F5
#[test]
fn a_file_comes_whole_in_ranges_and_compressed_until_its_job_is_deleted() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = serve(&lake::sample_dir(), &state).await?;
        let client = BulkClient::new(None, IMPATIENCE)?;
        let status = client.kick_off(&base, "$export", &[("_type", "Patient".to_owned())], false).await?;
        let manifest = client.wait(&status, |_| {}).await?;
        let url = manifest.output.first().ok_or("no file")?.url.clone();
        let http = reqwest::Client::builder().build()?;
        let whole = http.get(&url).send().await?;
        assert_eq!(whole.headers()["content-type"], "application/fhir+ndjson");
        let whole = whole.bytes().await?;
        let range = http.get(&url).header("range", "bytes=10-19").send().await?;
        assert_eq!((range.status().as_u16(), &range.headers()["content-type"]), (206, &"application/fhir+ndjson".parse()?));
        assert_eq!(range.bytes().await?, whole.slice(10..20));
        let packed = http.get(&url).header("accept-encoding", "gzip").send().await?;
        assert_eq!(packed.headers()["content-encoding"], "gzip");
        assert!(packed.bytes().await?.len() < whole.len() / 2);
        client.delete(&status).await?;
        for url in [status.as_str(), &url] {
            let gone = http.get(url).send().await?;
            assert_eq!((gone.status().as_u16(), &gone.headers()["content-type"]), (404, &"application/fhir+json".parse()?), "{url}");
        }
        assert_eq!(http.delete(status).send().await?.status(), 404);
        Ok(())
    })
}

// Holds: CS6
#[test]
fn whoever_comes_is_told_what_the_server_can_do() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = serve(&lake::sample_dir(), &state).await?;
        let client = reqwest::Client::new();
        let answer = client.get(format!("{base}/metadata")).send().await?;
        let statement: serde_json::Value = serde_json::from_slice(&answer.bytes().await?)?;
        assert_eq!(statement["implementation"]["url"], base);
        assert!(statement["rest"][0]["security"]["description"].as_str().is_some_and(|said| said.starts_with("None")));
        let gzip = client.get(format!("{base}/metadata")).header("accept-encoding", "gzip").send().await?;
        assert_eq!(gzip.headers()["content-encoding"], "gzip");
        let head = client.head(format!("{base}/metadata")).send().await?;
        assert_eq!((head.status().as_u16(), head.bytes().await?.len()), (200, 0));
        for (path, status) in [
            ("/OperationDefinition", 200),
            ("/OperationDefinition/export", 200),
            ("/OperationDefinition/import", 404),
            ("/.well-known/smart-configuration", 404),
            ("/_operations/export", 200),
            ("/Watermill", 404),
            ("/a/path/that/nobody/knows", 404),
        ] {
            let answer = client.get(format!("{base}{path}")).send().await?;
            assert_eq!(answer.status(), status, "{path}");
            assert_eq!(answer.headers()["content-type"], "application/fhir+json", "{path}");
        }
        Ok(())
    })
}

#[test]
fn a_body_that_is_too_long_is_refused_before_it_is_understood() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = serve(&lake::sample_dir(), &state).await?;
        let answer = reqwest::Client::new()
            .post(format!("{base}/$export"))
            .header("content-type", "application/fhir+json")
            .body(vec![b' '; 5_000_001])
            .send()
            .await?;
        assert_eq!(answer.status(), 413);
        let outcome: serde_json::Value = serde_json::from_slice(&answer.bytes().await?)?;
        assert_eq!((&outcome["resourceType"], &outcome["issue"][0]["code"]), (&"OperationOutcome".into(), &"too-costly".into()));
        Ok(())
    })
}

/// A page that lets its own name lead to this machine sends that name.
#[test]
fn names_of_other_machines_are_not_answered() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = serve(&lake::sample_dir(), &state).await?;
        let http = reqwest::Client::builder().build()?;
        for path in ["/metadata", "/$export", "/nothing/there"] {
            let request = http.get(format!("{base}{path}")).header("host", "evil.example:8080");
            let answer = request.header("accept", "application/fhir+json").header("prefer", "respond-async").send().await?;
            assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (421, &"application/fhir+json".parse()?), "{path}");
            let outcome: serde_json::Value = serde_json::from_slice(&answer.bytes().await?)?;
            let said = outcome["issue"][0]["diagnostics"].as_str().ok_or("no diagnostics")?;
            assert!(said.contains("--base-url") && !said.contains("evil"), "{said}");
        }
        for host in ["localhost", "127.0.0.1:1", "[::1]:8080"] {
            assert_eq!(http.get(format!("{base}/metadata")).header("host", host).send().await?.status(), 200, "{host}");
        }
        Ok(())
    })
}

#[test]
fn a_killed_server_goes_on_where_it_was() -> Result<()> {
    run(async || {
        let (folder, state, out) = (tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?);
        let lake_dir = folder.path().join("lake");
        lake::multiply(&lake::sample_dir(), &lake_dir, 60, lake::Packing::Plain)?;
        let client = BulkClient::new(None, IMPATIENCE)?;
        let http = reqwest::Client::builder().build()?;
        let mut server = Server::start(&lake_dir, state.path(), &["--workers", "1", "--file-size-mb", "1"])?;
        let mut status = client.kick_off(&server.base, "$export", &[], false).await?;
        let (mut kills, mut seen) = (0, Vec::new());
        // As soon as the server has come further than at the last kill, it is killed again, in whatever it is doing.
        while kills < 6 {
            let answer = http.get(status.clone()).send().await?;
            if answer.status() != 202 {
                break;
            }
            let progress = answer.headers()["x-progress"].to_str()?.to_owned();
            if !seen.contains(&progress) {
                seen.push(progress);
                server.kill()?;
                kills += 1;
                server = Server::start(&lake_dir, state.path(), &["--workers", "1", "--file-size-mb", "1"])?;
                status = server.at(&status)?;
            }
        }
        assert!(kills >= 3, "the export was over before it could be killed: {seen:?}");
        let manifest = client.wait(&status, |_| {}).await?;
        // Its URLs name the first server's port.
        let mut lines = Vec::new();
        let mut names = Vec::new();
        for entry in &manifest.output {
            let url = server.at(&Url::parse(&entry.url)?)?;
            let bytes = http.get(url.clone()).send().await?.bytes().await?;
            let path = out.path().join(url.path().rsplit('/').next().unwrap_or_default());
            names.push(path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
            std::fs::write(&path, &bytes)?;
            let count = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!(Some(count), entry.count, "{path:?}");
            lines.push(Downloaded { kind: entry.kind.clone(), path, bytes: bytes.len() as u64, lines: count, is_error: false });
        }
        assert_eq!(sorted_lines(&lines)?, oracle::expected(&lake_dir, None, None)?);
        assert!(manifest.error.is_empty());
        // Nothing lies beside what the manifest names, not even what died while it was written.
        let mut stored = Vec::new();
        for folder in std::fs::read_dir(state.path().join("files"))? {
            for file in std::fs::read_dir(folder?.path())? {
                stored.push(file?.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        stored.sort();
        assert_eq!(stored, names);
        println!("killed {kills} times, at {seen:?}");
        Ok(())
    })
}

/// What real clients were seen to send, and what they need back.
// Holds: K12, K20, S1, S21, M2, F4, B4, B5, B6, B8, B11, B12, B14
#[test]
fn clients_in_the_field_are_served_as_they_need_it() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = serve(&lake::sample_dir(), &state).await?;
        let http = reqwest::Client::builder().build()?;
        let status_of = |response: &reqwest::Response| -> Result<String> {
            assert_eq!(response.status(), 202, "{response:?}");
            let status = response.headers()["content-location"].to_str()?.to_owned();
            assert!(status.starts_with("http://127.0.0.1:"), "{status}");
            Ok(status)
        };
        // Medplum: POST with the parameters in the query, no body, its own Accept; polls with the same.
        let accept = "application/fhir+json, */*; q=0.1";
        let url = format!("{base}/$export?_type=Patient");
        let kick_off = http.post(&url).header("accept", accept).header("prefer", "respond-async").send().await?;
        let status = status_of(&kick_off)?;
        let complete = loop {
            let poll = http.get(&status).header("accept", accept).send().await?;
            if poll.status() != 202 {
                break poll;
            }
            assert!(poll.headers()["retry-after"].to_str()?.parse::<u8>().is_ok_and(|seconds| (1..=10).contains(&seconds)));
            assert!(poll.headers()["x-progress"].len() < 100);
        };
        assert_eq!((complete.status().as_u16(), &complete.headers()["content-type"]), (200, &"application/json".parse()?));
        let manifest: serde_json::Value = serde_json::from_slice(&complete.bytes().await?)?;
        assert_eq!(manifest["request"], format!("{base}/$export"));
        assert!(manifest["error"].is_array());
        // The manifest can be had again, whatever the client says that it accepts, and with an empty bearer token (Inferno).
        let again = http.get(&status).header("accept", "text/html").header("authorization", "Bearer ").send().await?;
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&again.bytes().await?)?, manifest);
        assert_eq!(http.delete(&status).header("authorization", "Bearer ").send().await?.status(), 202);
        // bulk-data-client: lenient by default, a local offset whose plus sign was not encoded, a parameter of its own.
        let url = format!("{base}/$export?_since=2015-01-01T00:00:00+00:00&_type=Patient,Observation&_foo=1");
        let prefer = "respond-async, handling=lenient";
        let kick_off = http.get(&url).header("accept", "application/fhir+json").header("prefer", prefer).send().await?;
        let client = BulkClient::new(None, IMPATIENCE)?;
        let status = Url::parse(&status_of(&kick_off)?)?;
        client.wait(&status, |_| {}).await?;
        let manifest: serde_json::Value = serde_json::from_slice(&http.get(status).send().await?.bytes().await?)?;
        let errors = http.get(manifest["error"][0]["url"].as_str().ok_or("no error file")?).send().await?.text().await?;
        assert!(errors.contains("_foo") && !errors.contains("\"error\"") && !errors.contains("\"fatal\""), "{errors}");
        Ok(())
    })
}
