//! This program again, as a process of its own.

use std::path::Path;
use std::process::{Command, Stdio};

use clap::Parser as _;
use headrace_local::cli::{Cli, Command as Verb};
use tokio::runtime::Runtime;

use crate::aws::{Deployment, S3};
use crate::local::Served;
use crate::{BoxError, failed};

/// Runs `headrace export LAKE OUT`.
pub(crate) fn export(lake: &Path, out: &Path) -> Result<(), BoxError> {
    let done = this()?.args(["--child", "export"]).args([lake, out]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if done.success() { Ok(()) } else { Err(failed("headrace export")) }
}

/// Exports `lake` once in a child and returns its peak resident memory before and after, in kB.
pub(crate) fn peak(kind: &str, lake: &Path, scratch: &Path) -> Result<(u64, u64), BoxError> {
    let done = this()?.args(["--child", kind]).args([lake, scratch]).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(done.stdout)?;
    let mut peaks = text.split_ascii_whitespace().map(str::parse);
    match (done.status.success(), peaks.next(), peaks.next()) {
        (true, Some(before), Some(after)) => Ok((before?, after?)),
        _ => Err(failed(kind)),
    }
}

fn this() -> Result<Command, BoxError> {
    Ok(Command::new(std::env::current_exe()?))
}

/// What the child does.
pub(crate) fn run(arguments: &[String]) -> Result<(), BoxError> {
    let [kind, lake, scratch] = arguments else { return Err("a child takes three arguments".into()) };
    let runtime = Runtime::new()?;
    match kind.as_str() {
        "export" => match Cli::try_parse_from(["headrace", "export", lake, scratch])?.command {
            Verb::Export(order) => runtime.block_on(headrace_local::client::export::export(&order)).map(drop).map_err(Into::into),
            Verb::Serve(_) | Verb::Clients(_) | Verb::Keys(_) | Verb::Audit(_) | Verb::Deid(_) => Ok(()),
        },
        "serve" => runtime.block_on(async {
            let served = Served::start(Path::new(lake), Path::new(scratch)).await?;
            let before = peak_of_this()?;
            let (status, _) = served.export(&[]).await?;
            crate::print(&format!("{before} {}", peak_of_this()?));
            Ok(served.client.delete(&status).await?)
        }),
        "chunk-worker" => runtime.block_on(async {
            let deployment = Deployment::start(S3::Disk { lake: Path::new(lake), root: Path::new(scratch) }, 1).await?;
            let before = peak_of_this()?;
            deployment.export().await?;
            crate::print(&format!("{before} {}", peak_of_this()?));
            Ok(())
        }),
        other => Err(format!("no child is called {other}").into()),
    }
}

/// The most memory that was ever resident in this process, in kB.
fn peak_of_this() -> Result<u64, BoxError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|rest| rest.split_ascii_whitespace().next());
    Ok(kilobytes.ok_or("no VmHWM in /proc/self/status")?.parse()?)
}
