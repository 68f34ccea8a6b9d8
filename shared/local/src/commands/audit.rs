//! `headrace audit`: lists and verifies audit records in a directory or in S3.

mod view;

use std::path::{Path, PathBuf};

use headrace_aws::DynamoJobStore;
use headrace_core::audit::chain::AuditFileName;
use headrace_core::audit::verify::{ChainError, VerifiedChain};
use headrace_core::flow::upkeep::verify::{IntactFiles, verify};
use headrace_core::ports::AuditFiles;
use headrace_core::vocab::error::StoreError;

use crate::cli::{AuditArgs, AuditCommand, AuditLocation, ShowRecordsArgs, VerifyArgs};
use crate::commands::table::{format_table_within, terminal_columns};
use crate::server::state::{AUDIT_FOLDER, StateError, StateFolder, is_state_folder};
use crate::stores::deployment::{self, DeploymentError};
use crate::stores::directory::DirectoryAudit;
use crate::terminal::print_result;

use view::AuditRow;

/// Failure of `headrace audit`.
#[derive(Debug, thiserror::Error)]
pub enum AuditCommandError {
    /// The directory does not exist.
    #[error("the directory `{0}` does not exist; on one machine the records are in `audit` in the state folder")]
    DirectoryNotFound(PathBuf),
    /// The directory is a state folder.
    #[error(
        "`{}` is a state folder, and its audit records are in `{}`: run the command with that directory, and `--state {}` to verify the end of the chain",
        .0.display(), .0.join(AUDIT_FOLDER).display(), .0.display()
    )]
    StateFolder(PathBuf),
    /// Absence of both files and a job table to compare with.
    #[error("there are no records to verify: give the job table with --state or --table, or another location")]
    NoRecords,
    /// A line is not an audit record of this service.
    #[error("{file}, line {line}: not an audit record of this service; run `headrace audit verify` to check all files")]
    InvalidRecord {
        /// File of the line.
        file: AuditFileName,
        /// Line number, from 1.
        line: usize,
    },
    /// The state folder cannot be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// A deployment on AWS cannot be accessed.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The files or the job table cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Result of the command, for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditStatus {
    /// The records were listed, or are intact.
    Ok,
    /// The hash chain is broken.
    ChainBroken,
}

/// Runs `headrace audit` and prints its result.
pub async fn run_audit(args: &AuditArgs) -> Result<AuditStatus, AuditCommandError> {
    let (output, status) = match &args.command {
        AuditCommand::Verify(args) => match verify_files(args).await? {
            Ok(intact) => (format_intact(&intact, args.state.is_some() || args.table.is_some())?, AuditStatus::Ok),
            Err(broken) => (format!("broken: {broken}\n"), AuditStatus::ChainBroken),
        },
        AuditCommand::Show(args) => (show_records(args).await?, AuditStatus::Ok),
    };
    print_result(&output);
    Ok(status)
}

/// Audit files in a directory or in S3.
enum AuditFileStore {
    Directory(DirectoryAudit),
    #[cfg(feature = "deployment")]
    S3(headrace_aws::S3AuditFiles),
}

/// Opens the audit files at a location.
async fn open_files(location: &AuditLocation) -> Result<AuditFileStore, AuditCommandError> {
    match location {
        AuditLocation::Directory(path) if is_state_folder(path) => Err(AuditCommandError::StateFolder(path.clone())),
        AuditLocation::Directory(path) if path.is_dir() || is_new(path) => Ok(AuditFileStore::Directory(DirectoryAudit::open(path))),
        AuditLocation::Directory(path) => Err(AuditCommandError::DirectoryNotFound(path.clone())),
        #[cfg(feature = "deployment")]
        AuditLocation::S3 { bucket, prefix } => Ok(AuditFileStore::S3(deployment::clients().await?.audit_files(bucket, prefix))),
        #[cfg(not(feature = "deployment"))]
        AuditLocation::S3 { .. } => Err(DeploymentError::BuiltWithoutAws.into()),
    }
}

/// Returns true for the folder of the records of a state folder in which no record has been sealed yet.
fn is_new(path: &Path) -> bool {
    path.ends_with(AUDIT_FOLDER) && path.parent().is_some_and(is_state_folder)
}

