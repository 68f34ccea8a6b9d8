//! Plans an export: lists the lake once, pins its objects, records the read tasks and announces them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use headrace_fhir::definitions::TypeSet;

use crate::flow::export_time::{arrived_after, check_listed, determine_export_time};
use crate::flow::resolve_patients::{Catalogue, PatientResolver};
use crate::job::task::{Encoding, Lease, PlanProgress, TaskCompletion, TaskUpdate, Work};
use crate::job::{ExportError, ExportTime, FIRST_READ_TASK, Planned};
use crate::lake::large_objects::LargeObjects;
use crate::lake::near_misses::NearMisses;
use crate::lake::slices::{SlicePlanner, encoding_from_name};
use crate::lines::selection::{read_mode, types_to_read};
use crate::ports::{AllPorts, ArchivedObject, ListedObject, ResourceSource as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;
use crate::vocab::ids::TaskId;

use super::heartbeat::{send_heartbeat_if_due, update_leased_task};
use super::manifest_limit::{LakeBytes, fail_too_large_job, manifest_problem};
use super::persist_patient_set::{persist_patient_set, requested_patients};
use super::round::record_tasks;
use super::settings::{CURSOR_INTERVALS_WITH_FILES, WorkerSettings};
use super::task_end::{TaskEnd, complete_task_and_announce, yield_task};

/// Runs the plan task: lists the lake, resolves the patients and records the tasks of the export.
///
/// The listing has a cursor, unless the export is restricted to patients. The rest must fit into one attempt.
pub(super) async fn run_plan_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
) -> Result<TaskEnd, ExportError> {
    let time = take_time(ports, lease, settings).await?;
    let Some(listed) = list_lake(ports, lease, settings, (time, stop_at)).await? else {
        return yield_task(ports, lease, settings).await;
    };
    check_listed(ports.source(), time.watermark).await?;
    if let Some(problem) = manifest_problem(&lease.job, settings.lake.versions, listed.bytes) {
        return fail_too_large_job(ports, &lease.job, problem).await;
    }
    if listed.bytes.total() == 0 {
        tracing::warn!(job.id = %lease.job.id, "the lake holds nothing to export: no object with a name that ends in .ndjson, .ndjson.gz or .ndjson.zst");
    }
    let persisted = persist_patient_set(ports, lease, settings, &listed.catalogue, (time.transaction_time, stop_at)).await?;
    // An export of no patients reads nothing. The recorded tasks do not become part of the job.
    let (tasks, source_bytes) = if persisted.is_empty { (0, 0) } else { (listed.tasks, listed.bytes.total()) };
    let planned = Planned {
        time,
        tasks,
        source_bytes,
        read_mode: read_mode(&lease.job.request, &settings.lake),
        patient_set: persisted.fragment,
        omitted: persisted.omitted,
        group_patients: persisted.group_patients,
    };
    let mut numbers: Vec<u32> = (FIRST_READ_TASK..FIRST_READ_TASK + tasks).collect();
    // The sizes of tasks that an earlier attempt has recorded are not known any more. They come last.
    numbers.sort_by_cached_key(|task| announcement_order(listed.task_bytes.get(task).copied().unwrap_or_default(), *task));
    let ids: Vec<_> = numbers.into_iter().map(|task| TaskId { job: lease.job.id.clone(), task }).collect();
    complete_task_and_announce(ports, lease, TaskCompletion::Planned(planned), &ids).await
}

/// Takes the time of the export, once, and records it before the lake is listed (rule P3). A later attempt keeps the time of the first.
///
/// The order matters: what is listed later is complete up to a watermark that was read before, but not the reverse.
async fn take_time(ports: &impl AllPorts, lease: &mut Lease, settings: &WorkerSettings) -> Result<ExportTime, ExportError> {
    if let Some(time) = lease.export_time {
        return Ok(time);
    }
    let time = determine_export_time(ports.source(), settings.lake.watermark, ports.now()).await?;
    update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::TakeTime(time)).await?;
    let (transaction_time, watermark) = (time.transaction_time, time.watermark.as_str());
    tracing::info!(job.id = %lease.job.id, %transaction_time, watermark, "the transaction time was recorded");
    Ok(time)
}

/// Returns the position of a read task among the announcements.
///
/// Large tasks come first, so that no worker is left alone with one at the end. Tasks of about the same size come in the order of a hash:
/// in the order of the listing, all workers would read and write the same type at the same time.
fn announcement_order(bytes: u64, task: u32) -> (Reverse<u64>, u32) {
    // Four classes for each power of two.
    let size_class = bytes.checked_ilog2().map_or(0, |log| u64::from(log) * 4 + (bytes >> log.saturating_sub(2) & 3));
    (Reverse(size_class), task.wrapping_mul(0x9e37_79b9))
}

/// The lake as it was listed, with the recorded tasks.
struct ListedLake {
    catalogue: Catalogue,
    /// The size of each read task that this attempt has recorded.
    task_bytes: BTreeMap<u32, u64>,
    tasks: u32,
    bytes: LakeBytes,
}

