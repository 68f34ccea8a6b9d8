//! The destination as its port, with the requests of the adapter over S3.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use headrace_core::job::file::{FileName, Fragment, FragmentName, OutputFile, OutputFileName, OutputKind};
use headrace_core::job::file_names::FileNames;
use headrace_core::job::folder::Folder;
use headrace_core::ports::{ByteStream, ConfigLookup, DeletedPart, FileAccess, FileRequest, OutputStore, delete_all_parts};
use headrace_core::request::ConfigName;
use headrace_core::versions::record::{FixedSizeRecord as _, MergedVersionRecord, ResourceLink, VersionRecord};
use headrace_core::vocab::error::{SourceError, StoreError};

use super::files::{Content, Destination, STORE, StoredFile, weight};
use super::writer::{ModelWriter, overloaded};
use crate::aws::link::transfer_time;
use crate::aws::requests::{Prefix, RequestKind};
use crate::aws::worker::Worker;
use crate::lake;
use crate::meter::Activity;
use crate::scale::Scale;

/// The real bytes that one request reads, as in the adapter.
const REQUEST_BYTES: u64 = 8 << 20;

/// The number of requests of a stream that run at the same time, as in the adapter.
const CONCURRENT_READS: usize = 2;

/// The number of objects that one call lists or deletes.
const OBJECTS_PER_CALL: usize = 1_000;

/// The destination, as a process uses it.
#[derive(Clone, Debug)]
pub struct ModelOutput {
    /// The files.
    pub destination: Destination,
    /// The requests to the bucket.
    pub prefix: Prefix,
    /// The process.
    pub worker: Worker,
    /// The scale of the simulation.
    pub scale: Scale,
    /// The time that one call waits for an overloaded bucket.
    pub patience: Duration,
}

impl ModelOutput {
    /// Takes the time of a copy within S3.
    pub(super) async fn copy(&self, real_bytes: u64) -> Result<(), StoreError> {
        let parameters = self.prefix.parameters();
        let call = ("CopyObject", parameters.copy + transfer_time(real_bytes, parameters.copy_bytes_per_second));
        self.objects(call).await
    }

    /// Takes the time of deleting one object, which takes about as long as writing a small one.
    pub(super) async fn delete_one(&self) -> Result<(), StoreError> {
        self.objects(("DeleteObjects", self.prefix.parameters().put)).await
    }

    /// Makes a request that transfers no bytes.
    async fn objects(&self, (operation, latency): (&'static str, Duration)) -> Result<(), StoreError> {
        let started = self.worker.time().elapsed();
        let result = self.prefix.patient_request(&self.worker, RequestKind::Write, (operation, latency), self.patience).await;
        self.worker.add_activity(Activity::Objects, self.worker.time().elapsed() - started);
        result.map_err(overloaded)
    }

    /// Takes the time of one GET request that transfers `real_bytes`, and returns `bytes`, their scaled content.
    async fn get(self, bytes: Bytes, real_bytes: u64) -> Result<Bytes, SourceError> {
        let call = ("GetObject", self.prefix.parameters().get);
        self.prefix.patient_request(&self.worker, RequestKind::Read, call, self.patience).await.map_err(lake::overloaded)?;
        self.worker.download(real_bytes).await;
        Ok(bytes)
    }

    /// Returns the real number of bytes for which a read of a fragment stands.
    fn real_bytes(&self, fragment: &FragmentName, file_bytes: u64, range: &Range<u64>) -> u64 {
        let bytes = range.end.saturating_sub(range.start);
        let ranges = u64::from(self.worker.step().ranges);
        let kind = fragment.kind;
        if matches!(kind, OutputKind::Corrections | OutputKind::MergedCorrections) && bytes <= CORRECTION_INDEX_BYTES {
            return bytes;
        }
        match record_bytes(kind) {
            Some(record_bytes) if ranges > 1 => searched_bytes(file_bytes * self.scale.lines, record_bytes, ranges),
            Some(_) | None => bytes * weight(kind, self.scale),
        }
    }

    /// Records the memory of the version records that a read has returned, which stay in memory until they are compared or merged.
    fn keep_records(&self, kind: OutputKind, file_bytes: u64, range: &Range<u64>) {
        if record_bytes(kind).is_some() {
            let ranges = u64::from(self.worker.step().ranges);
            // The margins around a range of keys are not kept.
            let kept = if ranges > 1 { file_bytes / ranges } else { range.end.saturating_sub(range.start).min(file_bytes) };
            self.worker.keep_records(kept * weight(kind, self.scale) / 4 * 5);
        }
    }
}

/// Returns the size of a record in a file of sorted records. `None` for other kinds.
fn record_bytes(kind: OutputKind) -> Option<u64> {
    let bytes = match kind {
        OutputKind::VersionRecords => VersionRecord::BYTES,
        OutputKind::MergedVersionRecords => MergedVersionRecord::BYTES,
        OutputKind::Links => ResourceLink::BYTES,
        OutputKind::Output(_)
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
        | OutputKind::Bucket(_) => return None,
    };
    Some(bytes as u64)
}

/// Returns the real number of bytes that a search for one of `ranges` equal ranges of keys reads of a file of this many real bytes.
///
/// It reads the records that should be in the range, and a margin on both sides that grows with the root of the number of records. The
/// simulated file has so few records that its margins are larger than the range, and often the whole file.
fn searched_bytes(file_bytes: u64, record_bytes: u64, ranges: u64) -> u64 {
    let records = file_bytes / record_bytes;
    let margins = 2 * (4 * records.isqrt() + 64);
    (records / ranges.max(1) + margins).min(records) * record_bytes
}

/// The size of the index at the beginning of a fragment of corrections, which does not grow with them.
const CORRECTION_INDEX_BYTES: u64 = 4_096;

impl OutputStore for ModelOutput {
    type Writer = ModelWriter;

