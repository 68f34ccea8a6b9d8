//! The main function of the `headrace` program, in the library so that tests can run it as another binary.

use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::{Cli, Command};
use crate::client::export::{ExportStatus, run_export};
use crate::client::sync::command::{SyncStatus, run_sync};
use crate::commands::audit::{AuditStatus, run_audit};
use crate::commands::clients::run_clients;
use crate::commands::deid::{CheckStatus, run_deid};
use crate::commands::documents::{run_completions, run_man};
use crate::commands::events::run_events;
use crate::commands::jobs::{JobsStatus, run_jobs};
use crate::commands::keys::run_keys;
use crate::commands::lake::{LakeStatus, run_lake};
use crate::commands::schedules::run_schedules;
use crate::commands::token::run_token;
use crate::commands::ui::run_ui;
use crate::server::serve::serve;
use crate::terminal::error_chain;
use chunk_worker::handler::JOB_FAILED_TARGET;
use headrace_edge::telemetry::parse_log_filter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The crates that obtain credentials for AWS, as targets of log lines.
const AWS_CONFIG: [&str; 2] = ["aws_config", "aws_runtime"];

/// The log lines of a server that repeat what `headrace export` and `headrace sync` print at their end, as targets.
const REPEATED: [&str; 4] =
    [JOB_FAILED_TARGET, "headrace_local::server::queue", "headrace_edge::reply", "headrace_core::flow::work::sync::fetch"];

/// Time that threads have at the end of the program. One that waits for a file system that does not answer would never end.
const SHUTDOWN_TIME: Duration = Duration::from_secs(1);

/// The log target of the notices about an export.
const NOTICES: &str = "headrace_core::flow::work::notices";

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            drop(writeln!(io::stderr(), "headrace: the program cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run());
    runtime.shutdown_timeout(SHUTDOWN_TIME);
    code
}

/// Parses the command line, runs the subcommand and returns its exit code. Prints errors to standard error.
async fn run() -> ExitCode {
    let cli = Cli::parse_arguments();
    let default_level = if matches!(&cli.command, Command::Serve(_)) { LevelFilter::INFO } else { LevelFilter::WARN };
    let log = cli.log.as_deref().unwrap_or_default();
    let filter = parse_log_filter(log, default_level);
    // The SDK warns of credentials that it cannot obtain, with its internals. The error of the command says the same in one line.
    let quiet = AWS_CONFIG.into_iter().filter(|target| !log.contains(target));
    // `headrace export` prints the notices of its export itself.
    let notices = [NOTICES].into_iter().filter(|target| matches!(&cli.command, Command::Export(_)) && !log.contains(target));
    let is_server_hidden = matches!(&cli.command, Command::Export(_) | Command::Sync(_)) && log.is_empty();
    let quiet = quiet.chain(notices).chain(REPEATED.into_iter().filter(|_| is_server_hidden));
    let filter = quiet.fold(filter, |filter, target| filter.with_target(target, LevelFilter::OFF));
    let log_lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).with_target(false);
    tracing_subscriber::registry().with(log_lines.with_filter(filter)).init();
    let result: Result<ExitCode, Box<dyn Error>> = match &cli.command {
        Command::Export(args) => Box::pin(run_export(args)).await.map_err(Into::into).map(|status| match status {
            ExportStatus::Complete => ExitCode::SUCCESS,
            ExportStatus::WithErrors => ExitCode::from(3),
        }),
        Command::Sync(args) => Box::pin(run_sync(args)).await.map_err(Into::into).map(|status| match status {
            SyncStatus::Complete => ExitCode::SUCCESS,
            SyncStatus::Incomplete => ExitCode::from(3),
        }),
        Command::Serve(args) => Box::pin(serve(args)).await.map_err(Into::into).map(|()| ExitCode::SUCCESS),
        Command::Deid(args) => Box::pin(run_deid(args)).await.map_err(Into::into).map(|status| match status {
            CheckStatus::Clean => ExitCode::SUCCESS,
            CheckStatus::HasRemarks => ExitCode::from(3),
        }),
        Command::Lake(args) => Box::pin(run_lake(args)).await.map_err(Into::into).map(|status| match status {
            LakeStatus::Clean => ExitCode::SUCCESS,
            LakeStatus::HasFindings => ExitCode::from(3),
        }),
        Command::Keys(args) => Box::pin(run_keys(args)).await.map_err(Into::into).map(|()| ExitCode::SUCCESS),
        Command::Audit(args) => Box::pin(run_audit(args)).await.map_err(Into::into).map(|status| match status {
            AuditStatus::Ok => ExitCode::SUCCESS,
            AuditStatus::ChainBroken => ExitCode::from(3),
        }),
        Command::Events(args) => Box::pin(run_events(args)).await.map_err(Into::into).map(|()| ExitCode::SUCCESS),
        Command::Schedules(args) => Box::pin(run_schedules(args)).await.map_err(Into::into).map(|()| ExitCode::SUCCESS),
        Command::Clients(args) => Box::pin(run_clients(args)).await.map_err(Into::into).map(|()| ExitCode::SUCCESS),
        Command::Jobs(args) => Box::pin(run_jobs(args)).await.map_err(Into::into).map(|status| match status {
            JobsStatus::Done => ExitCode::SUCCESS,
            JobsStatus::SomeFailed => ExitCode::FAILURE,
        }),
        Command::Token(args) => Box::pin(run_token(args)).await.map_err(Into::into).map(|()| ExitCode::SUCCESS),
        Command::Ui(args) => Box::pin(run_ui(args)).await.map_err(Into::into).map(|()| ExitCode::SUCCESS),
        Command::Completions(args) => {
            run_completions(args);
            Ok(ExitCode::SUCCESS)
        }
        Command::Man(args) => run_man(args).map_err(Into::into).map(|()| ExitCode::SUCCESS),
    };
    let result = result.and_then(|code| match crate::terminal::output_fault() {
        Some(error) => Err(format!("standard output cannot be written: {error}").into()),
        None => Ok(code),
    });
    result.unwrap_or_else(|error| {
        drop(writeln!(io::stderr(), "headrace: {}", error_chain(error.as_ref())));
        ExitCode::FAILURE
    })
}
