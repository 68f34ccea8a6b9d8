//! `headrace export`: runs one export as a Bulk Data client and prints its progress and a summary.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headrace_core::ports::{Clock as _, OriginRequest, OriginServer as _};
use headrace_core::request::{ConfigName, MAX_CONFIG_BYTES};
use headrace_edge::system::SystemClock;
use reqwest::Url;
use tokio::net::TcpListener;

use crate::cli::{ExportArgs, ExportLevel, ExportOptions, OptionError, Source, SourceError};
use crate::client::bulk::KICK_OFF;
use crate::client::bulk::{BulkClient, ClientError, ClientLimits, ClientSettings, Credential, LoginSettings};
use crate::client::credential::read_credential;
use crate::client::deletions::count_deletions;
use crate::client::dry_run::{DryRunError, describe_directory_export, describe_server_export};
use crate::client::earlier_export::EarlierExport;
use crate::client::error::shown_url;
use crate::client::error_files::{OutcomeSeverity, Outcomes};
use crate::client::file_names::named_files;
use crate::client::folder::{ExportFolder, FolderError, STATE_FOLDER, SavedExport};
use crate::client::increment_basis::IncrementBasis;
use crate::client::local_export::{OwnServer, config_name, in_command_words, reason_in_command_words, settings_of_copy};
use crate::client::local_files::LocalFiles;
use crate::client::login::ClientCredential;
use crate::client::origin::parse_http_url;
use crate::client::out_dir::{OutDirError, check_source, create_out_dir, create_state_folder, is_state_folder};
use crate::client::out_manifest::{MANIFEST_FILE, OutManifest};
use crate::client::progress::{DownloadProgress, Progress, print_line};
use crate::client::report::Report;
use crate::client::since_file::{SavedTime, SinceFile, SinceFileError, parse_since};
use crate::client::sync::HttpOrigin;
use crate::client::sync::command::{SyncCommandError, origin_settings, sync_for_export};
use crate::client::timer::SystemTimer;
use crate::server::http::{base_url, serve};
use crate::server::service::{ServerAccess, Service, ServiceConfig, StartError};
use crate::server::signals::stop_signal;
use crate::stores::client_key::{KeyError, read_client_key};
use crate::stores::deid_keys::{DeidKeysFileError, read_deid_keys};
use crate::stores::directory::GivenConfiguration;
use crate::stores::io_fault::is_out_of_space;
use crate::terminal::{error_chain, print_result, printable_json};

