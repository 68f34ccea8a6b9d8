//! Fetches the resources of a window. They are recorded as a whole, or not at all.

use crate::job::file::{FileName, Fragment, OutputKind};
use crate::job::sync::{FetchScope, FetchTask, SyncRecord};
use crate::job::task::{Checkpoint, Cursor, Lease, TaskCompletion, TaskUpdate};
use crate::job::{Counters, ExportError};
use crate::lines::checkpoint::OpenCheckpoint;
use crate::ports::{AllPorts, FileWriter as _};
use crate::vocab::clock::Millis;

use super::super::heartbeat::update_leased_task;
use super::super::settings::WorkerSettings;
use super::super::task_end::{TaskEnd, complete_task, yield_task};
use super::history::run_history_task;
use super::pages::{PageError, PageReader};
use super::parts::Narrowing;
use super::progress::recorded_cap;
use super::reconcile::run_reconcile_task;
use super::repeats::log_repeat;
use super::window_end::{WindowEnd, WindowError, capped_text};
use super::window_reader::WindowReader;

/// The number of times that a window is read again. A search that expires, a server that is being restarted and resources that change
/// while they are read are over by then.
const WINDOW_REPEATS: u32 = 5;

/// The cursor of a task that has recorded everything.
pub(super) const RECORDED: Cursor = Cursor { item: u32::MAX, offset: 0 };

/// Runs a task that fetches resources: from its cursor to its end, or until `stop_at`.
pub(in super::super) async fn run_fetch_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
    fetch: &FetchTask,
) -> Result<TaskEnd, ExportError> {
    if let FetchScope::History(window) = fetch.scope {
        return run_history_task(ports, lease, settings, stop_at, (fetch, window)).await;
    }
    if let FetchScope::Reconcile { to } = fetch.scope {
        return run_reconcile_task(ports, lease, settings, stop_at, (fetch, to)).await;
    }
    let (mut repeats, mut page_size, mut record) = (0, fetch.page_size, SyncRecord::new(fetch.resource_type));
    let mut narrowing = Narrowing::default();
    if lease.cursor.item > 0 && lease.cursor != RECORDED {
        narrowing.cap = recorded_cap(&PageReader { ports, lease, settings, stop_at }).await?;
    }
    while lease.cursor != RECORDED {
        let mut reader = PageReader { ports, lease, settings, stop_at };
        let mut window = WindowReader::new(&mut reader, fetch, page_size, narrowing);
        let end = window.read().await;
        let (lines, resources, duplicates) = window.counts(&end);
        let late_changes = window.late_changes(&end);
        let remarks = window.remarks.join("; ");
        let (warning, remark) = (window.warning.take(), Some(remarks).filter(|remarks| !remarks.is_empty()));
        let checkpoint = window.into_checkpoint();
        let cursor = match end {
            // The rest of the window follows its first part.
            Ok(WindowEnd::Complete) => narrowing.to.take().map_or(RECORDED, |to| cursor_at(lease, to)),
            Ok(WindowEnd::Cut(cut)) => cursor_at(lease, cut.at),
            Err(WindowError::TooMany(at)) => {
                let reason = format!("it has too many resources, so it is divided at {at}");
                log_repeat(lease, fetch.resource_type, &fetch.shown_scope(lease), &reason);
                narrowing.to = Some(at);
                continue;
            }
            Err(WindowError::TimeUp) => return yield_task(ports, lease, settings).await,
            Err(WindowError::Attempt(error)) => return Err(error),
            Err(WindowError::Capped { middle, resources }) => {
                log_repeat(lease, fetch.resource_type, &fetch.shown_scope(lease), &capped_text(resources));
                (narrowing, record.repeats) = (narrowing.to_part(middle, resources), record.repeats + 1);
                continue;
            }
            Err(WindowError::TooLong) if page_size > 1 => {
                page_size = (page_size / 4).max(1);
                let reason = format!("a page is longer than 64 MiB, and pages of {page_size} resources are requested now");
                log_repeat(lease, fetch.resource_type, &fetch.shown_scope(lease), &reason);
                continue;
            }
            Err(WindowError::Repeat(fault)) if repeats < WINDOW_REPEATS => {
                log_repeat(lease, fetch.resource_type, &fetch.shown_scope(lease), &fault);
                (repeats, record.repeats) = (repeats + 1, record.repeats + 1);
                match (PageReader { ports, lease, settings, stop_at }).pause_before_repeat(repeats).await {
                    Ok(()) => continue,
                    Err(PageError::Attempt(error)) => return Err(error),
                    Err(_) => return yield_task(ports, lease, settings).await,
                }
            }
            Err(error) => {
                let fault = format!("{}: {}", fetch.shown_scope(lease), error.into_fault());
                tracing::warn!(job.id = %lease.job.id, task.id = lease.task.task, kind = %fetch.resource_type, fault, "a window of a synchronization could not be read: the synchronization will be incomplete");
                record.fault = Some(fault);
                // The lines of this window are discarded with its files.
                let checkpoint = OpenCheckpoint::new(ports.output(), lease);
                commit(ports, lease, settings, checkpoint, (&record, Counters::default()), RECORDED).await?;
                continue;
            }
        };
        let is_whole = matches!(fetch.scope, FetchScope::Everything { .. });
        let cap = narrowing.cap;
        record = SyncRecord { windows: 1, resources, duplicates, is_whole, late_changes, cap, remark, warning, ..record };
        let counters = Counters { source_bytes: resources, resources: lines, ..Counters::default() };
        commit(ports, lease, settings, checkpoint, (&record, counters), cursor).await?;
        (repeats, record) = (0, SyncRecord::new(fetch.resource_type));
    }
    complete_task(ports, lease, TaskCompletion::Done).await
}

/// Returns the cursor of a task whose window was read up to a moment.
fn cursor_at(lease: &Lease, at: Millis) -> Cursor {
    Cursor { item: lease.cursor.item + 1, offset: at.0 }
}

/// Commits the files of a window as fragments, and records them with the cursor after them (rule P5).
///
/// They do not become output files: a server may send other bytes to another attempt, and an output file has the same bytes in all
/// attempts.
pub(super) async fn commit<W: AllPorts>(
    ports: &W,
    lease: &mut Lease,
    settings: &WorkerSettings,
    mut checkpoint: OpenCheckpoint<'_, W::Output>,
    (record, counters): (&SyncRecord, Counters),
    cursor: Cursor,
) -> Result<(), ExportError> {
    let line = serde_json::to_string(record).unwrap_or_default() + "\n";
    checkpoint.append(OutputKind::SyncRecords, line.into(), 1).await?;
    let mut recorded = Checkpoint { cursor, counters: lease.counters.plus(counters), ..Checkpoint::default() };
    for (_, open) in checkpoint.take_files() {
        let (name, summary) = (open.fragment, open.summary());
        open.into_writer().commit(FileName::Fragment(name), summary).await?;
        recorded.fragments.push(Fragment { name, summary });
    }
    update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::Checkpoint(recorded)).await
}
