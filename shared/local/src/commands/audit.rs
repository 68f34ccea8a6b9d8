//! `headrace audit`: records for auditors, checked and read where they lie.

mod view;

use std::io::{self, Write as _};
use std::path::PathBuf;

use headrace_aws::{Clients, DynamoJobStore};
use headrace_core::audit::chain::AuditFileName;
use headrace_core::audit::verify::{ChainError, VerifiedChain};
use headrace_core::flow::upkeep::verify::{Sound, verify};
use headrace_core::ports::AuditFiles;
use headrace_core::vocab::error::StoreError;

use crate::cli::{Audit, AuditCommand, AuditLocation, ShowRecordsArgs, Verify};
use crate::commands::table::format_table;
use crate::server::state::{StateFolder, StateError};
use crate::stores::directory::DirectoryAudit;

use view::Record;

/// Why records could not be checked or shown.
#[derive(Debug, thiserror::Error)]
pub enum AuditCommandError {
    /// There is no such directory.
    #[error("there is no directory `{0}`; on one machine the records lie in `audit` within the state")]
    Absent(PathBuf),
    /// There is nothing to check.
    #[error(
        "there are no records here, and nothing that says that there should be: name the job table with --state or --table, or other files"
    )]
    Empty,
    /// A line is none of ours.
    #[error("{file}, line {line}: it is no record of this service; `headrace audit verify` checks all of them")]
    NoRecord {
        /// Its file.
        file: AuditFileName,
        /// The line, from 1.
        line: usize,
    },
    /// The state folder.
    #[error(transparent)]
    StateFolder(#[from] StateError),
    /// The files or the job table.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditStatus {
    /// The records were shown, or are sound.
    Ok,
    /// They are not as they were sealed.
    ChainBroken,
}

/// Runs the command and prints what it found.
pub async fn audit(order: &Audit) -> Result<AuditStatus, AuditCommandError> {
    let (said, audited) = match &order.action {
        AuditCommand::Verify(order) => match checked(order).await? {
            Ok(sound) => (verdict(&sound, order.state.is_some() || order.table.is_some())?, AuditStatus::Ok),
            Err(broken) => (format!("broken: {broken}\n"), AuditStatus::ChainBroken),
        },
        AuditCommand::Show(order) => (table(order).await?, AuditStatus::Ok),
    };
    // A reader that has gone away wants no more.
    drop(io::stdout().write_all(said.as_bytes()));
    Ok(audited)
}

/// The files, wherever they lie.
enum Place {
    Directory(DirectoryAudit),
    S3(headrace_aws::S3AuditFiles),
}

async fn open(place: &AuditLocation) -> Result<Place, AuditCommandError> {
    match place {
        AuditLocation::Directory(path) if path.is_dir() => Ok(Place::Directory(DirectoryAudit::open(path))),
        AuditLocation::Directory(path) => Err(AuditCommandError::Absent(path.clone())),
        AuditLocation::S3 { bucket, prefix } => Ok(Place::S3(Clients::connect().await.audit_files(bucket, prefix))),
    }
}

async fn checked(order: &Verify) -> Result<Result<Sound, ChainError>, AuditCommandError> {
    let trail: Option<DynamoJobStore> = match (&order.table, &order.state) {
        (Some(table), _) => Some(Clients::connect().await.jobs(table)),
        (None, Some(state)) => Some(StateFolder::open_existing(state).await?.jobs),
        (None, None) => None,
    };
    Ok(match open(&order.files).await? {
        Place::Directory(files) => verify(&files, trail.as_ref()).await?,
        Place::S3(files) => verify(&files, trail.as_ref()).await?,
    })
}

/// What is said of sound files; `knows_end`: whether the job table was asked.
fn verdict(sound: &Sound, knows_end: bool) -> Result<String, AuditCommandError> {
    let Some(VerifiedChain { first, head, files }) = &sound.followed else {
        return if knows_end { Ok("sound: nothing has been sealed yet\n".to_owned()) } else { Err(AuditCommandError::Empty) };
    };
    let mut said = format!("sound: records {} to {}, sealed {} to {} (files: {files})\n", first.first, head.sequence, first.day, head.day);
    if first.first > 1 {
        said += &format!("records 1 to {} are not here: their time is over, or they were removed\n", first.first - 1);
    }
    said += if knows_end {
        "they end where the job table says\n"
    } else {
        "whether later ones were cut off is not known: name the job table with --state or --table\n"
    };
    if !sound.strangers.is_empty() {
        said += &format!("beside them lie files that are none of this service's: {}\n", sound.strangers.len());
    }
    Ok(said)
}

async fn table(order: &ShowRecordsArgs) -> Result<String, AuditCommandError> {
    let records = match open(&order.files).await? {
        Place::Directory(files) => wanted(&files, order).await?,
        Place::S3(files) => wanted(&files, order).await?,
    };
    if records.is_empty() {
        return Ok("no record is of this\n".to_owned());
    }
    let rows: Vec<_> = std::iter::once(view::TITLES.map(str::to_owned)).chain(records.iter().map(Record::row)).collect();
    Ok(format_table(&rows))
}

/// The records that were asked for, in the order of their numbers.
async fn wanted(files: &impl AuditFiles, order: &ShowRecordsArgs) -> Result<Vec<Record>, AuditCommandError> {
    let listing = files.list().await?;
    let mut records = Vec::new();
    // What happened on a day is sealed on that day or later.
    for file in listing.files.into_iter().filter(|file| order.day.as_ref().is_none_or(|day| file.day >= *day)) {
        let bytes = files.read(&file).await?;
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let unread = || AuditCommandError::NoRecord { file: file.clone(), line: index + 1 };
            let record = Record::read(line).ok_or_else(unread)?;
            if is_wanted(&record, order) {
                records.push(record);
            }
        }
    }
    Ok(records)
}

fn is_wanted(record: &Record, order: &ShowRecordsArgs) -> bool {
    let day = order.day.as_ref().is_none_or(|day| record.recorded.starts_with(&day.to_string()));
    let client = order.client.as_ref().is_none_or(|client| record.who == *client || record.owner.as_ref() == Some(client));
    let job = order.job.as_ref().is_none_or(|job| record.job.as_deref() == Some(job.as_str()));
    day && client && job
}
