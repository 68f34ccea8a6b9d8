//! The layouts of a lake, and how it is cut into tasks.

use headrace_fhir::{ResourceType, TypeSet};

use crate::job::task::{Encoding, Pin, Slice, Work};

/// The most slices in one task: its item stays well under DynamoDB's 400 kB.
const SLICES_PER_TASK: usize = 200;

/// After this many tasks, the next ones are made twice as large: a lake of any size is some thousands of tasks, and
/// closing them does not wear out the job's item.
const TASKS_PER_DOUBLING: u32 = 1_024;

/// A compressed object weighs this many times its stored size when small files are put together.
const EXPANSION: u64 = 8;

/// How an object is stored, by its name; `None` if it is no NDJSON. Names of files or folders that begin with `.` or
/// `_` are other tools' notes.
pub fn encoding_of(object: &str) -> Option<Encoding> {
    if object.split('/').any(|segment| segment.starts_with(['.', '_'])) {
        return None;
    }
    let (stem, encoding) = [(".gz", Encoding::Gzip), (".zst", Encoding::Zstd)]
        .into_iter()
        .find_map(|(suffix, encoding)| Some((object.strip_suffix(suffix)?, encoding)))
        .unwrap_or((object, Encoding::Plain));
    stem.ends_with(".ndjson").then_some(encoding)
}

/// The type that an object's name promises: `Type*.ndjson`, `Type/…` or `type=Type/…`, the innermost name deciding.
/// A promise only: what counts is each line's own `resourceType`.
pub fn promised_type(object: &str) -> Option<ResourceType> {
    object.rsplit('/').find_map(|segment| {
        let name = segment.strip_prefix("type=").unwrap_or(segment);
        let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
        ResourceType::named(name.get(..end)?)
    })
}

/// Cuts a listing into tasks, object by object in the listing's order, with no more memory than one batch.
#[derive(Debug)]
pub struct Cutter {
    file_bytes: u64,
    floor_bytes: u64,
    /// Where names are trusted, objects that promise another type are passed over.
    only: Option<TypeSet>,
    next_task: u32,
    group: Group,
    ready: Vec<(u32, Work)>,
    source_bytes: u64,
}

#[derive(Debug, Default)]
struct Group {
    kind: Option<ResourceType>,
    slices: Vec<Slice>,
    weight: u64,
}

impl Cutter {
    /// * `file_bytes`: the size at which output files roll.
    /// * `floor_bytes`: no slice is planned smaller than this.
    /// * `only`: trust names, and pass over objects that promise a type outside this set.
    pub fn new(file_bytes: u64, floor_bytes: u64, only: Option<TypeSet>) -> Self {
        // Tasks 0 and 1 plan and finish.
        Self { file_bytes: file_bytes.max(1), floor_bytes, only, next_task: 2, group: Group::default(), ready: Vec::new(), source_bytes: 0 }
    }

    /// Takes the next object.
    pub fn push(&mut self, pin: Pin) {
        let Some(encoding) = encoding_of(&pin.object) else { return };
        let kind = promised_type(&pin.object);
        let is_unwanted = self.only.zip(kind).is_some_and(|(only, kind)| !only.contains(kind));
        if pin.size == 0 || is_unwanted {
            return;
        }
        self.source_bytes += pin.size;
        if self.group.kind != kind {
            self.close_group();
            self.group.kind = kind;
        }
        match encoding {
            Encoding::Gzip | Encoding::Zstd => {
                let end = pin.size;
                self.add(Slice { pin, encoding, start: 0, end }, end.saturating_mul(EXPANSION));
            }
            Encoding::Plain => {
                let mut start = 0;
                while start < pin.size {
                    let end = pin.size.min(start + self.slice_bytes());
                    self.add(Slice { pin: pin.clone(), encoding, start, end }, end - start);
                    start = end;
                }
            }
        }
    }

    /// Tasks that are complete by now.
    pub fn ready(&mut self) -> Vec<(u32, Work)> {
        std::mem::take(&mut self.ready)
    }

    /// The last tasks, the number of all tasks, and the bytes they read.
    pub fn finish(mut self) -> (Vec<(u32, Work)>, u32, u64) {
        self.close_group();
        (self.ready, self.next_task - 2, self.source_bytes)
    }

    /// Slices are a little longer than whole files, so that a slice read in full fills its files and leaves a short tail.
    fn slice_bytes(&self) -> u64 {
        let files = 1 << (self.next_task / TASKS_PER_DOUBLING).min(6);
        let files = self.floor_bytes.div_ceil(self.file_bytes).max(files);
        self.file_bytes.saturating_mul(files).saturating_add((self.file_bytes / 64).max(1))
    }

    fn add(&mut self, slice: Slice, weight: u64) {
        let is_full = self.group.weight + weight > self.slice_bytes() || self.group.slices.len() >= SLICES_PER_TASK;
        if is_full {
            self.close_group();
        }
        self.group.weight += weight;
        self.group.slices.push(slice);
    }

    fn close_group(&mut self) {
        self.group.weight = 0;
        let slices = std::mem::take(&mut self.group.slices);
        if !slices.is_empty() {
            self.ready.push((self.next_task, Work::Read(slices)));
            self.next_task += 1;
        }
    }
}

#[cfg(test)]
mod tests;
