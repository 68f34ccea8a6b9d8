//! `headrace export`: a whole round trip, and what it tells its user.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headrace_core::job::anonymization;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::net::TcpListener;

use crate::cli::Export;
use crate::client::bulk::{BulkClient, ClientError, DownloadedFile, Manifest};
use crate::client::client_key::{ClientKey, KeyError};
use crate::client::login::LoginSettings;
use crate::server::http::{base_url, serve};
use crate::server::service::{ServerAccess, ServiceConfig, Service, StartError};
use crate::server::state::FILES_FOLDER;

/// How often our own server is asked; other servers say how often they want to be.
const LOCAL_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportCommandError {
    /// There is something in it.
    #[error("`{0}` is not empty; name another directory, or add --overwrite")]
    NotEmpty(PathBuf),
    /// It cannot be created or read.
    #[error("`{path}` cannot be used as the output directory")]
    Out {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Its user stopped it.
    #[error("interrupted; files that were downloaded stay in the output directory")]
    Interrupted,
    /// A setting.
    #[error(transparent)]
    Config(#[from] headrace_edge::config::ConfigError),
    /// Our own server did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The anonymization configuration.
    #[error("the anonymization configuration `{path}` cannot be read")]
    Unread {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The client's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The export itself.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// What was exported, for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportStatus {
    /// Everything.
    Complete,
    /// Some lines of the lake were no resources.
    WithErrors,
}

/// Runs the command and prints what it did.
pub async fn export(order: &Export) -> Result<ExportStatus, ExportCommandError> {
    prepare_output_folder(&order.out, order.overwrite)?;
    let is_url = order.from.starts_with("http://") || order.from.starts_with("https://");
    if is_url {
        let client = match login(order)? {
            Some(login) => BulkClient::with_login(login, &order.from, None)?,
            None => BulkClient::new(order.token.clone(), None)?,
        };
        return run_export(&client, &order.from, order, order.wishes.parameters()).await;
    }
    // Beside the output, for a large export may not fit where temporary files usually go.
    let out = |cause| ExportCommandError::Out { path: order.out.clone(), cause };
    let state = tempfile::Builder::new().prefix(".headrace-").tempdir_in(&order.out).map_err(out)?;
    let config = ServiceConfig {
        lake: PathBuf::from(&order.from),
        state: state.path().to_owned(),
        settings: order.terms.terms()?,
        lake_settings: order.terms.lake_settings()?,
        trust_object_names: order.terms.trust_object_names,
        workers: order.terms.workers(),
        access: ServerAccess::None,
    };
    let parameters = local_server_parameters(order, state.path())?;
    let service = Arc::new(Service::start(config).await?);
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.map_err(out)?;
    let base = base_url(listener.local_addr().map_err(out)?);
    let server = tokio::spawn(serve(service, listener));
    let client = BulkClient::new(None, Some(LOCAL_POLL_INTERVAL))?;
    // An interrupted export leaves no patient data behind: its state goes with the end of this function.
    let exported = tokio::select! {
        exported = run_export(&client, &base, order, parameters) => exported,
        _ = tokio::signal::ctrl_c() => Err(ExportCommandError::Interrupted),
    };
    server.abort();
    exported
}

/// Who asks, if that is shown with a key.
fn login(order: &Export) -> Result<Option<LoginSettings>, KeyError> {
    let given = &order.login;
    let (Some(client_id), Some(path)) = (&given.client_id, &given.client_key) else { return Ok(None) };
    let key = ClientKey::read(path, given.client_key_id.as_deref())?;
    Ok(Some(LoginSettings { client_id: client_id.clone(), key, scope: given.scope.clone(), token_url: given.token_url.clone() }))
}

fn prepare_output_folder(out: &Path, overwrite: bool) -> Result<(), ExportCommandError> {
    let unusable = |cause| ExportCommandError::Out { path: out.to_owned(), cause };
    std::fs::create_dir_all(out).map_err(unusable)?;
    let is_empty = std::fs::read_dir(out).map_err(unusable)?.next().is_none();
    if is_empty || overwrite { Ok(()) } else { Err(ExportCommandError::NotEmpty(out.to_owned())) }
}

/// The name of its configuration there.
const CONFIG: &str = "config.json";

/// The container of a de-identified export that names none: it needs one.
const DEIDENTIFIED: &str = "de-identified";

/// What is asked of a server of our own, which gives manifests of any length page by page. It takes an anonymization
/// configuration from where servers have theirs.
fn local_server_parameters(order: &Export, state: &Path) -> Result<Vec<(&'static str, String)>, ExportCommandError> {
    let mut wishes = order.wishes.clone();
    if let Some(path) = &order.wishes.anonymization_config {
        let folder = state.join(FILES_FOLDER).join(anonymization::FOLDER);
        let put = || std::fs::create_dir_all(&folder).and_then(|()| std::fs::copy(path, folder.join(CONFIG)));
        put().map_err(|cause| ExportCommandError::Unread { path: path.into(), cause })?;
        wishes.anonymization_config = Some(CONFIG.to_owned());
        wishes.container.get_or_insert_with(|| DEIDENTIFIED.to_owned());
    }
    let mut parameters = wishes.parameters();
    parameters.push(("allowPartialManifests", "true".to_owned()));
    Ok(parameters)
}

async fn run_export(
    client: &BulkClient,
    base: &str,
    order: &Export,
    parameters: Vec<(&'static str, String)>,
) -> Result<ExportStatus, ExportCommandError> {
    let began = Instant::now();
    let wishes = &order.wishes;
    let status_url = client.kick_off(base, &wishes.path(), &parameters, wishes.lenient).await?;
    let mut progress = Progress::new();
    let waited = client.wait_for_manifest(&status_url, |text| progress.update(text)).await;
    let exported_in = began.elapsed();
    progress.finish();
    let manifest = waited?;
    let downloads = DownloadProgress::new(&manifest);
    let files = client.download(&manifest, &order.out, |bytes| downloads.add(bytes)).await;
    downloads.finish();
    let files = files?;
    let took = began.elapsed();
    if let Err(error) = client.delete(&status_url).await {
        tracing::warn!(error = %error, "the server was not told that the files may go");
    }
    print_summary(&files, &manifest, order, (exported_in, took));
    let has_errors = files.iter().any(|file| file.is_error);
    Ok(if has_errors { ExportStatus::WithErrors } else { ExportStatus::Complete })
}

/// A bar on a terminal, plain lines elsewhere.
enum Progress {
    Bar(ProgressBar),
    Lines { last: String, at: Instant },
}

/// Lines come no closer than this.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

impl Progress {
    fn new() -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines { last: String::new(), at: Instant::now() };
        }
        let bar = ProgressBar::new(100);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {msg} [{elapsed}]") {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    fn update(&mut self, text: &str) {
        match self {
            Self::Bar(bar) => {
                let percent = text.split_once(" %").and_then(|(percent, _)| percent.parse().ok());
                bar.set_position(percent.unwrap_or_default());
                bar.set_message(text.to_owned());
            }
            Self::Lines { last, at } => {
                if *last != text && at.elapsed() >= LINE_INTERVAL {
                    eprint_line(text);
                    text.clone_into(last);
                    *at = Instant::now();
                }
            }
        }
    }

    fn finish(self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines { .. } => {}
        }
    }
}

/// How far the downloads are: a counter on a terminal only.
struct DownloadProgress(Option<ProgressBar>);

impl DownloadProgress {
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

    fn add(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }

    fn finish(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}

/// The table of files, and the whole in one sentence.
fn print_summary(files: &[DownloadedFile], manifest: &Manifest, order: &Export, (exported_in, took): (Duration, Duration)) {
    let names: Vec<String> =
        files.iter().map(|file| file.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default().max(4);
    let mut table = format!("{:width$}  {:>12}  {:>10}\n", "FILE", "RESOURCES", "SIZE");
    for (name, file) in names.iter().zip(files) {
        table += &format!("{name:width$}  {:>12}  {:>10}\n", grouped(file.lines), size(file.bytes));
    }
    let (errors, output): (Vec<&DownloadedFile>, Vec<&DownloadedFile>) = files.iter().partition(|file| file.is_error);
    let resources: u64 = output.iter().map(|file| file.lines).sum();
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let types: std::collections::BTreeSet<&str> = output.iter().filter_map(|file| file.resource_type.as_deref()).collect();
    table += &format!(
        "\n{} resources of {} types in {} files, {}, in {}\n",
        grouped(resources),
        types.len(),
        output.len(),
        size(bytes),
        order.out.display()
    );
    let seconds = took.as_secs_f64();
    table += &format!(
        "took {seconds:.2} s: export {:.2} s, download {:.2} s; {}/s, {} resources/s\n",
        exported_in.as_secs_f64(),
        seconds - exported_in.as_secs_f64(),
        size(per_second(bytes, took)),
        grouped(per_second(resources, took)),
    );
    table += &format!("next time, only what has changed: --since {}\n", manifest.transaction_time);
    let refused: u64 = errors.iter().map(|file| file.lines).sum();
    if refused > 0 {
        table += &format!(
            "attention: {} lines of the lake are no resources and were left out; error-1.ndjson says which and why\n",
            grouped(refused)
        );
    }
    // A reader that has gone away wants no more.
    drop(io::stdout().write_all(table.as_bytes()));
}

fn per_second(count: u64, took: Duration) -> u64 {
    let millis = took.as_millis().max(1);
    u64::try_from(u128::from(count) * 1_000 / millis).unwrap_or(u64::MAX)
}

/// `1234567` as `1,234,567`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let (head, tail) = digits.split_at(digits.len() % 3);
    let mut groups: Vec<&str> = Some(head).filter(|head| !head.is_empty()).into_iter().collect();
    groups.extend((0..tail.len() / 3).filter_map(|group| tail.get(group * 3..group * 3 + 3)));
    groups.join(",")
}

/// Bytes in the unit that suits them.
fn size(bytes: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    let unit = units.into_iter().find(|(_, unit)| bytes >= *unit);
    unit.map_or_else(|| format!("{bytes} B"), |(name, unit)| format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit))
}

fn eprint_line(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 7, 123, 1_234, 1_234_567].map(grouped), ["0", "7", "123", "1,234", "1,234,567"]);
        assert_eq!([0, 999, 1_250, 64_000_000, 2_500_000_000].map(size), ["0 B", "999 B", "1.2 kB", "64.0 MB", "2.5 GB"]);
    }
}
