//! Exports over HTTP from `headrace serve`.

use std::collections::BTreeMap;
use std::path::Path;

use headrace_local::client::bulk::{BulkClient, DownloadedFile, FileList};
use headrace_local::server::service::{ServerAccess, ServiceConfig};
use headrace_tests::flows::{Result, oracle, run, server_config, start_local_server};
use headrace_tests::lake;
use reqwest::Url;
use tempfile::TempDir;

use crate::process::Server;

/// Poll interval of the client.
const POLL_INTERVAL: Option<std::time::Duration> = Some(std::time::Duration::from_millis(5));

/// Starts the server in this process and returns its base URL.
async fn serve(lake: &Path, state: &TempDir) -> Result<String> {
    start_local_server(ServiceConfig { workers: 2, ..server_config(lake, state.path(), ServerAccess::None) }).await
}

/// Waits for the manifest and downloads its files.
async fn download(client: &BulkClient, status: &Url, out: &Path) -> Result<Vec<DownloadedFile>> {
    let manifest = client.wait_for_manifest(status, |_| {}).await?;
    Ok(client.download(&manifest, out, |_| {}).await?)
}

/// Returns the sorted lines of downloaded files, except error files.
fn sorted_lines(files: &[DownloadedFile]) -> Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    for file in files.iter().filter(|file| file.list != FileList::Error) {
        let bytes = std::fs::read(&file.path)?;
        lines.extend(bytes.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line).to_vec()));
    }
    lines.sort();
    Ok(lines)
}

// Holds: K1, K2, M5, M10, R4, R5, B7
#[test]
fn an_export_over_http_returns_every_line_of_the_lake() -> Result<()> {
    run(async || {
        for dir in [lake::sample_lake_dir(), lake::synthea_lake_dir()] {
            let (state, out) = (tempfile::tempdir()?, tempfile::tempdir()?);
            let base = serve(&dir, &state).await?;
            let client = BulkClient::without_credential(POLL_INTERVAL)?;
            let status = client.kick_off(&base, "$export", &[], false).await?;
            let files = download(&client, &status, out.path()).await?;
            assert_eq!(sorted_lines(&files)?, oracle::expected_lines(&dir, None, None)?);
            let counted: BTreeMap<_, _> =
                files.iter().map(|file| (file.resource_type.clone().unwrap_or_default(), (file.lines, file.bytes))).collect();
            let expected: BTreeMap<_, _> = lake::count(&dir)?.into_iter().map(|(kind, tally)| (kind, (tally.lines, tally.bytes))).collect();
            assert_eq!(counted, expected);
            assert_eq!(files.len(), expected.len());
        }
        Ok(())
    })
}

// Holds: C2, C3, F1, F5
#[test]
fn a_file_is_sent_whole_in_ranges_or_compressed_until_its_job_is_deleted() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = serve(&lake::sample_lake_dir(), &state).await?;
        let client = BulkClient::without_credential(POLL_INTERVAL)?;
        let status = client.kick_off(&base, "$export", &[("_type", "Patient".to_owned())], false).await?;
        let manifest = client.wait_for_manifest(&status, |_| {}).await?;
        let url = manifest.output.first().ok_or("no file")?.url.clone();
        let http = reqwest::Client::builder().build()?;
        let whole = http.get(&url).send().await?;
        assert_eq!(whole.headers()["content-type"], "application/fhir+ndjson");
        let whole = whole.bytes().await?;
        let range = http.get(&url).header("range", "bytes=10-19").send().await?;
        assert_eq!((range.status().as_u16(), &range.headers()["content-type"]), (206, &"application/fhir+ndjson".parse()?));
        assert_eq!(range.bytes().await?, whole.slice(10..20));
        let compressed = http.get(&url).header("accept-encoding", "gzip").send().await?;
        assert_eq!(compressed.headers()["content-encoding"], "gzip");
        assert!(compressed.bytes().await?.len() < whole.len() / 2);
        client.delete(&status).await?;
        for url in [status.as_str(), &url] {
            let deleted = http.get(url).send().await?;
            assert_eq!((deleted.status().as_u16(), &deleted.headers()["content-type"]), (404, &"application/fhir+json".parse()?), "{url}");
        }
        assert_eq!(http.delete(status).send().await?.status(), 404);
        Ok(())
    })
}

