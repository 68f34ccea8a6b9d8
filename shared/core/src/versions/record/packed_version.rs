//! Version records in the memory that they take in a fragment.

use std::cmp::Ordering;

use super::{FixedSizeRecord, LinePosition, VersionFlags, VersionRecord, join_key, read_words, split_key, write_words};
use crate::versions::key::ResourceKey;

/// The words of a version record as it is stored: without the number of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedVersion([u64; 5]);

impl PackedVersion {
    /// Packs a record.
    pub(super) fn new(record: VersionRecord) -> Self {
        let VersionRecord { key, changed, version, task: _, position, flags } = record;
        let [high, low] = split_key(key);
        Self([high, low, changed.cast_unsigned(), version, position.pack(flags.to_bits())])
    }

    /// Returns the record of a line that `task` has read.
    pub(super) fn unpack(self, task: u32) -> VersionRecord {
        let Self([high, low, changed, version, packed]) = self;
        let (position, flags) = LinePosition::unpack(packed);
        let (key, flags) = (join_key([high, low]), VersionFlags::from_bits(flags));
        VersionRecord { key, changed: changed.cast_signed(), version, task, position, flags }
    }
}

impl Ord for PackedVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.unpack(0).cmp(&other.unpack(0))
    }
}

impl PartialOrd for PackedVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FixedSizeRecord for PackedVersion {
    const BYTES: usize = VersionRecord::BYTES;

    fn key(&self) -> ResourceKey {
        let Self([high, low, ..]) = *self;
        join_key([high, low])
    }

    fn write(&self, to: &mut Vec<u8>) {
        write_words(self.0, to);
    }

    fn read(bytes: &[u8], _: u32) -> Self {
        Self(read_words(bytes))
    }
}
