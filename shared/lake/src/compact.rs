//! Replaces the objects of a lake in a directory or a bucket by new ones with the newest version of each resource, while exports may be running.
//!
//! The new objects appear first. The old ones stay until every export that may have pinned them has ended: a marker names them, and a
//! later run removes them. In between an export finds a resource in both, which is harmless unless it exports each line.

mod links;
mod selection;
mod superseded;
mod versions;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use headrace_core::flow::export_time::determine_export_time;
use headrace_core::job::task::{Pin, Slice};
use headrace_core::lake::line::LakeLine;
use headrace_core::lake::slices::{SlicePlanner, comparison_order, type_from_name};
use headrace_core::ports::ResourceSource;
use headrace_core::versions::key::ResourceKeyHasher;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::SourceError;
use headrace_core::vocab::ids::JobId;
use headrace_core::vocab::lake_settings::LakeWatermark;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::semantics::deletion::deletion_bundle;
use tokio::runtime::Handle;

use crate::pool::for_each_item;
use crate::progress::Progress;
use crate::reading::read_slice;
use crate::sorting::{GroupedRecords, RecordSorter};
use crate::writing::{LakeBucket, LakeLines, LakeLock, LineSink, LockClock, RewriteSettings, Staging, WriteError};

pub use superseded::{waiting_objects, waiting_objects_in};

use links::FolderLinks;
use selection::{KeptVersions, StayingObjects, keep_newest};
use superseded::SupersededObjects;
use versions::{CompactedVersion, KeptLine, VersionReader};

/// The size of a slice of a large object, in bytes.
const SLICE_BYTES: u64 = 64 << 20;

/// The stored size of a full object, in bytes. Lakes whose objects have about this size need not be rewritten for it.
const FULL_OBJECT_BYTES: u64 = 32 << 20;

/// Settings of a compaction.
#[derive(Clone, Debug)]
pub struct CompactSettings {
    /// The time for which old objects stay: the longest that an export may take.
    pub export_deadline: Duration,
    /// True to remove old objects at once: no export is running.
    pub removes_now: bool,
    /// The moment up to which the lake is complete, as exports are told.
    pub watermark: LakeWatermark,
    /// The time, the memory and the threads.
    pub rewrite: RewriteSettings,
}

/// The result of a compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactReport {
    /// The number of objects that were replaced, and their stored size.
    pub replaced: ObjectCount,
    /// The number of objects that were written, and their stored size.
    pub written: ObjectCount,
    /// The number of old objects that were removed, and their stored size.
    pub removed: ObjectCount,
    /// The number of old objects that wait, and their stored size.
    pub waiting: ObjectCount,
    /// The time at which all waiting objects can be removed.
    pub removable_at: Option<Millis>,
    /// The number of objects that stay because they have lines that are not valid.
    pub kept_objects: u64,
    /// The number of objects that stay because they have a version that differs in nothing but its position from one in another object that
    /// stays.
    pub tied_objects: u64,
    /// The number of objects that stay because they are reached through a link to a folder.
    pub linked_objects: u64,
    /// The number of lines with a resource before.
    pub versions_before: u64,
    /// The number of lines with a resource after.
    pub versions_after: u64,
    /// The number of deletions before and after.
    pub deletions: (u64, u64),
}

/// A number of objects, and their stored size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectCount {
    /// The number of objects.
    pub objects: u64,
    /// The stored size, in bytes.
    pub bytes: u64,
}

