//! Reads the ids of the resources that the lake has.

use std::collections::{BTreeSet, HashMap, HashSet};

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::MemberIndex;
use headrace_fhir::instant::Instant;
use headrace_fhir::semantics::id::is_id;

use crate::flow::resolve_patients::scan::{ParsedLine, parse_line};
use crate::job::ExportError;
use crate::job::task::Pin;
use crate::lake::ndjson::{Segment, lines};
use crate::lake::reader::{LineReader, ReadRequest};
use crate::lake::slices::{encoding_from_name, type_from_name};
use crate::ports::{AllPorts, ResourceSource as _};
use crate::versions::key::{ResourceKey, ResourceKeyHasher};

use super::super::heartbeat::send_heartbeat_if_due;
use super::pages::{PageError, PageReader};

/// Returns the keys of the resources of a type whose newest event in these objects is not a deletion.
pub(super) async fn existing_keys<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    kind: ResourceType,
    objects: &[Pin],
    hasher: &ResourceKeyHasher,
) -> Result<HashSet<ResourceKey>, PageError> {
    let mut newest = HashMap::new();
    read_lake(pages, kind, objects, |id, event| add_event(&mut newest, hasher.key(kind, id.as_bytes()), event)).await?;
    Ok(newest.into_iter().filter(|(_, event)| !event.is_deletion).map(|(key, _)| key).collect())
}

/// Returns the ids that these keys stand for, sorted. Ids that FHIR does not allow are left out.
pub(super) async fn ids_of<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    kind: ResourceType,
    objects: &[Pin],
    (hasher, keys): (&ResourceKeyHasher, &HashSet<ResourceKey>),
) -> Result<Vec<String>, PageError> {
    let mut ids = BTreeSet::new();
    read_lake(pages, kind, objects, |id, _| {
        if keys.contains(&hasher.key(kind, id.as_bytes())) && is_id(id) {
            ids.insert(id.to_owned());
        }
    })
    .await?;
    Ok(ids.into_iter().collect())
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
pub(super) async fn objects_of<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, kind: ResourceType) -> Result<Vec<Pin>, PageError> {
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
}