/// Time between two polls of the server in this process. Other servers choose the time with `Retry-After`.
const LOCAL_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Failure of `headrace export`.
#[derive(Debug, thiserror::Error)]
pub enum ExportCommandError {
    /// The source is not a directory or a server.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The export would be rejected.
    #[error(transparent)]
    DryRun(#[from] DryRunError),
    /// The output directory is not empty.
    #[error("`{}` is not empty; use another directory, or add --overwrite", .0.display())]
    NotEmpty(PathBuf),
    /// The output directory has a file that no export has written, with the name of a file of exports.
    #[error(
        "`{}` has the name of a file of an export, but no earlier export has written it, so it is not replaced: move it, or use another directory; \
         nothing was exported",
        .0.display()
    )]
    ForeignFile(PathBuf),
    /// The file of `--since-file` cannot be used.
    #[error(transparent)]
    SinceFile(#[from] SinceFileError),
    /// The output directory contains an unfinished export.
    #[error(
        "`{path}` contains an unfinished export: continue it with `headrace export --resume {path}`, or discard it with --overwrite",
        path = .0.display()
    )]
    Unfinished(PathBuf),
    /// The output directory cannot be created or read.
    #[error("`{}` cannot be used as the output directory", .path.display())]
    Out {
        /// Path of the directory.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The record of the export cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The source, or the output directory of its export, cannot be used.
    #[error(transparent)]
    OutDir(#[from] OutDirError),
    /// The resources cannot be fetched by searches.
    #[error(transparent)]
    Sync(#[from] Box<SyncCommandError>),
    /// The fetched resources are not complete.
    #[error("not all resources could be fetched, and nothing was exported: {0}")]
    NotFetched(String),
    /// The user interrupted the export.
    #[error(
        "interrupted: the export was stopped before it was complete. Files that are already in the output directory remain there. To start \
         again, repeat the command with --overwrite"
    )]
    Interrupted,
    /// The export stopped on this side, and can be continued.
    #[error("{cause}\nThe export is not lost: headrace export --resume {}", .out.display())]
    Resumable {
        /// Reason.
        cause: String,
        /// The output directory.
        out: PathBuf,
    },
    /// The export was started with a token, which is not stored.
    #[error(
        "the export was started with a token, a secret or a password, which is not stored: give the option again, such as --token (or HEADRACE_TOKEN)"
    )]
    TokenNeeded,
    /// The value of an option is invalid.
    #[error(transparent)]
    Option(#[from] OptionError),
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
    /// The anonymization configuration exceeds the size that an export accepts.
    #[error("the anonymization configuration `{0}` is longer than 1 MB, the largest size that is read")]
    AnonymizationConfigTooLong(PathBuf),
    /// The anonymization configuration is the path of a file, but the server de-identifies.
    #[error(
        "`{0}` is a path on this machine, but the server de-identifies: --anonymization-config names a configuration there, such as night.json. To \
         de-identify on this machine, add --by-sync, which fetches the resources by searches; nothing was sent"
    )]
    ConfigurationOfServer(String),
    /// The server has no export operation at this base URL.
    #[error(
        "the kick-off at `{base}` was rejected with {answer}. SOURCE must be the base URL of the FHIR server, the one whose `metadata` can be read; that \
         of headrace serve ends with /fhir. If it is, --by-sync exports without $export: it fetches the resources by searches"
    )]
    NotFound {
        /// Base URL of the command line.
        base: String,
        /// Status and reason of the server.
        answer: String,
    },
    /// The keys of the de-identification cannot be used.
    #[error(transparent)]
    DeidKeys(#[from] DeidKeysFileError),
    /// The client's key or secret cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The export failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server in this process has rejected the export, or the export has failed there.
    #[error("{0}")]
    Local(String),
}

impl ExportCommandError {
    /// Returns the failure of an export by the server in this process, in the words of the command line.
    fn in_command_words(self) -> Self {
        let Self::Client(error) = &self else { return self };
        reason_in_command_words(error).map_or(self, Self::Local)
    }
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
    if let Some(out) = &args.resume {
        return resume_export(args, out).await;
    }
    // The command line has both unless it resumes.
    let (source, out) = (args.source.as_deref().unwrap_or_default(), args.out.as_deref().unwrap_or(Path::new(".")));
    let source = Source::parse(source)?;
    check_configuration_name(args, &source)?;
    if let Source::Directory(lake) = &source {
        check_source(lake, out)?;
    }
    let basis = increment_basis(args, &source)?;
    if let Some(file) = since_file(args, &basis) {
        // A synchronization before the export may take hours.
        file.check(out)?;
    }
    let existed = out.exists();
    let result = export_from((args, &basis), source, out).await;
    if result.is_err() && !existed {
        // An export that was rejected has written nothing. The folder of any other is not empty and stays.
        drop(std::fs::remove_dir(out));
    }
    result
}

/// Fails if the configuration for a server is the path of a file, which must not be sent there. Says what is sent if a file on this machine
/// has the same name.
fn check_configuration_name(args: &ExportArgs, source: &Source) -> Result<(), ExportCommandError> {
    let is_sent = matches!(source, Source::Server(_)) && !args.by_sync;
    let Some(config) = args.options.anonymization_config.as_deref().filter(|_| is_sent) else { return Ok(()) };
    let is_file = Path::new(config).is_file();
    // A server may have folders of configurations, so that a slash alone says nothing.
    if config.contains(['/', '\\']) && (is_file || ConfigName::parse(config).is_none()) {
        return Err(ExportCommandError::ConfigurationOfServer(config.to_owned()));
    }
    if is_file {
        print_line(&format!(
            "attention: the name `{config}` is sent, and the server de-identifies with its own configuration of this name. The file `{config}` on this \
             machine is not used; to use it, add --by-sync"
        ));
    }
    Ok(())
}

/// Returns the parts of an export on which its increments depend.
fn increment_basis(args: &ExportArgs, source: &Source) -> Result<IncrementBasis, ExportCommandError> {
    let is_own = args.by_sync || matches!(source, Source::Directory(_));
    let configuration = if is_own { given_configuration(args)? } else { None };
    Ok(IncrementBasis::new(args, source, configuration.as_ref()))
}

