//! Compares the ids of the lake with those of the server, to find what was deleted on a server without a history.
//!
//! A resource of the lake that a listing of the server's ids does not have counts as deleted only if the answer to a request for it says so
//! (404 or 410): the pages of a server without isolation may skip resources.

use std::collections::{HashMap, HashSet};

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::MemberIndex;
use headrace_fhir::instant::Instant;
use headrace_fhir::semantics::deletion::deletion_bundle;
use headrace_fhir::semantics::id::is_id;

use crate::flow::resolve_patients::scan::{ParsedLine, parse_line};
use crate::job::ExportError;
use crate::job::sync::FetchTask;
use crate::job::task::{Cursor, Lease, Pin, TaskCompletion};
use crate::lake::ndjson::{Segment, lines};
use crate::lake::reader::{LineReader, ReadRequest};
use crate::lake::slices::{encoding_from_name, type_from_name};
use crate::ports::{AllPorts, OriginRequest, ResourceSource as _};
use crate::versions::key::{ResourceKey, ResourceKeyHasher};
use crate::vocab::clock::Millis;

use super::super::heartbeat::send_heartbeat_if_due;
use super::super::settings::WorkerSettings;
use super::super::task_end::{TaskEnd, complete_task};
use super::deletions::{SupplementLines, end_deletions_task};
use super::pages::{PageError, PageReader};
use super::paging::{first_page, follow, parse_page};
use super::queries::listing_query;
use super::verify::matched_id;

/// The largest number of pages of a listing.
const PAGES: usize = 1_000_000;

/// Runs a task that compares the ids of a type. If they cannot be compared, deletions are not known.
pub(super) async fn run_reconcile_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
    (fetch, to): (&FetchTask, Millis),
) -> Result<TaskEnd, ExportError> {
    if lease.cursor >= Cursor::WRITTEN {
        return complete_task(ports, lease, TaskCompletion::Done).await;
    }
    let mut pages = PageReader { ports, lease, settings, stop_at };
    let found = find_deleted(&mut pages, fetch).await.map(|ids| {
        let lines = deletion_lines(fetch.resource_type, &ids, to).into_bytes();
        SupplementLines { deletions: (lines, ids.len() as u64), ..SupplementLines::default() }
    });
    end_deletions_task(ports, lease, settings, (fetch.resource_type, "the ids cannot be compared"), found).await
}

/// Returns the lines of the deletions. When the server deleted them is not known: it was before `to`, and after all versions of the lake.
fn deletion_lines(kind: ResourceType, ids: &[String], to: Millis) -> String {
    let at = Instant::from_millis(to.0.saturating_sub(1));
    ids.iter().map(|id| deletion_bundle(kind, id, Some(at)) + "\n").collect()
}

/// Returns the ids of the resources that the lake has and the server has deleted.
async fn find_deleted<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, fetch: &FetchTask) -> Result<Vec<String>, PageError> {
    let kind = fetch.resource_type;
    let hasher = ResourceKeyHasher::from_job(&pages.lease.job.id);
    let key = |id: &str| hasher.key(kind, id.as_bytes());
    let objects = objects_of(pages, kind).await?;
    let mut newest = HashMap::new();
    read_lake(pages, kind, &objects, |id, event| add_event(&mut newest, key(id), event)).await?;
    let existing = newest.into_iter().filter(|(_, event)| !event.is_deletion).map(|(key, _)| key);
    let mut missing: HashSet<ResourceKey> = existing.collect();
    if !missing.is_empty() {
        remove_listed(pages, fetch, &hasher, &mut missing).await?;
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let mut candidates = HashSet::new();
    read_lake(pages, kind, &objects, |id, _| {
        if missing.contains(&key(id)) && is_id(id) {
            candidates.insert(id.to_owned());
        }
    })
    .await?;
    confirm(pages, kind, candidates).await
}

/// A version or a deletion of a resource in the lake.
#[derive(Clone, Copy)]
struct LakeEvent {
    /// `None` for a version or a deletion without a time.
    at: Option<Instant>,
    is_deletion: bool,
}

/// Keeps the newest event of a resource. One without a time is as old as can be, and a deletion without a time counts always.
fn add_event(newest: &mut HashMap<ResourceKey, LakeEvent>, key: ResourceKey, event: LakeEvent) {
    let is_undated_deletion = |event: &LakeEvent| event.is_deletion && event.at.is_none();
    let known = newest.entry(key).or_insert(event);
    if !is_undated_deletion(known) && (is_undated_deletion(&event) || event.at >= known.at) {
        *known = event;
    }
}

/// Lists the objects of the lake that may have resources of a type, or deletions. A name that says another type is trusted: at worst a
/// deletion is not found.
async fn objects_of<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, kind: ResourceType) -> Result<Vec<Pin>, PageError> {
    let (mut objects, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = pages.ports.source().list(after.as_deref()).await.map_err(ExportError::from)?;
        let may_hold = |pin: &Pin| type_from_name(&pin.object).is_none_or(|named| named == kind || named == ResourceType::BUNDLE);
        let pins = page.objects.into_iter().map(|listed| listed.pin);
        objects.extend(pins.filter(|pin| encoding_from_name(&pin.object).is_some() && may_hold(pin)));
        after = page.next;
        if after.is_none() {
            return Ok(objects);
        }
    }
}

