//! Reading and merging of the corrections that resolve tasks have written.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::job::file::{Fragment, FragmentName, OutputKind};
use crate::job::task::{Checkpoint, CorrectionMerge, Cursor, Lease, RereadTask, TaskCompletion, TaskUpdate, Work};
use crate::job::{ExportError, Job, Phase, ROUND_TASKS};
use crate::ports::{AllPorts, FragmentSelection, TaskStore as _};
use crate::versions::correction::{BANDS, CorrectionIndex, TaskCorrections, band, read_corrections, write_corrections};
use crate::vocab::error::StoreError;

use super::fragments::{CONCURRENT_READS, read_fragment, write_fragment};
use super::heartbeat::{send_heartbeat_if_due, update_leased_task};
use super::settings::WorkerSettings;
use super::task_end::{TaskEnd, complete_task};

/// The number of corrections that one task merges, on average: 16 MiB.
const CORRECTIONS_PER_MERGE: u64 = 1 << 20;

/// Reads the indexes of all fragments of corrections, in any order.
pub(super) async fn read_indexes(ports: &impl AllPorts, lease: &Lease) -> Result<Vec<CorrectionIndex>, ExportError> {
    let is_merged = lease.job.phase == Phase::MergeCorrections;
    let kind = if is_merged { OutputKind::MergedCorrections } else { OutputKind::Corrections };
    let fragments = correction_fragments(ports, lease, &FragmentSelection::Kind(kind)).await?;
    let reads: Vec<_> = fragments.iter().map(|fragment| read_index(ports, lease, fragment)).collect();
    stream::iter(reads).buffer_unordered(CONCURRENT_READS).try_collect().await
}

/// Reads the corrections of the lines that a task has read, out of every fragment, or out of the one of the task that has merged them.
pub(super) async fn read_task_corrections(
    ports: &impl AllPorts,
    lease: &Lease,
    reread: RereadTask,
) -> Result<TaskCorrections, ExportError> {
    let RereadTask { task, merge_task, .. } = reread;
    let selection = match merge_task {
        Some(merge) => FragmentSelection::KindOfTasks(OutputKind::MergedCorrections, merge..merge + 1),
        None => FragmentSelection::Kind(OutputKind::Corrections),
    };
    let fragments = correction_fragments(ports, lease, &selection).await?;
    let tasks = lease.job.read_tasks();
    let reads: Vec<_> = fragments.iter().map(|fragment| read_band(ports, lease, fragment, task, tasks)).collect();
    let bands: Vec<Vec<u8>> = stream::iter(reads).buffer_unordered(CONCURRENT_READS).try_collect().await?;
    Ok(TaskCorrections::from_files(task, bands))
}

/// Lists the selected fragments of corrections that the tasks of all rounds have written.
async fn correction_fragments(ports: &impl AllPorts, lease: &Lease, selection: &FragmentSelection) -> Result<Vec<Fragment>, ExportError> {
    let rounds = 1..=lease.job.round;
    // Merged corrections are in one round, whose number the numbers of its tasks tell.
    let rounds = match selection {
        FragmentSelection::KindOfTasks(_, tasks) => tasks.start / ROUND_TASKS..=tasks.start / ROUND_TASKS,
        FragmentSelection::Kind(_) | FragmentSelection::Exported | FragmentSelection::Buckets(_) => rounds,
    };
    Ok(ports.jobs().fragments(&lease.job.id, rounds, selection).await?)
}

/// Divides the bands of this number of corrections among tasks that merge them.
pub(super) fn correction_merges(corrections: u64) -> Vec<Work> {
    let tasks = u32::try_from(corrections.div_ceil(CORRECTIONS_PER_MERGE)).unwrap_or(u32::MAX).clamp(1, BANDS);
    (0..tasks).map(|index| Work::MergeCorrections(correction_merge(index, tasks))).collect()
}

/// Returns the bands of the merge task with this index among `tasks`.
fn correction_merge(index: u32, tasks: u32) -> CorrectionMerge {
    let start = |index: u32| index * BANDS / tasks.max(1);
    CorrectionMerge { first_band: start(index), end_band: start(index + 1) }
}

