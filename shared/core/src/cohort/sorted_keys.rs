//! An immutable set of resource keys with fast lookup.

use crate::versions::key::ResourceKey;

/// Average number of keys in a bucket of the lookup table.
const KEYS_PER_BUCKET: usize = 4;

/// Sorted keys with a table of the first index for each prefix of bits. A lookup touches two cache lines, where a binary
/// search among a million keys touches twenty.
#[derive(Clone, Debug, Default)]
pub struct SortedKeys {
    keys: Vec<ResourceKey>,
    /// Index of the first key of each bucket, and the number of keys. Empty if there are no keys.
    bucket_starts: Vec<u32>,
    /// Number of bits to shift a key to the right to get its bucket.
    shift: u32,
}

impl SortedKeys {
    /// Creates the set of `keys`, given in any order.
    pub fn new(mut keys: Vec<ResourceKey>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        keys.shrink_to_fit();
        if keys.is_empty() {
            return Self::default();
        }
        let bits = (keys.len() / KEYS_PER_BUCKET).max(2).ilog2();
        let shift = u128::BITS - bits;
        let mut bucket_starts = Vec::with_capacity((1 << bits) + 1);
        for (index, key) in (0..).zip(&keys) {
            while bucket_starts.len() <= bucket(*key, shift) {
                bucket_starts.push(index);
            }
        }
        bucket_starts.resize((1 << bits) + 1, u32::try_from(keys.len()).unwrap_or(u32::MAX));
        Self { keys, bucket_starts, shift }
    }

    /// Returns true if the set contains `key`.
    pub fn contains(&self, key: ResourceKey) -> bool {
        self.index_of(key).is_some()
    }

    /// Returns the index of `key` in sort order, or `None` if the set does not contain it.
    pub fn index_of(&self, key: ResourceKey) -> Option<usize> {
        let bucket = bucket(key, self.shift);
        let start = *self.bucket_starts.get(bucket)? as usize;
        let keys = self.keys.get(start..*self.bucket_starts.get(bucket + 1)? as usize)?;
        Some(start + keys.binary_search(&key).ok()?)
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns true if the set is empty.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Iterates over the keys in sort order.
    pub fn iter(&self) -> impl Iterator<Item = ResourceKey> + use<'_> {
        self.keys.iter().copied()
    }
}

#[cfg(test)]
impl SortedKeys {
    /// Returns the memory that the keys and their index take, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<ResourceKey>() + self.bucket_starts.capacity() * size_of::<u32>()
    }
}

/// Returns the index of the bucket that a key belongs to: its bits above `shift`.
fn bucket(key: ResourceKey, shift: u32) -> usize {
    usize::try_from(key.0 >> shift).unwrap_or(usize::MAX)
}
