//! Command line of `headrace audit`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, Subcommand};
use headrace_core::audit::AuditAction;
use headrace_core::audit::chain::Day;
use headrace_core::vocab::ids::JobId;

/// Arguments of `headrace audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Subcommand to run.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// The subcommands of `headrace audit`. All of them only read.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verify that no record was changed, removed, added or moved
    ///
    /// Recomputes the hash chain over all files. Removal of the last records can only be detected with the job table, which
    /// stores the end of the chain: give it with --table, or with --state on one machine.
    ///
    /// Exit status: 0 intact, 1 not verified, 3 broken; the file and line of the first break are printed.
    #[command(
        after_long_help = "Examples:\n  headrace audit verify --state .headrace\n  headrace audit verify s3://records-bucket/audit --table headrace-jobs"
    )]
    Verify(VerifyArgs),
    /// List records as a table, one per line
    ///
    /// Does not verify the files; `headrace audit verify` does. Records that are not sealed yet have no number and come last: those of the
    /// last minute or two, and on one machine those of a server that has stopped. With FILES they are shown only if --table is given.
    #[command(
        after_long_help = "Examples:\n  headrace audit show --state .headrace --day 2026-01-31\n  headrace audit show --action download --json\n  headrace audit show s3://records-bucket/audit --table headrace-jobs --client lab\n\nExit status: 0 done, 1 failed."
    )]
    Show(ShowRecordsArgs),
}

/// The location of audit files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditLocation {
    /// A directory.
    Directory(PathBuf),
    /// A bucket in S3, with a prefix that may be empty.
    S3 {
        /// The name of the bucket.
        bucket: String,
        /// The prefix of all keys.
        prefix: String,
    },
}

impl FromStr for AuditLocation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(below) = text.strip_prefix("s3://") else {
            return if text.is_empty() {
                Err("give a directory, or s3://bucket/prefix".to_owned())
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

/// Arguments of `headrace audit verify`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("location").required(true).multiple(true).args(["files", "state"])))]
pub struct VerifyArgs {
    /// The location of the records: a directory (on one machine: audit in the state folder), or s3://bucket/prefix
    #[arg(value_name = "FILES")]
    pub files: Option<AuditLocation>,
    /// The state folder of the server that wrote the records, which are in its folder audit unless FILES is given: also verifies the end
    /// of the chain against its job table
    #[arg(long, value_name = "DIR", conflicts_with = "table")]
    pub state: Option<PathBuf>,
    /// The job table of the AWS deployment that wrote the records: also verifies the end of the chain against it
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
}

/// Arguments of `headrace audit show`.
#[derive(Debug, Args)]
pub struct ShowRecordsArgs {
    /// The location of the records: a directory (on one machine: audit in the state folder), or s3://bucket/prefix
    /// [default: audit in the state folder]
    #[arg(value_name = "FILES")]
    pub files: Option<AuditLocation>,
    /// The state folder of `headrace serve`
    #[arg(long, env = "HEADRACE_STATE", default_value = ".headrace", value_name = "DIR")]
    pub state: PathBuf,
    /// The job table of the AWS deployment that wrote the records: also shows the records that are not sealed yet
    #[arg(long, value_name = "NAME", requires = "files")]
    pub table: Option<String>,
    /// Show only events of this day in UTC, such as 2026-01-31
    #[arg(long, value_name = "DAY", value_parser = parse_day)]
    pub day: Option<Day>,
    /// Show only events of this client and its exports
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// Show only events of this export
    #[arg(long, value_name = "ID", value_parser = parse_job_id)]
    pub job: Option<JobId>,
    /// Show only this action, such as download
    #[arg(long, value_name = "ACTION", value_parser = parse_action)]
    pub action: Option<AuditAction>,
    /// Print each record as a line of JSON, a FHIR AuditEvent
    #[arg(long)]
    pub json: bool,
}

/// Parses a day from a command-line value.
fn parse_day(text: &str) -> Result<Day, String> {
    Day::parse(text).ok_or_else(|| "write the day like 2026-01-31".to_owned())
}

/// Parses an action from a command-line value.
fn parse_action(text: &str) -> Result<AuditAction, String> {
    let action = AuditAction::ALL.into_iter().find(|action| action.as_str() == text);
    action.ok_or_else(|| format!("the actions are {}", AuditAction::ALL.map(AuditAction::as_str).join(", ")))
}

/// Parses a job id from a command-line value.
fn parse_job_id(text: &str) -> Result<JobId, String> {
    JobId::parse(text).map_err(|_| "the id of an export is the last segment of its status URL".to_owned())
}