/// Lists the lake from where the last attempt has stopped, and records tasks that read it, page by page, and the finalize task. Returns
/// `None` if the time was up before the end of the listing.
async fn list_lake(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    (time, stop_at): (ExportTime, Millis),
) -> Result<Option<ListedLake>, ExportError> {
    let (request, bases) = (lease.job.request.clone(), &settings.lake.bases);
    let only = types_to_read(&request, &settings.lake).filter(|_| settings.trust_object_names);
    let wanted = PatientResolver { job: &lease.job.id, request: &request, patients: &requested_patients(lease), bases }.types();
    // The catalogue of patients is in memory only, so that the listing for one cannot be continued.
    let has_cursor = wanted == TypeSet::default();
    let progress = lease.plan_progress.clone().filter(|_| has_cursor);
    let mut bytes = progress.as_ref().map(LakeBytes::from_progress).unwrap_or_default();
    let planner = SlicePlanner::new(lease.job.settings.file_bytes, settings.min_slice_bytes, only);
    let mut planner = planner.continued(progress.as_ref().map_or(FIRST_READ_TASK, |progress| progress.next_task), bytes.total());
    let mut catalogue = Catalogue::new(settings.patient_resolution.untyped_bytes);
    let (mut task_bytes, mut near_misses, mut large_objects) = (BTreeMap::new(), NearMisses::default(), LargeObjects::default());
    // The arrival of objects matters to increments only.
    let since = request.since.filter(|_| time.watermark.needs_arrivals());
    let mut after = progress.map(|progress| progress.after);
    let mut recorded_at = ports.now();
    loop {
        let page = ports.source().list(after.as_deref()).await?;
        if let Some(archived) = page.archived.into_iter().find(|archived| planner.reads(&archived.pin)) {
            let ArchivedObject { pin, storage_class } = archived;
            return Err(SourceError::Archived { object: pin.object, storage_class }.into());
        }
        for ListedObject { pin, arrived } in page.objects {
            near_misses.add(&pin.object);
            if !has_cursor {
                catalogue.add(&pin, wanted);
            }
            if let Some(encoding) = encoding_from_name(&pin.object).filter(|_| planner.reads(&pin)) {
                large_objects.add(&pin, encoding);
                match encoding {
                    Encoding::Plain => bytes.plain += pin.size,
                    Encoding::Gzip | Encoding::Zstd => bytes.compressed += pin.size,
                }
            }
            planner.add_object(pin, since.is_some_and(|since| arrived_after(arrived, since, time.watermark)));
        }
        let Some(next) = page.next else { break };
        after = Some(next.clone());
        let is_time_up = settings.stop.is_set() || ports.now() >= stop_at;
        let must_record = has_cursor && (is_time_up || ports.now() >= recorded_at + settings.cursor_interval * CURSOR_INTERVALS_WITH_FILES);
        if must_record {
            planner.flush_tasks();
        }
        let ready = planner.take_ready();
        task_bytes.extend(ready.iter().map(|(task, work)| (*task, work.bytes())));
        record_tasks(ports, lease, settings, ready).await?;
        if must_record {
            record_progress(ports, lease, settings, bytes.progress(next, planner.position().0)).await?;
            recorded_at = ports.now();
        }
        if is_time_up && has_cursor {
            return Ok(None);
        }
        send_heartbeat_if_due(ports, lease, settings.lease.duration).await?;
    }
    if let Some(text) = near_misses.describe() {
        tracing::warn!(job.id = %lease.job.id, "objects of the lake are skipped: {text}");
    }
    if let Some(text) = large_objects.describe() {
        tracing::warn!(job.id = %lease.job.id, "most of the export runs on few workers: {text}");
    }
    let (mut rest, tasks, _) = planner.finish();
    task_bytes.extend(rest.iter().map(|(task, work)| (*task, work.bytes())));
    rest.push((TaskId::finalize(&lease.task.job).task, Work::Finalize));
    record_tasks(ports, lease, settings, rest).await?;
    Ok(Some(ListedLake { catalogue, task_bytes, tasks, bytes }))
}

/// Records that all objects before this point of the listing are in recorded tasks.
async fn record_progress(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    progress: PlanProgress,
) -> Result<(), ExportError> {
    update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::ListedUpTo(progress)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_tasks_are_announced_first_and_similar_ones_in_turns() {
        // Two types of the listing, with objects of about the same size, and one large object.
        let mut tasks: Vec<(u64, u32)> = (2..202).map(|task| (64_000_000 + u64::from(task % 7), task)).collect();
        tasks.push((900_000_000, 202));
        tasks.push((1_000, 203));
        tasks.sort_unstable_by_key(|(bytes, task)| announcement_order(*bytes, *task));
        assert_eq!((tasks[0].1, tasks[201].1), (202, 203));
        for window in tasks[1..201].windows(20) {
            let of_first_type = window.iter().filter(|(_, task)| *task < 102).count();
            assert!((4..=16).contains(&of_first_type), "{window:?}");
        }
    }
}
