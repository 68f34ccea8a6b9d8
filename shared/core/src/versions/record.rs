//! What a reading task **notes** about the lines that it met: small records of one size, by which resources are compared
//! across the whole lake without reading it again.
//!
//! Notes and links lie in tails, sorted by [`ResourceKey`]. Keys are hashes, so the notes of a range of resources stand at about
//! the same fraction of every tail.

use bytes::Bytes;
use headrace_fhir::Instant;

use crate::versions::key::ResourceKey;

/// Notes and links of this size must be recorded before more are taken. It bounds memory.
const NOTEBOOK_LIMIT_BYTES: usize = 16 << 20;

/// Where a line begins, within its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64);

impl Place {
    /// So many bits tell the offset: 16 TiB after decompression, more than an object can have.
    const OFFSET_BITS: u32 = 44;

    /// So many bits are left beside a place.
    const SPARE_BITS: u32 = 12;

    /// * `item`: which of the task's slices, at most 256.
    /// * `offset`: byte of the object, counted after decompression.
    pub fn new(item: u32, offset: u64) -> Self {
        Self(u64::from(item & 0xff) << Self::OFFSET_BITS | offset & ((1 << Self::OFFSET_BITS) - 1))
    }

    /// Which of the task's slices.
    pub fn item(self) -> u32 {
        u32::try_from(self.0 >> Self::OFFSET_BITS).unwrap_or_default()
    }

    /// Byte of the object.
    pub fn offset(self) -> u64 {
        self.0 & ((1 << Self::OFFSET_BITS) - 1)
    }

    /// The place and a few bits in one word.
    pub(crate) fn with(self, bits: u8) -> u64 {
        self.0 << Self::SPARE_BITS | u64::from(bits)
    }

    /// Reads what [`Self::with`] wrote.
    pub(crate) fn split(word: u64) -> (Self, u8) {
        (Self(word >> Self::SPARE_BITS), (word & 0xff) as u8)
    }
}

/// What is known of one version of a resource, or of one deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VersionFlags {
    /// It says that the resource was deleted.
    pub is_deletion: bool,
    /// The request selects it by what it says itself. Of a deletion: the request asks for it.
    pub is_selected: bool,
    /// It lies in the compartments that the export is about.
    pub is_member: bool,
    /// It is exported only if another resource asks for it.
    pub is_candidate: bool,
}

impl VersionFlags {
    fn bits(self) -> u8 {
        let facts = [self.is_deletion, self.is_selected, self.is_member, self.is_candidate];
        (0..).zip(facts).map(|(at, fact)| u8::from(fact) << at).sum()
    }

    fn of(bits: u8) -> Self {
        let has = |at: u8| bits >> at & 1 == 1;
        Self { is_deletion: has(0), is_selected: has(1), is_member: has(2), is_candidate: has(3) }
    }
}

/// One version of a resource, or one deletion. Notes of a resource are ordered from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionRecord {
    /// Which resource.
    pub key: ResourceKey,
    /// When it changed; see [`changed`] and [`deleted`].
    pub changed: i64,
    /// Its version among those of one moment, see [`version_rank`]; of a deletion, the entry of the Bundle.
    pub version: u64,
    /// The task that met it. Not written: it is in the tail's name.
    pub task: u32,
    /// Its line.
    pub place: Place,
    /// What is known of it.
    pub facts: VersionFlags,
}

/// When a version changed: without a readable time it is older than every other.
pub fn changed(at: Option<Instant>) -> i64 {
    at.map_or(i64::MIN, Instant::nanos)
}

/// When a resource was deleted: without a readable time, after every version.
pub fn deleted(at: Option<Instant>) -> i64 {
    at.map_or(i64::MAX, Instant::nanos)
}

/// The order of versions of one moment: by number, else by their first eight bytes.
pub fn version_rank(version_id: Option<&str>) -> u64 {
    let text = version_id.unwrap_or_default();
    text.parse().unwrap_or_else(|_| {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        u64::from_be_bytes(bytes)
    })
}

/// A record of one size, sorted in its tail by a key.
pub trait Record: Copy + Ord {
    /// Its size in a tail.
    const BYTES: usize;

    /// What it is sorted by.
    fn key(&self) -> ResourceKey;

    /// Writes it.
    fn write(&self, to: &mut Vec<u8>);

    /// Reads it from a tail of this task.
    fn read(bytes: &[u8], task: u32) -> Self;
}