/// Returns the number of the task that has merged the corrections of a read task, in the round that has just ended. Returns `None` if
/// corrections were not merged.
pub(super) fn merge_task_of(job: &Job, task: u32) -> Option<u32> {
    if job.phase != Phase::MergeCorrections {
        return None;
    }
    let band = band(task, job.read_tasks());
    let has_band = |index: &u32| {
        (correction_merge(*index, job.round_tasks).first_band..correction_merge(*index, job.round_tasks).end_band).contains(&band)
    };
    (0..job.round_tasks).find(has_band).map(|index| job.round * ROUND_TASKS + index)
}

/// Runs a task that merges corrections: collects those of its bands out of every fragment into one. Its only checkpoint is at the end, so it
/// must fit into one attempt.
pub(super) async fn run_merge_corrections_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    merge: CorrectionMerge,
) -> Result<TaskEnd, ExportError> {
    if lease.cursor < Cursor::WRITTEN {
        let tasks = lease.job.read_tasks();
        let all = correction_fragments(ports, lease, &FragmentSelection::Kind(OutputKind::Corrections)).await?;
        let mut corrections = Vec::new();
        for batch in all.chunks(CONCURRENT_READS * 4) {
            let reader: &Lease = lease;
            let reads: Vec<_> = batch.iter().map(|fragment| read_bands(ports, reader, fragment, merge)).collect();
            let parts: Vec<Vec<u8>> = stream::iter(reads).buffer_unordered(CONCURRENT_READS).try_collect().await?;
            corrections.extend(parts.iter().flat_map(|part| read_corrections(part)));
            send_heartbeat_if_due(ports, lease, settings.lease.duration).await?;
        }
        let mut checkpoint = Checkpoint { cursor: Cursor::WRITTEN, ..Checkpoint::default() };
        if !corrections.is_empty() {
            let (attempt, fencing_token) = (lease.attempt, lease.fencing_token);
            let name = FragmentName { kind: OutputKind::MergedCorrections, task: lease.task.task, attempt, fencing_token };
            let (count, bytes) = (corrections.len() as u64, write_corrections(corrections, tasks));
            checkpoint.fragments.push(write_fragment(ports.output(), &lease.job.folder(), name, bytes, count).await?);
        }
        update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::Checkpoint(checkpoint)).await?;
    }
    complete_task(ports, lease, TaskCompletion::Done).await
}

/// Reads the part of a fragment that holds the corrections of some bands.
async fn read_bands(ports: &impl AllPorts, lease: &Lease, fragment: &Fragment, merge: CorrectionMerge) -> Result<Vec<u8>, ExportError> {
    let range = read_index(ports, lease, fragment).await?.bytes_of_bands(merge.first_band..merge.end_band);
    if range.is_empty() { Ok(Vec::new()) } else { read_fragment(ports, lease, fragment, range).await }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{ExportTime, OmittedSubjects, Planned, ReadMode, Watermark};
    use crate::request::ExportRequest;
    use crate::vocab::clock::Millis;
    use crate::vocab::ids::{Caller, JobId};

    #[test]
    fn the_corrections_of_each_task_are_merged_by_one_known_task() {
        for (count, tasks) in [(1, 1), (3, 7), (100, 255), (256, 256), (90, 30_000)] {
            let works = correction_merges(count * CORRECTIONS_PER_MERGE);
            let planned = Planned {
                time: ExportTime::new(Millis(0), Watermark::Unstated),
                tasks,
                source_bytes: 0,
                read_mode: ReadMode::Optimistic,
                patient_set: None,
                omitted: OmittedSubjects::default(),
                group_patients: 0,
            };
            let job = Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), ExportRequest::default(), Millis(0));
            let round_tasks = u32::try_from(works.len()).unwrap();
            let job = Job { planned: Some(planned), phase: Phase::MergeCorrections, round: 3, round_tasks, ..job };
            for task in 2..2 + tasks {
                let band = band(task, tasks);
                let has_band =
                    |work: &Work| matches!(work, Work::MergeCorrections(merge) if (merge.first_band..merge.end_band).contains(&band));
                let merging: Vec<_> =
                    (3 * ROUND_TASKS..).zip(&works).filter(|(_, work)| has_band(work)).map(|(number, _)| number).collect();
                assert_eq!(merging, Vec::from_iter(merge_task_of(&job, task)), "{task} of {tasks}");
            }
            assert_eq!(merge_task_of(&Job { phase: Phase::ResolveLinks, ..job }, 2), None);
        }
    }
}