impl ObjectCount {
    /// Adds an object.
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// The reason why a lake was not compacted.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The lake cannot be read.
    #[error(transparent)]
    Lake(#[from] SourceError),
    /// The lake cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A temporary file cannot be written or read.
    #[error("temporary files in `{}` cannot be used; free space there, or set TMPDIR", .folder.display())]
    Temporary {
        /// The folder.
        folder: PathBuf,
        /// The error of the file system.
        #[source]
        cause: io::Error,
    },
}

/// Compacts the lake in the directory `root`, which `source` reads. Blocks; call it outside the threads of the runtime.
pub fn compact<S: ResourceSource>(
    source: &S,
    root: &Path,
    settings: &CompactSettings,
    progress: &Arc<Progress>,
    runtime: &Handle,
) -> Result<CompactReport, CompactError> {
    runtime.block_on(source.check())?;
    compact_locked(source, &LakeLock::lock(root)?, settings, progress, runtime)
}

/// Compacts the lake in a bucket, which `source` reads, too. New objects wait in the folder of temporary files until all are complete.
pub fn compact_bucket<S: ResourceSource>(
    source: &S,
    (bucket, clock): (Arc<dyn LakeBucket>, LockClock),
    settings: &CompactSettings,
    progress: &Arc<Progress>,
    runtime: &Handle,
) -> Result<CompactReport, CompactError> {
    runtime.block_on(source.check())?;
    let lake = LakeLock::lock_bucket(bucket, &settings.rewrite.temp_folder, clock)?;
    compact_locked(source, &lake, settings, progress, runtime)
}

/// Compacts a lake that is locked.
fn compact_locked<S: ResourceSource>(
    source: &S,
    lake: &LakeLock,
    settings: &CompactSettings,
    progress: &Arc<Progress>,
    runtime: &Handle,
) -> Result<CompactReport, CompactError> {
    let compaction = Compaction { source, settings, progress, runtime };
    let mut report = CompactReport::default();
    let staging = Staging::begin(lake, &format!("compact-{}", settings.rewrite.now.compact()))?;
    let mut superseded = SupersededObjects::read(lake)?;
    let mut links = FolderLinks::new(lake.root());
    // What a link leads to may belong to others.
    let (linked, pins): (Vec<Pin>, Vec<Pin>) = compaction.list()?.into_iter().partition(|pin| links.lead_to(&pin.object));
    report.linked_objects = linked.len() as u64;
    superseded.remove_expired(lake, &pins, settings, &mut report)?;
    let linked = links.without_aliases(linked, &pins);
    let pins: Vec<Pin> = pins.into_iter().filter(|pin| !superseded.contains(pin)).collect();
    pins.iter().for_each(|pin| progress.expect(2 * pin.size));
    linked.iter().for_each(|pin| progress.expect(pin.size));
    let (own_slices, linked_slices) = (slices(&pins, 0), slices(&linked, pins.len()));
    let mut read = compaction.read_versions(&[own_slices.as_slice(), &linked_slices].concat())?;
    read.invalid_objects.retain(|object| *object < pins.len());
    let staying = StayingObjects { invalid: &read.invalid_objects, first_linked: pins.len() };
    let objects = pins.len() + linked.len();
    let kept = keep_newest(read.sorters, (&staying, objects), settings, read.complete_up_to, &mut report);
    let KeptVersions { lines: kept, dropped, tied } = kept.map_err(compaction.temporary())?;
    (report.kept_objects, report.tied_objects) = (read.invalid_objects.len() as u64, tied.len() as u64);
    if dropped == 0 && !has_small_objects(&pins) {
        staging.discard()?;
        return Ok(report);
    }
    let kept = GroupedRecords::write(kept, pins.len(), &settings.rewrite.temp_folder).map_err(compaction.temporary())?;
    let lines = LakeLines::new(&staging);
    compaction.write_kept(&own_slices, &kept, &lines)?;
    let mut files = lines.finish(settings.rewrite.now)?;
    for (staged, _) in &files {
        report.written.add(staging.size(staged)?);
    }
    let is_replaced = |index: &usize| !read.invalid_objects.contains(index) && !tied.contains(index);
    let replaced: Vec<&Pin> = (0..).zip(&pins).filter(|(index, _)| is_replaced(index)).map(|(_, pin)| pin).collect();
    replaced.iter().for_each(|pin| report.replaced.add(pin.size));
    files.push(superseded::stage_marker(&staging, &replaced, settings.rewrite.now)?);
    staging.commit(&files)?;
    let mut superseded = SupersededObjects::read(lake)?;
    let pins: Vec<Pin> = replaced.into_iter().cloned().collect();
    superseded.remove_expired(lake, &pins, settings, &mut report)?;
    Ok(report)
}

/// Returns the slices of all objects, each with the index of its object. The indexes begin at `first`.
fn slices(pins: &[Pin], first: usize) -> Vec<(usize, Slice)> {
    let mut slices = Vec::new();
    for (index, pin) in (first..).zip(pins) {
        let mut planner = SlicePlanner::new(SLICE_BYTES, SLICE_BYTES, None);
        planner.add_object(pin.clone(), false);
        let (tasks, ..) = planner.finish();
        slices.extend(tasks.into_iter().flat_map(|(_, work)| work.into_slices()).map(|slice| (index, slice)));
    }
    slices
}

/// Returns true if the lake has clearly more objects than it needs.
fn has_small_objects(pins: &[Pin]) -> bool {
    let types = pins.iter().map(|pin| type_from_name(&pin.object)).collect::<BTreeSet<_>>();
    let bytes: u64 = pins.iter().map(|pin| pin.size).sum();
    pins.len() as u64 > 2 * (types.len() as u64 + bytes / FULL_OBJECT_BYTES)
}

/// A compaction that is running.
struct Compaction<'a, S> {
    source: &'a S,
    settings: &'a CompactSettings,
    progress: &'a Arc<Progress>,
    runtime: &'a Handle,
}

