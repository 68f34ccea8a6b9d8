//! `headrace export`: runs one export as a Bulk Data client and prints its progress and a summary.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headrace_core::request::ANONYMIZATION_FOLDER;
use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressStyle};
use tokio::net::TcpListener;

use crate::cli::ExportArgs;
use crate::client::bulk::{BulkClient, ClientError, DownloadedFile, Manifest};
use crate::client::error_files::ErrorLines;
use crate::client::login::LoginSettings;
use crate::server::http::{base_url, serve};
use crate::server::service::{ServerAccess, Service, ServiceConfig, StartError};
use crate::server::state::FILES_FOLDER;
use crate::stores::client_key::{ClientKey, KeyError};

/// Time between two polls of the server in this process. Other servers choose the time with `Retry-After`.
const LOCAL_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Failure of `headrace export`.
#[derive(Debug, thiserror::Error)]
pub enum ExportCommandError {
    /// The output directory is not empty.
    #[error("`{0}` is not empty; use another directory, or add --overwrite")]
    NotEmpty(PathBuf),
    /// The output directory cannot be created or read.
    #[error("`{path}` cannot be used as the output directory")]
    Out {
        /// Path of the directory.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The user interrupted the export.
    #[error("interrupted; files that are already downloaded remain in the output directory")]
    Interrupted,
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] headrace_edge::config::ConfigError),
    /// The server in this process did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The anonymization configuration cannot be read.
    #[error("the anonymization configuration `{path}` cannot be read")]
    AnonymizationConfig {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The client's key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The export failed.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Result of an export, for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportStatus {
    /// The export is complete.
    Complete,
    /// The export is complete, except for lines of the source that were not resources.
    WithErrors,
}

/// Runs `headrace export` and prints its progress and a summary.
pub async fn run_export(args: &ExportArgs) -> Result<ExportStatus, ExportCommandError> {
    prepare_output_dir(&args.out, args.overwrite)?;
    let is_url = args.source.starts_with("http://") || args.source.starts_with("https://");
    if is_url {
        let client = match read_login(args)? {
            Some(login) => BulkClient::with_login(login, &args.source, None)?,
            None => BulkClient::new(args.token.clone(), None)?,
        };
        return export_and_download(&client, &args.source, args, args.options.parameters()).await;
    }
    // A large export may not fit into the system's temporary folder, so the state is in the output directory.
    let unusable = |cause| ExportCommandError::Out { path: args.out.clone(), cause };
    let state = tempfile::Builder::new().prefix(".headrace-").tempdir_in(&args.out).map_err(unusable)?;
    let config = ServiceConfig {
        lake: PathBuf::from(&args.source),
        state: state.path().to_owned(),
        settings: args.service.settings()?,
        lake_settings: args.service.lake_settings()?,
        trust_object_names: args.service.trust_object_names,
        workers: args.service.workers(),
        access: ServerAccess::None,
    };
    let parameters = local_server_parameters(args, state.path())?;
    let service = Arc::new(Service::start(config).await?);
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.map_err(unusable)?;
    let base = base_url(listener.local_addr().map_err(unusable)?);
    let server = tokio::spawn(serve(service, listener));
    let client = BulkClient::new(None, Some(LOCAL_POLL_INTERVAL))?;
    // On an interrupt this function must return, not exit: dropping `state` deletes patient data.
    let result = tokio::select! {
        result = export_and_download(&client, &base, args, parameters) => result,
        _ = tokio::signal::ctrl_c() => Err(ExportCommandError::Interrupted),
    };
    server.abort();
    result
}

/// Reads the client credentials, if the command line has any.
fn read_login(args: &ExportArgs) -> Result<Option<LoginSettings>, KeyError> {
    let options = &args.login;
    let (Some(client_id), Some(path)) = (&options.client_id, &options.client_key) else { return Ok(None) };
    let key = ClientKey::read(path, options.client_key_id.as_deref())?;
    Ok(Some(LoginSettings { client_id: client_id.clone(), key, scope: options.scope.clone(), token_url: options.token_url.clone() }))
}

