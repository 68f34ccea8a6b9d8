//! Collects lines by type and writes them as compressed objects.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use headrace_core::vocab::clock::Millis;
use headrace_fhir::definitions::ResourceType;

use super::{Staging, WriteError};

/// The size at which an object is closed and the next one begins, in stored bytes.
const OBJECT_BYTES: u64 = 32 << 20;

/// The lines of one type that are compressed together, in bytes.
const FRAME_BYTES: usize = 512 << 10;

/// The level of compression: the default of `zstd`.
const LEVEL: i32 = 3;

/// The number from which names no longer sort by their numbers.
const MAX_NUMBER: u64 = 1_000_000;

/// The folder in the lake, empty or ending in `/`, and the type of lines.
type LineKey = (String, ResourceType);

/// The objects of a run, one open for each type. Threads share it.
#[derive(Debug)]
pub struct LakeLines<'s> {
    staging: &'s Staging<'s>,
    objects: Mutex<Objects>,
}

/// The objects that a run has created.
#[derive(Debug, Default)]
struct Objects {
    open: BTreeMap<LineKey, OpenObject>,
    /// The staged names of closed objects.
    closed: Vec<(LineKey, String)>,
    created: u64,
}

/// The name of an object that a run writes: its time, and its number among those of this time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RunName {
    time: String,
    number: u64,
}

impl RunName {
    /// Returns the first name of a run that sorts behind all these, which are in a folder. Exports take the last of versions that nothing else
    /// distinguishes, so the order of names is that of runs, also within a second, and if the clock was set back.
    fn behind_all(names: &[String], time: Millis) -> Self {
        let mut first = Self { time: time.compact(), number: 1 };
        for name in names {
            if let Some(found) = Self::parse(name).filter(|found| *found >= first) {
                first = Self { number: found.number + 1, ..found };
            }
        }
        first
    }

    /// Parses the name of an object. `None` if no run has written it.
    fn parse(name: &str) -> Option<Self> {
        let (time, number) = name.strip_suffix(".ndjson.zst")?.split_once('-')?;
        let is_right = |(index, byte): (usize, u8)| if index == 8 { byte == b'T' } else { byte.is_ascii_digit() };
        let is_time = time.len() == 15 && time.bytes().enumerate().all(is_right);
        let number = number.parse::<u64>().ok().filter(|number| *number < MAX_NUMBER)?;
        is_time.then(|| Self { time: time.to_owned(), number })
    }
}

/// An object to which lines are appended.
#[derive(Debug)]
struct OpenObject {
    staged: String,
    file: File,
    bytes: u64,
}

impl<'s> LakeLines<'s> {
    /// Creates a writer without objects.
    pub fn new(staging: &'s Staging<'s>) -> Self {
        Self { staging, objects: Mutex::default() }
    }

    /// Returns the part of the writer for one thread.
    ///
    /// * `memory_bytes`: the size of lines in memory.
    pub fn sink(&self, memory_bytes: usize) -> Result<LineSink<'_>, WriteError> {
        let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(WriteError::at(self.staging.lake().root()))?;
        Ok(LineSink { lines: self, compressor, buffers: HashMap::new(), buffered: 0, memory_bytes })
    }

    /// Closes all objects. Returns their staged and final names: `<Type>/<time>-<number>.ndjson.zst`. In its folder each sorts behind all
    /// names that earlier runs have written.
    pub(crate) fn finish(self, time: Millis) -> Result<Vec<(String, String)>, WriteError> {
        let staging = self.staging;
        let mut objects = self.objects.into_inner().unwrap_or_else(PoisonError::into_inner);
        while let Some((key, object)) = objects.open.pop_first() {
            objects.close(staging, key, object)?;
        }
        let mut next = BTreeMap::<LineKey, RunName>::new();
        let mut names = Vec::new();
        for (key, staged) in objects.closed {
            let (folder, kind) = &key;
            let name = match next.remove(&key) {
                Some(name) => name,
                None => RunName::behind_all(&staging.lake().file_names(&format!("{folder}{kind}"))?, time),
            };
            names.push((staged, format!("{folder}{kind}/{}-{:06}.ndjson.zst", name.time, name.number)));
            next.insert(key, RunName { number: name.number + 1, ..name });
        }
        names.sort_by(|one, other| one.1.cmp(&other.1));
        Ok(names)
    }

    /// Appends a compressed frame to the open object of its type.
    fn append(&self, key: &LineKey, frame: &[u8]) -> Result<(), WriteError> {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let mut object = match objects.open.remove(key) {
            Some(object) => object,
            None => objects.create(self.staging)?,
        };
        let written = self.staging.fault().pass().and_then(|()| object.file.write_all(frame));
        written.map_err(WriteError::at(self.staging.lake().root()))?;
        object.bytes += frame.len() as u64;
        if object.bytes >= OBJECT_BYTES {
            objects.close(self.staging, key.clone(), object)
        } else {
            objects.open.insert(key.clone(), object);
            Ok(())
        }
    }
}