/// The versions of a lake.
struct ReadVersions {
    sorters: Vec<RecordSorter<CompactedVersion>>,
    /// The objects with lines that are not valid, by their index. They stay.
    invalid_objects: BTreeSet<usize>,
    /// The moment up to which exports read now. A version that is later is not exported yet, and must not replace one that is.
    complete_up_to: Millis,
}

impl<S: ResourceSource> Compaction<'_, S> {
    /// Returns a function that makes an error about temporary files.
    fn temporary(&self) -> impl Fn(io::Error) -> CompactError + use<S> {
        let folder = self.settings.rewrite.temp_folder.clone();
        move |cause| CompactError::Temporary { folder: folder.clone(), cause }
    }

    /// Lists the objects with data, in the order in which exports compare versions that nothing else distinguishes.
    fn list(&self) -> Result<Vec<Pin>, CompactError> {
        let planner = SlicePlanner::new(SLICE_BYTES, SLICE_BYTES, None);
        let (mut pins, mut after) = (Vec::new(), None);
        loop {
            let page = self.runtime.block_on(self.source.list(after.as_deref()))?;
            if let Some(archived) = page.archived.into_iter().find(|archived| planner.reads(&archived.pin)) {
                return Err(SourceError::Archived { object: archived.pin.object, storage_class: archived.storage_class }.into());
            }
            pins.extend(page.objects.into_iter().map(|listed| listed.pin).filter(|pin| planner.reads(pin)));
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        pins.sort_by(|one, other| comparison_order(&one.object).cmp(&comparison_order(&other.object)));
        Ok(pins)
    }

    /// Reads the versions of all resources.
    fn read_versions(&self, slices: &[(usize, Slice)]) -> Result<ReadVersions, CompactError> {
        let time = determine_export_time(self.source, self.settings.watermark, self.settings.rewrite.now);
        let complete_up_to = self.runtime.block_on(time)?.transaction_time;
        let keys = ResourceKeyHasher::from_job(&JobId::from_random(self.settings.rewrite.seed));
        let workers = self.settings.rewrite.workers();
        let reader = || {
            let sorter = RecordSorter::new(&self.settings.rewrite.temp_folder, self.settings.rewrite.sort_bytes / workers);
            VersionReader::new(keys.clone(), sorter)
        };
        let temporary = self.temporary();
        let readers = for_each_item(slices, (0..workers).map(|_| reader()).collect(), |reader, _, (object, slice)| {
            let read = read_slice(self.source, slice, self.progress, |line| reader.add_line(*object, line).map_err(&temporary));
            self.runtime.block_on(read).map(drop)
        })?;
        let mut read = ReadVersions { sorters: Vec::new(), invalid_objects: BTreeSet::new(), complete_up_to };
        for reader in readers {
            read.invalid_objects.extend(reader.invalid_objects);
            read.sorters.push(reader.sorter);
        }
        Ok(read)
    }

    /// Writes the lines that are kept.
    fn write_kept(&self, slices: &[(usize, Slice)], kept: &GroupedRecords<KeptLine>, lines: &LakeLines<'_>) -> Result<(), CompactError> {
        let temporary = self.temporary();
        let sinks = for_each_item(slices, self.settings.rewrite.sinks(lines)?, |sink, _, (object, slice)| {
            let mut kept = kept.of_group(*object).peekable();
            let read = read_slice(self.source, slice, self.progress, |line| {
                while let Some(next) = kept.next_if(|next| next.as_ref().map_or(true, |next| next.offset <= line.offset)) {
                    let next = next.map_err(&temporary)?;
                    if next.offset == line.offset {
                        write_line(sink, line.text.unwrap_or_default(), next.entry)?;
                    }
                }
                Ok::<_, CompactError>(())
            });
            self.runtime.block_on(read).map(drop)
        })?;
        for mut sink in sinks {
            sink.flush()?;
        }
        Ok(())
    }
}

/// Writes a resource, or one entry of a Bundle of deletions.
fn write_line(sink: &mut LineSink<'_>, text: &[u8], entry: u32) -> Result<(), CompactError> {
    match LakeLine::parse(text) {
        LakeLine::Resource(head, _) => sink.add("", head.resource_type, text)?,
        LakeLine::Deletions(deletions) => {
            if let Some(deletion) = usize::try_from(entry).ok().and_then(|entry| deletions.get(entry)) {
                let bundle = deletion_bundle(deletion.resource_type, &deletion.id, deletion.deleted_at);
                sink.add("", ResourceType::BUNDLE, bundle.as_bytes())?;
            }
        }
        // Neither has a version that could be kept.
        LakeLine::Outcome | LakeLine::Rejected(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
