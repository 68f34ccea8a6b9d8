//! Sorts the resources of a large bucket of patients roughly: into files with sections by position.
//!
//! Without that, each grouping task of the bucket would read the whole bucket to find its range of positions, and the bytes read would grow
//! with the square of the lake.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::job::ExportError;
use crate::job::file::{Bucket, Fragment, FragmentName, OutputKind};
use crate::job::task::{Checkpoint, Cursor, Lease, PatientSort, TaskCompletion, TaskUpdate, Work};
use crate::patients::{Frame, FrameDecoder, FrameRole, PatientPartitioner, SectionedFrames, Sections, task_frame_bytes};
use crate::ports::AllPorts;
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;

use super::deidentify::job_deidentifier;
use super::fragments::{CONCURRENT_READS, read_fragment, write_chunks};
use super::heartbeat::{send_heartbeat_if_due, update_leased_task};
use super::patient_files::{FramesOfFile, find_sections, patient_pages};
use super::settings::WorkerSettings;
use super::task_end::{TaskEnd, complete_task, yield_task};

/// The number of files of frames that a sort task writes, on average.
const FILES_PER_TASK: u64 = 8;

/// Divides pages among sort tasks, for each bucket separately. The pages of one task stay together.
pub(super) fn plan_sort_tasks(pages: &[Fragment], limit_bytes: u64) -> Vec<Work> {
    let bytes_per_task = FILES_PER_TASK.saturating_mul(task_frame_bytes(limit_bytes)).saturating_mul(u64::from(Bucket::COUNT));
    let mut groups = Vec::<(u64, u32, u32)>::new();
    for pages in pages.chunk_by(|one, next| one.name.task == next.name.task) {
        let Some(task) = pages.first().map(|first| first.name.task) else { continue };
        let bytes = pages.iter().map(|page| page.summary.bytes).sum::<u64>();
        match groups.last_mut() {
            Some((total, _, end)) if total.saturating_add(bytes) <= bytes_per_task => (*total, *end) = (*total + bytes, task + 1),
            Some(_) | None => groups.push((bytes, task, task + 1)),
        }
    }
    let sort = |bucket: Bucket| {
        let works = groups.iter().map(move |(_, first_task, end_task)| PatientSort {
            bucket: bucket.number(),
            first_task: *first_task,
            end_task: *end_task,
        });
        works.map(Work::SortPatients)
    };
    Bucket::all().flat_map(sort).collect()
}

/// Runs a sort task: reads its bucket out of its pages, and writes a file whenever its memory is full. The cursor counts pages.
pub(super) async fn run_sort_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
    sort: PatientSort,
) -> Result<TaskEnd, ExportError> {
    let pages = patient_pages(ports, lease, lease.job.round.saturating_sub(1), sort.first_task..sort.end_task).await?;
    let sections = usize::from(sort.bucket)..usize::from(sort.bucket) + 1;
    let deid = job_deidentifier(ports, lease).await?;
    let partitioner = PatientPartitioner::new(&lease.job.id, deid.as_ref().map(|deid| &deid.secret));
    let mut frames = SectionedFrames::new(Sections::Positions);
    let mut done = lease.cursor.item as usize;
    while done < pages.len() {
        let batch = pages.get(done..pages.len().min(done + CONCURRENT_READS)).unwrap_or_default();
        let parts = find_sections(ports, lease, batch, (Sections::Buckets, &sections)).await?;
        read_frames(ports, lease, &parts, &partitioner, &mut frames).await?;
        done += batch.len();
        let is_time_up = settings.stop.is_set() || ports.now() >= stop_at;
        if frames.bytes() >= task_frame_bytes(settings.grouping_memory_bytes) || is_time_up {
            record_frames(ports, lease, settings, &mut frames, (sort, done)).await?;
        }
        if is_time_up && done < pages.len() {
            return yield_task(ports, lease, settings).await;
        }
        send_heartbeat_if_due(ports, lease, settings.lease.duration).await?;
    }
    record_frames(ports, lease, settings, &mut frames, (sort, done)).await?;
    complete_task(ports, lease, TaskCompletion::Done).await
}

/// Reads frames and adds each to the section of its patient's position.
async fn read_frames(
    ports: &impl AllPorts,
    lease: &Lease,
    parts: &[FramesOfFile],
    partitioner: &PatientPartitioner,
    frames: &mut SectionedFrames,
) -> Result<(), ExportError> {
    let reads: Vec<_> = parts.iter().map(|part| read_fragment(ports, lease, &part.fragment, part.range.clone())).collect();
    let contents: Vec<Vec<u8>> = stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await?;
    for (part, content) in parts.iter().zip(contents) {
        let mut decoder = FrameDecoder::default();
        let mut add = |frame: &Frame<'_>| {
            let section = match frame.role {
                FrameRole::Patient | FrameRole::Member => Sections::of_position(partitioner.position(frame.patient)),
                // They belong to no patient. The task of the first positions counts them.
                FrameRole::NoPatient | FrameRole::TooManyCopies => 0,
            };
            frames.add(section, frame.to_bytes());
        };
        decoder.push(&content, &mut add).map_err(|malformed| FramesOfFile::unreadable(&part.fragment, &malformed.to_string()))?;
        if !decoder.is_between_frames() {
            return Err(FramesOfFile::unreadable(&part.fragment, "it ends in the middle of a frame"));
        }
    }
    Ok(())
}

/// Writes the frames to a file of the bucket, if there are any, and records it with the number of pages that were read.
async fn record_frames(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    frames: &mut SectionedFrames,
    (sort, done): (PatientSort, usize),
) -> Result<(), ExportError> {
    let cursor = Cursor { item: u32::try_from(done).unwrap_or(u32::MAX), offset: 0 };
    if cursor == lease.cursor {
        return Ok(());
    }
    let mut checkpoint = Checkpoint { cursor, ..Checkpoint::default() };
    let count = frames.frames();
    if count > 0 {
        let no_bucket = || StoreError::Unreadable { store: "the job table", detail: format!("the bucket {}", sort.bucket) };
        let kind = OutputKind::Bucket(Bucket::from_number(sort.bucket).ok_or_else(no_bucket)?);
        let name = FragmentName { kind, task: lease.task.task, attempt: lease.attempt, fencing_token: lease.fencing_token };
        checkpoint.fragments.push(write_chunks(ports.output(), &lease.job.folder(), name, frames.take(), count).await?);
    }
    update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::Checkpoint(checkpoint)).await
}