/// Verifies the hash chain, and its end if a job table is given.
async fn verify_files(args: &VerifyArgs) -> Result<Result<IntactFiles, ChainError>, AuditCommandError> {
    let job_table: Option<DynamoJobStore> = match (&args.table, &args.state) {
        (Some(table), _) => Some(deployment::job_table(table).await?),
        (None, Some(state)) => Some(StateFolder::open_existing(state).await?.jobs),
        (None, None) => None,
    };
    let location = location_in(args.files.as_ref(), args.state.as_deref().unwrap_or(Path::new("")));
    Ok(match open_files(&location).await? {
        AuditFileStore::Directory(files) => verify(&files, job_table.as_ref()).await?,
        #[cfg(feature = "deployment")]
        AuditFileStore::S3(files) => verify(&files, job_table.as_ref()).await?,
    })
}

/// Formats the result for an intact chain. `is_end_verified` is true if the end was compared with the job table.
fn format_intact(intact: &IntactFiles, is_end_verified: bool) -> Result<String, AuditCommandError> {
    let Some(VerifiedChain { first_file, head, file_count }) = &intact.chain else {
        return if is_end_verified { Ok("intact: no record has been sealed yet\n".to_owned()) } else { Err(AuditCommandError::NoRecords) };
    };
    let mut output = format!(
        "intact: records {} to {}, sealed {} to {} (files: {file_count})\n",
        first_file.first_sequence, head.sequence, first_file.day, head.day
    );
    if first_file.first_sequence > 1 {
        output += &format!("records 1 to {} are missing: they have expired or were removed\n", first_file.first_sequence - 1);
    }
    output += if is_end_verified {
        "the end of the chain matches the job table\n"
    } else {
        "the end of the chain was not verified: later records may have been removed; give the job table with --state or --table\n"
    };
    if !intact.foreign_files.is_empty() {
        output += &format!("files that this service did not write: {}\n", intact.foreign_files.len());
    }
    Ok(output)
}

/// Returns the location of the records: the given one, or that in a state folder.
fn location_in(files: Option<&AuditLocation>, state: &Path) -> AuditLocation {
    files.cloned().unwrap_or_else(|| AuditLocation::Directory(state.join(AUDIT_FOLDER)))
}

/// Lists the selected records as a table.
async fn show_records(args: &ShowRecordsArgs) -> Result<String, AuditCommandError> {
    let location = location_in(args.files.as_ref(), &args.state);
    if matches!(&location, AuditLocation::Directory(path) if !path.exists() && is_new(path)) {
        return Ok("no record has been written yet: a record appears within a minute or two of the event\n".to_owned());
    }
    let records = match open_files(&location).await? {
        AuditFileStore::Directory(files) => select_records(&files, args).await?,
        #[cfg(feature = "deployment")]
        AuditFileStore::S3(files) => select_records(&files, args).await?,
    };
    if records.is_empty() {
        return Ok("no matching records\n".to_owned());
    }
    let rows: Vec<_> = std::iter::once(view::COLUMNS.map(str::to_owned)).chain(records.iter().map(AuditRow::cells)).collect();
    Ok(format_table_within(&rows, terminal_columns()))
}

/// Reads the records that match the filters, ordered by sequence number.
async fn select_records(files: &impl AuditFiles, args: &ShowRecordsArgs) -> Result<Vec<AuditRow>, AuditCommandError> {
    let listing = files.list().await?;
    let mut records = Vec::new();
    // An event is sealed on its own day or later, so files of earlier days cannot contain it.
    for file in listing.files.into_iter().filter(|file| args.day.as_ref().is_none_or(|day| file.day >= *day)) {
        let bytes = files.read(&file).await?;
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let invalid = || AuditCommandError::InvalidRecord { file: file.clone(), line: index + 1 };
            let record = AuditRow::parse(line).ok_or_else(invalid)?;
            if matches_filters(&record, args) {
                records.push(record);
            }
        }
    }
    Ok(records)
}

/// Returns true if a record matches the day, client and job filters.
fn matches_filters(record: &AuditRow, args: &ShowRecordsArgs) -> bool {
    let is_day = args.day.as_ref().is_none_or(|day| record.recorded.starts_with(&day.to_string()));
    let is_client = args.client.as_ref().is_none_or(|client| record.actor == *client || record.owner.as_ref() == Some(client));
    let is_job = args.job.as_ref().is_none_or(|job| record.job.as_deref() == Some(job.as_str()));
    is_day && is_client && is_job
}
