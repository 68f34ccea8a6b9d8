//! Merges a range of the sorted records of some tasks into one file, as [`super::record_rounds`] has planned it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};

use crate::job::ExportError;
use crate::job::file::{FileName, FileSummary, Fragment, FragmentName, OutputKind};
use crate::job::task::{Checkpoint, Cursor, Lease, RecordMerge, TaskCompletion, TaskUpdate};
use crate::ports::{AllPorts, FileWriter as _, FragmentSelection, OutputStore as _};
use crate::versions::record::{EncodedRecords, FixedSizeRecord, MergedVersionRecord, ResourceLink, VersionRecord};
use crate::vocab::error::StoreError;

use super::heartbeat::update_leased_task;
use super::record_files::{KeyRange, previous_fragments, read_encoded_records};
use super::settings::WorkerSettings;
use super::task_end::{TaskEnd, complete_task};

/// The number of bytes that are written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Runs a task that merges records. Its only checkpoint is at the end, so it must fit into one attempt: it reads and writes up to some hundred
/// MB.
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
            OutputKind::MergedVersionRecords => {
                merge_files::<MergedVersionRecord, MergedVersionRecord>(ports, lease, settings, merge, OutputKind::MergedVersionRecords)
                    .await?
            }
            OutputKind::Links => merge_files::<ResourceLink, ResourceLink>(ports, lease, settings, merge, OutputKind::Links).await?,
            other @ (OutputKind::Output(_)
            | OutputKind::Deleted
            | OutputKind::Error
            | OutputKind::PatientBlocks
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

/// Merges the records of a task's range into one fragment of this kind, one part of the range after the other.
async fn merge_files<T: FixedSizeRecord, M: FixedSizeRecord + From<T>>(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    RecordMerge { kind: merged_kind, files, range, ranges, steps }: RecordMerge,
    kind: OutputKind,
) -> Result<Fragment, ExportError> {
    let selection = FragmentSelection::KindOfTasks(merged_kind, files.first_task..files.end_task);
    let fragments = previous_fragments(ports, lease, &selection).await?;
    let name = FragmentName { kind, task: lease.task.task, attempt: lease.attempt, fencing_token: lease.fencing_token };
    let mut writer = ports.output().new_fragment(&lease.job.folder(), name).await?;
    let (mut crc, mut summary) = (Digest::new(CrcAlgorithm::Crc64Nvme), FileSummary { bytes: 0, lines: 0, crc64: 0 });
    let (first, parts) = (range.saturating_mul(steps), ranges.saturating_mul(steps));
    for step in first..first + steps {
        let keys = (KeyRange::of_files(files, range, ranges), KeyRange::new(step, parts));
        let records = read_encoded_records::<T>(ports, lease, settings, &fragments, keys).await?;
        let mut merge = SortedMerge::new(records.iter().map(EncodedRecords::decode::<T>).collect());
        while let Some((bytes, count)) = merge.next_chunk::<M>() {
            crc.update(&bytes);
            (summary.bytes, summary.lines) = (summary.bytes + bytes.len() as u64, summary.lines + count);
            writer.write(bytes).await?;
        }
    }
    summary.crc64 = crc.finalize();
    writer.commit(FileName::Fragment(name), summary).await?;
    Ok(Fragment { name, summary })
}

/// The merge of sorted records of several files. It holds one record of each in addition to the stored ones.
struct SortedMerge<R, T> {
    /// The rest of the records of each file.
    rests: Vec<R>,
    /// The next record of each file, and the index of the file.
    next: BinaryHeap<Reverse<(T, usize)>>,
}

impl<T: FixedSizeRecord, R: Iterator<Item = T>> SortedMerge<R, T> {
    /// Starts a merge of these sequences.
    fn new(mut rests: Vec<R>) -> Self {
        let next = rests.iter_mut().enumerate().filter_map(|(file, rest)| Some(Reverse((rest.next()?, file)))).collect();
        Self { rests, next }
    }

    /// Serializes the next records, as many as are written at once. Returns them with their number, or `None` after the last ones.
    fn next_chunk<M: FixedSizeRecord + From<T>>(&mut self) -> Option<(Bytes, u64)> {
        let (mut bytes, mut count) = (Vec::with_capacity(CHUNK_BYTES), 0);
        while bytes.len() + M::BYTES <= CHUNK_BYTES
            && let Some(record) = self.next_record()
        {
            M::from(record).write(&mut bytes);
            count += 1;
        }
        (count > 0).then(|| (bytes.into(), count))
    }

    /// Returns the smallest record that is left.
    fn next_record(&mut self) -> Option<T> {
        let mut top = self.next.peek_mut()?;
        let Reverse((record, file)) = *top;
        match self.rests.get_mut(file).and_then(Iterator::next) {
            // The heap is put in order again when `top` is dropped.
            Some(following) => *top = Reverse((following, file)),
            None => drop(PeekMut::pop(top)),
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::versions::key::ResourceKey;
    use crate::versions::record::{LinePosition, VersionFlags, write_sorted};

    /// Returns a record of a resource, which a task has read.
    fn record(key: u128, task: u32) -> VersionRecord {
        VersionRecord {
            key: ResourceKey(key),
            changed: 0,
            version: 0,
            task,
            position: LinePosition::new(0, 0),
            flags: VersionFlags::default(),
        }
    }

    proptest! {
        #[test]
        fn a_merge_has_all_records_in_order(files in prop::collection::vec(prop::collection::vec(0_u128..50, 0..40), 0..8)) {
            let records = |(task, keys): (u32, &Vec<u128>)| keys.iter().map(|key| record(*key, task)).collect::<Vec<_>>();
            let mut files: Vec<Vec<VersionRecord>> = (2..).zip(&files).map(records).collect();
            files.iter_mut().for_each(|file| file.sort_unstable());
            let mut merge = SortedMerge::new(files.iter().map(|file| file.iter().copied()).collect());
            let (mut bytes, mut count) = (Vec::new(), 0);
            while let Some((chunk, records)) = merge.next_chunk::<MergedVersionRecord>() {
                bytes.extend_from_slice(&chunk);
                count += records;
            }
            let all: Vec<MergedVersionRecord> = files.concat().into_iter().map(MergedVersionRecord).collect();
            prop_assert_eq!(count, all.len() as u64);
            prop_assert_eq!(bytes, write_sorted(&all).to_vec());
        }
    }
}
