//! Child processes: this program starts itself for measurements that need a process of their own.

use std::path::Path;
use std::process::{Command, Stdio};

use clap::Parser as _;
use headrace_local::cli::{Cli, Command as CliCommand};
use tokio::runtime::Runtime;

use crate::{BoxError, failed};

/// Runs `headrace export LAKE OUT` with these options.
pub(crate) fn export(lake: &Path, out: &Path, options: &[String]) -> Result<(), BoxError> {
    let mut command = this_program()?;
    command.args(["--child", "export"]).args([lake, out]).args(options);
    let done = command.stdout(Stdio::null()).stderr(Stdio::inherit()).status()?;
    if done.success() { Ok(()) } else { Err(failed("headrace export")) }
}

/// Returns the command that starts this benchmark again.
fn this_program() -> Result<Command, BoxError> {
    Ok(Command::new(std::env::current_exe()?))
}

/// Runs the task of a child process.
pub(crate) fn run(arguments: &[String]) -> Result<(), BoxError> {
    let [kind, lake, scratch, options @ ..] = arguments else { return Err("--child takes three arguments".into()) };
    let runtime = Runtime::new()?;
    match kind.as_str() {
        "export" => {
            let line = ["headrace", "export", lake, scratch].into_iter().chain(options.iter().map(String::as_str));
            let CliCommand::Export(order) = Cli::try_parse_from(line)?.command else { return Err("the command is no export".into()) };
            runtime.block_on(headrace_local::client::export::run_export(&order)).map(drop).map_err(Into::into)
        }
        other => Err(format!("{other} is not a child task").into()),
    }
}
