//! The end of a task that finds what was deleted on the server.

use headrace_fhir::definitions::ResourceType;

use crate::job::file::OutputKind;
use crate::job::sync::SyncRecord;
use crate::job::task::{Lease, TaskCompletion};
use crate::job::{Counters, ExportError};
use crate::lines::checkpoint::OpenCheckpoint;
use crate::ports::AllPorts;
use crate::vocab::clock::Millis;

use super::super::settings::WorkerSettings;
use super::super::task_end::{TaskEnd, complete_task, yield_task};
use super::fetch::{RECORDED, commit};
use super::pages::PageError;

/// Lines and their number.
pub(super) type Lines = (Vec<u8>, u64);

/// The lines that the windows may not have.
#[derive(Default)]
pub(super) struct SupplementLines {
    /// The versions that were current at the end of the window, of resources that changed later.
    pub(super) versions: Lines,
    /// The deletions within the window.
    pub(super) deletions: Lines,
    /// The number of deletions at or before the watermark that the lake had.
    pub(super) late_deletions: u64,
    /// The number of resources of which it is not known which of several events of the same time came last.
    pub(super) undecided: u64,
    /// The moment from which on these events are. `None` without any.
    pub(super) undecided_from: Option<Millis>,
    /// A remark about what is not known.
    pub(super) remark: Option<String>,
}

/// Records what a task has found, and completes the task. If the server does not show the deletions, or not of all resources, the task does
/// not fail: they stay unknown, and the report has the reason.
///
/// * `problem`: the beginning of the reason, such as `the ids cannot be compared`.
pub(super) async fn end_deletions_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    (kind, problem): (ResourceType, &str),
    found: Result<SupplementLines, PageError>,
) -> Result<TaskEnd, ExportError> {
    let mut record = SyncRecord::new(kind);
    let mut checkpoint = OpenCheckpoint::new(ports.output(), lease);
    let mut counters = Counters::default();
    match found {
        Ok(SupplementLines { versions, deletions, late_deletions, undecided, undecided_from, remark }) => {
            record.deletions = (undecided == 0).then_some(deletions.1);
            (record.late_deletions, record.undecided_from, record.remark) = (late_deletions, undecided_from, remark);
            counters.resources = versions.1;
            for (kind, (text, lines)) in [(OutputKind::Output(kind), versions), (OutputKind::Deleted, deletions)] {
                if lines > 0 {
                    checkpoint.append(kind, text.into(), lines).await?;
                }
            }
        }
        Err(error) => return end_without_deletions(ports, lease, settings, (kind, problem), error).await,
    }
    commit(ports, lease, settings, checkpoint, (&record, counters), RECORDED).await?;
    complete_task(ports, lease, TaskCompletion::Done).await
}

/// Ends an attempt at a task that could not find all deletions because of this error. If no retry changes that, completes the task: the
/// deletions stay unknown, and the report has the reason.
pub(super) async fn end_without_deletions(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    (kind, problem): (ResourceType, &str),
    error: PageError,
) -> Result<TaskEnd, ExportError> {
    let text = match error {
        PageError::TimeUp => return yield_task(ports, lease, settings).await,
        PageError::Attempt(error) => return Err(error),
        error @ (PageError::Rejected(..) | PageError::TooLong | PageError::Incomplete(_) | PageError::Final(_)) => error.into_text(),
    };
    let record = SyncRecord { remark: Some(format!("{problem}: {text}")), ..SyncRecord::new(kind) };
    let checkpoint = OpenCheckpoint::new(ports.output(), lease);
    commit(ports, lease, settings, checkpoint, (&record, Counters::default()), RECORDED).await?;
    complete_task(ports, lease, TaskCompletion::Done).await
}
