//! The `headrace` program, as a function: tests start and kill it under another name.

use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::client::export::{ExportStatus, export};
use crate::commands::audit::{AuditStatus, audit};
use crate::commands::clients::clients;
use crate::commands::deid::{CheckStatus, deid};
use crate::commands::keys::keys;
use crate::server::serve::serve;
use clap::Parser as _;
use headrace_edge::telemetry::filter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Reads the command line, does what it says and tells how that ended.
#[tokio::main]
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    let default = match &cli.command {
        Command::Export(_) | Command::Clients(_) | Command::Keys(_) | Command::Audit(_) | Command::Deid(_) => LevelFilter::WARN,
        Command::Serve(_) => LevelFilter::INFO,
    };
    let filter = filter(cli.log.as_deref().unwrap_or_default(), default);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    let ended: Result<ExitCode, Box<dyn Error>> = match &cli.command {
        Command::Export(order) => Box::pin(export(order)).await.map_err(Into::into).map(|exported| match exported {
            ExportStatus::Complete => ExitCode::SUCCESS,
            ExportStatus::WithErrors => ExitCode::from(3),
        }),
        Command::Serve(order) => Box::pin(serve(order)).await.map_err(Into::into).map(|()| ExitCode::SUCCESS),
        Command::Deid(order) => deid(order).map_err(Into::into).map(|checked| match checked {
            CheckStatus::Clean => ExitCode::SUCCESS,
            CheckStatus::HasWarnings => ExitCode::from(3),
        }),
        Command::Keys(order) => Box::pin(keys(order)).await.map_err(Into::into).map(|()| ExitCode::SUCCESS),
        Command::Audit(order) => Box::pin(audit(order)).await.map_err(Into::into).map(|audited| match audited {
            AuditStatus::Ok => ExitCode::SUCCESS,
            AuditStatus::ChainBroken => ExitCode::from(3),
        }),
        Command::Clients(order) => Box::pin(clients(order)).await.map_err(Into::into).map(|()| ExitCode::SUCCESS),
    };
    ended.unwrap_or_else(|error| {
        drop(writeln!(io::stderr(), "headrace: {}", chain(error.as_ref())));
        ExitCode::FAILURE
    })
}

/// An error and its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