/// Returns the file of `--since-file`.
fn since_file(args: &ExportArgs, basis: &IncrementBasis) -> Option<SinceFile> {
    args.since_file.as_deref().map(|path| SinceFile::new(path, basis.clone()))
}

/// The arguments of an export, and the parts on which its increments depend.
type ExportTask<'a> = (&'a ExportArgs, &'a IncrementBasis);

/// Exports from a source into the directory `out`, or describes the export.
async fn export_from(task: ExportTask<'_>, source: Source, out: &Path) -> Result<ExportStatus, ExportCommandError> {
    let (args, _) = task;
    match source {
        source if args.dry_run => describe_export(task, source, out).await.map(|text| {
            print_result(&text);
            ExportStatus::Complete
        }),
        Source::Server(base) if args.by_sync => export_by_sync(task, &base, out).await,
        Source::Server(base) => match export_from_server(task, &base, out).await {
            Err(ExportCommandError::Client(ClientError::Rejected { request: KICK_OFF, status, text }))
                if matches!(status.as_u16(), 404 | 405 | 501) && lacks_export(args, &base).await =>
            {
                if !args.quiet {
                    print_line(&format!(
                        "note: the server has no $export: it has rejected the kick-off with {status}: {text}, and its CapabilityStatement \
                         names no export. Its resources are fetched by searches, as with --by-sync"
                    ));
                }
                export_by_sync(task, &base, out).await
            }
            // A path without FHIR answers so as well.
            Err(ExportCommandError::Client(ClientError::Rejected { request: KICK_OFF, status, text }))
                if status.as_u16() == 404 && args.options.level() == ExportLevel::System =>
            {
                let base = parse_http_url(&base).map(|url| shown_url(&url).to_string()).unwrap_or_default();
                Err(ExportCommandError::NotFound { base, answer: format!("{status}: {text}") })
            }
            result => result,
        },
        Source::Directory(lake) => export_directory(task, lake, out).await,
    }
}

/// Describes what an export would request and read.
async fn describe_export(task: ExportTask<'_>, source: Source, out: &Path) -> Result<String, ExportCommandError> {
    let (args, _) = task;
    let options = options_with_since(task)?;
    check_output_dir(out, args.overwrite)?;
    match source {
        Source::Server(base) => Ok(describe_server_export(args, &options, &base)?),
        Source::Directory(lake) => {
            let (parameters, configuration) = (local_server_parameters(&options), given_configuration(args)?);
            Ok(describe_directory_export(args, &options, (&lake, out), (&parameters, configuration)).await?)
        }
    }
}

/// Name of the folder in the output directory with the resources that were fetched by searches. It is deleted after the export.
const LAKE_FOLDER: &str = ".headrace-lake";

/// Returns true if the CapabilityStatement of a server can be read and names no export operation.
async fn lacks_export(args: &ExportArgs, base: &str) -> bool {
    let Ok(credential) = credential(args) else { return false };
    let settings = origin_settings(credential, args.login.token_origins.clone(), &args.searches);
    let Ok(origin) = HttpOrigin::new(base, settings) else { return false };
    origin.get(OriginRequest::Query("metadata")).await.is_ok_and(|page| names_no_export(&page.body))
}

/// Returns true for a CapabilityStatement that names no export operation, of the system or of a type.
fn names_no_export(statement: &[u8]) -> bool {
    let statement: serde_json::Value = serde_json::from_slice(statement).unwrap_or_default();
    let items = |value: &serde_json::Value, name: &str| value.get(name).and_then(|items| items.as_array().cloned()).unwrap_or_default();
    let rest = items(&statement, "rest");
    let of_types = rest.iter().flat_map(|rest| items(rest, "resource")).flat_map(|resource| items(&resource, "operation"));
    let operations = rest.iter().flat_map(|rest| items(rest, "operation")).chain(of_types);
    let is_export = |operation: serde_json::Value| {
        let name = operation.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
        matches!(name.trim_start_matches('$'), "export" | "patient-export" | "group-export")
    };
    let is_statement = statement.get("resourceType").is_some_and(|kind| kind == "CapabilityStatement");
    is_statement && !operations.into_iter().any(is_export)
}

