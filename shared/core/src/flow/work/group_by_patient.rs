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
    Frame, FrameDecoder, FrameRole, LineOrder, PatientPartitioner, Sections, SortBuffer, block_header, plan_grouping_tasks, position_range,
    task_frame_bytes,
};
use crate::ports::{AllPorts, FragmentSelection, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::outcome::OperationOutcome;

use super::deidentify::job_deidentifier;
use super::fragments::{CONCURRENT_READS, read_fragment};
use super::patient_files::{FramesOfFile, find_sections, patient_pages};
use super::pump::Pump;
use super::round::RoundPlan;
use super::settings::WorkerSettings;
use super::sort_patients::plan_sort_tasks;
use super::task_end::{TaskEnd, complete_task, yield_task};

/// Plans the tasks that group the resources of earlier rounds by patient, or tasks that sort them roughly before, if there are many. Returns
/// `None` if there are no such resources, or if they are grouped already.
pub(super) async fn plan_grouping_round(
    ports: &impl AllPorts,
    lease: &Lease,
    settings: &WorkerSettings,
) -> Result<Option<RoundPlan>, ExportError> {
    let job = &lease.job;
    if !job.request.is_organized_by_patient || matches!(job.phase, Phase::GroupByPatient | Phase::Merge) {
        return Ok(None);
    }
    let is_sorted = job.phase == Phase::SortPatients;
    let limit_bytes = settings.grouping_memory_bytes;
    let (bytes_by_bucket, pages) = if is_sorted {
        (sorted_bytes(&sorted_fragments(ports, lease, 0..Bucket::COUNT, job.round).await?), Vec::new())
    } else {
        let pages = patient_pages(ports, lease, job.round, 0..u32::MAX).await?;
        // Hashes distribute patients evenly, so the indexes of the pages need not be read for this.
        let bytes = pages.iter().map(|page| page.summary.bytes).sum::<u64>().div_ceil(u64::from(Bucket::COUNT));
        (Bucket::all().map(|bucket| (bucket, bytes)).filter(|(_, bytes)| *bytes > 0).collect(), pages)
    };
    let largest = bytes_by_bucket.values().max().copied().unwrap_or_default();
    let must_sort = !is_sorted && largest.div_ceil(task_frame_bytes(limit_bytes)) > settings.max_unsorted_ranges;
    let (works, phase): (Vec<Work>, Phase) = if must_sort {
        (plan_sort_tasks(&pages, limit_bytes), Phase::SortPatients)
    } else {
        let tasks = plan_grouping_tasks(&bytes_by_bucket, limit_bytes, is_sorted);
        (tasks.into_iter().map(Work::GroupByPatient).collect(), Phase::GroupByPatient)
    };
    let round = RoundPlan { works, phase, first_unmerged_round: job.first_unmerged_round, starts_over: false };
    Ok((!round.works.is_empty()).then_some(round))
}

/// Lists the fragments of some buckets that the sort tasks of a round have written, in the order in which their lines were read.
async fn sorted_fragments(ports: &impl AllPorts, lease: &Lease, buckets: Range<u8>, round: u32) -> Result<Vec<Fragment>, ExportError> {
    let mut fragments = ports.jobs().fragments(&lease.job.id, round..=round, &FragmentSelection::Buckets(buckets)).await?;
    fragments.sort_unstable_by_key(|fragment| (fragment.name.kind, fragment.name.task, fragment.name.fencing_token));
    Ok(fragments)
}

/// Returns the size of each bucket.
fn sorted_bytes(fragments: &[Fragment]) -> BTreeMap<Bucket, u64> {
    let mut bytes_by_bucket = BTreeMap::<Bucket, u64>::new();
    for fragment in fragments {
        if let OutputKind::Bucket(bucket) = fragment.name.kind {
            *bytes_by_bucket.entry(bucket).or_default() += fragment.summary.bytes;
        }
    }
    bytes_by_bucket
}

/// Finds the frames of a grouping task: of its buckets in the pages of the reading tasks, or of its positions in the files of sort tasks.
async fn find_frames(
    ports: &impl AllPorts,
    lease: &Lease,
    grouping: &PatientGrouping,
    positions: &Range<u64>,
) -> Result<Vec<FramesOfFile>, ExportError> {
    let previous = lease.job.round.saturating_sub(1);
    let buckets = grouping.first_bucket..grouping.end_bucket;
    if grouping.is_sorted {
        let fragments = sorted_fragments(ports, lease, buckets, previous).await?;
        return find_sections(ports, lease, &fragments, (Sections::Positions, &Sections::of_positions(positions))).await;
    }
    let pages = patient_pages(ports, lease, previous, 0..u32::MAX).await?;
    find_sections(ports, lease, &pages, (Sections::Buckets, &(usize::from(buckets.start)..usize::from(buckets.end)))).await
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
    if lease.cursor < Cursor::WRITTEN {
        let positions = position_range(&grouping);
        let deid = job_deidentifier(ports, lease).await?;
        let (start, end) = (positions.start.max(lease.cursor.offset), positions.end);
        let buckets = BucketReader {
            files: find_frames(ports, lease, &grouping, &positions).await?,
            partitioner: PatientPartitioner::new(&lease.job.id, deid.as_ref().map(|deid| &deid.secret)),
            counts_omitted: grouping.range == 0,
        };
        let mut pump = Pump::new(ports, lease, settings, stop_at);
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
                pump.send_heartbeat_if_due().await?;
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
        pump.commit_checkpoint(Cursor::WRITTEN).await?;
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
        FrameRole::Patient | FrameRole::Member | FrameRole::NoPatient if kind == ResourceType::PROVENANCE => {
            "only a target, and no reference to a patient, relates a Provenance to a patient of this export"
        }
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
    files: Vec<FramesOfFile>,
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
        let chunks: Vec<(&Fragment, Range<u64>, bool)> = self.files.iter().flat_map(chunks_with_end).collect();
        for batch in chunks.chunks(CONCURRENT_READS) {
            let lease: &Lease = pump.lease;
            let reads: Vec<_> = batch.iter().map(|(fragment, range, _)| read_fragment(ports, lease, fragment, range.clone())).collect();
            let bytes: Vec<Vec<u8>> = stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await?;
            for ((fragment, _, is_last), bytes) in batch.iter().zip(bytes) {
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
                decoder.push(&bytes, &mut take).map_err(|malformed| FramesOfFile::unreadable(fragment, &malformed.to_string()))?;
                if *is_last && !decoder.is_between_frames() {
                    return Err(FramesOfFile::unreadable(fragment, "it ends in the middle of a frame"));
                }
            }
            if may_stop && pump.is_time_up() {
                return Ok(None);
            }
            pump.send_heartbeat_if_due().await?;
        }
        Ok(Some((buffer, omitted)))
    }
}

/// Cuts a part of a file into byte ranges that are read one at a time, and marks the last one.
fn chunks_with_end(part: &FramesOfFile) -> impl Iterator<Item = (&Fragment, Range<u64>, bool)> {
    part.chunks().map(|(fragment, range)| {
        let is_last = range.end == part.range.end;
        (fragment, range, is_last)
    })
}
