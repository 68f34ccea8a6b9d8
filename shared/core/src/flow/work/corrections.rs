//! Reading of the corrections that resolve tasks have written.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::job::ExportError;
use crate::job::file::{Fragment, OutputKind};
use crate::job::task::Lease;
use crate::ports::{AllPorts, TaskStore as _};
use crate::versions::correction::{CorrectionIndex, TaskCorrections};
use crate::vocab::error::StoreError;

use super::fragments::{CONCURRENT_READS, read_fragment};

/// Reads the indexes of all fragments of corrections, in any order.
pub(super) async fn read_indexes(ports: &impl AllPorts, lease: &Lease) -> Result<Vec<CorrectionIndex>, ExportError> {
    let fragments = correction_fragments(ports, lease).await?;
    let reads: Vec<_> = fragments.iter().map(|fragment| read_index(ports, lease, fragment)).collect();
    stream::iter(reads).buffer_unordered(CONCURRENT_READS).try_collect().await
}

/// Reads the corrections of the lines that `task` has read, out of every fragment.
pub(super) async fn read_task_corrections(ports: &impl AllPorts, lease: &Lease, task: u32) -> Result<TaskCorrections, ExportError> {
    let fragments = correction_fragments(ports, lease).await?;
    let tasks = lease.job.planned.map_or(0, |planned| planned.tasks);
    let reads: Vec<_> = fragments.iter().map(|fragment| read_band(ports, lease, fragment, task, tasks)).collect();
    let bands: Vec<Vec<u8>> = stream::iter(reads).buffer_unordered(CONCURRENT_READS).try_collect().await?;
    Ok(TaskCorrections::from_files(task, bands))
}

/// Lists the fragments of corrections that the resolve tasks of all rounds have written.
async fn correction_fragments(ports: &impl AllPorts, lease: &Lease) -> Result<Vec<Fragment>, ExportError> {
    let fragments = ports.jobs().fragments(&lease.job.id, 1..=lease.job.round).await?;
    Ok(fragments.into_iter().filter(|fragment| fragment.name.kind == OutputKind::Corrections).collect())
}

/// Reads the part of a fragment that holds the corrections of a task and of its neighbours.
async fn read_band(ports: &impl AllPorts, lease: &Lease, fragment: &Fragment, task: u32, tasks: u32) -> Result<Vec<u8>, ExportError> {
    let range = read_index(ports, lease, fragment).await?.byte_range(task, tasks);
    if range.is_empty() { Ok(Vec::new()) } else { read_fragment(ports, lease, fragment, range).await }
}

/// Reads the index at the beginning of a fragment of corrections.
async fn read_index(ports: &impl AllPorts, lease: &Lease, fragment: &Fragment) -> Result<CorrectionIndex, ExportError> {
    let bytes = read_fragment(ports, lease, fragment, 0..CorrectionIndex::BYTES as u64).await?;
    let unreadable = || StoreError::Unreadable { store: "the destination", detail: format!("the corrections {}", fragment.name) };
    Ok(CorrectionIndex::parse(&bytes).ok_or_else(unreadable)?)
}
