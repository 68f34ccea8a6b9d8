//! What a task holds in memory of the buckets that it goes through.

use std::ops::Range;

use bytes::Bytes;

use super::frame::{Frame, Role};

/// What a frame takes in memory beside its text.
const OVERHEAD_BYTES: usize = 160;

/// The order of all lines of an organized export.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// The position of the patient's block.
    pub position: u64,
    /// The patient's id: several may have one position.
    pub patient: Box<str>,
    role: Role,
    kind: &'static str,
    arrival: u64,
}

/// A line on the shelf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    /// Where it stands.
    pub order: Order,
    /// The line, with its line end.
    pub line: Bytes,
}

/// A bounded heap of lines: of all that are offered, the first ones by their order.
#[derive(Debug)]
pub struct SortBuffer {
    limit_bytes: usize,
    positions: Range<u64>,
    /// This line and all before it are written.
    after: Option<Order>,
    /// This line and those behind it did not fit.
    below: Option<Order>,
    books: Vec<Book>,
    held_bytes: usize,
}

impl SortBuffer {
    /// An empty shelf for lines of these positions, behind `after`.
    pub fn new(limit_bytes: u64, positions: Range<u64>, after: Option<Order>) -> Self {
        let limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        Self { limit_bytes, positions, after, below: None, books: Vec::new(), held_bytes: 0 }
    }

    /// Takes a line if it is one of the first.
    ///
    /// * `arrival`: which frame it is, counted over all that are offered.
    pub fn offer(&mut self, frame: &Frame<'_>, position: u64, arrival: u64) {
        let is_passed = self.after.as_ref().is_some_and(|after| position < after.position);
        if is_passed || !self.positions.contains(&position) || self.below.as_ref().is_some_and(|below| position > below.position) {
            return;
        }
        let order = Order { position, patient: frame.patient.into(), role: frame.role, kind: frame.kind.as_str(), arrival };
        let is_written = self.after.as_ref().is_some_and(|after| order <= *after);
        if is_written || self.below.as_ref().is_some_and(|below| order >= *below) {
            return;
        }
        self.held_bytes += frame.text.len() + OVERHEAD_BYTES;
        self.books.push(Book { order, line: [frame.text, b"\n"].concat().into() });
        if self.held_bytes > self.limit_bytes {
            self.make_room();
        }
    }

    /// Drops the last ones down to three quarters, so that it is not called for each line, but never all.
    fn make_room(&mut self) {
        self.books.sort_unstable_by(|one, other| one.order.cmp(&other.order));
        while self.books.len() > 1 && self.held_bytes > self.limit_bytes / 4 * 3 {
            let Some(last) = self.books.pop() else { return };
            self.held_bytes -= last.line.len() - 1 + OVERHEAD_BYTES;
            self.below = Some(last.order);
        }
    }

    /// The lines in their order, and whether they are all there are.
    pub fn into_sorted(mut self) -> (Vec<Book>, bool) {
        self.books.sort_unstable_by(|one, other| one.order.cmp(&other.order));
        (self.books, self.below.is_none())
    }
}