impl Objects {
    /// Creates an object.
    fn create(&mut self, staging: &Staging<'_>) -> Result<OpenObject, WriteError> {
        self.created += 1;
        let staged = format!("{}.ndjson.zst", self.created);
        let file = staging.create(&staged)?;
        Ok(OpenObject { staged, file, bytes: 0 })
    }

    /// Closes an object, so that its content survives a power failure.
    fn close(&mut self, staging: &Staging<'_>, key: LineKey, object: OpenObject) -> Result<(), WriteError> {
        staging.fault().pass().and_then(|()| object.file.sync_all()).map_err(WriteError::at(staging.lake().root()))?;
        self.closed.push((key, object.staged));
        Ok(())
    }
}

/// The lines of one thread that are not written yet.
pub struct LineSink<'l> {
    lines: &'l LakeLines<'l>,
    compressor: zstd::bulk::Compressor<'static>,
    buffers: HashMap<LineKey, Vec<u8>>,
    buffered: usize,
    memory_bytes: usize,
}

impl LineSink<'_> {
    /// Adds a line without its line end, which must have no line feed.
    ///
    /// * `folder`: the folder in the lake, empty or ending in `/`.
    pub fn add(&mut self, folder: &str, kind: ResourceType, line: &[u8]) -> Result<(), WriteError> {
        // Most lines find their buffer. Only the first of a type makes a key that stays.
        let key = (folder.to_owned(), kind);
        let buffer = self.buffers.entry(key).or_default();
        buffer.extend_from_slice(line);
        buffer.push(b'\n');
        self.buffered += line.len() + 1;
        if buffer.len() >= FRAME_BYTES {
            return self.write(&(folder.to_owned(), kind));
        }
        if self.buffered >= self.memory_bytes
            && let Some(largest) = self.buffers.iter().max_by_key(|(_, buffer)| buffer.len()).map(|(key, _)| key.clone())
        {
            return self.write(&largest);
        }
        Ok(())
    }

    /// Writes all lines.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        let keys: Vec<LineKey> = self.buffers.keys().cloned().collect();
        keys.iter().try_for_each(|key| self.write(key))
    }

    /// Writes the lines of one type.
    fn write(&mut self, key: &LineKey) -> Result<(), WriteError> {
        let Some(buffer) = self.buffers.get_mut(key).filter(|buffer| !buffer.is_empty()) else { return Ok(()) };
        self.buffered -= buffer.len();
        let frame: io::Result<Vec<u8>> = self.compressor.compress(buffer);
        let frame = frame.map_err(WriteError::at(self.lines.staging.lake().root()))?;
        // A long line must not keep its memory.
        if buffer.capacity() > 4 * FRAME_BYTES {
            *buffer = Vec::new();
        } else {
            buffer.clear();
        }
        self.lines.append(key, &frame)
    }
}
