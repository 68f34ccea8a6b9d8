//! `headrace audit`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use headrace_core::audit::chain::Day;
use headrace_core::vocab::ids::JobId;

/// `headrace audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// What to do with the records.
    #[command(subcommand)]
    pub action: AuditCommand,
}

/// What is done with records for auditors. Nothing changes them.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that no record was changed, removed, added or moved
    ///
    /// Recomputes the chain over all files. That the last records were cut off shows only against the job table, which
    /// knows where the chain ends: name it with --table, or with --state on one machine.
    ///
    /// Exit status: 0 sound, 1 it could not be checked, 3 broken: the first break is said, by its file and line.
    #[command(
        after_long_help = "Examples:\n  headrace audit verify .headrace/audit --state .headrace\n  headrace audit verify s3://records-bucket/audit --table headrace-jobs"
    )]
    Verify(Verify),
    /// List records as a table, one line each
    ///
    /// The files are read as they are: `headrace audit verify` says whether they can be believed. A record is there once it
    /// is sealed, a minute or two after what it tells of.
    #[command(
        after_long_help = "Examples:\n  headrace audit show .headrace/audit --day 2026-01-31\n  headrace audit show s3://records-bucket/audit --client lab\n  headrace audit show .headrace/audit --job 0123456789abcdef0123456789abcdef"
    )]
    Show(ShowRecordsArgs),
}

/// Where audit files lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditLocation {
    /// A directory.
    Directory(PathBuf),
    /// In S3; the prefix may be empty.
    S3 {
        /// The bucket.
        bucket: String,
        /// What all keys begin with.
        prefix: String,
    },
}

impl FromStr for AuditLocation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(below) = text.strip_prefix("s3://") else {
            return if text.is_empty() {
                Err("name a directory, or s3://bucket/prefix".to_owned())
            } else {
                Ok(Self::Directory(text.into()))
            };
        };
        let (bucket, prefix) = below.split_once('/').unwrap_or((below, ""));
        if bucket.is_empty() {
            return Err("write s3://bucket or s3://bucket/prefix".to_owned());
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

/// `headrace audit verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Where the records lie: a directory (on one machine, audit within the state), or s3://bucket/prefix
    #[arg(value_name = "FILES")]
    pub files: AuditLocation,
    /// The state of the `headrace serve` that they are of: checks that they end where its job table says
    #[arg(long, value_name = "DIR", conflicts_with = "table")]
    pub state: Option<PathBuf>,
    /// The job table of the deployment on AWS that they are of, by its name: checks the same
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
}

/// `headrace audit show`.
#[derive(Debug, Args)]
pub struct ShowRecordsArgs {
    /// Where the records lie: a directory (on one machine, audit within the state), or s3://bucket/prefix
    #[arg(value_name = "FILES")]
    pub files: AuditLocation,
    /// Only what happened on this day, UTC: 2026-01-31
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub day: Option<Day>,
    /// Only what this client did, and what became of its exports
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// Only what concerns this export
    #[arg(long, value_name = "ID", value_parser = job)]
    pub job: Option<JobId>,
}

fn day(text: &str) -> Result<Day, String> {
    Day::parse(text).ok_or_else(|| "write a day as 2026-01-31".to_owned())
}

fn job(text: &str) -> Result<JobId, String> {
    JobId::parse(text).map_err(|_| "an export's id is what its status URL ends with".to_owned())
}