/// Exports from a server that need not know `$export`: fetches its resources by searches into a lake within the output directory, and
/// exports that. The lake stays if that fails, and the same command continues.
async fn export_by_sync(task: ExportTask<'_>, base: &str, out: &Path) -> Result<ExportStatus, ExportCommandError> {
    let (args, _) = task;
    prepare_output_dir(out, args.overwrite)?;
    let lake = out.join(LAKE_FOLDER);
    let since = requested_since(task)?.and_then(|since| parse_since(&since));
    let report = sync_for_export(args, base, &lake, since).await?;
    if !report.is_complete {
        let faults: Vec<String> = report.types.iter().flat_map(|one| &one.faults).take(3).cloned().collect();
        return Err(ExportCommandError::NotFetched(faults.join("; ")));
    }
    let status = export_directory(task, lake.clone(), out).await?;
    std::fs::remove_dir_all(&lake).map_err(|cause| ExportCommandError::Out { path: lake, cause })?;
    Ok(status)
}

/// Exports a directory, with a server in this process.
async fn export_directory(task: ExportTask<'_>, lake: PathBuf, out: &Path) -> Result<ExportStatus, ExportCommandError> {
    let (args, basis) = task;
    let options = options_with_since(task)?;
    prepare_output_dir(out, args.overwrite)?;
    let unusable = |cause| ExportCommandError::Out { path: out.to_owned(), cause };
    let state = create_state_folder(out)?;
    // The time in a file is that of an earlier export of this lake.
    let since = options.since.as_deref().filter(|_| args.since_file.is_none());
    let lake_settings = settings_of_copy(args.service.lake_settings()?, &lake, since);
    let config = ServiceConfig {
        lake,
        state: state.path().to_owned(),
        settings: args.service.settings_without_clients()?,
        lake_settings,
        trust_object_names: args.service.trust_object_names,
        workers: args.service.workers(),
        access: ServerAccess::None,
        webhook: None,
        given_configuration: given_configuration(args)?,
    };
    let parameters = local_server_parameters(&options);
    let service = Arc::new(Service::start_shown_as(config, out).await?);
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.map_err(unusable)?;
    let base = base_url(listener.local_addr().map_err(unusable)?);
    let server = tokio::spawn(serve(service.clone(), listener));
    let local_files = LocalFiles::new(service.clone(), &base);
    let client = BulkClient::without_credential(Some(LOCAL_POLL_INTERVAL))?.with_local_files(local_files);
    let folder = ExportFolder::create(out, false)?;
    let run = Run {
        folder: &folder,
        source: args.source.as_deref().unwrap_or_default(),
        since_file: since_file(args, basis),
        until: args.options.until.as_deref(),
        started: Instant::now(),
        style: args.into(),
        own_server: Some(OwnServer { base: base.clone(), chooses_container: options.container.is_none() }),
    };
    let export = async {
        let status_url = client.kick_off(&base, &options.path(), &parameters, options.lenient).await?;
        run.finish_export(&client, &status_url).await
    };
    // On a signal this function must return, not exit: dropping `state` deletes patient data.
    let result = tokio::select! {
        result = export => result,
        _ = stop_signal() => Err(ExportCommandError::Interrupted),
    };
    folder.finish();
    server.abort();
    // The workers stop first, so that none writes into the folder while it is deleted. A second signal does not wait for them.
    tokio::select! {
        () = service.stop() => {}
        _ = stop_signal() => {}
    }
    drop((client, service));
    if let Err(error) = state.close() {
        tracing::warn!(error = %error, "the temporary state in the output directory could not be removed; the next export does so");
    }
    result.map_err(
        |error| if lacks_space_for_output(&error) { OutDirError::OutOfSpace(out.to_owned()).into() } else { error.in_command_words() },
    )
}

/// Returns true if no space is left for the output directory. The file of `--since-file` is elsewhere, and its error names it.
fn lacks_space_for_output(error: &ExportCommandError) -> bool {
    !matches!(error, ExportCommandError::SinceFile(_)) && is_out_of_space(error)
}