/// Creates the output directory, and fails if it is not empty and must not be overwritten.
fn prepare_output_dir(out: &Path, overwrite: bool) -> Result<(), ExportCommandError> {
    let unusable = |cause| ExportCommandError::Out { path: out.to_owned(), cause };
    std::fs::create_dir_all(out).map_err(unusable)?;
    let is_empty = std::fs::read_dir(out).map_err(unusable)?.next().is_none();
    if is_empty || overwrite { Ok(()) } else { Err(ExportCommandError::NotEmpty(out.to_owned())) }
}

/// File name of the anonymization configuration in the state of the server in this process.
const CONFIG_FILE: &str = "config.json";

/// Container of a de-identified export if none is given. De-identified exports require a container.
const DEIDENTIFIED_CONTAINER: &str = "de-identified";

/// Returns the export parameters for the server in this process. Copies the anonymization configuration to its state, where a
/// server looks for it, and allows partial manifests, so that a manifest of any length can be read page by page.
fn local_server_parameters(args: &ExportArgs, state: &Path) -> Result<Vec<(&'static str, String)>, ExportCommandError> {
    let mut options = args.options.clone();
    if let Some(path) = &args.options.anonymization_config {
        let folder = state.join(FILES_FOLDER).join(ANONYMIZATION_FOLDER);
        let copy = || std::fs::create_dir_all(&folder).and_then(|()| std::fs::copy(path, folder.join(CONFIG_FILE)));
        copy().map_err(|cause| ExportCommandError::AnonymizationConfig { path: path.into(), cause })?;
        options.anonymization_config = Some(CONFIG_FILE.to_owned());
        options.container.get_or_insert_with(|| DEIDENTIFIED_CONTAINER.to_owned());
    }
    let mut parameters = options.parameters();
    parameters.push(("allowPartialManifests", "true".to_owned()));
    Ok(parameters)
}

/// Runs the export on a server, downloads its files, deletes it there and prints the summary.
async fn export_and_download(
    client: &BulkClient,
    base: &str,
    args: &ExportArgs,
    parameters: Vec<(&'static str, String)>,
) -> Result<ExportStatus, ExportCommandError> {
    let started = Instant::now();
    let options = &args.options;
    let status_url = client.kick_off(base, &options.path(), &parameters, options.lenient).await?;
    let mut progress = Progress::new();
    let manifest = client.wait_for_manifest(&status_url, |text| progress.update(text)).await;
    let export_time = started.elapsed();
    progress.finish();
    let manifest = manifest?;
    let downloads = DownloadProgress::new(&manifest);
    let files = client.download(&manifest, &args.out, |bytes| downloads.add(bytes)).await;
    downloads.finish();
    let files = files?;
    let total_time = started.elapsed();
    if let Err(error) = client.delete(&status_url).await {
        tracing::warn!(error = %error, "the export could not be deleted on the server");
    }
    let lines = ErrorLines::read(&files).map_err(|cause| ExportCommandError::Out { path: args.out.clone(), cause })?;
    let summary = format_summary(&files, &manifest, &args.out, (export_time, total_time), &lines);
    // A closed pipe is not an error: the reader has seen enough.
    drop(io::stdout().write_all(summary.as_bytes()));
    Ok(if lines.errors > 0 { ExportStatus::WithErrors } else { ExportStatus::Complete })
}

/// The progress of the export: a bar on a terminal, otherwise plain lines.
enum Progress {
    Bar(ProgressBar),
    Lines { last_text: String, printed_at: Instant },
}

/// Minimum time between two progress lines.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

impl Progress {
    /// Starts a bar or lines, depending on standard error.
    fn new() -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines { last_text: String::new(), printed_at: Instant::now() };
        }
        let bar = ProgressBar::new(100);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {msg} [{elapsed}]") {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    /// Shows the `X-Progress` text of the server.
    fn update(&mut self, text: &str) {
        match self {
            Self::Bar(bar) => {
                let percent = text.split_once(" %").and_then(|(percent, _)| percent.parse().ok());
                bar.set_position(percent.unwrap_or_default());
                bar.set_message(text.to_owned());
            }
            Self::Lines { last_text, printed_at } => {
                if *last_text != text && printed_at.elapsed() >= LINE_INTERVAL {
                    print_progress(text);
                    text.clone_into(last_text);
                    *printed_at = Instant::now();
                }
            }
        }
    }

    /// Removes the bar.
    fn finish(self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines { .. } => {}
        }
    }
}

