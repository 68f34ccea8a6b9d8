//! The ids that a comparison has recorded: those that the server lists, and those that it may have deleted.

use std::collections::BTreeSet;

use headrace_fhir::definitions::ResourceType;
use serde::{Deserialize, Serialize};

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

/// The progress of a listing of the server's ids: the first line of a fragment. The other lines are ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListingProgress {
    /// The page after those that were read. `None` before the first and after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<NextPage>,
    /// True if the last page was read.
    pub(super) is_complete: bool,
    /// The number of pages that were read.
    pub(super) pages: u32,
    /// The number of times that the listing has started anew.
    pub(super) restarts: u32,
    /// Two ids that the server lists, if there are as many.
    pub(super) witnesses: BTreeSet<String>,
}

/// A link to a page, and the page that has named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NextPage {
    /// The URL of the page with the link.
    pub(super) page: String,
    /// The link.
    pub(super) link: String,
}

/// Records ids with the progress of the listing, and the cursor after them (rule P5).
pub(super) async fn record_ids<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    kind: ResourceType,
    (progress, ids): (&ListingProgress, &[String]),
    cursor: Cursor,
) -> Result<(), ExportError> {
    let mut text = serde_json::to_string(progress).unwrap_or_default() + "\n";
    for id in ids {
        text.push_str(id);
        text.push('\n');
    }
    let mut checkpoint = OpenCheckpoint::new(pages.ports.output(), pages.lease);
    checkpoint.append(OutputKind::SyncIds, text.into(), ids.len() as u64 + 1).await?;
    commit(pages.ports, pages.lease, pages.settings, checkpoint, (&SyncRecord::new(kind), Counters::default()), cursor).await
}

/// Returns the fragments of a kind that the task has recorded, in order.
pub(super) async fn recorded_fragments<W: AllPorts>(pages: &PageReader<'_, '_, W>, kind: OutputKind) -> Result<Vec<Fragment>, ExportError> {
    let (job, task) = (&pages.lease.job, pages.lease.task.task);
    let mut fragments = pages.ports.jobs().fragments(&job.id, 0..=job.round, &FragmentSelection::KindOfTasks(kind, task..task + 1)).await?;
    fragments.sort_by_key(|fragment| fragment.name.fencing_token);
    Ok(fragments)
}

/// Reads the progress and the ids of a fragment.
pub(super) async fn read_ids<W: AllPorts>(
    pages: &PageReader<'_, '_, W>,
    fragment: &Fragment,
) -> Result<(ListingProgress, Vec<String>), ExportError> {
    let bytes = read_fragment(pages.ports, pages.lease, fragment, 0..fragment.summary.bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let progress = lines.next().and_then(|line| serde_json::from_str(line).ok());
    let unreadable = || StoreError::Unreadable { store: "the destination", detail: "ids of a comparison".to_owned() };
    Ok((progress.ok_or_else(unreadable)?, lines.map(str::to_owned).collect()))
}
