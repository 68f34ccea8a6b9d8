//! `headrace export`: runs one export as a Bulk Data client and prints its progress and a summary.

mod by_sync;
mod directory;
mod error;
mod output_dir;
mod run;
mod server;
mod task;

use std::path::Path;

use headrace_core::request::ConfigName;

use crate::cli::{ExportArgs, ExportLevel, Source};
use crate::client::bulk::{ClientError, KICK_OFF};
use crate::client::dry_run::{describe_directory_export, describe_server_export};
use crate::client::error::shown_url;
use crate::client::origin::parse_http_url;
use crate::client::out_dir::check_source;
use crate::client::progress::print_line;
use crate::client::unknown_deletions::print_unknown_deletions;
use crate::terminal::print_result;

use self::by_sync::{export_by_sync, lacks_export, print_left_lake};
use self::directory::export_directory;
use self::output_dir::check_output_dir;
use self::server::{export_from_server, resume_export};
use self::task::{ExportTask, local_server_parameters, options_with_since};

pub use self::error::ExportCommandError;

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
        if (args.since_file.is_some() || args.options.since.is_some()) && !args.quiet {
            print_unknown_deletions(lake).await;
        }
    }
    let task = ExportTask::new(args, &source)?;
    if let Some(file) = task.since_file() {
        // A synchronization before the export may take hours.
        file.check(out)?;
    }
    let existed = out.exists();
    let result = export_from(&task, source, out).await;
    if result.is_ok() {
        print_left_lake(out);
    }
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

/// Exports from a source into the directory `out`, or describes the export.
async fn export_from(task: &ExportTask<'_>, source: Source, out: &Path) -> Result<ExportStatus, ExportCommandError> {
    let args = task.args;
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
                export_by_sync(&task.by_searches()?, &base, out).await
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
async fn describe_export(task: &ExportTask<'_>, source: Source, out: &Path) -> Result<String, ExportCommandError> {
    let args = task.args;
    let options = options_with_since(task)?;
    check_output_dir(out, args.overwrite)?;
    match source {
        Source::Server(base) => Ok(describe_server_export(args, &options, &base)?),
        Source::Directory(lake) => {
            let (parameters, configuration) = (local_server_parameters(&options), task.configuration.clone());
            Ok(describe_directory_export(args, &options, (&lake, out), (&parameters, configuration)).await?)
        }
    }
}
