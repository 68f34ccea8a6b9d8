//! Groups the resources of buckets into patient blocks.

use std::collections::BTreeMap;
use std::ops::Range;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use headrace_fhir::definitions::ResourceType;

use crate::job::ExportError;
use crate::job::Phase;
use crate::job::file::{Bucket, Fragment, OutputKind};
use crate::job::task::{Cursor, Lease, PatientGrouping, TaskCompletion, Work};
use crate::lines::deid::JobDeidentifier;
use crate::patients::{
    Frame, FrameDecoder, FrameRole, LineOrder, PatientPartitioner, SortBuffer, block_header, plan_grouping_tasks, position_range,
};
use crate::ports::{AllPorts, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;
use crate::vocab::outcome::OperationOutcome;

use super::deidentify::job_deidentifier;
use super::fragments::{CONCURRENT_READS, read_fragment};
use super::pump::Pump;
use super::round::RoundPlan;
use super::settings::WorkerSettings;
use super::task_end::{TaskEnd, complete_task, yield_task};

/// The number of bytes of a bucket that are read at a time.
const CHUNK_BYTES: u64 = 2 << 20;

/// The cursor of a task that has written everything.
const WRITTEN: Cursor = Cursor { item: 1, offset: 0 };

/// Plans the tasks that group the buckets of earlier rounds. Returns `None` if there are no buckets, or if they are grouped already.
pub(super) async fn plan_grouping_round(
    ports: &impl AllPorts,
    lease: &Lease,
    settings: &WorkerSettings,
) -> Result<Option<RoundPlan>, ExportError> {
    let job = &lease.job;
    if !job.request.is_organized_by_patient || matches!(job.phase, Phase::GroupByPatient | Phase::Merge) {
        return Ok(None);
    }
    let mut bytes_by_bucket = BTreeMap::<Bucket, u64>::new();
    for (bucket, fragment) in bucket_fragments(ports, lease, 0..Bucket::COUNT).await? {
        *bytes_by_bucket.entry(bucket).or_default() += fragment.summary.bytes;
    }
    let tasks = plan_grouping_tasks(&bytes_by_bucket, settings.grouping_memory_bytes);
    let works: Vec<Work> = tasks.into_iter().map(Work::GroupByPatient).collect();
    let first_unmerged_round = job.first_unmerged_round;
    let round = RoundPlan { works, phase: Phase::GroupByPatient, first_unmerged_round, resets_counters: false };
    Ok((!round.works.is_empty()).then_some(round))
}

/// Lists the fragments of some buckets, by bucket and in the order in which their lines were read.
async fn bucket_fragments(ports: &impl AllPorts, lease: &Lease, numbers: Range<u8>) -> Result<Vec<(Bucket, Fragment)>, ExportError> {
    let fragments = ports.jobs().fragments(&lease.job.id, lease.job.first_unmerged_round..=lease.job.round).await?;
    let with_bucket = |fragment: Fragment| {
        let OutputKind::Bucket(bucket) = fragment.name.kind else { return None };
        numbers.contains(&bucket.number()).then_some((bucket, fragment))
    };
    let mut fragments: Vec<_> = fragments.into_iter().filter_map(with_bucket).collect();
    fragments.sort_unstable_by_key(|(bucket, fragment)| (*bucket, fragment.name.task, fragment.name.fencing_token));
    Ok(fragments)
}

/// Runs a grouping task: writes the blocks of its range of patients, in the order of their positions.
///
/// The offset of the cursor is the position before which all blocks are written. Checkpoints end between positions.
pub(super) async fn run_grouping_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
    grouping: PatientGrouping,
) -> Result<TaskEnd, ExportError> {
    if lease.cursor < WRITTEN {
        let positions = position_range(&grouping);
        let deid = job_deidentifier(ports, lease).await?;
        let (start, end) = (positions.start.max(lease.cursor.offset), positions.end);
        let buckets = BucketReader {
            fragments: bucket_fragments(ports, lease, grouping.first_bucket..grouping.end_bucket).await?,
            partitioner: PatientPartitioner::new(&lease.job.id, deid.as_ref().map(|deid| &deid.secret)),
            counts_omitted: grouping.range == 0,
        };
        let mut pump = Pump::new(ports, lease, settings, stop_at).await?;
        let mut last = None::<LineOrder>;
        // Each pass reads all buckets and sorts as many lines as fit into memory, starting after the last line of the pass before.
        let omitted = loop {
            let buffer = SortBuffer::new(settings.grouping_memory_bytes, start..end, last.clone());
            // The first pass of an attempt ignores the time limit, so that every attempt writes at least one block.
            let may_stop = last.is_some();
            let Some((buffer, omitted)) = buckets.read_into(buffer, ports, &mut pump, may_stop).await? else {
                return yield_task(ports, pump.lease, settings).await;
            };
            let (lines, has_all) = buffer.into_sorted();
            for line in lines {
                // Only between two positions, a checkpoint may end or the task may stop.
                if last.as_ref().is_none_or(|last| last.position != line.order.position) {
                    let cursor = Cursor { item: 0, offset: line.order.position };
                    if pump.checkpoint.full_kind().is_some() {
                        pump.commit_checkpoint(cursor).await?;
                    } else if last.is_some() && pump.is_time_up() {
                        pump.commit_checkpoint(cursor).await?;
                        return yield_task(ports, pump.lease, settings).await;
                    }
                }
                if last.as_ref().is_none_or(|last| last.patient != line.order.patient) {
                    let header = format!("{}\n", block_header(&patient_reference(&line.order.patient, deid.as_ref())));
                    pump.checkpoint.append(OutputKind::PatientBlocks, header.into(), 0).await?;
                }
                pump.checkpoint.append(OutputKind::PatientBlocks, line.line, 1).await?;
                pump.beat().await?;
                last = Some(line.order);
            }
            if has_all {
                break omitted;
            }
        };
        if pump.checkpoint.full_kind().is_some() {
            pump.commit_checkpoint(Cursor { item: 0, offset: end }).await?;
        }
        for ((role, kind), count) in omitted {
            let line = format!("{}\n", OperationOutcome::information(omission_text(role, kind, count)));
            pump.checkpoint.append(OutputKind::Error, line.into(), 1).await?;
        }
        pump.commit_checkpoint(WRITTEN).await?;
    }
    complete_task(ports, lease, TaskCompletion::Done).await
}