// Holds: CS6
#[test]
fn anyone_can_read_the_capability_statement() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = serve(&lake::sample_lake_dir(), &state).await?;
        let client = reqwest::Client::new();
        let response = client.get(format!("{base}/metadata")).send().await?;
        let statement: serde_json::Value = serde_json::from_slice(&response.bytes().await?)?;
        assert_eq!(statement["implementation"]["url"], base);
        assert!(statement["rest"][0]["security"]["description"].as_str().is_some_and(|description| description.starts_with("None")));
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
            let response = client.get(format!("{base}{path}")).send().await?;
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.headers()["content-type"], "application/fhir+json", "{path}");
        }
        Ok(())
    })
}

#[test]
fn a_request_body_that_is_too_long_is_rejected_before_parsing() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = serve(&lake::sample_lake_dir(), &state).await?;
        let response = reqwest::Client::new()
            .post(format!("{base}/$export"))
            .header("content-type", "application/fhir+json")
            .body(vec![b' '; 5_000_001])
            .send()
            .await?;
        assert_eq!(response.status(), 413);
        let outcome: serde_json::Value = serde_json::from_slice(&response.bytes().await?)?;
        assert_eq!((&outcome["resourceType"], &outcome["issue"][0]["code"]), (&"OperationOutcome".into(), &"too-costly".into()));
        Ok(())
    })
}

/// Guards against DNS rebinding: a web page whose host name resolves to this machine sends its own name as `Host`.
#[test]
fn requests_for_other_host_names_are_rejected() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = serve(&lake::sample_lake_dir(), &state).await?;
        let http = reqwest::Client::builder().build()?;
        for path in ["/metadata", "/$export", "/nothing/there"] {
            let request = http.get(format!("{base}{path}")).header("host", "evil.example:8080");
            let response = request.header("accept", "application/fhir+json").header("prefer", "respond-async").send().await?;
            assert_eq!(
                (response.status().as_u16(), &response.headers()["content-type"]),
                (421, &"application/fhir+json".parse()?),
                "{path}"
            );
            let outcome: serde_json::Value = serde_json::from_slice(&response.bytes().await?)?;
            let diagnostics = outcome["issue"][0]["diagnostics"].as_str().ok_or("no diagnostics")?;
            assert!(diagnostics.contains("--base-url") && !diagnostics.contains("evil"), "{diagnostics}");
        }
        for host in ["localhost", "127.0.0.1:1", "[::1]:8080"] {
            assert_eq!(http.get(format!("{base}/metadata")).header("host", host).send().await?.status(), 200, "{host}");
        }
        Ok(())
    })
}

