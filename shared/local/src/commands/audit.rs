//! `headrace audit`: lists and verifies audit records in a directory or in S3.

mod view;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use headrace_aws::DynamoJobStore;
use headrace_core::audit::AuditRecord;
use headrace_core::audit::chain::AuditFileName;
use headrace_core::audit::event::AuditEvent;
use headrace_core::audit::verify::{ChainError, VerifiedChain};
use headrace_core::flow::upkeep::seal::unsealed_records;
use headrace_core::flow::upkeep::verify::{IntactFiles, verify};
use headrace_core::ports::AuditFiles;
use headrace_core::vocab::error::StoreError;

use crate::cli::{AuditArgs, AuditCommand, AuditLocation, ShowRecordsArgs, VerifyArgs};
use crate::client::progress::print_line;
use crate::commands::table::{format_table_within, terminal_columns};
use crate::server::state::{AUDIT_FOLDER, StateError, StateFolder, is_state_folder};
use crate::stores::deployment::{self, DeploymentError};
use crate::stores::directory::DirectoryAudit;
use crate::terminal::{error_chain, print_result, printable_json};

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

/// A record to show: its row in the table, and its AuditEvent as JSON.
struct ShownRecord {
    row: AuditRow,
    event: String,
}

/// Lists the selected records as a table or as JSON, the records that are not sealed yet last.
async fn show_records(args: &ShowRecordsArgs) -> Result<String, AuditCommandError> {
    // Read before the files: a record that is sealed meanwhile is in both, and none is in neither.
    let unsealed = read_unsealed(args).await?;
    let location = location_in(args.files.as_ref(), &args.state);
    let mut records = match open_files(&location).await? {
        AuditFileStore::Directory(files) => select_records(&files, args).await?,
        #[cfg(feature = "deployment")]
        AuditFileStore::S3(files) => select_records(&files, args).await?,
    };
    let sealed: BTreeSet<String> = records.iter().map(|record| record.row.id.clone()).collect();
    records.extend(unsealed.into_iter().filter(|record| !sealed.contains(&record.row.id) && matches_filters(&record.row, args)));
    if args.json {
        return Ok(records.iter().map(|record| format!("{}\n", printable_json(&record.event))).collect());
    }
    if records.is_empty() {
        let is_first = matches!(&location, AuditLocation::Directory(path) if !path.exists() && is_new(path));
        return Ok(if is_first { "no record has been written yet\n" } else { "no matching records\n" }.to_owned());
    }
    let cells = records.iter().map(|record| record.row.cells());
    let rows: Vec<_> = std::iter::once(view::COLUMNS.map(str::to_owned)).chain(cells).collect();
    Ok(format_table_within(&rows, terminal_columns()))
}

/// Reads the records of the job table, which are not sealed yet. Returns none if no job table is known.
async fn read_unsealed(args: &ShowRecordsArgs) -> Result<Vec<ShownRecord>, AuditCommandError> {
    let job_table = match (&args.table, &args.files) {
        (Some(table), _) => deployment::job_table(table).await?,
        (None, Some(_)) => return Ok(Vec::new()),
        // The files may have been copied without the job table.
        (None, None) if !is_state_folder(&args.state) && args.state.join(AUDIT_FOLDER).is_dir() => return Ok(Vec::new()),
        (None, None) => match StateFolder::open_existing(&args.state).await {
            Ok(state) => state.jobs,
            Err(error @ StateError::NotFound(_)) => return Err(error.into()),
            // The sealed records can be read without writing, as from a read-only file system.
            Err(error) => {
                print_line(&format!("attention: records that are not sealed yet are not shown: {}", error_chain(&error)));
                return Ok(Vec::new());
            }
        },
    };
    let records = unsealed_records(&job_table).await?;
    Ok(records.iter().filter_map(shown_unsealed).collect())
}

/// Returns a record that is not sealed yet. `None` if it cannot be serialized, which does not happen.
fn shown_unsealed(record: &AuditRecord) -> Option<ShownRecord> {
    let event = serde_json::to_string(&AuditEvent::unsealed(record)).ok()?;
    Some(ShownRecord { row: AuditRow::parse_unsealed(&event)?, event })
}

/// Reads the sealed records that match the filters, ordered by sequence number.
async fn select_records(files: &impl AuditFiles, args: &ShowRecordsArgs) -> Result<Vec<ShownRecord>, AuditCommandError> {
    let listing = files.list().await?;
    let mut records = Vec::new();
    // An event is sealed on its own day or later, so files of earlier days cannot contain it.
    for file in listing.files.into_iter().filter(|file| args.day.as_ref().is_none_or(|day| file.day >= *day)) {
        let bytes = files.read(&file).await?;
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let invalid = || AuditCommandError::InvalidRecord { file: file.clone(), line: index + 1 };
            let row = AuditRow::parse(line).ok_or_else(invalid)?;
            if matches_filters(&row, args) {
                records.push(ShownRecord { row, event: String::from_utf8_lossy(line).into_owned() });
            }
        }
    }
    Ok(records)
}

/// Returns true if a record matches the filters for day, client, job and action.
fn matches_filters(record: &AuditRow, args: &ShowRecordsArgs) -> bool {
    let is_day = args.day.as_ref().is_none_or(|day| record.recorded.starts_with(&day.to_string()));
    let is_client = args.client.as_ref().is_none_or(|client| record.actor == *client || record.owner.as_ref() == Some(client));
    let is_job = args.job.as_ref().is_none_or(|job| record.job.as_deref() == Some(job.as_str()));
    let is_action = args.action.is_none_or(|action| record.action == action.as_str());
    is_day && is_client && is_job && is_action
}
