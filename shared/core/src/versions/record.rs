//! Records that a read task writes about the lines of the lake: versions of resources, and links between resources. They
//! have a fixed size, so that resources can be compared across the whole lake without reading it again.
//!
//! Records are stored in fragments, sorted by [`ResourceKey`]. Keys are evenly distributed hashes, so a range of keys is found
//! at about the same relative position in every fragment.

use bytes::Bytes;
use headrace_fhir::instant::Instant;

use crate::job::NoticeCounts;
use crate::versions::key::ResourceKey;

mod packed_version;
mod sorted_chunks;

use packed_version::PackedVersion;
use sorted_chunks::SortedChunks;

/// The size of a [`VersionLog`] at which it must be stored before more records are added. It bounds memory.
const VERSION_LOG_LIMIT_BYTES: usize = 16 << 20;

/// The position of a line within its task: slice and offset. Positions sort like the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinePosition(u64);

impl LinePosition {
    /// The number of bits of the offset: 16 TiB after decompression, more than an object can have.
    const OFFSET_BITS: u32 = 44;

    /// The number of bits of a 64-bit word that a position leaves free.
    const SPARE_BITS: u32 = 12;

    /// Creates a position.
    ///
    /// * `slice`: the index of the slice in its task, below 256.
    /// * `offset`: the offset in the object, in decompressed bytes.
    pub fn new(slice: u32, offset: u64) -> Self {
        Self(u64::from(slice & 0xff) << Self::OFFSET_BITS | offset & ((1 << Self::OFFSET_BITS) - 1))
    }

    /// Returns the index of the slice in its task.
    pub fn slice(self) -> u32 {
        u32::try_from(self.0 >> Self::OFFSET_BITS).unwrap_or_default()
    }

    /// Returns the offset in the object, in decompressed bytes.
    pub fn offset(self) -> u64 {
        self.0 & ((1 << Self::OFFSET_BITS) - 1)
    }

    /// Packs the position and 8 additional bits into one word.
    pub(crate) fn pack(self, bits: u8) -> u64 {
        self.0 << Self::SPARE_BITS | u64::from(bits)
    }

    /// Unpacks a word written by [`Self::pack`]: the position, and the additional bits.
    pub(crate) fn unpack(word: u64) -> (Self, u8) {
        (Self(word >> Self::SPARE_BITS), (word & 0xff) as u8)
    }
}

/// The properties of one version of a resource, or of one deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VersionFlags {
    /// True for a deletion of the resource.
    pub is_deletion: bool,
    /// True if its own content matches the request. For a deletion: true if the request asks to report it.
    pub is_selected: bool,
    /// True if it is in the compartments of the export's patients.
    pub is_member: bool,
    /// True if it is exported only when another exported resource requires it.
    pub is_candidate: bool,
    /// True if only `_since` excludes it, although its object arrived after `_since`.
    pub arrived_late: bool,
    /// True for the Patient resource of a patient that the requested group names.
    pub is_group_member: bool,
}

impl VersionFlags {
    /// Returns the flags as the lowest six bits of a byte.
    fn to_bits(self) -> u8 {
        let flags = [self.is_deletion, self.is_selected, self.is_member, self.is_candidate, self.arrived_late, self.is_group_member];
        (0..).zip(flags).map(|(bit, flag)| u8::from(flag) << bit).sum()
    }

    /// Parses the bits of [`Self::to_bits`].
    fn from_bits(bits: u8) -> Self {
        let is_set = |bit: u8| bits >> bit & 1 == 1;
        Self {
            is_deletion: is_set(0),
            is_selected: is_set(1),
            is_member: is_set(2),
            is_candidate: is_set(3),
            arrived_late: is_set(4),
            is_group_member: is_set(5),
        }
    }
}

/// A version of a resource, or a deletion. Records of a resource sort from the oldest to the newest version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionRecord {
    /// The key of the resource.
    pub key: ResourceKey,
    /// The time of the change, from [`change_time`] or [`deletion_time`].
    pub changed: i64,
    /// The rank among versions of the same time, from [`version_rank`]. For a deletion: the index of its entry in the Bundle.
    pub version: u64,
    /// The number of the task that read the line. Not stored in the record: it is part of the fragment's name.
    pub task: u32,
    /// The position of the version's line within the task.
    pub position: LinePosition,
    /// The properties of the version.
    pub flags: VersionFlags,
}

/// Returns the sort value of a version's time. A version without a valid time is older than all others.
pub fn change_time(at: Option<Instant>) -> i64 {
    at.map_or(i64::MIN, Instant::nanos)
}

/// Returns the sort value of a deletion's time. A deletion without a valid time is newer than every version.
pub fn deletion_time(at: Option<Instant>) -> i64 {
    at.map_or(i64::MAX, Instant::nanos)
}

