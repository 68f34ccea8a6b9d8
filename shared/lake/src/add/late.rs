//! Finds the changes that an addition brings at or before the watermark of the lake. The watermark has promised that all of them were there:
//! clients have read increments up to it, and ask for later changes only.

mod compared_version;

use std::io;
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
use crate::sorting::{RecordSorter, SortedRecords};
use crate::writing::LakeLock;

use compared_version::{ComparedVersion, late_change};

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
