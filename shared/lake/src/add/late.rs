//! Finds the changes that an addition brings at or before the watermark of the lake. The watermark has promised that all of them were there:
//! clients have read increments up to it, and ask for later changes only.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use headrace_core::lake::line::LakeLine;
use headrace_core::versions::record::{change_time, deletion_time};
use headrace_core::vocab::clock::Millis;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::instant::Instant;

use super::input::list_objects;
use super::known_versions::id_and_rank;
use super::lake_objects::read_object;
use super::names::NameHasher;
use super::receipt::current_watermark;
use super::report::LateChanges;
use super::{AddError, Addition};
use crate::pool::for_each_item;
use crate::sorting::{RecordSorter, SortRecord, SortedRecords, read_array};
use crate::writing::LakeLock;

impl Addition<'_> {
    /// Creates a collector for each thread. Folders of the lake without a watermark have no late changes.
    ///
    /// * `folders`: the folders of the lake that the addition writes to, empty or ending in `/`.
    pub(super) fn late_collectors(&self, lake: &LakeLock, folders: impl IntoIterator<Item = String>) -> Vec<LateCollector> {
        let rewrite = &self.settings.rewrite;
        let watched = |name: String| Some(WatchedFolder { complete_up_to: current_watermark(lake, &name, rewrite.now)?, name });
        let folders: Arc<[WatchedFolder]> = folders.into_iter().filter_map(watched).collect();
        let collector = |_| LateCollector {
            names: NameHasher::new(&rewrite.seed),
            folders: folders.clone(),
            sorter: RecordSorter::new(&rewrite.temp_folder, rewrite.sort_bytes / 4 / rewrite.workers()),
            temp_folder: rewrite.temp_folder.clone(),
            has_late: false,
        };
        (0..rewrite.workers()).map(collector).collect()
    }

    /// Counts the late changes of an addition that is not visible yet. Reads the lake if there may be some: a version that it has is none.
    pub(super) fn count_late_changes(&self, lake: &LakeLock, collectors: Vec<LateCollector>) -> Result<Vec<LateChanges>, AddError> {
        let Some(folders) = collectors.iter().find(|collector| collector.has_late).map(|collector| collector.folders.clone()) else {
            return Ok(Vec::new());
        };
        let objects = list_objects(lake)?;
        objects.iter().for_each(|object| self.progress.expect(object.size));
        let (progress, large_resources) = (self.progress, &self.large_resources);
        let collectors = for_each_item(&objects, collectors, |collector, _, object| {
            read_object(object, progress, large_resources, |_, line| collector.add_existing(&object.name, line))
        })?;
        let sorters = collectors.into_iter().map(|collector| collector.sorter).collect();
        RecordSorter::finish(sorters).and_then(|versions| count_late(versions, &folders)).map_err(self.temporary())
    }
}

/// A folder of the lake with a watermark.
#[derive(Clone, Debug)]
struct WatchedFolder {
    name: String,
    complete_up_to: Millis,
}

/// A collector of the versions that one thread writes, and of those in the lake.
pub(super) struct LateCollector {
    names: NameHasher,
    folders: Arc<[WatchedFolder]>,
    sorter: RecordSorter<ComparedVersion>,
    temp_folder: PathBuf,
    has_late: bool,
}

impl LateCollector {
    /// Adds a line that is written into a folder of the lake.
    pub(super) fn add_written(&mut self, folder: &str, line: &[u8]) -> Result<(), AddError> {
        let index = self.folders.iter().position(|watched| watched.name == folder);
        index.map_or(Ok(()), |index| self.add_line((index, true), line))
    }

    /// Adds a line of an object of the lake.
    fn add_existing(&mut self, object: &str, line: &[u8]) -> Result<(), AddError> {
        let containing = self.folders.iter().enumerate().filter(|(_, watched)| object.starts_with(watched.name.as_str()));
        let index = containing.max_by_key(|(_, watched)| watched.name.len()).map(|(index, _)| index);
        index.map_or(Ok(()), |index| self.add_line((index, false), line))
    }