#[test]
fn a_killed_server_continues_the_export_after_a_restart() -> Result<()> {
    run(async || {
        let (folder, state, out) = (tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?);
        let lake_dir = folder.path().join("lake");
        lake::multiply(&lake::sample_lake_dir(), &lake_dir, 60, lake::Compression::Plain)?;
        let client = BulkClient::without_credential(POLL_INTERVAL)?;
        let http = reqwest::Client::builder().build()?;
        let mut server = Server::start(&lake_dir, state.path(), &["--workers", "1", "--file-size-mb", "1"])?;
        let mut status = client.kick_off(&server.base, "$export", &[], false).await?;
        let (mut kills, mut progress_seen) = (0, Vec::new());
        // The server is killed whenever the export has progressed since the last kill, whatever it is doing at that moment.
        while kills < 6 {
            let response = http.get(status.clone()).send().await?;
            if response.status() != 202 {
                break;
            }
            let progress = response.headers()["x-progress"].to_str()?.to_owned();
            if !progress_seen.contains(&progress) {
                progress_seen.push(progress);
                server.kill()?;
                kills += 1;
                server = Server::start(&lake_dir, state.path(), &["--workers", "1", "--file-size-mb", "1"])?;
                status = server.rebase(&status)?;
            }
        }
        assert!(kills >= 3, "the export ended before the server was killed often enough: {progress_seen:?}");
        let manifest = client.wait_for_manifest(&status, |_| {}).await?;
        // The URLs of the manifest contain the port of the first server.
        let mut lines = Vec::new();
        let mut names = Vec::new();
        for entry in &manifest.output {
            let url = server.rebase(&Url::parse(&entry.url)?)?;
            let bytes = http.get(url.clone()).send().await?.bytes().await?;
            let path = out.path().join(url.path().rsplit('/').next().unwrap_or_default());
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            names.push(name.clone());
            std::fs::write(&path, &bytes)?;
            let count = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!(Some(count), entry.count, "{path:?}");
            lines.push(DownloadedFile {
                name,
                resource_type: entry.resource_type.clone(),
                path,
                bytes: bytes.len() as u64,
                lines: count,
                list: FileList::Output,
            });
        }
        assert_eq!(sorted_lines(&lines)?, oracle::expected_lines(&lake_dir, None, None)?);
        assert!(manifest.error.is_empty());
        // The manifest lists all files. None is partly written.
        let mut stored = Vec::new();
        for folder in std::fs::read_dir(state.path().join("files"))? {
            for file in std::fs::read_dir(folder?.path())? {
                stored.push(file?.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        stored.sort();
        assert_eq!(stored, names);
        Ok(())
    })
}

/// Repeats requests that real clients were seen to send.
// Holds: K12, K20, S1, S21, M2, F4, B4, B5, B6, B8, B11, B12, B14
#[test]
fn real_clients_get_the_responses_that_they_need() -> Result<()> {
    run(async || {
        let state = tempfile::tempdir()?;
        let base = serve(&lake::sample_lake_dir(), &state).await?;
        let http = reqwest::Client::builder().build()?;
        let status_of = |response: &reqwest::Response| -> Result<String> {
            assert_eq!(response.status(), 202, "{response:?}");
            let status = response.headers()["content-location"].to_str()?.to_owned();
            assert!(status.starts_with("http://127.0.0.1:"), "{status}");
            Ok(status)
        };
        // Medplum sends a POST without a body, with the parameters in the query and its own Accept header, which it also polls with.
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
        // Inferno requests the manifest again with another Accept header and an empty bearer token.
        let second_response = http.get(&status).header("accept", "text/html").header("authorization", "Bearer ").send().await?;
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&second_response.bytes().await?)?, manifest);
        assert_eq!(http.delete(&status).header("authorization", "Bearer ").send().await?.status(), 202);
        // bulk-data-client is lenient by default and sends a time zone offset with an unencoded plus sign and a parameter of its own.
        let url = format!("{base}/$export?_since=2015-01-01T00:00:00+00:00&_type=Patient,Observation&_foo=1");
        let prefer = "respond-async, handling=lenient";
        let kick_off = http.get(&url).header("accept", "application/fhir+json").header("prefer", prefer).send().await?;
        let client = BulkClient::without_credential(POLL_INTERVAL)?;
        let status = Url::parse(&status_of(&kick_off)?)?;
        client.wait_for_manifest(&status, |_| {}).await?;
        let manifest: serde_json::Value = serde_json::from_slice(&http.get(status).send().await?.bytes().await?)?;
        let errors = http.get(manifest["error"][0]["url"].as_str().ok_or("no error file")?).send().await?.text().await?;
        assert!(errors.contains("_foo") && !errors.contains("\"error\"") && !errors.contains("\"fatal\""), "{errors}");
        Ok(())
    })
}
