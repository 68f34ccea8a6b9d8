//! Records the progress of a task with what it has read, so that a later attempt continues there.

use headrace_fhir::definitions::ResourceType;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::job::file::{Fragment, OutputKind};
use crate::job::sync::SyncRecord;
use crate::job::task::Cursor;
use crate::job::{Counters, ExportError};
use crate::lines::checkpoint::OpenCheckpoint;
use crate::ports::{AllPorts, FragmentSelection, TaskStore as _};
use crate::vocab::error::StoreError;

use super::super::fragments::read_fragment;
use super::fetch::commit;
use super::pages::PageReader;

/// Records lines after the progress of their task, and the cursor after them (rule P5).
pub(super) async fn record_progress<W: AllPorts, P: Serialize>(
    pages: &mut PageReader<'_, '_, W>,
    kind: ResourceType,
    (progress, lines): (&P, &[String]),
    cursor: Cursor,
) -> Result<(), ExportError> {
    let mut text = serde_json::to_string(progress).unwrap_or_default() + "\n";
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    let mut checkpoint = OpenCheckpoint::new(pages.ports.output(), pages.lease);
    checkpoint.append(OutputKind::SyncProgress, text.into(), lines.len() as u64 + 1).await?;
    commit(pages.ports, pages.lease, pages.settings, checkpoint, (&SyncRecord::new(kind), Counters::default()), cursor).await
}

/// Returns the fragments of a kind that the task has recorded, in order.
pub(super) async fn recorded_fragments<W: AllPorts>(pages: &PageReader<'_, '_, W>, kind: OutputKind) -> Result<Vec<Fragment>, ExportError> {
    let (job, task) = (&pages.lease.job, pages.lease.task.task);
    let mut fragments = pages.ports.jobs().fragments(&job.id, 0..=job.round, &FragmentSelection::KindOfTasks(kind, task..task + 1)).await?;
    fragments.sort_by_key(|fragment| fragment.name.fencing_token);
    Ok(fragments)
}

/// Returns the number of resources at which the server caps a search, as the last attempt at the task has recorded it with a part of the
/// window.
pub(super) async fn recorded_cap<W: AllPorts>(pages: &PageReader<'_, '_, W>) -> Result<Option<u64>, ExportError> {
    let Some(last) = recorded_fragments(pages, OutputKind::SyncRecords).await?.pop() else { return Ok(None) };
    let bytes = read_fragment(pages.ports, pages.lease, &last, 0..last.summary.bytes).await?;
    let record = serde_json::from_slice::<SyncRecord>(bytes.trim_ascii_end()).map_err(|_| unreadable())?;
    Ok(record.cap)
}

/// Reads the progress and the lines of a fragment.
pub(super) async fn read_progress<W: AllPorts, P: DeserializeOwned>(
    pages: &PageReader<'_, '_, W>,
    fragment: &Fragment,
) -> Result<(P, Vec<String>), ExportError> {
    let bytes = read_fragment(pages.ports, pages.lease, fragment, 0..fragment.summary.bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let progress = lines.next().and_then(|line| serde_json::from_str(line).ok());
    Ok((progress.ok_or_else(unreadable)?, lines.map(str::to_owned).collect()))
}

/// Returns the error for a fragment that has something else than a progress and its lines.
pub(super) fn unreadable() -> StoreError {
    StoreError::Unreadable { store: "the destination", detail: "the progress of a synchronization".to_owned() }
}
