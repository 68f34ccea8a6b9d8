//! Splits the slices or fragments that a task has not read yet, so that another worker can take over a part of them.

use std::ops::Range;

use crate::job::file::{FragmentPart, OutputKind};
use crate::job::task::{Cursor, Encoding, Slice, TaskSplit, Work};

/// Splits the work of a task in two parts of about the same stored size, at a place behind the cursor. Returns `None` if one of the parts
/// would have less than `min_bytes`, or if the work is neither slices nor fragments.
///
/// What can be cut is cut at any byte, because a line belongs to the part in which it begins. Other slices and fragments stay whole, and the
/// one that is being read stays with its task.
pub fn split_work(work: &Work, cursor: Cursor, min_bytes: u64) -> Option<TaskSplit> {
    let of_slices = split(work.slices(), cursor, min_bytes);
    let split_slices = of_slices.map(|(kept, given)| TaskSplit { kept: Work::Read(kept), given: Work::Read(given) });
    split_slices.or_else(|| {
        let (kept, given) = split(work.fragments(), cursor, min_bytes)?;
        Some(TaskSplit { kept: Work::Merge(kept), given: Work::Merge(given) })
    })
}

/// An input of a task: a slice or a fragment.
trait SplitInput: Clone {
    /// Returns the stored byte range.
    fn byte_range(&self) -> Range<u64>;

    /// Returns the input with another stored byte range.
    fn with_byte_range(&self, range: Range<u64>) -> Self;

    /// Returns true if the input can be cut at any byte.
    fn can_be_cut(&self) -> bool;

    /// Returns true if the offset of the cursor counts stored bytes.
    fn has_stored_offsets(&self) -> bool;

    /// Returns the stored size.
    fn size(&self) -> u64 {
        let Range { start, end } = self.byte_range();
        end - start
    }
}

impl SplitInput for Slice {
    fn byte_range(&self) -> Range<u64> {
        self.start..self.end
    }

    fn with_byte_range(&self, range: Range<u64>) -> Self {
        Self { start: range.start, end: range.end, ..self.clone() }
    }

    fn can_be_cut(&self) -> bool {
        self.encoding == Encoding::Plain
    }

    fn has_stored_offsets(&self) -> bool {
        self.encoding == Encoding::Plain
    }
}

impl SplitInput for FragmentPart {
    fn byte_range(&self) -> Range<u64> {
        self.range()
    }

    fn with_byte_range(&self, range: Range<u64>) -> Self {
        self.with_range(range)
    }

    fn can_be_cut(&self) -> bool {
        // The block of a patient has many lines, which belong together.
        self.fragment.name.kind != OutputKind::PatientBlocks
    }

    fn has_stored_offsets(&self) -> bool {
        true
    }
}

/// Splits inputs like [`split_work`].
fn split<T: SplitInput>(inputs: &[T], cursor: Cursor, min_bytes: u64) -> Option<(Vec<T>, Vec<T>)> {
    let (current, min_bytes) = (cursor.item as usize, min_bytes.max(1));
    let left: Vec<u64> = (0..).zip(inputs).map(|(index, input)| bytes_left(index, input, cursor)).collect();
    let half = left.iter().sum::<u64>() / 2;
    if half < min_bytes {
        return None;
    }
    let mut before = 0;
    for (index, (input, left)) in inputs.iter().zip(&left).enumerate() {
        if before + left <= half {
            before += left;
            continue;
        }
        if input.can_be_cut() {
            return Some(cut(inputs, index, input.byte_range().end - left + (half - before)));
        }
        // The nearer end of the input, but not the beginning of the one that is being read.
        let is_nearer_to_end = before + left - half < half - before;
        let boundary = if index <= current || is_nearer_to_end { index + 1 } else { index };
        let (kept, given) = inputs.split_at_checked(boundary)?;
        let given_bytes: u64 = given.iter().map(SplitInput::size).sum();
        return (given_bytes >= min_bytes).then(|| (kept.to_vec(), given.to_vec()));
    }
    None
}

/// Returns the stored size of an input behind the cursor.
fn bytes_left(index: usize, input: &impl SplitInput, cursor: Cursor) -> u64 {
    let current = cursor.item as usize;
    if index < current {
        return 0;
    }
    if index > current || cursor.offset == 0 {
        return input.size();
    }
    let Range { start, end } = input.byte_range();
    // Of the compressed object that is being read, it is not known how much is left: half.
    if input.has_stored_offsets() { end - cursor.offset.clamp(start, end) } else { input.size() / 2 }
}

/// Cuts an input at an offset, which is behind the cursor and before its end.
fn cut<T: SplitInput>(inputs: &[T], index: usize, offset: u64) -> (Vec<T>, Vec<T>) {
    let (mut kept, mut given) = (inputs.to_vec(), inputs.get(index..).unwrap_or_default().to_vec());
    kept.truncate(index + 1);
    if let (Some(last), Some(first)) = (kept.last_mut(), given.first_mut()) {
        *last = last.with_byte_range(last.byte_range().start..offset);
        *first = first.with_byte_range(offset..first.byte_range().end);
    }
    // At the beginning of an input, nothing of it is left for its task.
    if kept.last().is_some_and(|last| last.size() == 0) {
        kept.pop();
    }
    (kept, given)
}

#[cfg(test)]
mod tests;