    const BUFFERS_OPEN_FILES: bool = true;
    const COPIES_TO_PROMOTE: bool = true;

    async fn check(&self, _: Option<&str>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn anonymization_config(&self, _: Option<&str>, _: &ConfigName, _: Option<&str>) -> Result<ConfigLookup, StoreError> {
        Ok(ConfigLookup::Absent)
    }

    async fn anonymization_keys(&self, _: Option<&str>, _: &ConfigName) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }

    async fn new_fragment(&self, folder: &Folder, fragment: FragmentName) -> Result<ModelWriter, StoreError> {
        Ok(ModelWriter::new(self.clone(), folder.clone(), fragment))
    }

    async fn promote(&self, folder: &Folder, fragment: &Fragment, file: OutputFileName) -> Result<(), StoreError> {
        let found = self.destination.get(folder, &FileName::Fragment(fragment.name));
        let Some(StoredFile { content: Content::Bytes(bytes), summary }) = found else {
            return Err(StoreError::NotApplied { store: STORE, cause: "the fragment does not exist".into() });
        };
        self.copy(bytes.len() as u64 * weight(fragment.name.kind, self.scale)).await?;
        self.destination.put(folder, FileName::Output(file), bytes, summary)
    }

    async fn renumber(&self, folder: &Folder, file: &OutputFile, number: u32) -> Result<(), StoreError> {
        let Some(StoredFile { content, summary }) = self.destination.get(folder, &FileName::Output(file.name)) else {
            return Err(StoreError::NotApplied { store: STORE, cause: "the file does not exist".into() });
        };
        self.copy(summary.bytes * weight(file.name.kind, self.scale)).await?;
        self.destination.replace(folder, FileName::Output(OutputFileName { number, ..file.name }), content, summary);
        Ok(())
    }

    fn read(&self, folder: &Folder, fragment: &FragmentName, range: Range<u64>) -> ByteStream {
        let Some(StoredFile { content: Content::Bytes(file), .. }) = self.destination.get(folder, &FileName::Fragment(*fragment)) else {
            let error = SourceError::Unavailable(format!("{fragment} does not exist").into());
            return Box::pin(stream::once(std::future::ready(Err(error))));
        };
        let real_bytes = self.real_bytes(fragment, file.len() as u64, &range);
        self.keep_records(fragment.kind, file.len() as u64, &range);
        let requests = real_bytes.div_ceil(REQUEST_BYTES).max(1);
        let (start, end) = (range.start.min(file.len() as u64), range.end.min(file.len() as u64));
        let length = (end - start).div_ceil(requests);
        let processor = self.worker.processor();
        let seconds_per_gb = if fragment.kind.is_exported() { processor.merge } else { processor.resolve } + processor.transfer;
        let reader = self.clone();
        let gets = stream::iter(lake::chunks(start..end, length)).map(move |chunk| {
            let slice = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
            let bytes = file.slice(slice(chunk.start)..slice(chunk.end));
            reader.clone().get(bytes, real_bytes / requests)
        });
        let reader = self.clone();
        let state = (Box::pin(gets.buffered(CONCURRENT_READS)), reader);
        Box::pin(stream::unfold(state, move |(mut gets, reader)| async move {
            let started = reader.worker.time().elapsed();
            let result = gets.next().await?;
            reader.worker.add_activity(Activity::ReadFragments, reader.worker.time().elapsed() - started);
            reader.worker.compute(real_bytes / requests, seconds_per_gb).await;
            Some((result, (gets, reader)))
        }))
    }