/// Exports from a server, and records what is needed to continue.
async fn export_from_server(task: ExportTask<'_>, base: &str, out: &Path) -> Result<ExportStatus, ExportCommandError> {
    let (args, basis) = task;
    let client = BulkClient::new(base, credential(args)?, client_settings(args), SystemTimer)?;
    let options = options_with_since(task)?;
    prepare_output_dir(out, args.overwrite)?;
    let folder = ExportFolder::create(out, true)?;
    let run = Run {
        folder: &folder,
        source: base,
        since_file: since_file(args, basis),
        until: args.options.until.as_deref(),
        started: Instant::now(),
        style: args.into(),
        own_server: None,
    };
    let mut progress = Progress::new(args.quiet);
    let (path, parameters) = (options.path(), options.parameters());
    let kick_off = client.kick_off_patiently(base, &path, &parameters, options.lenient, |waiting| progress.update(&waiting));
    let kicked_off = tokio::select! {
        result = kick_off => result.map_err(ExportCommandError::Client),
        _ = stop_signal() => Err(ExportCommandError::Interrupted),
    };
    progress.finish();
    let status_url = match kicked_off {
        Ok(status_url) => status_url,
        Err(error) => {
            folder.finish();
            return Err(error);
        }
    };
    if !args.quiet {
        print_line(&format!("status URL: {status_url}"));
    }
    folder.record_export(&saved_export(task, base, &status_url))?;
    run.run_to_the_end(&client, &status_url).await
}

/// Continues an export that stopped on this side.
async fn resume_export(args: &ExportArgs, out: &Path) -> Result<ExportStatus, ExportCommandError> {
    let (folder, saved) = ExportFolder::open(out)?;
    let credential = match credential(args)? {
        Credential::None => saved_credential(&saved)?,
        given @ (Credential::BearerToken(_) | Credential::Basic(_) | Credential::BackendServices(_) | Credential::Signature(_)) => given,
    };
    let mut settings = client_settings(args);
    for origin in &saved.token_origins {
        settings.token_origins.push(parse_saved_url(origin)?);
    }
    let client = BulkClient::new(&saved.base, credential, settings, SystemTimer)?;
    let status_url = parse_saved_url(&saved.status_url)?;
    if !args.quiet {
        print_line(&format!("continuing the export with the status URL {status_url}"));
    }
    let since_file = args.since_file.as_deref().or(saved.since_file.as_deref());
    let since_file = since_file.map(|path| SinceFile::new(path, saved.basis.clone()));
    if let Some(file) = &since_file {
        file.check(out)?;
    }
    let (source, started, style) = (saved.base.as_str(), Instant::now(), args.into());
    let run = Run { folder: &folder, source, since_file, until: None, started, style, own_server: None };
    run.run_to_the_end(&client, &status_url).await
}

/// Returns the credential of the command line.
fn credential(args: &ExportArgs) -> Result<Credential, KeyError> {
    read_credential(&args.login.credential)
}

/// Returns the credential with which an export was started.
fn saved_credential(saved: &SavedExport) -> Result<Credential, ExportCommandError> {
    if let (Some(client_id), Some(path)) = (&saved.client_id, &saved.client_key) {
        let key = read_client_key(path, saved.client_key_id.as_deref())?;
        let (scope, token_url) = (saved.scope.clone(), saved.token_url.as_deref().map(parse_saved_url).transpose()?);
        let credential = ClientCredential::Key(key);
        return Ok(Credential::BackendServices(LoginSettings { client_id: client_id.clone(), credential, scope, token_url }));
    }
    if saved.has_token { Err(ExportCommandError::TokenNeeded) } else { Ok(Credential::None) }
}

/// Parses a URL of the record of an export.
fn parse_saved_url(text: &str) -> Result<Url, ClientError> {
    Ok(parse_http_url(text)?)
}

/// Returns the settings of a client from the command line.
fn client_settings(args: &ExportArgs) -> ClientSettings {
    let (wait, default) = (Duration::from_secs(args.transfer.max_wait_hours.saturating_mul(3600)), ClientLimits::default());
    let limits = ClientLimits {
        wait,
        demanded_pauses: default.demanded_pauses.min(wait),
        file_bytes: args.transfer.max_file_gb.saturating_mul(1_000_000_000),
        ..default
    };
    ClientSettings { token_origins: args.login.token_origins.clone(), limits, max_poll_interval: None }
}

