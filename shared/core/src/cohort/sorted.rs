//! A set of keys that is built once and asked often.

use crate::versions::key::ResourceKey;

/// About so many keys are compared in one look-up.
const KEYS_PER_SLOT: usize = 4;

/// Sorted keys with a table of where those of equal first bits begin: a look-up touches two cache lines, where a binary
/// search among a million touches twenty.
#[derive(Clone, Debug, Default)]
pub struct SortedKeys {
    keys: Vec<ResourceKey>,
    /// For each value of the first bits, where its keys begin; one more at the end. Empty if there are no keys.
    starts: Vec<u32>,
    shift: u32,
}

impl SortedKeys {
    /// The set of these keys, in any order.
    pub fn of(mut keys: Vec<ResourceKey>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        keys.shrink_to_fit();
        if keys.is_empty() {
            return Self::default();
        }
        let bits = (keys.len() / KEYS_PER_SLOT).max(2).ilog2();
        let shift = u128::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (place, key) in (0..).zip(&keys) {
            while starts.len() <= slot(*key, shift) {
                starts.push(place);
            }
        }
        starts.resize((1 << bits) + 1, u32::try_from(keys.len()).unwrap_or(u32::MAX));
        Self { keys, starts, shift }
    }

    /// Whether the key is one of them.
    pub fn contains(&self, key: ResourceKey) -> bool {
        self.place(key).is_some()
    }

    /// Where the key stands among them.
    pub fn place(&self, key: ResourceKey) -> Option<usize> {
        let slot = slot(key, self.shift);
        let start = *self.starts.get(slot)? as usize;
        let near = self.keys.get(start..*self.starts.get(slot + 1)? as usize)?;
        Some(start + near.binary_search(&key).ok()?)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All of them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = ResourceKey> + use<'_> {
        self.keys.iter().copied()
    }
}

#[cfg(test)]
impl SortedKeys {
    pub(super) fn held_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<ResourceKey>() + self.starts.capacity() * size_of::<u32>()
    }
}

fn slot(key: ResourceKey, shift: u32) -> usize {
    usize::try_from(key.0 >> shift).unwrap_or(usize::MAX)
}
