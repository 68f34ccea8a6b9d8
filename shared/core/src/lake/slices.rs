//! Recognizes the NDJSON objects of a lake by name, and splits them into tasks.

use std::collections::BTreeMap;

use headrace_fhir::definitions::{ResourceType, TypeSet};

use crate::job::FIRST_READ_TASK;
use crate::job::task::{Encoding, Pin, Slice, Work};

/// Maximum number of slices in a task. Keeps the item of a task well below the 400 kB of DynamoDB.
const SLICES_PER_TASK: usize = 200;

/// Number of objects that are listed before tasks are made of them. Their total size determines the size of tasks.
const OBJECTS_PER_BATCH: usize = 16_384;

/// Number of tasks of a lake with enough files: as many as there may be workers.
const TASKS: u64 = 1_024;

/// Maximum size of a task of such a lake, in output files. A worker on AWS reads and writes it in 15 seconds. The lines at the end of a
/// task, which do not fill a file and are merged later, are a thirtieth of it.
const FILES_PER_TASK: u64 = 16;

/// Number of tasks from which on tasks grow further, and the size to which they grow. It bounds the number of tasks, and so the plan's time.
const MANY_TASKS: u64 = 16_384;

/// Maximum size of a task of any lake, in output files.
const MAX_FILES_PER_TASK: u64 = 64;

/// The part of the lines that large tasks read, in quarters. The rest is read by tasks of a quarter of their size, so that all workers end
/// at about the same time.
const QUARTERS_IN_LARGE_TASKS: u64 = 3;

/// Assumed compression ratio, for grouping small objects into tasks.
const COMPRESSION_RATIO: u64 = 8;

/// Returns true for the name of a file or folder that belongs to another tool or to the file system, such as `.git`, `_delta_log` and
/// `lost+found`. Neither it nor anything below it is read.
pub fn is_foreign(segment: &str) -> bool {
    segment.starts_with(['.', '_']) || ["lost+found", "$RECYCLE.BIN", "System Volume Information"].contains(&segment)
}

/// Returns the compression of an object by its name, or `None` if it is not NDJSON or [`is_foreign`].
pub fn encoding_from_name(object: &str) -> Option<Encoding> {
    if object.split('/').any(is_foreign) {
        return None;
    }
    let (stem, encoding) = [(".gz", Encoding::Gzip), (".zst", Encoding::Zstd)]
        .into_iter()
        .find_map(|(suffix, encoding)| Some((object.strip_suffix(suffix)?, encoding)))
        .unwrap_or((object, Encoding::Plain));
    stem.ends_with(".ndjson").then_some(encoding)
}

/// Returns the resource type in an object's name: `Type*.ndjson`, `Type/…` or `type=Type/…`; the last segment with a type
/// counts. It is only a hint: the `resourceType` of each line decides.
///
/// A folder must be named by the type alone: `Account-7/` is the folder of a customer or of a day, and may hold any type.
pub fn type_from_name(object: &str) -> Option<ResourceType> {
    let mut folders = object.rsplit('/').skip(1);
    type_from_file_name(object).or_else(|| folders.find_map(|folder| ResourceType::parse(folder.strip_prefix("type=").unwrap_or(folder))))
}

/// Returns the resource type in the last segment of an object's name: `Type*.ndjson`.
pub fn type_from_file_name(object: &str) -> Option<ResourceType> {
    let file = object.rsplit('/').next()?;
    let file = file.strip_prefix("type=").unwrap_or(file);
    let end = file.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(file.len());
    file.get(..end).and_then(ResourceType::parse)
}

/// Returns the sort value of an object among those of a lake: objects whose names promise no type, and then those of each type, each by name.
/// Of versions that nothing else distinguishes, an export takes the last one in this order, because it is that of its tasks. Tasks that are
/// full come earlier, so in a large lake the order is certain only between objects of the same type.
pub fn comparison_order(object: &str) -> (Option<ResourceType>, &str) {
    (type_from_name(object), object)
}