    /// Adds the versions and deletions of a line.
    ///
    /// * `place`: the index of the folder, and true for a line of the addition.
    fn add_line(&mut self, place: (usize, bool), line: &[u8]) -> Result<(), AddError> {
        match LakeLine::parse(line) {
            LakeLine::Resource(head, identity) => {
                let text = std::str::from_utf8(line).unwrap_or_default();
                let Some((id, rank)) = id_and_rank(identity, text) else { return Ok(()) };
                self.push(place, (head.resource_type, id.as_str()), (change_time(head.last_updated), rank), false)
            }
            LakeLine::Deletions(deletions) => deletions.iter().try_for_each(|deletion| {
                let resource = (deletion.resource_type, &*deletion.id);
                self.push(place, resource, (deletion_time(deletion.deleted_at), 0), true)
            }),
            LakeLine::Outcome | LakeLine::Rejected(_) => Ok(()),
        }
    }

    /// Adds a version or a deletion of a resource.
    fn push(
        &mut self,
        (folder, is_added): (usize, bool),
        (kind, id): (ResourceType, &str),
        (changed, rank): (i64, u64),
        is_deletion: bool,
    ) -> Result<(), AddError> {
        let Some(watched) = self.folders.get(folder) else { return Ok(()) };
        let limit = Instant::from_millis(watched.complete_up_to.0).nanos();
        let version = ComparedVersion {
            key: self.names.resource(&watched.name, kind, id),
            changed,
            rank,
            is_added,
            is_deletion,
            // A resource without a time is in every export.
            is_late: is_added && changed > change_time(None) && changed <= limit,
            kind,
            folder: folder as u64,
        };
        self.has_late |= version.is_late;
        self.sorter.push(version).map_err(|cause| AddError::Temporary { folder: self.temp_folder.clone(), cause })
    }
}

/// A version of a resource, or a deletion. Those of a resource sort from the oldest to the newest, in the order of exports. Of equal ones
/// that of the lake comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ComparedVersion {
    key: u128,
    changed: i64,
    rank: u64,
    is_added: bool,
    is_deletion: bool,
    /// True if the addition brings it, and it is not later than the watermark.
    is_late: bool,
    kind: ResourceType,
    /// The index of the folder.
    folder: u64,
}

