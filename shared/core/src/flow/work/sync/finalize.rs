//! Finalizes a synchronization: publishes what was fetched if nothing is missing, and moves the watermark of the lake last.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use headrace_fhir::definitions::ResourceType;

use crate::job::file::{Fragment, OutputKind};
use crate::job::file_list::FileListPart;
use crate::job::sync::{FetchScope, FetchTask, Publication, SyncRecord, SyncRequest};
use crate::job::task::{Lease, TaskCompletion, TaskUpdate, Work};
use crate::job::{ExportError, ExportTime, Phase, Watermark};
use crate::lake::sync_report::{SYNC_REPORT_OBJECT, SyncReport, TypeReport};
use crate::lake::watermark::{LakeFiller, WATERMARK_OBJECT, filler_watermark, parse_filled_watermark, parse_filler, publishing_watermark};
use crate::ports::{
    AllPorts, FragmentSelection, LakeFeed as _, LakeWriter as _, MetadataObject, OutputStore as _, ResourceSource as _, TaskStore as _,
};
use crate::vocab::clock::Millis;
use crate::vocab::error::{SourceError, StoreError};

use super::super::fragments::{CONCURRENT_READS, read_fragment};
use super::super::heartbeat::{send_heartbeat_if_due, update_leased_task};
use super::super::round::{RoundPlan, start_round};
use super::super::settings::WorkerSettings;
use super::super::task_end::{TaskEnd, complete_task};

/// The number of objects that one task stores.
const OBJECTS_PER_TASK: usize = 16;

/// The number of records that are read between two heartbeats.
const RECORDS_PER_HEARTBEAT: usize = 512;

/// Runs the finalize task of a synchronization.
pub(in super::super) async fn run_finalize_sync_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    request: &SyncRequest,
) -> Result<TaskEnd, ExportError> {
    let records = read_records(ports, lease, settings).await?;
    let report = build_report(lease, request, &records);
    if report.is_complete && lease.job.phase == Phase::Read {
        let works = lease.job.planned.map(|planned| deletion_works(request, &records, planned.time)).unwrap_or_default();
        if !works.is_empty() {
            let round = RoundPlan { works, phase: Phase::ReadHistory, first_unmerged_round: 0, starts_over: false };
            return start_round(ports, lease, settings, round).await;
        }
    }
    if report.is_complete && lease.job.phase != Phase::Publish {
        let publications = publications(ports, lease).await?;
        if !publications.is_empty() {
            mark_publication(ports, lease, request).await?;
            let works = publications.chunks(OBJECTS_PER_TASK).map(|chunk| Work::Publish(chunk.to_vec())).collect();
            let round = RoundPlan { works, phase: Phase::Publish, first_unmerged_round: 0, starts_over: false };
            return start_round(ports, lease, settings, round).await;
        }
    }
    let text = serde_json::to_vec(&report).unwrap_or_default();
    ports.feed().lake().put_metadata(SYNC_REPORT_OBJECT, text.into()).await?;
    if report.is_complete {
        move_watermark(ports, lease, request, &report).await?;
    }
    for part in FileListPart::from_files(&[]) {
        update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::ListFiles(part)).await?;
    }
    // Everything is in the lake, or is of no use.
    ports.output().delete_all_except(&lease.job.folder(), &BTreeSet::new()).await?;
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
        let texts: Vec<Vec<u8>> = stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await?;
        for line in texts.iter().flat_map(|text| text.split(|byte| *byte == b'\n')).filter(|line| !line.is_empty()) {
            let record = serde_json::from_slice(line);
            records
                .push(record.map_err(|_| StoreError::Unreadable { store: "the destination", detail: "a record of a window".to_owned() })?);
        }
        send_heartbeat_if_due(ports, lease, settings.lease.duration).await?;
    }
    Ok(records)
}

