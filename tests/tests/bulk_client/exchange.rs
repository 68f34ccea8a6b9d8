//! One export from a stub server, with a clock that the client's own pauses move.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use futures_util::FutureExt as _;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::error_chain;
use headrace_local::client::bulk::{BulkClient, ClientLimits, ClientSettings, Credential, Timer};
use headrace_tests::flows::Result;
use tokio::io::AsyncWriteExt as _;
use walkdir::WalkDir;

use crate::stub::{Answer, Routes, Stub, answer};

/// The token of the client.
pub(crate) const TOKEN: &str = "token-of-the-client";

/// A clock that only pauses move.
#[derive(Clone, Default)]
pub(crate) struct PauseClock {
    pauses: Arc<Mutex<Vec<Duration>>>,
}

impl PauseClock {
    /// Returns the pauses so far.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Timer for PauseClock {
    fn now(&self) -> Millis {
        // 2026-01-31T08:00:00Z.
        Millis(1_769_846_400_000) + self.pauses().into_iter().sum::<Duration>()
    }

    async fn sleep(&self, duration: Duration) {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner).push(duration);
        tokio::task::yield_now().await;
    }
}

/// The outcome of an export from a stub server.
pub(crate) struct Outcome {
    /// Downloaded files by name, or the error and its causes.
    pub(crate) files: std::result::Result<BTreeMap<String, Vec<u8>>, String>,
    /// Texts that were shown during the pauses.
    pub(crate) shown: Vec<String>,
    pub(crate) pauses: Vec<Duration>,
    pub(crate) server: Stub,
    pub(crate) other: Stub,
}

/// Settings of an export from a stub server.
#[derive(Clone, Copy)]
pub(crate) struct ExchangeSettings {
    /// True if the client has a bearer token.
    pub(crate) has_token: bool,
    /// True if the other server may have it.
    pub(crate) trusts_other: bool,
    pub(crate) limits: ClientLimits,
}

/// Returns the answers of a server without faults: one file with two patients.
pub(crate) fn right_routes() -> Routes {
    Routes::from([
        ("GET /fhir/$export".to_owned(), vec![answer(202, "").with("Content-Location", "{BASE}/status")]),
        ("GET /status".to_owned(), vec![answer(200, MANIFEST).with("Content-Type", "application/json")]),
        ("GET /files/1".to_owned(), vec![answer(200, PATIENTS).with("Content-Type", "application/fhir+ndjson")]),
        ("DELETE /status".to_owned(), vec![answer(202, "")]),
    ])
}

/// The manifest of a server without faults.
pub(crate) const MANIFEST: &str = r#"{"transactionTime":"2026-01-01T00:00:00Z","request":"{BASE}/fhir/$export","requiresAccessToken":true,
    "output":[{"type":"Patient","url":"{BASE}/files/1","count":2}],"error":[]}"#;

/// The file of a server without faults.
pub(crate) const PATIENTS: &str = "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n{\"resourceType\":\"Patient\",\"id\":\"2\"}\n";

/// Runs an export from a server with these answers in place of the right ones. Paths that begin with `other ` are answered by a second
/// server.
pub(crate) async fn exchange(answers: &[(&str, Vec<Answer>)], settings: ExchangeSettings) -> Result<Outcome> {
    let (listener, origin) = Stub::bind().await?;
    let (other_listener, other_origin) = Stub::bind().await?;
    let names = [("{BASE}", origin.as_str()), ("{OTHER}", other_origin.as_str())];
    let (mut routes, mut other_routes) = (right_routes(), Routes::new());
    for (path, answers) in answers {
        match path.strip_prefix("other ") {
            Some(path) => other_routes.insert(path.to_owned(), answers.clone()),
            None => routes.insert((*path).to_owned(), answers.clone()),
        };
    }
    let server = Stub::start(listener, &origin, routes, &names);
    let other = Stub::start(other_listener, &other_origin, other_routes, &names);
    let clock = PauseClock::default();
    let out = tempfile::tempdir()?;
    let token_origins = if settings.trusts_other { vec![other_origin.parse()?] } else { Vec::new() };
    let credential = if settings.has_token { Credential::BearerToken(TOKEN.to_owned()) } else { Credential::None };
    let client_settings = ClientSettings { token_origins, limits: settings.limits, max_poll_interval: None };
    let client = BulkClient::new(&format!("{origin}/fhir"), credential, client_settings, clock.clone())?;
    let mut shown = Vec::new();
    let result = run_client(&client, &format!("{origin}/fhir"), out.path(), &mut shown).await;
    let files = match result {
        Ok(()) => Ok(read_files(out.path())?),
        Err(error) => Err(error_chain(&error)),
    };
    Ok(Outcome { files, shown, pauses: clock.pauses(), server, other })
}

/// Runs all steps of an export.
async fn run_client(
    client: &BulkClient<PauseClock>,
    base: &str,
    out: &Path,
    shown: &mut Vec<String>,
) -> std::result::Result<(), headrace_local::client::bulk::ClientError> {
    let status = client.kick_off_patiently(base, "$export", &[], false, |_| {}).await?;
    let mut show = |waiting: headrace_local::client::bulk::Waiting<'_>| shown.extend(waiting.progress.map(str::to_owned));
    let manifest = client.wait_for_manifest(&status, &mut show).await?;
    client.download_renewing(&manifest, &status, out, |_| {}).await?;
    client.delete(&status).await
}

/// Compresses bytes with gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let compress = async {
        let mut encoder = GzipEncoder::new(Vec::new());
        encoder.write_all(bytes).await?;
        encoder.shutdown().await?;
        Ok::<_, std::io::Error>(encoder.into_inner())
    };
    compress.now_or_never().and_then(std::result::Result::ok).unwrap_or_default()
}

/// Compresses bytes as one Zstandard frame.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let compress = async {
        let mut encoder = ZstdEncoder::new(Vec::new());
        encoder.write_all(bytes).await?;
        encoder.shutdown().await?;
        Ok::<_, std::io::Error>(encoder.into_inner())
    };
    compress.now_or_never().and_then(std::result::Result::ok).unwrap_or_default()
}

/// Reads the files of a folder by their path in it.
pub(crate) fn read_files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in WalkDir::new(folder) {
        let entry = entry?;
        // `manifest.json` names the exported files, and is none of them.
        if entry.file_type().is_file() && entry.file_name() != "manifest.json" {
            files.insert(entry.path().strip_prefix(folder)?.to_string_lossy().into_owned(), std::fs::read(entry.path())?);
        }
    }
    Ok(files)
}