    async fn file_access(&self, _: &Folder, file: &OutputFile, _: FileRequest) -> Result<FileAccess, StoreError> {
        Ok(FileAccess::Redirect(format!("https://destination.model.invalid/{}", file.name)))
    }

    async fn delete_all_except(&self, folder: &Folder, keep: &FileNames) -> Result<u64, StoreError> {
        delete_all_parts(self, folder, keep).await
    }

    async fn delete_part_except(&self, folder: &Folder, keep: &FileNames, after: Option<&str>) -> Result<DeletedPart, StoreError> {
        let parameters = self.prefix.parameters();
        if after.is_none() {
            self.objects(("ListMultipartUploads", parameters.list)).await?;
        }
        self.objects(("ListObjectsV2", parameters.list)).await?;
        let page = self.destination.page(folder, after, OBJECTS_PER_CALL);
        let is_kept = |path: &str| path.rsplit('/').next().and_then(OutputFileName::parse).is_some_and(|name| keep.contains(&name));
        let is_fragment = |path: &str| path.contains("/_fragments/");
        let unrecorded: Vec<String> = page.iter().filter(|path| is_fragment(path) || !is_kept(path)).cloned().collect();
        if !unrecorded.is_empty() {
            self.objects(("DeleteObjects", parameters.delete)).await?;
            self.destination.delete(&unrecorded);
        }
        let next = page.last().filter(|_| page.len() == OBJECTS_PER_CALL).cloned();
        Ok(DeletedPart { deleted: unrecorded.len() as u64, next })
    }
}

#[cfg(test)]
mod tests {
    use headrace_core::job::file::FragmentName;
    use headrace_core::job::task::{RecordFiles, RecordMerge, Work};

    use super::*;
    use crate::aws::worker::{Step, WorkerSize};
    use crate::meter::Meter;
    use crate::parameters::AwsParameters;
    use crate::time::VirtualTime;

    #[test]
    fn a_search_in_a_simulated_file_stands_for_the_bytes_of_one_in_a_real_file() {
        let (time, meter, aws) = (VirtualTime::default(), Meter::default(), AwsParameters::default());
        let worker = Worker::new(&time, &meter, &aws, WorkerSize { number: 1, memory_mb: 768, slowness: 1, lost_answers: 0.0 });
        let scale = Scale::from_bytes(2_500);
        let prefix = Prefix::new(&aws.bucket);
        let output = ModelOutput { destination: Destination::default(), prefix, worker: worker.clone(), scale, patience: Duration::ZERO };
        let fragment = FragmentName { kind: OutputKind::VersionRecords, task: 2, attempt: 1, fencing_token: 1 };
        // 448 records stand for 140,000. The flow reads the whole file, because the margin of a range in it has 148 records.
        let (records, file) = (448, 448 * 40);
        let files = RecordFiles { first_task: 2, end_task: 20, parts: 1 };
        for (ranges, steps) in [(1, 1), (1, 4), (4, 1), (4, 4)] {
            let merge = RecordMerge { kind: OutputKind::VersionRecords, files, range: 0, ranges, steps };
            worker.begin_step(Step::from_work(&Work::MergeRecords(merge)));
            let real = output.real_bytes(&fragment, file, &(0..file)) / 40;
            let share = records * scale.lines / u64::from(ranges * steps);
            assert!((share..share + 3_300).contains(&real), "{ranges} ranges in {steps} steps: {real} of {share}");
        }
    }
}
