//! What was seen of an object or an array.

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

/// The members of an object that were seen.
#[derive(Default)]
pub(super) struct Seen([u64; 4]);

impl Seen {
    /// Whether it is the first of its kind; also not, if there is no place for it.
    pub(super) fn is_first(&mut self, index: usize) -> bool {
        let Some(word) = self.0.get_mut(index / 64) else { return false };
        let bit = 1 << (index % 64);
        let is_first = *word & bit == 0;
        *word |= bit;
        is_first
    }
}
