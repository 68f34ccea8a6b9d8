//! `headrace lake`: checks, fills and compacts lakes.

mod add;
mod check;
mod compact;
mod late_changes;
mod progress;

use headrace_core::ports::Clock as _;
use headrace_core::vocab::error::SourceError;
use headrace_edge::system::SystemClock;
use headrace_lake::add::AddError;
use headrace_lake::check::CheckError;
use headrace_lake::compact::CompactError;
use headrace_lake::writing::RewriteSettings;

use crate::cli::{LakeArgs, LakeCommand, LakeOptions, OptionError};
use crate::stores::deployment::DeploymentError;

/// The memory for records that are sorted, in bytes. With lines, buffers and the program itself it stays below 256 MiB.
const SORT_BYTES: usize = 96 << 20;

/// The memory for lines that are not written yet, in bytes.
const LINE_BYTES: usize = 48 << 20;

/// Failure of `headrace lake`.
#[derive(Debug, thiserror::Error)]
pub enum LakeCommandError {
    /// The lake cannot be checked.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The input was not added.
    #[error(transparent)]
    Add(#[from] AddError),
    /// The lake was not compacted.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// The lake cannot be read.
    #[error(transparent)]
    Lake(#[from] SourceError),
    /// The value of an option is not valid, or not without another option.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The random number generator of the system failed.
    #[error("the random number generator of the system failed")]
    Random,
    /// A deployment on AWS cannot be accessed.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// A thread has stopped.
    #[error("a thread has stopped unexpectedly")]
    Thread(#[from] tokio::task::JoinError),
}

/// Result of the command, for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LakeStatus {
    /// The absence of findings.
    Clean,
    /// Findings that need attention.
    HasFindings,
}

/// Runs `headrace lake` and prints its result.
pub async fn run_lake(args: &LakeArgs) -> Result<LakeStatus, LakeCommandError> {
    match &args.command {
        LakeCommand::Check(args) => check::run_check(args).await,
        LakeCommand::Add(args) => add::run_add(args).await,
        LakeCommand::Compact(args) => compact::run_compact(args).await,
    }
}

/// Returns the settings of a run that writes into a lake.
fn rewrite_settings(options: &LakeOptions) -> Result<RewriteSettings, LakeCommandError> {
    Ok(RewriteSettings {
        temp_folder: std::env::temp_dir(),
        workers: options.workers(),
        sort_bytes: SORT_BYTES,
        line_bytes: LINE_BYTES,
        now: SystemClock.now(),
        seed: random_seed()?,
    })
}

/// Returns the clock of the lock of a lake in S3.
#[cfg(feature = "deployment")]
fn lock_clock() -> headrace_lake::writing::LockClock {
    std::sync::Arc::new(|| SystemClock.now())
}

/// Returns random bytes.
fn random_seed() -> Result<[u8; 16], LakeCommandError> {
    let mut seed = [0; 16];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| LakeCommandError::Random)?;
    Ok(seed)
}

/// Returns the status of a lake. `is_clean` is true if nothing needs attention.
fn status(is_clean: bool) -> LakeStatus {
    if is_clean { LakeStatus::Clean } else { LakeStatus::HasFindings }
}
