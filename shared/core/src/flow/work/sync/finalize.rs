//! Finalizes a synchronization: publishes what was fetched if nothing is missing, and moves the watermark of the lake last.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use headrace_fhir::definitions::ResourceType;

use crate::job::file::OutputKind;
use crate::job::file_list::FileListPart;
use crate::job::file_names::FileNames;
use crate::job::sync::{FetchScope, FetchTask, FinalizeSync, SyncRecord, SyncRequest};
use crate::job::task::{Lease, TaskCompletion, TaskUpdate, Work};
use crate::job::{ExportError, ExportTime, Phase};
use crate::lake::sync_report::{SYNC_REPORT_OBJECT, SyncReport, TypeReport};
use crate::lake::watermark::{WATERMARK_OBJECT, parse_filler};
use crate::ports::{AllPorts, FragmentSelection, LakeFeed as _, LakeWriter as _, OutputStore as _, ResourceSource as _, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::{SourceError, StoreError};

use super::super::fragments::{CONCURRENT_READS, read_fragment};
use super::super::heartbeat::{send_heartbeat_if_due, update_leased_task};
use super::super::round::{RoundPlan, start_round};
use super::super::settings::WorkerSettings;
use super::super::task_end::{TaskEnd, complete_task};
use super::publication::{complete_up_to, is_published, mark_publication, move_watermark, publications};

/// The number of objects that one task stores.
const OBJECTS_PER_TASK: usize = 16;

/// The number of records that are read between two heartbeats.
const RECORDS_PER_HEARTBEAT: usize = 512;

/// Runs the finalize task of a synchronization.
pub(in super::super) async fn run_finalize_sync_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    work: &FinalizeSync,
) -> Result<TaskEnd, ExportError> {
    if is_decided(ports, lease).await? {
        return end_job(ports, lease, settings).await;
    }
    let request = &work.request;
    let records = read_records(ports, lease, settings).await?;
    let report = build_report(lease, request, &records);
    if report.is_complete && lease.job.phase == Phase::Read {
        let works = lease.job.planned.map(|planned| deletion_works(request, &records, planned.time)).unwrap_or_default();
        if !works.is_empty() {
            let round = RoundPlan { works, phase: Phase::ReadHistory, first_unmerged_round: 0, starts_over: false };
            return start_round(ports, lease, settings, round).await;
        }
    }
    if report.is_complete {
        let publications = publications(ports, lease).await?;
        if !publications.is_empty() && !is_published(ports, lease, settings, &publications).await? {
            mark_publication(ports, lease, work, &report).await?;
            let works = publications.chunks(OBJECTS_PER_TASK).map(|chunk| Work::Publish(chunk.to_vec())).collect();
            let round = RoundPlan { works, phase: Phase::Publish, first_unmerged_round: 0, starts_over: false };
            return start_round(ports, lease, settings, round).await;
        }
    }
    let text = serde_json::to_vec(&report).unwrap_or_default();
    ports.feed().lake().put_metadata(SYNC_REPORT_OBJECT, text.into()).await?;
    if report.is_complete {
        move_watermark(ports, lease, work, &report).await?;
    }
    end_job(ports, lease, settings).await
}

/// Returns true if an earlier attempt has decided the end: the watermark is that of the job, or the report says what is missing. The records
/// may be deleted since.
async fn is_decided(ports: &impl AllPorts, lease: &Lease) -> Result<bool, ExportError> {
    let job = lease.job.id.as_str();
    let watermark = ports.source().read_metadata(WATERMARK_OBJECT).await?;
    if watermark.is_some_and(|object| parse_filler(&object).job.as_deref() == Some(job)) {
        return Ok(true);
    }
    let report = ports.source().read_metadata(SYNC_REPORT_OBJECT).await?;
    let report = report.and_then(|object| serde_json::from_slice::<SyncReport>(&object.bytes).ok());
    Ok(report.is_some_and(|report| report.job == job && !report.is_complete))
}

