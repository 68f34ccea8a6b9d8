//! `headrace serve` as a process, and a minimal client.

use std::io::BufRead as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::Value;
use tempfile::TempDir;

use crate::Result;

/// Time limit for an export. Much longer than any export of this test takes.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(300);

/// Interval between polls of an export.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Server process over a lake, which is killed on drop.
pub(crate) struct Server {
    child: Child,
    base: String,
    runtime: tokio::runtime::Runtime,
    _state: TempDir,
}

/// Content of a completed export.
pub(crate) struct Export {
    /// Lines of all output files.
    pub(crate) lines: Vec<String>,
    /// Number of lines in all error files.
    pub(crate) errors: u64,
}

impl Server {
    /// Starts a server for the lake on a free port, with an empty state folder.
    pub(crate) fn start(lake: &Path) -> Result<Self> {
        let state = tempfile::tempdir()?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_headrace-under-test"))
            // The lake is complete: its files arrive before the first export.
            .args(["serve", "--port", "0", "--log", "warn", "--lake-watermark", "now", "--state"])
            .arg(state.path())
            .arg(lake)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut base = String::new();
        std::io::BufReader::new(child.stdout.take().ok_or("the standard output is not piped")?).read_line(&mut base)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { child, base: base.trim_end().to_owned(), runtime, _state: state })
    }

    /// Kicks off at `path` with this query, waits, and downloads all files. A query with `patient` is sent as a POST body.
    pub(crate) fn export(&self, path: &str, query: &[(&str, String)]) -> Result<Export> {
        self.runtime.block_on(async { tokio::time::timeout(EXPORT_TIMEOUT, self.export_async(path, query)).await? })
    }

    /// Runs [`Self::export`].
    async fn export_async(&self, path: &str, query: &[(&str, String)]) -> Result<Export> {
        let http = Client::new();
        let url = format!("{}/{path}", self.base);
        let kick_off = if query.iter().any(|(name, _)| *name == "patient") {
            let parameters: Vec<Value> = query.iter().map(|(name, value)| parameter(name, value)).collect();
            let body = serde_json::json!({ "resourceType": "Parameters", "parameter": parameters });
            http.post(url).header("content-type", "application/fhir+json").body(body.to_string())
        } else {
            let mut url = reqwest::Url::parse(&url)?;
            if !query.is_empty() {
                url.query_pairs_mut().extend_pairs(query);
            }
            http.get(url)
        };
        let accepted = kick_off.header("accept", "application/fhir+json").header("prefer", "respond-async").send().await?;
        let status = match accepted.headers().get("content-location") {
            Some(status) if accepted.status() == 202 => status.to_str()?.to_owned(),
            _ => return Err(response_error(accepted).await),
        };
        let manifest: Value = loop {
            let poll = http.get(&status).send().await?;
            match poll.status().as_u16() {
                202 => tokio::time::sleep(POLL_INTERVAL).await,
                200 => break serde_json::from_slice(&poll.bytes().await?)?,
                _ => return Err(response_error(poll).await),
            }
        };
        let mut export = Export { lines: Vec::new(), errors: 0 };
        for entry in entries(&manifest, "output") {
            let file = http.get(entry.get("url").and_then(Value::as_str).unwrap_or_default()).send().await?.text().await?;
            if entry.get("count").and_then(Value::as_u64) != Some(file.lines().count() as u64) {
                return Err("the count of a file differs from its number of lines".into());
            }
            export.lines.extend(file.lines().map(str::to_owned));
        }
        export.errors = entries(&manifest, "error").iter().filter_map(|entry| entry.get("count")?.as_u64()).sum();
        http.delete(&status).send().await?;
        Ok(export)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Builds a parameter of a Parameters resource.
fn parameter(name: &str, value: &str) -> Value {
    match name {
        "patient" => serde_json::json!({ "name": name, "valueReference": { "reference": value } }),
        "_since" | "_until" => serde_json::json!({ "name": name, "valueInstant": value }),
        _ => serde_json::json!({ "name": name, "valueString": value }),
    }
}

/// Returns the files in one of the manifest's lists.
fn entries<'a>(manifest: &'a Value, name: &str) -> &'a [Value] {
    manifest.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Returns an error with the status and the body of a response.
async fn response_error(response: Response) -> Box<dyn std::error::Error + Send + Sync> {
    let status = response.status();
    format!("{status}: {}", response.text().await.unwrap_or_default()).into()
}