/// Returns the record of an accepted export. The path of the key is absolute, because the export may be continued elsewhere.
fn saved_export((args, basis): ExportTask<'_>, base: &str, status_url: &Url) -> SavedExport {
    let options = &args.login.credential.key;
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    SavedExport {
        client_id: options.client_id.clone(),
        client_key: options.client_key.as_ref().map(absolute),
        client_key_id: options.client_key_id.clone(),
        scope: options.scope.clone(),
        token_url: options.token_url.as_ref().map(Url::to_string),
        token_origins: args.login.token_origins.iter().map(Url::to_string).collect(),
        has_token: args.login.credential.has_unstored_secret(),
        since_file: args.since_file.as_ref().map(absolute),
        basis: basis.clone(),
        ..SavedExport::new(base.to_owned(), status_url.to_string())
    }
}

/// Creates the output directory, and fails if it is not empty and must not be overwritten.
fn prepare_output_dir(out: &Path, overwrite: bool) -> Result<(), ExportCommandError> {
    create_out_dir(out)?;
    check_output_dir(out, overwrite)
}

/// Fails if the output directory exists, is not empty and must not be overwritten. Changes nothing.
fn check_output_dir(out: &Path, overwrite: bool) -> Result<(), ExportCommandError> {
    let unusable = |cause| ExportCommandError::Out { path: out.to_owned(), cause };
    let earlier = match EarlierExport::read(out, ExportFolder::unfinished_files(out)) {
        Ok(earlier) => earlier,
        Err(error) if error.kind() == io::ErrorKind::InvalidData && overwrite => {
            return Err(ExportCommandError::ForeignFile(out.join(MANIFEST_FILE)));
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(ExportCommandError::NotEmpty(out.to_owned())),
        Err(cause) => return Err(unusable(cause)),
    };
    if overwrite {
        let foreign = earlier.foreign_file(out).map_err(unusable)?;
        return foreign.map_or(Ok(()), |file| Err(ExportCommandError::ForeignFile(out.join(file))));
    }
    if ExportFolder::holds_unfinished(out) {
        return Err(ExportCommandError::Unfinished(out.to_owned()));
    }
    let entries = match std::fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(unusable(cause)),
    };
    // An export that was never accepted leaves only its folder, and one that was killed its state.
    let mut names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    let is_left_over = |name: OsString| name == STATE_FOLDER || name == LAKE_FOLDER || is_state_folder(&name);
    if names.all(is_left_over) { Ok(()) } else { Err(ExportCommandError::NotEmpty(out.to_owned())) }
}

/// Container of a de-identified export if none is given. De-identified exports require a container.
const DEIDENTIFIED_CONTAINER: &str = "de-identified";

/// Reads the anonymization configuration and its keys for the server in this process. They stay in memory: a copy in the
/// output directory would remain there if the process is killed.
fn given_configuration(args: &ExportArgs) -> Result<Option<GivenConfiguration>, ExportCommandError> {
    let Some(path) = args.options.anonymization_config.as_ref().map(PathBuf::from) else { return Ok(None) };
    let text = std::fs::read(&path).map_err(|cause| ExportCommandError::AnonymizationConfig { path: path.clone(), cause })?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(ExportCommandError::AnonymizationConfigTooLong(path));
    }
    let keys = read_deid_keys(args.deid_keys.file.as_deref(), args.deid_keys.json.as_deref())?.map(|keys| keys.to_json().into());
    Ok(ConfigName::parse(config_name(&path)).map(|name| GivenConfiguration { name, text: text.into(), keys }))
}

/// Returns the export parameters for the server in this process. Allows partial manifests, so that a manifest of any length can
/// be read page by page.
fn local_server_parameters(options: &ExportOptions) -> Vec<(&'static str, String)> {
    let mut options = options.clone();
    if let Some(config) = &mut options.anonymization_config {
        *config = config_name(Path::new(config.as_str())).to_owned();
        options.container.get_or_insert_with(|| DEIDENTIFIED_CONTAINER.to_owned());
    }
    let mut parameters = options.parameters();
    parameters.push(("allowPartialManifests", "true".to_owned()));
    parameters
}

/// Returns the time of `--since`, or that in the file of `--since-file`.
fn requested_since((args, basis): ExportTask<'_>) -> Result<Option<String>, SinceFileError> {
    let Some(file) = since_file(args, basis) else { return Ok(args.options.since.clone()) };
    Ok(file.read()?.map(|saved| saved.time))
}

