//! Resolves a range of resource keys: reads its version records and links, and writes corrections.

use std::iter;

use crate::job::file::{Fragment, FragmentName, OutputKind};
use crate::job::task::{Checkpoint, Cursor, Lease, ResolveRange, ResolveStage, TaskCompletion, TaskUpdate};
use crate::job::{Counters, ExportError};
use crate::ports::{AllPorts, FragmentSelection};
use crate::request::AssociatedData;
use crate::versions::correction::write_corrections;
use crate::versions::record::{EncodedRecords, MergedVersionRecord, RecordChunks, ResourceLink, VersionRecord, link_chunks};
use crate::versions::resolution::{self, Associations, ResolvedVersions, merged_versions_to_resolve, resolve_links, versions_to_resolve};

use super::fragments::write_chunks;
use super::heartbeat::update_leased_task;
use super::record_files::{KeyRange, previous_fragments, read_encoded_records, read_records};
use super::settings::WorkerSettings;
use super::task_end::{TaskEnd, complete_task};

/// Runs a resolve task: reads the version records and links of a range of resource keys and writes the corrections. Its only checkpoint
/// is at the end, so it must fit into one attempt: reading a range takes seconds.
pub(super) async fn run_resolve_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    task: ResolveRange,
) -> Result<TaskEnd, ExportError> {
    if lease.cursor < Cursor::WRITTEN {
        let associations = Associations::new(&lease.job.request, settings.lake.adds_referenced);
        let (fragments, keys) = files_of_kind(ports, lease, task, OutputKind::Links).await?;
        let links = read_records::<ResourceLink>(ports, lease, settings, &fragments, keys).await?;
        let resolved = match task.stage {
            ResolveStage::Versions => {
                let files = read_versions(ports, lease, settings, task).await?;
                let select = if task.merged.is_some() { merged_versions_to_resolve } else { versions_to_resolve };
                let versions = select(files, associations);
                let exports_history = lease.job.request.associated_data.contains(&AssociatedData::History);
                resolution::resolve_versions(versions, links, associations, exports_history)
            }
            ResolveStage::Links => ResolvedVersions { corrections: resolve_links(links, associations), ..ResolvedVersions::default() },
        };
        let counters = Counters { notices: resolved.notices, ..Counters::default() };
        let fragments = write_resolved(ports, lease, resolved).await?;
        let checkpoint = Checkpoint { fragments, cursor: Cursor::WRITTEN, counters, ..Checkpoint::default() };
        update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::Checkpoint(checkpoint)).await?;
    }
    complete_task(ports, lease, TaskCompletion::Done).await
}

/// Writes the corrections and the links for the next stage to one fragment each. Writes no empty fragment.
async fn write_resolved(ports: &impl AllPorts, lease: &Lease, resolved: ResolvedVersions) -> Result<Vec<Fragment>, ExportError> {
    let tasks = lease.job.read_tasks();
    let (corrections, links) = (resolved.corrections.len() as u64, resolved.links.len() as u64);
    let files = [
        (OutputKind::Corrections, corrections, Box::new(iter::once(write_corrections(resolved.corrections, tasks))) as RecordChunks),
        (OutputKind::Links, links, link_chunks(resolved.links)),
    ];
    let mut fragments = Vec::new();
    for (kind, count, chunks) in files.into_iter().filter(|(_, count, _)| *count > 0) {
        let name = FragmentName { kind, task: lease.task.task, attempt: lease.attempt, fencing_token: lease.fencing_token };
        fragments.push(write_chunks(ports.output(), &lease.job.folder(), name, chunks, count).await?);
    }
    Ok(fragments)
}

/// Reads the version records of a task's key range.
async fn read_versions(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    task: ResolveRange,
) -> Result<Vec<EncodedRecords>, ExportError> {
    if task.merged.is_some() {
        let (fragments, keys) = files_of_kind(ports, lease, task, OutputKind::MergedVersionRecords).await?;
        read_encoded_records::<MergedVersionRecord>(ports, lease, settings, &fragments, keys).await
    } else {
        let (fragments, keys) = files_of_kind(ports, lease, task, OutputKind::VersionRecords).await?;
        read_encoded_records::<VersionRecord>(ports, lease, settings, &fragments, keys).await
    }
}

/// Lists the files of one kind that the previous round has written and that have keys of a task's range. Returns them with the keys that they
/// have, and the range.
async fn files_of_kind(
    ports: &impl AllPorts,
    lease: &Lease,
    ResolveRange { range, ranges, merged, .. }: ResolveRange,
    kind: OutputKind,
) -> Result<(Vec<Fragment>, (KeyRange, KeyRange)), ExportError> {
    let selection =
        merged.map_or(FragmentSelection::Kind(kind), |files| FragmentSelection::KindOfTasks(kind, files.first_task..files.end_task));
    let fragments = previous_fragments(ports, lease, &selection).await?;
    let all = merged.map_or(KeyRange::new(0, 1), |files| KeyRange::of_files(files, range, ranges));
    Ok((fragments, (all, KeyRange::new(range, ranges))))
}
