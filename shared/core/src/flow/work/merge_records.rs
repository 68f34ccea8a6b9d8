//! Merges the sorted records of many tasks into one file.
//!
//! A resolve task reads its range of keys out of every file of the round before. With ranges and files, the number of such reads grows with
//! the square of the lake. Tasks that merge the files of some others first make it grow with the lake only.

use crc_fast::{CrcAlgorithm, Digest};

use crate::job::ExportError;
use crate::job::file::{FileName, FileSummary, Fragment, FragmentName, OutputKind};
use crate::job::task::{Checkpoint, Cursor, Lease, RecordMerge, TaskCompletion, TaskUpdate, Work};
use crate::ports::{AllPorts, FileWriter as _, FragmentSelection, OutputStore as _};
use crate::versions::record::{FixedSizeRecord, MergedVersionRecord, ResourceLink, VersionRecord, write_sorted};
use crate::vocab::error::StoreError;

use super::heartbeat::update_leased_task;
use super::record_files::{KeyRange, previous_fragments, read_records};
use super::settings::WorkerSettings;
use super::task_end::{TaskEnd, complete_task};

/// The number of files that one task merges in any case: with fewer, nothing is gained.
const FILES_PER_TASK: usize = 40;

/// The number of tasks that merge files of one kind, about. With more, the tasks of the next round would read too many files again.
const MAX_TASKS: usize = 128;

/// Divides sorted fragments of one kind among tasks that merge them. The fragments of one task stay together.
///
/// * `min_bytes`: the size of the files that one task merges in any case. A worker reads, sorts and writes them in a few seconds.
pub(super) fn record_merges(kind: OutputKind, fragments: &[Fragment], min_bytes: u64) -> Vec<Work> {
    let size = |fragments: &[Fragment]| fragments.iter().map(|fragment| fragment.summary.bytes).sum::<u64>();
    let files_per_task = fragments.len().div_ceil(MAX_TASKS).max(FILES_PER_TASK);
    let bytes_per_task = size(fragments).div_ceil(MAX_TASKS as u64).max(min_bytes);
    let mut merges = Vec::<(RecordMerge, usize, u64)>::new();
    for fragments in fragments.chunk_by(|one, next| one.name.task == next.name.task) {
        let Some(task) = fragments.first().map(|first| first.name.task) else { continue };
        match merges.last_mut() {
            // A merge may exceed its size by half of a task's files, so that merges have that size on average.
            Some((merge, files, bytes))
                if *files + fragments.len() / 2 <= files_per_task && *bytes + size(fragments) / 2 <= bytes_per_task =>
            {
                (merge.end_task, *files, *bytes) = (task + 1, *files + fragments.len(), *bytes + size(fragments));
            }
            Some(_) | None => merges.push((RecordMerge { kind, first_task: task, end_task: task + 1 }, fragments.len(), size(fragments))),
        }
    }
    merges.into_iter().map(|(merge, ..)| Work::MergeRecords(merge)).collect()
}

/// Runs a task that merges records. Its only checkpoint is at the end, so it must fit into one attempt: it reads and writes a few hundred
/// MB, of lakes of 10 TB two GB.
pub(super) async fn run_merge_records_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    merge: RecordMerge,
) -> Result<TaskEnd, ExportError> {
    if lease.cursor < Cursor::WRITTEN {
        let written = match merge.kind {
            OutputKind::VersionRecords => {
                merge_files::<VersionRecord, MergedVersionRecord>(ports, lease, settings, merge, OutputKind::MergedVersionRecords).await?
            }
            OutputKind::Links => merge_files::<ResourceLink, ResourceLink>(ports, lease, settings, merge, OutputKind::Links).await?,
            other @ (OutputKind::Output(_)
            | OutputKind::Deleted
            | OutputKind::Error
            | OutputKind::PatientBlocks
            | OutputKind::MergedVersionRecords
            | OutputKind::Corrections
            | OutputKind::MergedCorrections
            | OutputKind::PatientSet
            | OutputKind::UnreportedDeletions
            | OutputKind::PatientPages
            | OutputKind::SyncRecords
            | OutputKind::SyncProgress
            | OutputKind::Bucket(_)) => {
                return Err(StoreError::Unreadable { store: "the job table", detail: format!("a merge of {other:?}") }.into());
            }
        };
        let checkpoint = Checkpoint { fragments: vec![written], cursor: Cursor::WRITTEN, ..Checkpoint::default() };
        update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::Checkpoint(checkpoint)).await?;
    }
    complete_task(ports, lease, TaskCompletion::Done).await
}

/// Merges the records of a task's fragments into one fragment of this kind, one range of keys after the other.
async fn merge_files<T: FixedSizeRecord, M: FixedSizeRecord + From<T>>(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    merge: RecordMerge,
    kind: OutputKind,
) -> Result<Fragment, ExportError> {
    let selection = FragmentSelection::KindOfTasks(merge.kind, merge.first_task..merge.end_task);
    let fragments = previous_fragments(ports, lease, &selection).await?;
    let bytes: u64 = fragments.iter().map(|fragment| fragment.summary.bytes).sum();
    // A quarter of what a resolve task takes, because the writer holds a part of the file, too.
    let ranges = u32::try_from(bytes.div_ceil((settings.resolve_bytes / 4).max(1))).unwrap_or(u32::MAX).max(1);
    let name = FragmentName { kind, task: lease.task.task, attempt: lease.attempt, fencing_token: lease.fencing_token };
    let mut writer = ports.output().new_fragment(&lease.job.folder(), name).await?;
    let (mut crc, mut summary) = (Digest::new(CrcAlgorithm::Crc64Nvme), FileSummary { bytes: 0, lines: 0, crc64: 0 });
    for range in 0..ranges {
        let records = read_records::<T>(ports, lease, settings, &fragments, KeyRange::new(range, ranges)).await?;
        summary.lines += records.len() as u64;
        let bytes = write_sorted::<M>(&records.into_iter().map(M::from).collect::<Vec<_>>());
        crc.update(&bytes);
        summary.bytes += bytes.len() as u64;
        writer.write(bytes).await?;
    }
    summary.crc64 = crc.finalize();
    writer.commit(FileName::Fragment(name), summary).await?;
    Ok(Fragment { name, summary })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragments(bytes: u64, tasks: impl IntoIterator<Item = (u32, u32)>) -> Vec<Fragment> {
        let name = |task, fencing_token| FragmentName { kind: OutputKind::Links, task, attempt: 1, fencing_token };
        let summary = FileSummary { bytes, lines: 1, crc64: 0 };
        let of_task = |(task, count): (u32, u32)| (0..count).map(move |token| Fragment { name: name(task, token), summary });
        tasks.into_iter().flat_map(of_task).collect()
    }

    #[test]
    fn every_fragment_is_merged_by_one_task() {
        for (count, bytes) in [1, 159, 160, 161, 1_000, 30_000].into_iter().flat_map(|count| [(count, 56), (count, 10_000_000)]) {
            let fragments = fragments(bytes, (2..2 + count).map(|task| (task, 1 + task % 3)));
            let merges = record_merges(OutputKind::Links, &fragments, 64 << 20);
            assert!(merges.len() <= MAX_TASKS + 2, "{count}: {}", merges.len());
            for fragment in &fragments {
                let is_merged = |work: &&Work| matches!(work, Work::MergeRecords(merge) if (merge.first_task..merge.end_task).contains(&fragment.name.task));
                assert_eq!(merges.iter().filter(is_merged).count(), 1);
            }
        }
    }
}