/// The progress of the downloads: a byte counter on a terminal, otherwise nothing.
struct DownloadProgress(Option<ProgressBar>);

impl DownloadProgress {
    /// Starts the counter if standard error is a terminal.
    fn new(manifest: &Manifest) -> Self {
        let files = manifest.output.len() + manifest.deleted.len() + manifest.error.len();
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template("downloading {msg}: {bytes} [{bytes_per_sec}]") {
            bar.set_style(style);
        }
        bar.set_message(format!("{files} files"));
        Self(Some(bar))
    }

    /// Adds downloaded bytes.
    fn add(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }

    /// Removes the counter.
    fn finish(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Formats a table of the files, totals, times and the `--since` of the next incremental export.
fn format_summary(
    files: &[DownloadedFile],
    manifest: &Manifest,
    out: &Path,
    (export_time, total_time): (Duration, Duration),
    lines: &ErrorLines,
) -> String {
    let names: Vec<String> =
        files.iter().map(|file| file.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default().max(4);
    let mut output = format!("{:width$}  {:>12}  {:>10}\n", "FILE", "RESOURCES", "SIZE");
    for (name, file) in names.iter().zip(files) {
        // Both are formatted first, because they ignore the width.
        let (lines, size) = (HumanCount(file.lines).to_string(), DecimalBytes(file.bytes).to_string());
        output += &format!("{name:width$}  {lines:>12}  {size:>10}\n");
    }

    let resources: Vec<&DownloadedFile> = files.iter().filter(|file| !file.is_error).collect();
    let resource_count: u64 = resources.iter().map(|file| file.lines).sum();
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let types: std::collections::BTreeSet<&str> = resources.iter().filter_map(|file| file.resource_type.as_deref()).collect();
    output += &format!(
        "\n{} resources of {} types in {} files, {}, in {}\n",
        HumanCount(resource_count),
        types.len(),
        resources.len(),
        DecimalBytes(bytes),
        out.display()
    );

    let seconds = total_time.as_secs_f64();
    output += &format!(
        "took {seconds:.2} s: export {:.2} s, download {:.2} s; {}/s, {} resources/s\n",
        export_time.as_secs_f64(),
        seconds - export_time.as_secs_f64(),
        DecimalBytes(per_second(bytes, total_time)),
        HumanCount(per_second(resource_count, total_time)),
    );
    output += &format!("to export only later changes next time: --since {}{}\n", manifest.transaction_time, manifest.describe_watermark());
    for notice in &lines.notices {
        output += &format!("note: {notice}\n");
    }
    if lines.errors > 0 {
        output += &format!(
            "warning: {} lines of the source are not resources and were skipped; see error-1.ndjson for lines and reasons\n",
            HumanCount(lines.errors)
        );
    }
    output
}

/// Returns a rate per second, rounded down.
fn per_second(count: u64, time: Duration) -> u64 {
    let millis = time.as_millis().max(1);
    u64::try_from(u128::from(count) * 1_000 / millis).unwrap_or(u64::MAX)
}

/// Prints a line to standard error.
fn print_progress(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let resource_type = Some("Patient".to_owned());
        let path = PathBuf::from("out/Patient-1.ndjson");
        let file = DownloadedFile { resource_type, path, bytes: 64_000_000, lines: 1_234_567, is_error: false };
        let times = (Duration::from_secs(1), Duration::from_secs(2));
        let manifest = r#"{"transactionTime":"2026-01-01T00:00:00Z","requiresAccessToken":false,"output":[]}"#;
        let manifest: Manifest = serde_json::from_str(manifest).unwrap();
        let summary = format_summary(&[file], &manifest, Path::new("out"), times, &ErrorLines::default());
        assert_eq!(
            summary,
            "FILE                 RESOURCES        SIZE\n\
             Patient-1.ndjson     1,234,567    64.00 MB\n\
             \n\
             1,234,567 resources of 1 types in 1 files, 64.00 MB, in out\n\
             took 2.00 s: export 1.00 s, download 1.00 s; 32.00 MB/s, 617,283 resources/s\n\
             to export only later changes next time: --since 2026-01-01T00:00:00Z\n"
        );
    }
}
