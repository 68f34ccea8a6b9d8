//! Child processes: this program starts itself for measurements that need a process of their own.

use std::path::Path;
use std::process::{Command, Stdio};

use clap::Parser as _;
use headrace_local::cli::{Cli, Command as CliCommand};
use tokio::runtime::Runtime;

use crate::aws::{Deployment, S3Backend};
use crate::local::TestServer;
use crate::{BoxError, failed};

/// Runs `headrace export LAKE OUT` with these options.
pub(crate) fn export(lake: &Path, out: &Path, options: &[String]) -> Result<(), BoxError> {
    let mut command = this_program()?;
    command.args(["--child", "export"]).args([lake, out]).args(options);
    let done = command.stdout(Stdio::null()).stderr(Stdio::inherit()).status()?;
    if done.success() { Ok(()) } else { Err(failed("headrace export")) }
}

/// Exports `lake` once in a child process. Returns its peak resident memory before and after the export, in kB.
pub(crate) fn measure_peak_memory(kind: &str, lake: &Path, scratch: &Path) -> Result<(u64, u64), BoxError> {
    let done = this_program()?.args(["--child", kind]).args([lake, scratch]).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(done.stdout)?;
    let mut peaks = text.split_ascii_whitespace().map(str::parse);
    match (done.status.success(), peaks.next(), peaks.next()) {
        (true, Some(before), Some(after)) => Ok((before?, after?)),
        _ => Err(failed(kind)),
    }
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
        "serve" => runtime.block_on(async {
            let server = TestServer::start(Path::new(lake), Path::new(scratch)).await?;
            let before = own_peak_memory()?;
            let (status, _) = server.export(&[]).await?;
            crate::print(&format!("{before} {}", own_peak_memory()?));
            Ok(server.client.delete(&status).await?)
        }),
        "chunk-worker" => runtime.block_on(async {
            let deployment = Deployment::start(S3Backend::Folder { lake: Path::new(lake), root: Path::new(scratch) }, 1).await?;
            let before = own_peak_memory()?;
            Box::pin(deployment.export()).await?;
            crate::print(&format!("{before} {}", own_peak_memory()?));
            Ok(())
        }),
        other => Err(format!("{other} is not a child task").into()),
    }
}

/// Returns the peak resident memory of this process, in kB.
fn own_peak_memory() -> Result<u64, BoxError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|rest| rest.split_ascii_whitespace().next());
    Ok(kilobytes.ok_or("no VmHWM in /proc/self/status")?.parse()?)
}
