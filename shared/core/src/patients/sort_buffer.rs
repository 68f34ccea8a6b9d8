//! Sorts the lines of blocks with bounded memory, in several passes if necessary.

use std::ops::Range;

use bytes::Bytes;

use super::frame::{Frame, FrameRole};

/// Memory that a line takes in addition to its text, in bytes.
const OVERHEAD_BYTES: usize = 160;

/// The sort key of a line: by position, patient, role, type and order of reading.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineOrder {
    /// Position of the patient's block.
    pub position: u64,
    /// Id of the patient. Several patients can have the same position.
    pub patient: Box<str>,
    role: FrameRole,
    resource_type: &'static str,
    sequence: u64,
}

/// A line in the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortedLine {
    /// Sort key of the line.
    pub order: LineOrder,
    /// Line with its line feed.
    pub line: Bytes,
}

/// A bounded buffer that keeps the first lines, in sort order, of all lines added to it.
///
/// Each pass adds all lines again and writes the next part of them, after the last line of the pass before.
#[derive(Debug)]
pub struct SortBuffer {
    limit_bytes: usize,
    positions: Range<u64>,
    /// Last line that is already written.
    after: Option<LineOrder>,
    /// First line that did not fit.
    overflow: Option<LineOrder>,
    lines: Vec<SortedLine>,
    size_bytes: usize,
}

impl SortBuffer {
    /// Creates an empty buffer.
    ///
    /// * `positions`: keeps only lines of these positions.
    /// * `after`: keeps only lines after this one.
    pub fn new(limit_bytes: u64, positions: Range<u64>, after: Option<LineOrder>) -> Self {
        let limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        Self { limit_bytes, positions, after, overflow: None, lines: Vec::new(), size_bytes: 0 }
    }

    /// Adds the line of a frame. Skips lines outside `positions`, lines that an earlier pass has written, and lines that sort
    /// after the buffer's limit, which a later pass adds.
    ///
    /// * `position`: position of the patient's block.
    /// * `sequence`: number of the frame in the order of reading, the same in each pass.
    pub fn add(&mut self, frame: &Frame<'_>, position: u64, sequence: u64) {
        // Compare positions first: most lines are rejected by them, without allocating the full key.
        let is_before = self.after.as_ref().is_some_and(|after| position < after.position);
        if is_before || !self.positions.contains(&position) || self.overflow.as_ref().is_some_and(|first| position > first.position) {
            return;
        }
        let order =
            LineOrder { position, patient: frame.patient.into(), role: frame.role, resource_type: frame.resource_type.as_str(), sequence };
        let is_written = self.after.as_ref().is_some_and(|after| order <= *after);
        if is_written || self.overflow.as_ref().is_some_and(|first| order >= *first) {
            return;
        }
        self.size_bytes += frame.text.len() + OVERHEAD_BYTES;
        self.lines.push(SortedLine { order, line: [frame.text, b"\n"].concat().into() });
        if self.size_bytes > self.limit_bytes {
            self.drop_last_lines();
        }
    }

    /// Drops the last lines until the buffer is three quarters full, so that not every further line sorts it again. Always
    /// keeps one line, so that each pass makes progress.
    fn drop_last_lines(&mut self) {
        self.lines.sort_unstable_by(|one, other| one.order.cmp(&other.order));
        while self.lines.len() > 1 && self.size_bytes > self.limit_bytes / 4 * 3 {
            let Some(last) = self.lines.pop() else { return };
            self.size_bytes -= last.line.len() - 1 + OVERHEAD_BYTES;
            self.overflow = Some(last.order);
        }
    }

    /// Returns the lines in sort order. The flag is true if they are all remaining lines, so that no further pass is needed.
    pub fn into_sorted(mut self) -> (Vec<SortedLine>, bool) {
        self.lines.sort_unstable_by(|one, other| one.order.cmp(&other.order));
        (self.lines, self.overflow.is_none())
    }
}
