//! Compares the ids of the lake with those of the server, to find what was deleted on a server without a history.
//!
//! A resource of the lake that a listing of the server's ids does not have is a candidate. It counts as deleted only if the server says so
//! when it is asked for the candidate: the pages of a server without isolation may skip resources.
//!
//! The cursor has a stage as its item: the listing, with the number of its parts that are recorded, then the requests for candidates, with
//! the number of candidates that were asked for.

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::instant::Instant;
use headrace_fhir::semantics::deletion::deletion_bundle;

use crate::job::file::OutputKind;
use crate::job::sync::{FetchTask, SyncRecord};
use crate::job::task::{Cursor, Lease, TaskCompletion};
use crate::job::{Counters, ExportError};
use crate::lines::checkpoint::OpenCheckpoint;
use crate::ports::AllPorts;
use crate::versions::key::ResourceKeyHasher;
use crate::vocab::clock::Millis;

use super::super::heartbeat::send_heartbeat_if_due;
use super::super::settings::WorkerSettings;
use super::super::task_end::{TaskEnd, complete_task};
use super::confirm::Confirmation;
use super::deletions::end_without_deletions;
use super::fetch::{RECORDED, commit};
use super::lake_ids::{existing_keys, ids_of, objects_of};
use super::listing::{Listing, ListingProgress};
use super::pages::{PageError, PageReader};
use super::progress::{read_progress, record_progress, recorded_fragments};

/// The remark about the times of deletions.
const DELETION_TIMES: &str = "the comparison of ids does not show when resources were deleted: the lake has them as deleted as of its new \
                              watermark, also those that the server deleted after that moment, within the lag or while the synchronization ran";

/// The item of the cursor while the ids of the server are listed.
const LISTING: u32 = 0;

/// The item of the cursor while the server is asked for candidates.
const CONFIRMING: u32 = 1;

/// Runs a task that compares the ids of a type, from its cursor to its end, or until `stop_at`. If the ids cannot be compared, the deletions
/// of the type stay unknown.
pub(super) async fn run_reconcile_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
    (fetch, to): (&FetchTask, Millis),
) -> Result<TaskEnd, ExportError> {
    let mut pages = PageReader { ports, lease, settings, stop_at };
    match reconcile(&mut pages, fetch, to).await {
        Ok(()) => complete_task(ports, lease, TaskCompletion::Done).await,
        Err(error) => end_without_deletions(ports, lease, settings, (fetch.resource_type, "the ids cannot be compared"), error).await,
    }
}

/// Runs the stages that are left.
async fn reconcile<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, fetch: &FetchTask, to: Millis) -> Result<(), PageError> {
    if pages.lease.cursor.item == LISTING {
        find_candidates(pages, fetch).await?;
    }
    if pages.lease.cursor.item == CONFIRMING {
        confirm_candidates(pages, fetch.resource_type, to).await?;
    }
    Ok(())
}

/// Lists the ids of the server, and records the candidates.
async fn find_candidates<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, fetch: &FetchTask) -> Result<(), PageError> {
    let kind = fetch.resource_type;
    let hasher = ResourceKeyHasher::from_job(&pages.lease.job.id);
    let objects = objects_of(pages, kind).await?;
    let mut missing = existing_keys(pages, kind, &objects, &hasher).await?;
    let mut listing = Listing::default();
    for fragment in recorded_fragments(pages, OutputKind::SyncProgress).await? {
        let (progress, ids) = read_progress(pages, &fragment).await?;
        for id in &ids {
            missing.remove(&hasher.key(kind, id.as_bytes()));
        }
        listing = Listing::resume(progress);
        send_heartbeat_if_due(pages.ports, pages.lease, pages.settings.lease.duration).await?;
    }
    while !listing.progress.position.is_complete && !missing.is_empty() {
        let end = listing.read_some(pages, fetch, &hasher, &mut missing).await;
        // What was listed before an error is recorded, too: the next attempt continues behind it.
        if let Some(ids) = listing.take_listed() {
            let cursor = Cursor { item: LISTING, offset: pages.lease.cursor.offset + 1 };
            record_progress(pages, kind, (&listing.progress, &ids), cursor).await?;
        }
        end?;
    }
    let candidates = if missing.is_empty() { Vec::new() } else { ids_of(pages, kind, &objects, (&hasher, &missing)).await? };
    Ok(record_progress(pages, kind, (&listing.progress, &candidates), Cursor { item: CONFIRMING, offset: 0 }).await?)
}

/// Asks the server for the candidates, and records the deletions. Their number is known at the end.
async fn confirm_candidates<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, kind: ResourceType, to: Millis) -> Result<(), PageError> {
    let fragments = recorded_fragments(pages, OutputKind::SyncProgress).await?;
    let (progress, candidates) = match fragments.last() {
        Some(fragment) => read_progress(pages, fragment).await?,
        None => (ListingProgress::default(), Vec::new()),
    };
    let mut confirmation = Confirmation::new(kind, progress.witnesses, candidates.len());
    let mut asked = usize::try_from(pages.lease.cursor.offset).unwrap_or(usize::MAX);
    while asked < candidates.len() {
        let (start, mut deleted) = (asked, Vec::new());
        let end = confirmation.ask_some(pages, &candidates, &mut asked, &mut deleted).await;
        if asked > start {
            let cursor = Cursor { item: CONFIRMING, offset: asked as u64 };
            record_deletions(pages, (kind, &deleted, to), SyncRecord::new(kind), cursor).await?;
        }
        end?;
    }
    let recorded = recorded_fragments(pages, OutputKind::Deleted).await?;
    let total = recorded.iter().map(|fragment| fragment.summary.lines).sum();
    let remark = (total > 0).then(|| DELETION_TIMES.to_owned());
    let record = SyncRecord { deletions: Some(total), is_reconciled: true, remark, ..SyncRecord::new(kind) };
    Ok(record_deletions(pages, (kind, &[], to), record, RECORDED).await?)
}

/// Records deletions with the cursor after them (rule P5).
async fn record_deletions<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    (kind, ids, to): (ResourceType, &[String], Millis),
    record: SyncRecord,
    cursor: Cursor,
) -> Result<(), ExportError> {
    let mut checkpoint = OpenCheckpoint::new(pages.ports.output(), pages.lease);
    if !ids.is_empty() {
        checkpoint.append(OutputKind::Deleted, deletion_lines(kind, ids, to).into(), ids.len() as u64).await?;
    }
    commit(pages.ports, pages.lease, pages.settings, checkpoint, (&record, Counters::default()), cursor).await
}

/// Returns the lines of the deletions. When the server deleted the resources is not known: after all their versions of the lake, and perhaps
/// after `to`. An export of everything must not have them, so the deletions are just before `to`.
fn deletion_lines(kind: ResourceType, ids: &[String], to: Millis) -> String {
    let at = Instant::from_millis(to.0.saturating_sub(1));
    ids.iter().map(|id| deletion_bundle(kind, id, Some(at)) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_just_before_the_end_of_the_synchronization() {
        let text = deletion_lines(ResourceType::PATIENT, &["a".to_owned(), "b".to_owned()], Millis(1_769_846_400_000));
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("Patient/a") && text.contains("2026-01-31T07:59:59.999Z"), "{text}");
    }
}
