//! A hash table for names that are known at start-up. Comparing two machine words decides nearly every lookup.

/// A value that is looked up by its name.
pub(crate) trait HasName {
    /// Returns the name, which is unique within a table.
    fn name(&self) -> &'static str;
}

/// A table of values by name.
#[derive(Debug)]
pub(crate) struct NameTable<T> {
    entries: Vec<(NameKey, T)>,
    /// Slots of the hash table: 0, or the index of an entry plus one. The number of slots is a power of two and at least twice the
    /// number of entries.
    slots: Vec<u16>,
}

impl<T: HasName> NameTable<T> {
    /// Creates a table of `values`.
    pub(crate) fn new(values: impl IntoIterator<Item = T>) -> Self {
        let entries: Vec<_> = values.into_iter().map(|value| (NameKey::new(value.name()), value)).collect();
        let count = (entries.len() * 2).next_power_of_two();
        let mut slots = vec![0; count];
        for (number, (key, _)) in (1..).zip(&entries) {
            let mut slot = key.hash();
            // Ends, because there are more slots than entries.
            while slots.get(slot % count).is_some_and(|number| *number != 0) {
                slot += 1;
            }
            if let Some(free) = slots.get_mut(slot % count) {
                *free = number;
            }
        }
        Self { entries, slots }
    }

    /// Returns the value with this name.
    #[inline]
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        let key = NameKey::new(name);
        let mut slot = key.hash();
        loop {
            let number = *self.slots.get(slot & (self.slots.len() - 1))?;
            let (entry_key, value) = self.entries.get(usize::from(number.checked_sub(1)?))?;
            // The key holds all bytes of a name of up to 16 bytes; longer names have to be compared.
            if *entry_key == key && (name.len() <= 16 || value.name() == name) {
                return Some(value);
            }
            slot += 1;
        }
    }

    /// Returns the value at an index of the original order.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> Option<&T> {
        self.entries.get(index).map(|(_, value)| value)
    }

    /// Returns all values in their original order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, value)| value)
    }
}

/// The length of a name and its first and last eight bytes, which are all bytes of a name of up to 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NameKey {
    length: usize,
    first: u64,
    last: u64,
}

impl NameKey {
    /// Creates the key of `name`.
    #[inline]
    fn new(name: &str) -> Self {
        let bytes = name.as_bytes();
        let (first, last) = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            (None, _) | (_, None) => match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
                (Some(first), Some(last)) => (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()),
                (None, _) | (_, None) => (bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
            },
        };
        Self { length: bytes.len(), first, last }
    }

    /// Returns a hash of the key.
    #[inline]
    fn hash(self) -> usize {
        // A multiplication mixes all bits into the upper half.
        let mixed = (self.first ^ self.last.rotate_left(29)).wrapping_add(self.length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as usize
    }
}