/// Deletes what was fetched and completes the job. Can be repeated after a crash at any call.
async fn end_job(ports: &impl AllPorts, lease: &mut Lease, settings: &WorkerSettings) -> Result<TaskEnd, ExportError> {
    for part in FileListPart::from_files(&[]) {
        update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::ListFiles(part)).await?;
    }
    // Everything is in the lake, or is of no use.
    ports.output().delete_all_except(&lease.job.folder(), &FileNames::default()).await?;
    complete_task(ports, lease, TaskCompletion::JobComplete(ports.now())).await
}

/// Reads the records of all tasks.
pub(super) async fn read_records(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
) -> Result<Vec<SyncRecord>, ExportError> {
    let selection = FragmentSelection::Kind(OutputKind::SyncRecords);
    let fragments = ports.jobs().fragments(&lease.job.id, 0..=lease.job.round, &selection).await?;
    let mut records = Vec::new();
    for some in fragments.chunks(RECORDS_PER_HEARTBEAT) {
        let held: &Lease = lease;
        let reads: Vec<_> = some.iter().map(|fragment| read_fragment(ports, held, fragment, 0..fragment.summary.bytes)).collect();
        let texts: Result<Vec<Vec<u8>>, _> = stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await;
        let texts = texts.map_err(unreadable_record)?;
        for line in texts.iter().flat_map(|text| text.split(|byte| *byte == b'\n')).filter(|line| !line.is_empty()) {
            let record = serde_json::from_slice(line);
            records
                .push(record.map_err(|_| StoreError::Unreadable { store: "the destination", detail: "a record of a window".to_owned() })?);
        }
        send_heartbeat_if_due(ports, lease, settings.lease.duration).await?;
    }
    Ok(records)
}

/// Names the record of a window in the error of a read that failed: the destination has it, and not the lake.
fn unreadable_record(error: ExportError) -> ExportError {
    if let ExportError::Source(SourceError::Unavailable(cause)) = error {
        return StoreError::NotApplied { store: "the destination", cause }.into();
    }
    error
}

/// Returns the tasks that find deletions: they read the histories of types, or compare ids. They come after all windows, so that histories
/// show what changed while these were read. The ids are compared if there is no history, or if an earlier one was not read: it may fail again.
fn deletion_works(request: &SyncRequest, records: &[SyncRecord], time: ExportTime) -> Vec<Work> {
    let tasks = |record: &SyncRecord| {
        let is_compared = request.reconciles && record.is_covered && (record.history.is_none() || lacks_deletions(record, time));
        let ids = is_compared.then_some(FetchScope::Reconcile { to: time.transaction_time });
        let SyncRequest { page_size, window_resources, ignores_totals, .. } = *request;
        let resource_type = record.resource_type;
        let scopes = record.history.map(FetchScope::History).into_iter().chain(ids);
        scopes.map(move |scope| Work::Fetch(FetchTask { resource_type, scope, page_size, window_resources, ignores_totals }))
    };
    records.iter().flat_map(tasks).collect()
}

/// Returns true if the lake does not have the deletions of a type up to its watermark.
fn lacks_deletions(record: &SyncRecord, time: ExportTime) -> bool {
    let is_before_watermark = |known: Millis| time.watermark.object_time().is_none_or(|watermark| known <= watermark);
    record.deletions_known_up_to.is_some_and(|known| known < time.transaction_time && is_before_watermark(known))
}

/// Builds the report from the records of all tasks.
fn build_report(lease: &Lease, request: &SyncRequest, records: &[SyncRecord]) -> SyncReport {
    let mut types = BTreeMap::<ResourceType, TypeReport>::new();
    for record in records {
        types.entry(record.resource_type).or_insert_with(|| TypeReport::new(record.resource_type)).add(record);
    }
    let time = lease.job.planned.map(|planned| planned.time);
    let previous = time.and_then(|time| time.watermark.object_time());
    SyncReport {
        origin: request.origin.clone(),
        job: lease.job.id.to_string(),
        from: previous.filter(|_| !request.is_full).map(Millis::instant),
        previous_watermark: previous.map(Millis::instant),
        complete_up_to: time.map(|time| complete_up_to(time).instant()).unwrap_or_default(),
        is_complete: types.values().all(|report| report.faults.is_empty()),
        types: types.into_values().collect(),
    }
}