/// Returns the rank of a `meta.versionId` among versions of the same time: its number, or else its first eight bytes.
pub fn version_rank(version_id: Option<&str>) -> u64 {
    let text = version_id.unwrap_or_default();
    text.parse().unwrap_or_else(|_| {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        u64::from_be_bytes(bytes)
    })
}

/// A record of fixed size, sorted by its key within a fragment.
pub trait FixedSizeRecord: Copy + Ord {
    /// The size of a record, in bytes.
    const BYTES: usize;

    /// Returns the key of the resource. Records are sorted by it.
    fn key(&self) -> ResourceKey;

    /// Appends the serialized record to `to`.
    fn write(&self, to: &mut Vec<u8>);

    /// Deserializes a record from a fragment that `task` has written.
    fn read(bytes: &[u8], task: u32) -> Self;

    /// Returns the high bits of the key of a serialized record, which begins with its key.
    fn high_bits_of(bytes: &[u8]) -> u64 {
        let [high] = read_words(bytes);
        high
    }
}

/// Sorts records and serializes them as the content of a fragment.
#[cfg(test)]
pub(crate) fn write_sorted<T: FixedSizeRecord>(records: &[T]) -> Bytes {
    SortedChunks::new(records.to_vec()).flatten().collect()
}

/// Serialized records of one fragment, sorted by key.
pub struct EncodedRecords {
    /// The records.
    pub bytes: Vec<u8>,
    /// The number of the task that has written the fragment.
    pub task: u32,
}

impl EncodedRecords {
    /// Deserializes the records.
    pub fn decode<T: FixedSizeRecord>(&self) -> impl Iterator<Item = T> {
        self.bytes.chunks_exact(T::BYTES).map(|bytes| T::read(bytes, self.task))
    }

    /// Returns the high bits of each key.
    pub fn high_bits<T: FixedSizeRecord>(&self) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator {
        self.bytes.chunks_exact(T::BYTES).map(T::high_bits_of)
    }

    /// Returns the high bits of the first and of the last key. `None` if there is no record.
    pub fn first_and_last_key<T: FixedSizeRecord>(&self) -> Option<(u64, u64)> {
        let mut keys = self.high_bits::<T>();
        let first = keys.next()?;
        Some((first, keys.next_back().unwrap_or(first)))
    }

    /// Removes the records whose keys have other high bits than those that are selected, which must be consecutive.
    pub fn retain_keys<T: FixedSizeRecord>(&mut self, is_selected: impl Fn(u64) -> bool) {
        let is_outside = |high_bits: &u64| !is_selected(*high_bits);
        let before = self.high_bits::<T>().take_while(is_outside).count();
        let after = self.high_bits::<T>().skip(before).rev().take_while(is_outside).count();
        self.bytes.truncate(self.bytes.len() - after * T::BYTES);
        self.bytes.drain(..before * T::BYTES);
    }
}

/// Appends words in big-endian order to `to`.
fn write_words<const N: usize>(words: [u64; N], to: &mut Vec<u8>) {
    to.extend_from_slice(words.map(u64::to_be_bytes).as_flattened());
}

/// Reads words in big-endian order. Missing words are 0.
fn read_words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    words.iter_mut().zip(bytes.as_chunks().0).for_each(|(word, bytes)| *word = u64::from_be_bytes(*bytes));
    words
}

/// Splits a key into its high and its low word.
fn split_key(key: ResourceKey) -> [u64; 2] {
    read_words(&key.0.to_be_bytes())
}

/// Joins the high and the low word of a key.
fn join_key([high, low]: [u64; 2]) -> ResourceKey {
    ResourceKey(u128::from(high) << 64 | u128::from(low))
}

impl FixedSizeRecord for VersionRecord {
    const BYTES: usize = 40;

    fn key(&self) -> ResourceKey {
        self.key
    }

    fn write(&self, to: &mut Vec<u8>) {
        PackedVersion::new(*self).write(to);
    }

    fn read(bytes: &[u8], task: u32) -> Self {
        PackedVersion::read(bytes, task).unpack(task)
    }
}

/// A version record in a file with the records of many tasks, which therefore has the task in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MergedVersionRecord(pub VersionRecord);

impl From<VersionRecord> for MergedVersionRecord {
    fn from(record: VersionRecord) -> Self {
        Self(record)
    }
}

impl From<MergedVersionRecord> for VersionRecord {
    fn from(MergedVersionRecord(record): MergedVersionRecord) -> Self {
        record
    }
}

impl FixedSizeRecord for MergedVersionRecord {
    const BYTES: usize = VersionRecord::BYTES + 8;

    fn key(&self) -> ResourceKey {
        self.0.key
    }

    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        write_words([u64::from(self.0.task)], to);
    }

    fn read(bytes: &[u8], _: u32) -> Self {
        let (record, task) = bytes.split_at_checked(VersionRecord::BYTES).unwrap_or_default();
        let [task] = read_words(task);
        Self(VersionRecord::read(record, u32::try_from(task).unwrap_or_default()))
    }
}