/// A planner that splits the objects of a listing into tasks. It keeps only one batch of objects in memory, and a task that is not full for
/// each type.
#[derive(Debug)]
pub struct SlicePlanner {
    file_bytes: u64,
    min_slice_bytes: u64,
    /// Types to read, if names are trusted. Objects named after another type are skipped.
    types_to_read: Option<TypeSet>,
    next_task: u32,
    /// The objects of the current batch.
    batch: Vec<ListedSlice>,
    /// The size of the objects of all batches before, in bytes before compression.
    line_bytes: u64,
    /// The size of a task that is being made, in output files.
    files_per_task: u64,
    /// The slices of the next task of each type, according to the names of the objects. Types take turns in lakes with a folder for each
    /// day, and each of their objects may be small.
    incomplete: BTreeMap<Option<ResourceType>, TaskSlices>,
    ready: Vec<(u32, Work)>,
    source_bytes: u64,
}

/// An object of the listing as one slice.
#[derive(Debug)]
struct ListedSlice {
    slice: Slice,
    resource_type: Option<ResourceType>,
}

impl ListedSlice {
    /// Returns the size before compression, in bytes.
    fn line_bytes(&self) -> u64 {
        let stored = self.slice.end - self.slice.start;
        match self.slice.encoding {
            Encoding::Plain => stored,
            Encoding::Gzip | Encoding::Zstd => stored.saturating_mul(COMPRESSION_RATIO),
        }
    }
}

/// The slices of the next task.
#[derive(Debug, Default)]
struct TaskSlices {
    slices: Vec<Slice>,
    bytes: u64,
}

impl TaskSlices {
    /// Returns true if a slice of `bytes` bytes must go to another task, because it would bring the size of this one further from
    /// `limit_bytes`, or because this one has too many slices.
    fn is_full_for(&self, slices: usize, bytes: u64, limit_bytes: u64) -> bool {
        !self.slices.is_empty() && (self.bytes + bytes / 2 > limit_bytes || self.slices.len() + slices > SLICES_PER_TASK)
    }
}

impl SlicePlanner {
    /// Creates a planner.
    ///
    /// * `file_bytes`: target size of output files.
    /// * `min_slice_bytes`: minimum size of a slice of a larger object.
    /// * `types_to_read`: skips objects whose names hold a type outside this set.
    pub fn new(file_bytes: u64, min_slice_bytes: u64, types_to_read: Option<TypeSet>) -> Self {
        Self {
            file_bytes: file_bytes.max(1),
            min_slice_bytes,
            types_to_read,
            next_task: FIRST_READ_TASK,
            batch: Vec::new(),
            line_bytes: 0,
            files_per_task: 1,
            incomplete: BTreeMap::new(),
            ready: Vec::new(),
            source_bytes: 0,
        }
    }

    /// Adds the next object of the listing. Ignores objects that are empty, are not NDJSON, or have an unwanted type in their name.
    ///
    /// * `arrived_after_since`: copied to the slices.
    pub fn add_object(&mut self, pin: Pin, arrived_after_since: bool) {
        let Some(encoding) = encoding_from_name(&pin.object).filter(|_| self.reads(&pin)) else { return };
        let resource_type = type_from_name(&pin.object);
        self.source_bytes += pin.size;
        let end = pin.size;
        self.batch.push(ListedSlice { slice: Slice { pin, encoding, start: 0, end, arrived_after_since }, resource_type });
        if self.batch.len() >= OBJECTS_PER_BATCH {
            self.cut_batch();
        }
    }

    /// Cuts the objects of the batch into slices and adds them to read tasks.
    fn cut_batch(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let batch_bytes: u64 = batch.iter().map(ListedSlice::line_bytes).sum();
        self.line_bytes += batch_bytes;
        let (large, small) = self.task_sizes();
        let mut cut_bytes = 0;
        for listed in batch {
            self.files_per_task = if cut_bytes < batch_bytes / 4 * QUARTERS_IN_LARGE_TASKS { large } else { small };
            cut_bytes += listed.line_bytes();
            self.cut(listed);
        }
    }

    /// Returns the sizes of large and of small tasks of a lake of this size, in output files.
    ///
    /// A lake for few tasks has a task for each file. The more there are, the larger they become, because each leaves lines that do not fill
    /// a file.
    fn task_sizes(&self) -> (u64, u64) {
        let files = self.line_bytes / self.file_bytes;
        let large = (files / TASKS).min(FILES_PER_TASK).max(files / MANY_TASKS).clamp(1, MAX_FILES_PER_TASK);
        // With so many tasks, each worker gets several anyway.
        let small = if large > FILES_PER_TASK { large } else { (large / 4).max(1) };
        (large, small)
    }