/// Returns the parameters of the export, with the time in the file of `--since-file`.
fn options_with_since((args, basis): ExportTask<'_>) -> Result<Cow<'_, ExportOptions>, SinceFileError> {
    let Some(file) = since_file(args, basis) else { return Ok(Cow::Borrowed(&args.options)) };
    let (saved, shown) = (file.read()?, file.path().display());
    if !args.quiet {
        print_line(&match &saved {
            Some(SavedTime { time, .. }) => format!("exporting what changed after {time}, the time in {shown}"),
            None => format!("exporting everything, because {shown} does not exist yet"),
        });
    }
    if saved.as_ref().is_some_and(|saved| !saved.has_basis) {
        print_line(&format!("attention: {shown} does not say of which export its time is, so it is taken for a time of this one"));
    }
    Ok(Cow::Owned(ExportOptions { since: saved.map(|saved| saved.time), ..args.options.clone() }))
}

/// The output of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OutputStyle {
    /// True for no progress, result and notes.
    is_quiet: bool,
    /// True to print the result as JSON.
    is_json: bool,
}

impl From<&ExportArgs> for OutputStyle {
    fn from(args: &ExportArgs) -> Self {
        Self { is_quiet: args.quiet, is_json: args.json }
    }
}

/// An export that was or will be accepted, from its kick-off to its report.
struct Run<'a> {
    folder: &'a ExportFolder,
    /// The directory or the base URL that is exported.
    source: &'a str,
    since_file: Option<SinceFile>,
    /// The `_until` of the request. `None` also if only the manifest can say it.
    until: Option<&'a str>,
    started: Instant,
    style: OutputStyle,
    /// The server in this process, if it makes the export.
    own_server: Option<OwnServer>,
}

