//! The publication of a synchronization: its objects, the mark in the watermark object before the first of them, and the move of the watermark
//! after the last.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use headrace_fhir::definitions::ResourceType;

use crate::job::file::{Fragment, OutputKind};
use crate::job::sync::{FinalizeSync, Publication};
use crate::job::task::Lease;
use crate::job::{ExportError, ExportTime, Phase};
use crate::lake::sync_report::{SyncReport, TypeReport};
use crate::lake::watermark::{LakeFiller, Publisher, WATERMARK_OBJECT, filler_watermark, parse_filler, publishing_watermark};
use crate::ports::{AllPorts, FragmentSelection, LakeFeed as _, LakeWriter as _, MetadataObject, ResourceSource as _, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;
use crate::vocab::ids::JobId;

use super::super::heartbeat::send_heartbeat_if_due;
use super::super::settings::WorkerSettings;
use super::lake_state::{LakeState, misconfigured};

/// The last round that may publish. The rounds before publish what was lost from the lake since the round before them.
const LAST_ROUND: u32 = 8;

/// Names the objects of the lake that the fragments become. Another attempt gives the same names.
pub(super) async fn publications(ports: &impl AllPorts, lease: &Lease) -> Result<Vec<Publication>, ExportError> {
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

/// Returns true if the lake is marked for a job. If it is not, it is not the lake that the job has marked: it was replaced or restored.
pub(super) async fn is_marked(ports: &impl AllPorts, job: &JobId) -> Result<bool, ExportError> {
    let current = ports.source().read_metadata(WATERMARK_OBJECT).await?;
    Ok(current.is_some_and(|current| parse_filler(&current).publishing.as_deref() == Some(job.as_str())))
}

/// Returns true if the lake is marked for the job and has all of its objects. An object that was recorded as stored may be lost: the lake was
/// replaced or restored from a backup since.
pub(super) async fn is_published(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    publications: &[Publication],
) -> Result<bool, ExportError> {
    if lease.job.phase != Phase::Publish || !is_marked(ports, &lease.job.id).await? {
        return Ok(false);
    }
    let mut missing: BTreeSet<&str> = publications.iter().map(|publication| publication.object.as_str()).collect();
    let mut after = None::<String>;
    loop {
        let page = ports.source().list(after.as_deref()).await?;
        let listed = page.objects.iter().map(|listed| &listed.pin).chain(page.archived.iter().map(|archived| &archived.pin));
        for pin in listed {
            missing.remove(pin.object.as_str());
        }
        after = page.next;
        if after.is_none() || missing.is_empty() {
            return Ok(missing.is_empty());
        }
        send_heartbeat_if_due(ports, lease, settings.lease.duration).await?;
    }
}

/// Marks the lake in its watermark object before the first object becomes visible, so that a part of them is never taken for everything. Does
/// nothing if an earlier attempt has marked it.
pub(super) async fn mark_publication(
    ports: &impl AllPorts,
    lease: &Lease,
    work: &FinalizeSync,
    report: &SyncReport,
) -> Result<(), ExportError> {
    if lease.job.round >= LAST_ROUND {
        let remedy =
            "another process removes the objects that the synchronization adds to the lake; stop that process, and synchronize again";
        return Err(misconfigured(remedy.to_owned()));
    }
    let Some(time) = lease.job.planned.map(|planned| planned.time) else { return Ok(()) };
    let (job, current) = (lease.job.id.as_str(), ports.source().read_metadata(WATERMARK_OBJECT).await?);
    check_unchanged(ports, current.as_ref(), time, work)?;
    if current.as_ref().is_some_and(|current| parse_filler(current).publishing.as_deref() == Some(job)) {
        return Ok(());
    }
    let publisher = Publisher { origin: &work.request.origin, job, types: late_types(report), is_full: work.request.is_full };
    let content = publishing_watermark(current.as_ref(), publisher)
        .map_err(|_| StoreError::Unreadable { store: "the lake", detail: format!("the object {WATERMARK_OBJECT}") })?;
    replace_watermark(ports, current.as_ref(), content).await
}

/// Returns the types of which the publication brings what the watermark of the lake does not exclude: changes at or before it, or all of a
/// lake that has none.
fn late_types(report: &SyncReport) -> BTreeSet<ResourceType> {
    let is_first = report.previous_watermark.is_none();
    let brings = |one: &&TypeReport| one.resources > 0 || one.deletions.is_some_and(|deletions| deletions > 0);
    let is_late = |one: &&TypeReport| one.late_changes > 0 || one.late_deletions > 0 || (is_first && brings(one));
    report.types.iter().filter(is_late).map(|one| one.resource_type).collect()
}

/// Moves the watermark of the lake.
pub(super) async fn move_watermark(
    ports: &impl AllPorts,
    lease: &Lease,
    work: &FinalizeSync,
    report: &SyncReport,
) -> Result<(), ExportError> {
    let Some(time) = lease.job.planned.map(|planned| planned.time) else { return Ok(()) };
    let current = ports.source().read_metadata(WATERMARK_OBJECT).await?;
    check_unchanged(ports, current.as_ref(), time, work)?;
    let filler = LakeFiller {
        origin: Some(work.request.origin.clone()),
        job: Some(lease.job.id.to_string()),
        types: Some(report.types.iter().filter(|report| report.is_covered).map(|report| report.resource_type).collect()),
        left_types: report.types.iter().filter_map(|report| Some((report.resource_type, report.left_at.clone()?))).collect(),
        deletions_known_up_to: report.unknown_deletions(),
        undecided_types: report.undecided_types(),
        ..LakeFiller::default()
    };
    let content = filler_watermark(complete_up_to(time), &filler, report.deletions());
    replace_watermark(ports, current.as_ref(), content).await
}

/// Returns the last moment that the lake has: a watermark includes its moment, and the windows do not include their end. A watermark never
/// goes back.
pub(super) fn complete_up_to(time: ExportTime) -> Millis {
    let last = Millis(time.transaction_time.0.saturating_sub(1));
    time.watermark.object_time().map_or(last, |before| last.max(before))
}

/// Replaces the watermark object. Fails if it is not the current one any more.
async fn replace_watermark(ports: &impl AllPorts, current: Option<&MetadataObject>, content: Vec<u8>) -> Result<(), ExportError> {
    let expected = current.map(|current| current.bytes.as_ref());
    if ports.feed().lake().replace_metadata(WATERMARK_OBJECT, expected, Bytes::from(content)).await? {
        return Ok(());
    }
    Err(StoreError::NotApplied { store: "the lake", cause: "its watermark was changed at the same moment".into() }.into())
}

/// Returns an error if the lake is not the one that the plan has found.
fn check_unchanged(
    ports: &impl AllPorts,
    current: Option<&MetadataObject>,
    time: ExportTime,
    work: &FinalizeSync,
) -> Result<(), ExportError> {
    let lake = current.map_or_else(|| Ok(LakeState::default()), |current| LakeState::from_object(current, ports.now()))?;
    lake.check_unchanged(time, work)
}
