//! Plans an export: lists the lake once, pins its objects, records the read tasks and announces them.

use crate::flow::export_time::{arrived_after, determine_export_time};
use crate::flow::resolve_patients::{Catalogue, PatientResolver};
use crate::job::task::{Lease, TaskCompletion, TaskUpdate, Work};
use crate::job::{ExportError, ExportTime, Planned};
use crate::lake::near_misses::NearMisses;
use crate::lake::slices::SlicePlanner;
use crate::lines::selection::{read_mode, types_to_read};
use crate::ports::{AllPorts, ArchivedObject, ListedObject, ResourceSource as _, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;
use crate::vocab::ids::TaskId;

use super::persist_patient_set::{persist_patient_set, requested_patients};
use super::round::record_tasks;
use super::settings::WorkerSettings;
use super::task_end::{TaskEnd, complete_task_and_announce};

/// Runs the plan task: lists the lake, resolves the patients and records the tasks of the export. Its only checkpoint is at the end, so
/// it must fit into one attempt.
pub(super) async fn run_plan_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
) -> Result<TaskEnd, ExportError> {
    let time = take_time(ports, lease, settings).await?;
    let mut listed = list_lake(ports, lease, settings, time).await?;
    if listed.source_bytes == 0 {
        tracing::warn!(job.id = %lease.job.id, "the lake holds nothing to export: no object with a name that ends in .ndjson, .ndjson.gz or .ndjson.zst");
    }
    let persisted = persist_patient_set(ports, lease, settings, &listed.catalogue, (time.transaction_time, stop_at)).await?;
    if persisted.is_empty {
        // An export of no patients reads nothing. The recorded tasks do not become part of the job.
        listed.tasks_by_size.clear();
        (listed.tasks, listed.source_bytes) = (0, 0);
    }
    let planned = Planned {
        time,
        tasks: listed.tasks,
        source_bytes: listed.source_bytes,
        read_mode: read_mode(&lease.job.request, &settings.lake),
        patient_set: persisted.fragment,
        omitted: persisted.omitted,
        group_patients: persisted.group_patients,
    };
    // The largest tasks are announced first, so that no worker is left alone with one at the end.
    listed.tasks_by_size.sort_unstable_by(|one, other| other.cmp(one));
    let ids: Vec<_> = listed.tasks_by_size.into_iter().map(|(_, task)| TaskId { job: lease.job.id.clone(), task }).collect();
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
    ports.jobs().update_task(lease, TaskUpdate::TakeTime(time), ports.now() + settings.lease.duration).await?;
    let (transaction_time, watermark) = (time.transaction_time, time.watermark.as_str());
    tracing::info!(job.id = %lease.job.id, %transaction_time, watermark, "the time of the export was taken");
    Ok(time)
}

/// The lake as it was listed, with the recorded tasks.
struct ListedLake {
    catalogue: Catalogue,
    /// The read tasks by the number of bytes that they read.
    tasks_by_size: Vec<(u64, u32)>,
    tasks: u32,
    source_bytes: u64,
}

/// Lists the lake and records tasks that read it, page by page, and the finalize task.
async fn list_lake(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    time: ExportTime,
) -> Result<ListedLake, ExportError> {
    let (request, bases) = (&lease.job.request, &settings.lake.bases);
    let only = types_to_read(request, &settings.lake).filter(|_| settings.trust_object_names);
    let mut planner = SlicePlanner::new(lease.job.settings.file_bytes, settings.min_slice_bytes, only);
    let wanted = PatientResolver { job: &lease.job.id, request, patients: &requested_patients(lease), bases }.types();
    let mut catalogue = Catalogue::new(settings.patient_resolution.untyped_bytes);
    let (mut tasks_by_size, mut near_misses) = (Vec::new(), NearMisses::default());
    // The arrival of objects matters to increments only.
    let since = request.since.filter(|_| time.watermark.needs_arrivals());
    let mut after = None;
    loop {
        let page = ports.source().list(after.as_deref()).await?;
        if let Some(archived) = page.archived.into_iter().find(|archived| planner.reads(&archived.pin)) {
            let ArchivedObject { pin, storage_class } = archived;
            return Err(SourceError::Archived { object: pin.object, storage_class }.into());
        }
        for ListedObject { pin, arrived } in page.objects {
            near_misses.add(&pin.object);
            catalogue.add(&pin, wanted);
            planner.add_object(pin, since.is_some_and(|since| arrived_after(arrived, since, time.watermark)));
        }
        let ready = planner.take_ready();
        if ready.is_empty() {
            ports.jobs().update_task(lease, TaskUpdate::Heartbeat, ports.now() + settings.lease.duration).await?;
        }
        tasks_by_size.extend(ready.iter().map(|(task, work)| (work.bytes(), *task)));
        record_tasks(ports, lease, settings, ready).await?;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if let Some(text) = near_misses.describe() {
        tracing::warn!(job.id = %lease.job.id, "objects of the lake are passed over: {text}");
    }
    let (mut rest, tasks, source_bytes) = planner.finish();
    tasks_by_size.extend(rest.iter().map(|(task, work)| (work.bytes(), *task)));
    rest.push((TaskId::finalize(&lease.task.job).task, Work::Finalize));
    record_tasks(ports, lease, settings, rest).await?;
    Ok(ListedLake { catalogue, tasks_by_size, tasks, source_bytes })
}