    /// Cuts an object into slices and adds them to read tasks. A compressed one cannot be cut.
    fn cut(&mut self, listed: ListedSlice) {
        let line_bytes = listed.line_bytes();
        let ListedSlice { slice: whole, resource_type } = listed;
        match whole.encoding {
            Encoding::Gzip | Encoding::Zstd => self.add_slice(resource_type, whole, line_bytes),
            Encoding::Plain => {
                let mut start = 0;
                while start < whole.end {
                    let end = whole.end.min(start + self.slice_bytes());
                    self.add_slice(resource_type, Slice { start, end, ..whole.clone() }, end - start);
                    start = end;
                }
            }
        }
    }

    /// Returns true if the object is read: it is NDJSON, not empty, and has no unwanted type in its name.
    pub fn reads(&self, pin: &Pin) -> bool {
        let types = self.types_to_read.zip(type_from_name(&pin.object));
        let is_unwanted = types.is_some_and(|(types, resource_type)| !types.contains(resource_type));
        pin.size > 0 && !is_unwanted && encoding_from_name(&pin.object).is_some()
    }

    /// Removes and returns the tasks that are full so far, with their numbers.
    pub fn take_ready(&mut self) -> Vec<(u32, Work)> {
        std::mem::take(&mut self.ready)
    }

    /// Continues a listing whose objects so far are all in tasks.
    #[must_use]
    pub fn continued(self, next_task: u32, source_bytes: u64) -> Self {
        Self { next_task, source_bytes, line_bytes: source_bytes, ..self }
    }

    /// Returns the number of the next task, and the size of the objects so far in bytes. They describe the listing so far only after
    /// [`Self::flush_tasks`].
    pub fn position(&self) -> (u32, u64) {
        (self.next_task, self.source_bytes)
    }

    /// Turns the slices that are left of all types into tasks. Slices of several types share a task if it has room.
    pub fn flush_tasks(&mut self) {
        self.cut_batch();
        let mut shared = TaskSlices::default();
        for (_, rest) in std::mem::take(&mut self.incomplete) {
            if shared.is_full_for(rest.slices.len(), rest.bytes, self.slice_bytes()) {
                self.finish_task(std::mem::take(&mut shared));
            }
            shared.bytes += rest.bytes;
            shared.slices.extend(rest.slices);
        }
        self.finish_task(shared);
    }

    /// Returns the remaining tasks, the total number of tasks, and the total size of the objects in bytes.
    pub fn finish(mut self) -> (Vec<(u32, Work)>, u32, u64) {
        self.flush_tasks();
        (self.ready, self.next_task - FIRST_READ_TASK, self.source_bytes)
    }

    /// Returns the size of a slice: slightly more than a multiple of the file size, so that a fully exported slice leaves only a
    /// small fragment.
    fn slice_bytes(&self) -> u64 {
        let file_count = self.min_slice_bytes.div_ceil(self.file_bytes).max(self.files_per_task);
        self.file_bytes.saturating_mul(file_count).saturating_add((self.file_bytes / 64).max(1))
    }

    /// Adds a slice of `bytes` bytes to the next task of its type. If the task would become too large, starts another one.
    fn add_slice(&mut self, resource_type: Option<ResourceType>, slice: Slice, bytes: u64) {
        let limit_bytes = self.slice_bytes();
        let task = self.incomplete.entry(resource_type).or_default();
        let full = task.is_full_for(1, bytes, limit_bytes).then(|| std::mem::take(task));
        task.bytes += bytes;
        task.slices.push(slice);
        if let Some(full) = full {
            self.finish_task(full);
        }
    }

    /// Adds a read task of these slices to the ready tasks. Does nothing if there are no slices.
    fn finish_task(&mut self, task: TaskSlices) {
        if !task.slices.is_empty() {
            self.ready.push((self.next_task, Work::Read(task.slices)));
            self.next_task += 1;
        }
    }
}

#[cfg(test)]
mod tests;