/// Returns the reference to the patient for the header of a block.
fn patient_reference(patient: &str, deid: Option<&JobDeidentifier>) -> String {
    deid.map_or_else(|| format!("Patient/{patient}"), |deid| deid.patient_reference(patient))
}

/// The number of omitted resources, by reason and type.
type OmittedCounts = BTreeMap<(FrameRole, ResourceType), u64>;

/// Returns the text that tells the client how many resources of a type were left out, and why.
fn omission_text(role: FrameRole, kind: ResourceType, count: u64) -> String {
    let are = if count == 1 { "resource is" } else { "resources are" };
    let reason = match role {
        FrameRole::TooManyCopies if count == 1 => "it belongs to too many patients to be copied into the block of each",
        FrameRole::TooManyCopies => "they belong to too many patients to be copied into the block of each",
        FrameRole::Patient | FrameRole::Member | FrameRole::NoPatient if count == 1 => "it belongs to no patient of this export",
        FrameRole::Patient | FrameRole::Member | FrameRole::NoPatient => "they belong to no patient of this export",
    };
    format!(
        "{count} {} {are} left out, because {reason}: output organized by Patient holds blocks of patients only; export this type without organizeOutputBy to get all of them",
        kind.as_str()
    )
}

/// The buckets of a grouping task.
struct BucketReader {
    fragments: Vec<(Bucket, Fragment)>,
    partitioner: PatientPartitioner,
    /// True for one of the tasks that read a bucket, so that its omitted resources are reported once.
    counts_omitted: bool,
}

impl BucketReader {
    /// Adds all lines of the buckets to a sort buffer, and counts the omitted resources. Returns `None` if the time is up and the task
    /// may stop.
    async fn read_into<W: AllPorts>(
        &self,
        mut buffer: SortBuffer,
        ports: &W,
        pump: &mut Pump<'_, W>,
        may_stop: bool,
    ) -> Result<Option<(SortBuffer, OmittedCounts)>, ExportError> {
        let mut omitted = OmittedCounts::new();
        let mut sequence = 0;
        let mut decoder = FrameDecoder::default();
        let chunks: Vec<(&Fragment, Range<u64>)> = self.fragments.iter().flat_map(|(_, fragment)| chunks(fragment)).collect();
        for batch in chunks.chunks(CONCURRENT_READS) {
            let lease: &Lease = pump.lease;
            let reads: Vec<_> = batch.iter().map(|(fragment, range)| read_fragment(ports, lease, fragment, range.clone())).collect();
            let bytes: Vec<Vec<u8>> = stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await?;
            for ((fragment, range), bytes) in batch.iter().zip(bytes) {
                let unreadable =
                    |detail: &str| StoreError::Unreadable { store: "the destination", detail: format!("{}: {detail}", fragment.name) };
                let mut take = |frame: &Frame<'_>| {
                    sequence += 1;
                    match frame.role {
                        FrameRole::Patient | FrameRole::Member => {
                            buffer.add(frame, self.partitioner.position(frame.patient), sequence);
                        }
                        FrameRole::NoPatient | FrameRole::TooManyCopies if self.counts_omitted => {
                            *omitted.entry((frame.role, frame.resource_type)).or_default() += 1;
                        }
                        FrameRole::NoPatient | FrameRole::TooManyCopies => {}
                    }
                };
                decoder.push(&bytes, &mut take).map_err(|malformed| unreadable(&malformed.to_string()))?;
                if range.end == fragment.summary.bytes && !decoder.is_between_frames() {
                    return Err(unreadable("it ends in the middle of a frame").into());
                }
            }
            if may_stop && pump.is_time_up() {
                return Ok(None);
            }
            pump.beat().await?;
        }
        Ok(Some((buffer, omitted)))
    }
}

/// Cuts a fragment into byte ranges of up to [`CHUNK_BYTES`], which are read one at a time.
fn chunks(fragment: &Fragment) -> impl Iterator<Item = (&Fragment, Range<u64>)> {
    let size = fragment.summary.bytes;
    (0..size.div_ceil(CHUNK_BYTES)).map(move |chunk| (fragment, chunk * CHUNK_BYTES..size.min((chunk + 1) * CHUNK_BYTES)))
}
