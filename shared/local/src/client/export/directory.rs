//! Exports of directories, by a server in this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::client::bulk::BulkClient;
use crate::client::folder::ExportFolder;
use crate::client::local_export::{OwnServer, settings_of_copy};
use crate::client::local_files::LocalFiles;
use crate::client::out_dir::{OutDirError, create_state_folder};
use crate::server::http::{base_url, serve};
use crate::server::service::{ServerAccess, Service, ServiceConfig};
use crate::server::signals::stop_signal;
use crate::stores::io_fault::is_out_of_space;

use super::ExportStatus;
use super::error::ExportCommandError;
use super::output_dir::prepare_output_dir;
use super::run::Run;
use super::task::{ExportTask, local_server_parameters, options_with_since};

/// Longest time between two polls of the server in this process, for the progress that the user sees. The client also polls when a task
/// ends. Other servers choose the time with `Retry-After`.
const LOCAL_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Exports a directory, with a server in this process.
pub(super) async fn export_directory(task: &ExportTask<'_>, lake: PathBuf, out: &Path) -> Result<ExportStatus, ExportCommandError> {
    let args = task.args;
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
        given_configuration: task.configuration.clone(),
    };
    let parameters = local_server_parameters(&options);
    let service = Arc::new(Service::start_shown_as(config, out).await?);
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.map_err(unusable)?;
    let base = base_url(listener.local_addr().map_err(unusable)?);
    let server = tokio::spawn(serve(service.clone(), listener));
    let local_files = LocalFiles::new(service.clone(), &base);
    let client = BulkClient::of_own_server(local_files, Some(LOCAL_POLL_INTERVAL))?;
    let folder = ExportFolder::create(out, false)?;
    let run = Run {
        folder: &folder,
        source: args.source.as_deref().unwrap_or_default(),
        since_file: task.since_file(),
        until: args.options.until.as_deref(),
        types: None,
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