/// Calls `visit` with the id of each version and each deletion of a resource of the type.
async fn read_lake<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    kind: ResourceType,
    objects: &[Pin],
    mut visit: impl FnMut(&str, LakeEvent) + Send,
) -> Result<(), PageError> {
    let mut index = MemberIndex::default();
    for pin in objects {
        let Some(encoding) = encoding_from_name(&pin.object) else { continue };
        let request = ReadRequest { object: pin.object.clone(), encoding, range: 0..pin.size, size: pin.size, offset: 0 };
        let source = pages.ports.source();
        let mut reader = LineReader::open(request, |range| source.read(pin, range));
        while let Some(segment) = reader.next().await.map_err(ExportError::from)? {
            if let Segment::Lines { offset, bytes } = segment {
                for line in lines(&bytes, offset).filter(|line| !line.is_blank()) {
                    visit_line(kind, line.text, &mut index, &mut visit);
                }
            }
            if pages.is_time_up() {
                return Err(PageError::TimeUp);
            }
            send_heartbeat_if_due(pages.ports, pages.lease, pages.settings.lease.duration).await?;
        }
    }
    Ok(())
}

/// Calls `visit` with the resource of a line, if it has the type, or with its deletions.
fn visit_line(kind: ResourceType, line: &[u8], index: &mut MemberIndex, visit: &mut impl FnMut(&str, LakeEvent)) {
    match parse_line(line, index) {
        ParsedLine::Resource(resource) if resource.head.resource_type == kind => {
            visit(&resource.id(), LakeEvent { at: resource.head.last_updated, is_deletion: false });
        }
        ParsedLine::Deletions(deletions) => {
            for deletion in deletions.iter().filter(|deletion| deletion.resource_type == kind) {
                visit(&deletion.id, LakeEvent { at: deletion.deleted_at, is_deletion: true });
            }
        }
        ParsedLine::Resource(_) | ParsedLine::Other => {}
    }
}

/// Removes the resources that the server lists.
async fn remove_listed<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    fetch: &FetchTask,
    hasher: &ResourceKeyHasher,
    missing: &mut HashSet<ResourceKey>,
) -> Result<(), PageError> {
    let query = |spelling| listing_query(fetch.resource_type, fetch.page_size, spelling);
    let (mut page, _) = first_page(pages, query).await?;
    let mut links = HashSet::new();
    loop {
        let parsed = parse_page(&page)?;
        for entry in &parsed.entries {
            if let Some(id) = matched_id(entry) {
                missing.remove(&hasher.key(fetch.resource_type, id.as_bytes()));
            }
        }
        let Some(link) = parsed.next.filter(|_| !missing.is_empty()) else { return Ok(()) };
        follow(&mut links, &link, PAGES)?;
        page = pages.read(OriginRequest::Link { page: &page.url, link: &link }).await?;
    }
}

/// Returns those of the candidates of which the server says that they are gone.
async fn confirm<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    kind: ResourceType,
    candidates: HashSet<String>,
) -> Result<Vec<String>, PageError> {
    let mut deleted = Vec::new();
    for id in candidates {
        match pages.read(OriginRequest::Query(&format!("{kind}/{id}"))).await {
            Ok(_) => {}
            Err(PageError::Rejected(404 | 410, _)) => deleted.push(id),
            Err(error) => return Err(error),
        }
    }
    deleted.sort();
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns true if a resource with these events, in any order, exists: the times in seconds, and whether each is a deletion.
    fn exists(events: &[(Option<u64>, bool)]) -> bool {
        let mut newest = HashMap::new();
        for (second, is_deletion) in events {
            let at = second.map(|second| Instant::from_millis(second * 1_000));
            add_event(&mut newest, ResourceKey(1), LakeEvent { at, is_deletion: *is_deletion });
        }
        newest.values().all(|event| !event.is_deletion)
    }

    #[test]
    fn the_newest_event_of_the_lake_decides_in_any_order() {
        for (events, expected) in [
            (&[(Some(1), false)][..], true),
            (&[(Some(1), false), (Some(2), true)], false),
            (&[(Some(2), true), (Some(3), false)], true),
            (&[(None, false), (Some(2), true)], false),
            (&[(Some(3), false), (None, true)], false),
        ] {
            assert_eq!(exists(events), expected, "{events:?}");
            let reversed: Vec<_> = events.iter().rev().copied().collect();
            assert_eq!(exists(&reversed), expected, "{reversed:?}");
        }
    }

    #[test]
    fn a_deletion_is_just_before_the_end_of_the_synchronization() {
        let text = deletion_lines(ResourceType::PATIENT, &["a".to_owned(), "b".to_owned()], Millis(1_769_846_400_000));
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("Patient/a") && text.contains("2026-01-31T07:59:59.999Z"), "{text}");
    }
}