/// Sorts records and writes them into what becomes a tail.
pub fn written<T: Record>(mut records: Vec<T>) -> Bytes {
    records.sort_unstable();
    let mut bytes = Vec::with_capacity(records.len() * T::BYTES);
    records.iter().for_each(|record| record.write(&mut bytes));
    bytes.into()
}

fn put<const N: usize>(words: [u64; N], to: &mut Vec<u8>) {
    words.iter().for_each(|word| to.extend_from_slice(&word.to_be_bytes()));
}

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    words.iter_mut().zip(bytes.as_chunks().0).for_each(|(word, bytes)| *word = u64::from_be_bytes(*bytes));
    words
}

fn halves(key: ResourceKey) -> [u64; 2] {
    words(&key.0.to_be_bytes())
}

fn whole([high, low]: [u64; 2]) -> ResourceKey {
    ResourceKey(u128::from(high) << 64 | u128::from(low))
}

impl Record for VersionRecord {
    const BYTES: usize = 40;

    fn key(&self) -> ResourceKey {
        self.key
    }

    fn write(&self, to: &mut Vec<u8>) {
        let [high, low] = halves(self.key);
        put([high, low, self.changed.cast_unsigned(), self.version, self.place.with(self.facts.bits())], to);
    }

    fn read(bytes: &[u8], task: u32) -> Self {
        let [high, low, changed, version, place] = words(bytes);
        let (place, facts) = Place::split(place);
        Self { key: whole([high, low]), changed: changed.cast_signed(), version, task, place, facts: VersionFlags::of(facts) }
    }
}

/// That one resource may bring another into the export. Found with the resource that it comes from, and then looked at
/// with the one that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The resource with which it is looked at now.
    pub at: ResourceKey,
    /// Why it is there.
    pub why: Why,
    /// The task that met the line it was found on.
    pub task: u32,
    /// That line.
    pub place: Place,
    /// The resource at its other end.
    pub other: ResourceKey,
}

/// Why a [`Link`] is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// No link of two: this is how the resource itself stands in the export.
    Standing(VersionFlags),
    /// A resource refers to another that it cannot be understood without.
    Reference,
    /// A Provenance has the other as its target.
    Provenance {
        /// Its `recorded`, as [`changed`] counts.
        recorded: i64,
    },
}

impl Record for Link {
    const BYTES: usize = 56;

    fn key(&self) -> ResourceKey {
        self.at
    }

    fn write(&self, to: &mut Vec<u8>) {
        let (why, more) = match self.why {
            Why::Standing(facts) => (0, u64::from(facts.bits())),
            Why::Reference => (1, 0),
            Why::Provenance { recorded } => (2, recorded.cast_unsigned()),
        };
        let Self { at, other, task, place, .. } = *self;
        let ([at, at_low], [other, other_low]) = (halves(at), halves(other));
        put([at, at_low, other, other_low, place.with(why), more, u64::from(task)], to);
    }

    /// Whose task it is stands in the record: a resolving task hands on links of many tasks.
    fn read(bytes: &[u8], _: u32) -> Self {
        let [at, at_low, other, other_low, place, more, task] = words(bytes);
        let (place, why) = Place::split(place);
        let why = match why {
            0 => Why::Standing(VersionFlags::of((more & 0xff) as u8)),
            1 => Why::Reference,
            _ => Why::Provenance { recorded: more.cast_signed() },
        };
        let task = u32::try_from(task).unwrap_or_default();
        Self { at: whole([at, at_low]), why, task, place, other: whole([other, other_low]) }
    }
}

/// What was noted since the last recorded page.
#[derive(Debug)]
pub struct Notebook {
    /// The task that notes.
    pub task: u32,
    /// Versions and deletions.
    pub notes: Vec<VersionRecord>,
    /// Links.
    pub links: Vec<Link>,
    limit_bytes: usize,
}

impl Notebook {
    /// An empty one.
    pub fn of_task(task: u32) -> Self {
        Self { task, notes: Vec::new(), links: Vec::new(), limit_bytes: NOTEBOOK_LIMIT_BYTES }
    }

    /// Whether it must be recorded before more is noted.
    pub fn is_full(&self) -> bool {
        self.notes.len() * VersionRecord::BYTES + self.links.len() * Link::BYTES >= self.limit_bytes
    }
}

#[cfg(test)]
mod tests;