impl SortRecord for ComparedVersion {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.key.to_be_bytes());
        to.extend_from_slice(&self.changed.to_be_bytes());
        to.extend_from_slice(&self.rank.to_be_bytes());
        to.extend_from_slice(&self.folder.to_be_bytes());
        let kind = self.kind.as_str();
        to.extend([self.is_added, self.is_deletion, self.is_late].map(u8::from));
        to.push(u8::try_from(kind.len()).unwrap_or_default());
        to.extend_from_slice(kind.as_bytes());
    }

    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(key) = read_array(from)?.map(u128::from_be_bytes) else { return Ok(None) };
        let changed = read_array(from)?.map(i64::from_be_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let rank = read_array(from)?.map(u64::from_be_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let folder = read_array(from)?.map(u64::from_be_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let [is_added, is_deletion, is_late, length]: [u8; 4] = read_array(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut name = vec![0; usize::from(length)];
        from.read_exact(&mut name)?;
        let kind = std::str::from_utf8(&name).ok().and_then(ResourceType::parse).ok_or(io::ErrorKind::InvalidData)?;
        let (is_added, is_deletion, is_late) = (is_added == 1, is_deletion == 1, is_late == 1);
        Ok(Some(Self { key, changed, rank, is_added, is_deletion, is_late, kind, folder }))
    }
}

/// Counts the late changes of all resources, by folder.
fn count_late(versions: SortedRecords<ComparedVersion>, folders: &[WatchedFolder]) -> io::Result<Vec<LateChanges>> {
    let mut found: Vec<LateChanges> = folders.iter().map(|watched| LateChanges::new(&watched.name, watched.complete_up_to)).collect();
    let mut count = |resource: &[ComparedVersion]| {
        let Some(late) = late_change(resource) else { return };
        let Some(changes) = found.get_mut(usize::try_from(late.folder).unwrap_or(usize::MAX)) else { return };
        let counter = if late.is_deletion { &mut changes.deletions } else { &mut changes.resources };
        *counter.entry(late.kind).or_default() += 1;
    };
    let mut resource: Vec<ComparedVersion> = Vec::new();
    for version in versions {
        let version = version?;
        if resource.last().is_some_and(|last| last.key != version.key) {
            count(&resource);
            resource.clear();
        }
        resource.push(version);
    }
    count(&resource);
    found.retain(|changes| changes.count() > 0);
    Ok(found)
}

/// Returns the state of a resource that a full export shows from now on and increments do not: it is late, and the lake did not have it.
/// `None` if there is no such state. `versions` are all of the resource, from the oldest to the newest.
fn late_change(versions: &[ComparedVersion]) -> Option<ComparedVersion> {
    let newest = |is_deletion| versions.iter().rev().find(|version| version.is_deletion == is_deletion);
    let (resource, deletion) = (newest(false), newest(true));
    let is_deleted = deletion.is_some_and(|deletion| resource.is_none_or(|resource| deletion.changed >= resource.changed));
    let state = if is_deleted { deletion } else { resource }?;
    let is_same =
        |other: &ComparedVersion| (other.is_deletion, other.changed, other.rank) == (state.is_deletion, state.changed, state.rank);
    let mut existing = versions.iter().filter(|version| !version.is_added);
    if !state.is_late || existing.clone().any(is_same) {
        return None;
    }
    // No client has a resource that the lake never had.
    (!state.is_deletion || existing.any(|version| !version.is_deletion)).then_some(*state)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a version or deletion of the lake, or one that is added.
    fn version(changed: i64, is_deletion: bool, is_added: bool) -> ComparedVersion {
        let is_late = is_added && changed <= 5;
        ComparedVersion { key: 1, changed, rank: 0, is_added, is_deletion, is_late, kind: ResourceType::PATIENT, folder: 0 }
    }

    #[test]
    fn a_late_change_is_a_new_state_that_no_increment_shows() {
        let (old, new) = (|changed| version(changed, false, false), |changed| version(changed, false, true));
        let (deleted, deletion) = (|changed| version(changed, true, false), |changed| version(changed, true, true));
        for (versions, expected) in [
            (vec![new(3)], Some(3)),
            (vec![new(5)], Some(5)),
            (vec![new(6)], None),
            (vec![old(3), new(3)], None),
            (vec![old(2), new(3)], Some(3)),
            (vec![new(3), old(4)], None),
            (vec![new(3), old(6)], None),
            (vec![new(3), new(6)], None),
            (vec![new(3), deleted(4)], None),
            (vec![deleted(2), new(3)], Some(3)),
            (vec![old(2), deletion(3)], Some(3)),
            (vec![deletion(3)], None),
            (vec![old(2), deleted(3), deletion(3)], None),
            (vec![old(2), deletion(6)], None),
            (vec![old(2), deletion(3), old(4)], None),
            (vec![old(2)], None),
            (Vec::new(), None),
        ] {
            assert_eq!(late_change(&versions).map(|late| late.changed), expected, "{versions:?}");
        }
    }

    #[test]
    fn a_version_is_read_as_it_was_written() {
        let versions = [version(-7, false, true), version(i64::MAX, true, false)];
        let mut bytes = Vec::new();
        versions.iter().for_each(|version| version.write(&mut bytes));
        let mut rest = bytes.as_slice();
        for version in versions {
            assert_eq!(ComparedVersion::read(&mut rest).unwrap(), Some(version));
        }
        assert_eq!(ComparedVersion::read(&mut rest).unwrap(), None);
    }
}
