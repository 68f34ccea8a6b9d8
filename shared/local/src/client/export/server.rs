//! Exports from servers: the kick-off, and the continuation of an export that stopped on this side.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::Url;

use crate::cli::ExportArgs;
use crate::client::bulk::{BulkClient, ClientError, ClientLimits, ClientSettings, Credential, LoginSettings};
use crate::client::credential::read_credential;
use crate::client::folder::{ExportFolder, SavedExport};
use crate::client::login::ClientCredential;
use crate::client::origin::parse_http_url;
use crate::client::progress::{Progress, print_line};
use crate::client::since_file::SinceFile;
use crate::client::timer::SystemTimer;
use crate::server::signals::stop_signal;
use crate::stores::client_key::{KeyError, read_client_key};

use super::ExportStatus;
use super::error::ExportCommandError;
use super::output_dir::{check_links, prepare_output_dir};
use super::run::Run;
use super::task::{ExportTask, options_with_since};

/// Exports from a server, and records what is needed to continue.
pub(super) async fn export_from_server(task: &ExportTask<'_>, base: &str, out: &Path) -> Result<ExportStatus, ExportCommandError> {
    let args = task.args;
    let client = BulkClient::new(base, credential(args)?, client_settings(args), SystemTimer)?;
    let options = options_with_since(task)?;
    prepare_output_dir(out, args.overwrite)?;
    let folder = ExportFolder::create(out, true)?;
    let run = Run {
        folder: &folder,
        source: base,
        since_file: task.since_file(),
        until: args.options.until.as_deref(),
        types: args.options.expected_types(),
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
    folder.record_export(&SavedExport { since: options.since.clone(), ..saved_export(task, base, &status_url) })?;
    run.run_to_the_end(&client, &status_url).await
}

/// Continues an export that stopped on this side.
pub(super) async fn resume_export(args: &ExportArgs, out: &Path) -> Result<ExportStatus, ExportCommandError> {
    check_links(out)?;
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
        file.check_continued(saved.since.as_deref())?;
    }
    let (source, started, style) = (saved.base.as_str(), Instant::now(), args.into());
    let (until, types) = (saved.until.as_deref(), saved.types.clone());
    let run = Run { folder: &folder, source, since_file, until, types, started, style, own_server: None };
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
fn saved_export(ExportTask { args, basis, .. }: &ExportTask<'_>, base: &str, status_url: &Url) -> SavedExport {
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
        until: args.options.until.clone(),
        types: args.options.expected_types(),
        basis: basis.clone(),
        ..SavedExport::new(base.to_owned(), status_url.to_string())
    }
}