/// A link between two resources: if its source is exported, its target may be too. It is compared first with the version records
/// of its source, and then, reversed, with those of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceLink {
    /// The key of the resource whose version records the link is compared with next.
    pub key: ResourceKey,
    /// The kind of the link.
    pub kind: LinkKind,
    /// The number of the task that read the line with the link.
    pub task: u32,
    /// The position of the line with the link within the task.
    pub position: LinePosition,
    /// The key of the resource at the other end.
    pub other: ResourceKey,
}

/// The kind of a [`ResourceLink`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkKind {
    /// The current version of the resource `key` itself, with its flags. It is not a link.
    CurrentVersion(VersionFlags),
    /// A reference from an exported resource.
    Reference,
    /// A Provenance and its target.
    Provenance {
        /// `Provenance.recorded`, from [`change_time`].
        recorded: i64,
    },
}

impl FixedSizeRecord for ResourceLink {
    const BYTES: usize = 56;

    fn key(&self) -> ResourceKey {
        self.key
    }

    fn write(&self, to: &mut Vec<u8>) {
        let (kind, payload) = match self.kind {
            LinkKind::CurrentVersion(flags) => (0, u64::from(flags.to_bits())),
            LinkKind::Reference => (1, 0),
            LinkKind::Provenance { recorded } => (2, recorded.cast_unsigned()),
        };
        let Self { key, other, task, position, .. } = *self;
        let ([key, key_low], [other, other_low]) = (split_key(key), split_key(other));
        write_words([key, key_low, other, other_low, position.pack(kind), payload, u64::from(task)], to);
    }

    /// Reads a link. The task is part of the record, since a resolve task forwards links of many tasks.
    fn read(bytes: &[u8], _: u32) -> Self {
        let [key, key_low, other, other_low, packed, payload, task] = read_words(bytes);
        let (position, kind) = LinePosition::unpack(packed);
        let kind = match kind {
            0 => LinkKind::CurrentVersion(VersionFlags::from_bits((payload & 0xff) as u8)),
            1 => LinkKind::Reference,
            _ => LinkKind::Provenance { recorded: payload.cast_signed() },
        };
        let task = u32::try_from(task).unwrap_or_default();
        Self { key: join_key([key, key_low]), kind, task, position, other: join_key([other, other_low]) }
    }
}

/// The version records and links that a task has collected since its last checkpoint.
#[derive(Debug)]
pub struct VersionLog {
    /// The number of the task that writes the log.
    pub task: u32,
    /// The records of versions and deletions.
    versions: Vec<PackedVersion>,
    /// The records of links.
    pub links: Vec<ResourceLink>,
    /// Counts of lines that are not recorded, or not by these properties.
    pub notices: NoticeCounts,
    limit_bytes: usize,
}

/// The content of a fragment of records, in chunks.
pub type RecordChunks = Box<dyn Iterator<Item = Bytes> + Send>;

impl VersionLog {
    /// Creates the empty log of a task.
    pub fn new(task: u32) -> Self {
        Self { task, versions: Vec::new(), links: Vec::new(), notices: NoticeCounts::default(), limit_bytes: VERSION_LOG_LIMIT_BYTES }
    }

    /// Adds the record of a version or of a deletion, which this task has read.
    pub fn add_version(&mut self, record: VersionRecord) {
        self.versions.push(PackedVersion::new(record));
    }

    /// Returns the number of versions and deletions.
    pub fn versions(&self) -> usize {
        self.versions.len()
    }

    /// Returns true if the log has no records.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.links.is_empty()
    }

    /// Removes the records of versions and deletions, in the order in which they were added.
    pub fn drain_versions(&mut self) -> impl Iterator<Item = VersionRecord> {
        let task = self.task;
        self.versions.drain(..).map(move |version| version.unpack(task))
    }

    /// Removes the records of versions. Returns the content of a fragment, and the number of records in it.
    ///
    /// The iterators of this and of [`link_chunks`] are not generic. So they are compiled with this crate, which is optimized in every
    /// profile.
    pub fn take_versions(&mut self) -> (RecordChunks, usize) {
        let versions = std::mem::take(&mut self.versions);
        let count = versions.len();
        (Box::new(SortedChunks::new(versions)), count)
    }

    /// Removes the records of links. Returns the content of a fragment, and the number of records in it.
    pub fn take_links(&mut self) -> (RecordChunks, usize) {
        let links = std::mem::take(&mut self.links);
        let count = links.len();
        (link_chunks(links), count)
    }

    /// Returns true if the log must be stored before more records are added.
    pub fn is_full(&self) -> bool {
        self.versions.len() * VersionRecord::BYTES + self.links.len() * ResourceLink::BYTES >= self.limit_bytes
    }
}

/// Sorts links and returns them as the content of a fragment.
pub fn link_chunks(links: Vec<ResourceLink>) -> RecordChunks {
    Box::new(SortedChunks::new(links))
}

#[cfg(test)]
mod tests;