impl Run<'_> {
    /// Waits for an accepted export and downloads it. An error says how to continue, unless the export itself has failed.
    async fn run_to_the_end(&self, client: &BulkClient, status_url: &Url) -> Result<ExportStatus, ExportCommandError> {
        let resumable = |cause| ExportCommandError::Resumable { cause, out: self.folder.out().to_owned() };
        let result = tokio::select! {
            result = self.finish_export(client, status_url) => result,
            _ = stop_signal() => return Err(resumable("interrupted; the export continues on the server".to_owned())),
        };
        match result {
            // The files are complete even if the time of the export cannot be recorded.
            Ok(_) | Err(ExportCommandError::Client(ClientError::ExportFailed { .. }) | ExportCommandError::SinceFile(_)) => {
                self.folder.finish();
                result
            }
            Err(error) => Err(resumable(error_chain(&error))),
        }
    }

    /// Waits for an accepted export, downloads its files, deletes it on the server and reports the result.
    async fn finish_export(&self, client: &BulkClient, status_url: &Url) -> Result<ExportStatus, ExportCommandError> {
        let mut progress = Progress::new(self.style.is_quiet);
        let manifest = client.wait_for_manifest(status_url, |waiting| progress.update(&waiting)).await;
        let export_time = self.started.elapsed();
        progress.finish();
        let manifest = manifest?;
        for warning in &manifest.warnings {
            tracing::warn!("{warning}");
        }
        let is_ahead = manifest.is_ahead_of_clocks(SystemClock.now());
        if is_ahead {
            let time = &manifest.transaction_time;
            tracing::warn!(
                "the server's transactionTime {time} is in the future: an export with that --since skips what changes until then"
            );
        }
        let configuration = manifest.configuration_digest();
        let since_file = self.since_file.as_ref().map(|file| file.with_configuration(configuration));
        if let Some(Err(error)) = since_file.as_ref().map(SinceFile::read) {
            self.delete_on_server(client, status_url).await;
            return Err(error.into());
        }
        self.remove_earlier_files()?;
        self.folder.record_files(&named_files(&manifest))?;
        let downloads = DownloadProgress::new(&manifest, self.style.is_quiet);
        let files = client.download_missing(&manifest, Some(status_url), self.folder, |bytes| downloads.add(bytes)).await;
        downloads.finish();
        let files = files?;
        let total_time = self.started.elapsed();
        let unreadable = |cause| ClientError::File {
            file: "error".to_owned(),
            problem: format!("the downloaded files of errors and deletions cannot be read: {cause}"),
        };
        let outcomes = Outcomes::read(&files).map_err(unreadable)?;
        let deletions = count_deletions(&files).map_err(unreadable)?;
        let mut written = OutManifest::new(self.source.to_owned(), &manifest, &files, deletions, &outcomes);
        if let Some(server) = &self.own_server {
            written.request = written.request.map(|request| server.request_of_user(&request));
        }
        self.write_manifest(&written)?;
        self.delete_on_server(client, status_url).await;
        let report = Report {
            manifest: &manifest,
            files: &files,
            deletions,
            outcomes: &outcomes,
            out: self.folder.out(),
            until: self.until,
            export_time,
            total_time,
        };
        self.print(&report, &written);
        match &since_file {
            Some(file) if is_ahead => {
                let shown = file.path().display();
                print_line(&format!("attention: {shown} is not written, because the time of the export is in the future"));
            }
            Some(file) => record_time(file, &report.next_since(), &outcomes)?,
            None => {}
        }
        let has_errors = outcomes.count(OutcomeSeverity::Error) > 0;
        Ok(if has_errors { ExportStatus::WithErrors } else { ExportStatus::Complete })
    }

    /// Deletes the export on the server.
    async fn delete_on_server(&self, client: &BulkClient, status_url: &Url) {
        if let Err(error) = client.delete(status_url).await {
            tracing::warn!(error = %error_chain(&error), url = %shown_url(status_url), "the export could not be deleted on the server");
        }
    }

    /// Removes the files of the export that `manifest.json` names, and those of exports before this one that have not ended. The manifest
    /// can only be an earlier one, because that of this export is written last. Nothing is removed before the new export is complete on the
    /// server.
    fn remove_earlier_files(&self) -> Result<(), ExportCommandError> {
        let out = self.folder.out();
        let earlier = EarlierExport::read(out, self.folder.earlier_files()).map_err(|cause| (out.join(MANIFEST_FILE), cause));
        let removed = earlier.and_then(|earlier| earlier.remove(out));
        removed.map_err(|(path, cause)| ClientError::Write { path, cause })?;
        Ok(self.folder.forget_earlier_files()?)
    }

    /// Writes `manifest.json`, after all files that it names.
    fn write_manifest(&self, manifest: &OutManifest) -> Result<(), ExportCommandError> {
        let text = serde_json::to_vec_pretty(manifest).map_err(io::Error::from);
        let written =
            text.map_err(|cause| (self.folder.path(MANIFEST_FILE), cause)).and_then(|text| self.folder.write_file(MANIFEST_FILE, &text));
        written.map_err(|(path, cause)| ClientError::Write { path, cause })?;
        Ok(self.folder.forget_files()?)
    }

    /// Prints the result to standard output and remarks to standard error.
    fn print(&self, report: &Report<'_>, manifest: &OutManifest) {
        let result = match self.style {
            OutputStyle { is_json: true, .. } => {
                serde_json::to_string(manifest).map(|json| printable_json(&json).into_owned() + "\n").unwrap_or_default()
            }
            OutputStyle { is_quiet: true, .. } => String::new(),
            OutputStyle { .. } => report.result(),
        };
        print_result(&result);
        for remark in report.remarks(self.style.is_quiet) {
            print_line(&if self.own_server.is_some() { in_command_words(&remark) } else { remark });
        }
    }
}

/// Writes the time of the export to the file of `--since-file`, unless a later export may have without a repair what is missing. A schedule
/// has the same rule: a line that nobody repairs must not stop the increments.
fn record_time(file: &SinceFile, time: &str, outcomes: &Outcomes) -> Result<(), SinceFileError> {
    let shown = file.path().display();
    if outcomes.has_temporary_error() {
        print_line(&format!(
            "attention: {shown} keeps its time, because the server reports errors that may pass; the next export starts there again"
        ));
        return Ok(());
    }
    file.write(time)?;
    if outcomes.count(OutcomeSeverity::Error) > 0 {
        print_line(&format!(
            "attention: {shown} has the time of this export all the same. After a repair, give the repaired resources a new \
             meta.lastUpdated, or delete {shown} to export everything once"
        ));
    }
    Ok(())
}