/// Returns the tasks that find deletions: they read the histories of types, or compare ids. They come after all windows, so that histories
/// show what changed while these were read. The ids are compared if there is no history, or if an earlier one was not read: it may fail again.
fn deletion_works(request: &SyncRequest, records: &[SyncRecord], time: ExportTime) -> Vec<Work> {
    let tasks = |record: &SyncRecord| {
        let is_compared = request.reconciles && record.is_covered && (record.history.is_none() || lacks_deletions(record, time));
        let ids = is_compared.then_some(FetchScope::Reconcile { to: time.transaction_time });
        let (resource_type, page_size, window_resources) = (record.resource_type, request.page_size, request.window_resources);
        let scopes = record.history.map(FetchScope::History).into_iter().chain(ids);
        scopes.map(move |scope| Work::Fetch(FetchTask { resource_type, scope, page_size, window_resources }))
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

/// Returns the last moment that the lake has: a watermark includes its moment, and the windows do not include their end. A watermark never
/// goes back.
fn complete_up_to(time: ExportTime) -> Millis {
    let last = Millis(time.transaction_time.0.saturating_sub(1));
    time.watermark.object_time().map_or(last, |before| last.max(before))
}

/// Names the objects of the lake that the fragments become. Another attempt gives the same names.
async fn publications(ports: &impl AllPorts, lease: &Lease) -> Result<Vec<Publication>, ExportError> {
    let fragments = ports.jobs().fragments(&lease.job.id, 0..=lease.job.round, &FragmentSelection::Exported).await?;
    let time = lease.job.planned.map_or(lease.job.created_at, |planned| planned.time.transaction_time).compact();
    let job: String = lease.job.id.as_str().chars().take(8).collect();
    let mut numbers = BTreeMap::<&str, u32>::new();
    let name = |fragment: Fragment| {
        let folder = if let OutputKind::Output(kind) = fragment.name.kind { kind.as_str() } else { "deleted" };
        let number = numbers.entry(folder).or_default();
        *number += 1;
        Publication { fragment, object: format!("{folder}/{time}-{job}-{number}.ndjson.zst") }
    };
    Ok(fragments.into_iter().map(name).collect())
}

/// Moves the watermark of the lake. Does nothing if an earlier attempt has moved it.
async fn move_watermark(ports: &impl AllPorts, lease: &Lease, request: &SyncRequest, report: &SyncReport) -> Result<(), ExportError> {
    let Some(time) = lease.job.planned.map(|planned| planned.time) else { return Ok(()) };
    let current = ports.source().read_metadata(WATERMARK_OBJECT).await?;
    let filler = LakeFiller {
        origin: Some(request.origin.clone()),
        job: Some(lease.job.id.to_string()),
        types: Some(report.types.iter().filter(|report| report.is_covered).map(|report| report.resource_type).collect()),
        left_types: report.types.iter().filter_map(|report| Some((report.resource_type, report.left_at.clone()?))).collect(),
        publishing: None,
        deletions_known_up_to: report.unknown_deletions(),
    };
    if current.as_ref().is_some_and(|current| parse_filler(current).job == filler.job) {
        return Ok(());
    }
    check_unchanged(current.as_ref(), time.watermark, ports.now())?;
    let deletions = report.deletions();
    let content = filler_watermark(complete_up_to(time), &filler, deletions);
    replace_watermark(ports, current.as_ref(), content).await
}

/// Marks the lake in its watermark object before the first object becomes visible, so that a part of them is never taken for everything. Does
/// nothing if an earlier attempt has marked it.
async fn mark_publication(ports: &impl AllPorts, lease: &Lease, request: &SyncRequest) -> Result<(), ExportError> {
    let Some(time) = lease.job.planned.map(|planned| planned.time) else { return Ok(()) };
    let (job, current) = (lease.job.id.as_str(), ports.source().read_metadata(WATERMARK_OBJECT).await?);
    if current.as_ref().is_some_and(|current| parse_filler(current).publishing.as_deref() == Some(job)) {
        return Ok(());
    }
    check_unchanged(current.as_ref(), time.watermark, ports.now())?;
    let content = publishing_watermark(current.as_ref(), &request.origin, job)
        .map_err(|_| StoreError::Unreadable { store: "the lake", detail: format!("the object {WATERMARK_OBJECT}") })?;
    replace_watermark(ports, current.as_ref(), content).await
}

/// Replaces the watermark object. Fails if it is not the current one any more.
async fn replace_watermark(ports: &impl AllPorts, current: Option<&MetadataObject>, content: Vec<u8>) -> Result<(), ExportError> {
    let expected = current.map(|current| current.bytes.as_ref());
    if ports.feed().lake().replace_metadata(WATERMARK_OBJECT, expected, Bytes::from(content)).await? {
        return Ok(());
    }
    Err(StoreError::NotApplied { store: "the lake", cause: "its watermark was changed at the same moment".into() }.into())
}

/// Returns an error if the watermark is not the one that the plan has found.
fn check_unchanged(current: Option<&MetadataObject>, planned: Watermark, now: Millis) -> Result<(), ExportError> {
    let current = current.map(|current| parse_filled_watermark(current, now)).transpose()?.flatten();
    if current == planned.object_time() {
        return Ok(());
    }
    let remedy = "another process has moved the watermark of the lake during the synchronization, so the synchronization did not move it; synchronize again";
    Err(SourceError::Misconfigured { remedy: remedy.to_owned(), cause: remedy.into() }.into())
}
