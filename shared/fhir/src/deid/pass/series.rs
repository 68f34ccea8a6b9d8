//! What was seen of an object or an array.

use std::ops::Range;

/// Members or items: which of them stay.
pub(super) struct Series {
    /// Where the last one ended, or the bracket before the first.
    pub(super) end: usize,
    pub(super) has_any: bool,
}

/// A point to go back to when all that came behind it turns out to be nothing.
pub(super) struct Mark {
    pub(super) written: usize,
    pub(super) from: usize,
}

/// What was seen of an object.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) members: Indexes,
    /// Those with an underscore before their names.
    pub(super) siblings: Indexes,
    /// Of a resource, `resourceType`.
    pub(super) has_type: bool,
    pub(super) has_value: bool,
    /// Of a resource, where its `meta` was written.
    pub(super) meta: Option<Range<usize>>,
}

/// A set of members. No type has more than there is place for; what has no place counts as there.
#[derive(Default)]
pub(super) struct Indexes([u64; 4]);

impl Indexes {
    /// Adds a member; whether it was not there before.
    pub(super) fn adds(&mut self, index: usize) -> bool {
        let Some(word) = self.0.get_mut(index / 64) else { return false };
        let bit = 1 << (index % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}
