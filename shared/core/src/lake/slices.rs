//! Recognizes the NDJSON objects of a lake by name, and splits them into tasks.

use std::collections::BTreeMap;

use headrace_fhir::definitions::{ResourceType, TypeSet};

use crate::job::FIRST_READ_TASK;
use crate::job::task::{Encoding, Pin, Slice, Work};

/// Maximum number of slices in a task. Keeps the item of a task well below the 400 kB of DynamoDB.
const SLICES_PER_TASK: usize = 200;

/// Number of tasks after which slices double in size. It bounds the number of tasks, and so of updates of the job's item, for
/// lakes of any size.
const TASKS_PER_DOUBLING: u32 = 1_024;

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

/// A planner that splits the objects of a listing into tasks. It keeps only the tasks of one batch in memory, and a task that is not full
/// for each type.
#[derive(Debug)]
pub struct SlicePlanner {
    file_bytes: u64,
    min_slice_bytes: u64,
    /// Types to read, if names are trusted. Objects named after another type are skipped.
    types_to_read: Option<TypeSet>,
    next_task: u32,
    /// The slices of the next task of each type, according to the names of the objects. Types take turns in lakes with a folder for each
    /// day, and each of their objects may be small.
    incomplete: BTreeMap<Option<ResourceType>, TaskSlices>,
    ready: Vec<(u32, Work)>,
    source_bytes: u64,
}

/// The slices of the next task.
#[derive(Debug, Default)]
struct TaskSlices {
    slices: Vec<Slice>,
    bytes: u64,
}

impl TaskSlices {
    /// Returns true if a slice of `bytes` bytes must go to another task, because this one would have more than `limit_bytes` or too many
    /// slices.
    fn is_full_for(&self, slices: usize, bytes: u64, limit_bytes: u64) -> bool {
        !self.slices.is_empty() && (self.bytes + bytes > limit_bytes || self.slices.len() + slices > SLICES_PER_TASK)
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
            incomplete: BTreeMap::new(),
            ready: Vec::new(),
            source_bytes: 0,
        }
    }

    /// Cuts the next object of the listing into slices and adds them to read tasks. Ignores objects that are empty, are not NDJSON, or
    /// have an unwanted type in their name.
    ///
    /// * `arrived_after_since`: copied to the slices.
    pub fn add_object(&mut self, pin: Pin, arrived_after_since: bool) {
        let Some(encoding) = encoding_from_name(&pin.object).filter(|_| self.reads(&pin)) else { return };
        let resource_type = type_from_name(&pin.object);
        self.source_bytes += pin.size;
        match encoding {
            Encoding::Gzip | Encoding::Zstd => {
                let end = pin.size;
                let slice = Slice { pin, encoding, start: 0, end, arrived_after_since };
                self.add_slice(resource_type, slice, end.saturating_mul(COMPRESSION_RATIO));
            }
            Encoding::Plain => {
                let mut start = 0;
                while start < pin.size {
                    let end = pin.size.min(start + self.slice_bytes());
                    self.add_slice(resource_type, Slice { pin: pin.clone(), encoding, start, end, arrived_after_since }, end - start);
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
        Self { next_task, source_bytes, ..self }
    }

    /// Returns the number of the next task, and the size of the objects so far in bytes. They describe the listing so far only after
    /// [`Self::flush_tasks`].
    pub fn position(&self) -> (u32, u64) {
        (self.next_task, self.source_bytes)
    }

    /// Turns the slices that are left of all types into tasks. Slices of several types share a task if it has room.
    pub fn flush_tasks(&mut self) {
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
        let file_count = 1 << (self.next_task / TASKS_PER_DOUBLING).min(6);
        let file_count = self.min_slice_bytes.div_ceil(self.file_bytes).max(file_count);
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
