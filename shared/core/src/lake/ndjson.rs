//! Splits a stream of bytes into lines, however the stream is chunked.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memrchr};

use crate::vocab::byte_order_mark::without_byte_order_mark;

/// Maximum length of a line, in bytes. It bounds the memory of a worker and permits Binary and DocumentReference resources
/// of tens of MiB.
pub const LINE_LIMIT_BYTES: usize = 64 << 20;

/// A part of the input, as returned by [`LineSplitter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Whole lines with their line feeds. Only the last line of the object may lack it.
    Lines {
        /// Offset of the first line in the object.
        offset: u64,
        /// Bytes of the lines.
        bytes: Bytes,
    },
    /// A line longer than [`LINE_LIMIT_BYTES`]. Its bytes are dropped.
    OverlongLine {
        /// Offset of the line in the object.
        offset: u64,
    },
}

/// A splitter of a stream of bytes into segments of whole lines.
///
/// A slice owns the lines that start within it, and reads a line that crosses its end completely. So each line belongs to
/// exactly one of several adjacent slices.
#[derive(Debug)]
pub struct LineSplitter {
    /// Offset in the object of the first byte of `partial_line`.
    offset: u64,
    /// End of the slice: lines that start here or later belong to the next one.
    end: u64,
    /// Start of a line that continues in the next chunk.
    partial_line: BytesMut,
    /// Treatment of the bytes up to the next line feed.
    current_line: CurrentLine,
    /// [`LINE_LIMIT_BYTES`].
    limit_bytes: usize,
}

/// The treatment of the line that is not complete yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CurrentLine {
    Keep,
    /// The line belongs to the previous slice.
    SkipForeign,
    /// The line exceeds the limit and was reported.
    SkipOverlong,
}

impl LineSplitter {
    /// Creates a splitter for the bytes from `offset`, where a line starts.
    pub fn from_line_start(offset: u64, end: u64) -> Self {
        Self { offset, end, partial_line: BytesMut::new(), current_line: CurrentLine::Keep, limit_bytes: LINE_LIMIT_BYTES }
    }

    /// Creates a splitter for the bytes from `start - 1`, the byte before a slice. If that byte is not a line feed, the slice
    /// starts within a line of the previous slice, which is skipped.
    pub fn from_slice_start(start: u64, end: u64) -> Self {
        match start.checked_sub(1) {
            None => Self::from_line_start(0, end),
            Some(before) => Self { current_line: CurrentLine::SkipForeign, ..Self::from_line_start(before, end) },
        }
    }

    /// Returns true if further bytes can belong to a line of this slice.
    pub fn needs_more(&self) -> bool {
        self.offset < self.end
    }

    /// Returns true while the rest of an overlong line is skipped.
    pub fn skips_overlong_line(&self) -> bool {
        self.current_line == CurrentLine::SkipOverlong
    }

    /// Adds the next chunk, which must be shorter than [`LINE_LIMIT_BYTES`]. Returns the segments that it completes.
    pub fn push(&mut self, mut chunk: Bytes) -> impl Iterator<Item = Segment> + use<> {
        let completed = self.complete_partial_line(&mut chunk);
        let lines = if self.partial_line.is_empty() { self.take_whole_lines(&mut chunk) } else { None };
        if self.needs_more() && self.current_line == CurrentLine::Keep && !chunk.is_empty() {
            self.partial_line.extend_from_slice(&chunk);
        }
        let overlong = self.drop_overlong();
        [completed, lines, overlong].into_iter().flatten()
    }

    /// Returns the last line of the object if it has no line feed. Call it at the end of the object.
    pub fn finish(mut self) -> Option<Segment> {
        if !self.needs_more() || self.partial_line.is_empty() {
            return None;
        }
        Some(Segment::Lines { offset: self.offset, bytes: self.partial_line.split().freeze() })
    }

    /// Completes the line that started in an earlier chunk, with the bytes of this chunk up to its first line feed. Returns the line as
    /// a segment. Returns `None` if there is no such line, it continues in the next chunk, or it is skipped.
    fn complete_partial_line(&mut self, chunk: &mut Bytes) -> Option<Segment> {
        if self.partial_line.is_empty() && self.current_line == CurrentLine::Keep {
            return None;
        }
        let Some(line_end) = memchr(b'\n', chunk) else {
            if self.current_line != CurrentLine::Keep {
                self.offset += chunk.len() as u64;
                chunk.clear();
            }
            return None;
        };
        let rest = chunk.split_to(line_end + 1);
        if self.current_line != CurrentLine::Keep {
            self.current_line = CurrentLine::Keep;
            self.offset += rest.len() as u64;
            return None;
        }
        self.partial_line.extend_from_slice(&rest);
        let (offset, bytes) = (self.offset, self.partial_line.split().freeze());
        self.offset += bytes.len() as u64;
        // Only the length of the line may decide, not its position in chunks: a line accepted here must be accepted again
        // when it is read back from a fragment.
        let is_overlong = bytes.len() > self.limit_bytes + 1;
        Some(if is_overlong { Segment::OverlongLine { offset } } else { Segment::Lines { offset, bytes } })
    }

    /// Removes the lines that start and end in this chunk, without copying them.
    fn take_whole_lines(&mut self, chunk: &mut Bytes) -> Option<Segment> {
        if !self.needs_more() {
            return None;
        }
        let mut length = memrchr(b'\n', chunk)? + 1;
        // The last line of the slice starts at `end - 1` or earlier, so it ends at the first line feed from there.
        if let Ok(slice_length) = usize::try_from(self.end - self.offset)
            && slice_length < length
        {
            let from_last_start = chunk.get(slice_length - 1..length)?;
            length = slice_length + memchr(b'\n', from_last_start)?;
        }
        let (offset, bytes) = (self.offset, chunk.split_to(length));
        self.offset += bytes.len() as u64;
        Some(Segment::Lines { offset, bytes })
    }

    /// Drops the partial line if it exceeds the limit, and skips its rest. Returns the segment that reports it, or `None` if nothing was
    /// dropped.
    fn drop_overlong(&mut self) -> Option<Segment> {
        if self.partial_line.len() <= self.limit_bytes {
            return None;
        }
        let offset = self.offset;
        self.offset += self.partial_line.len() as u64;
        self.partial_line = BytesMut::new();
        self.current_line = CurrentLine::SkipOverlong;
        Some(Segment::OverlongLine { offset })
    }
}

/// A line of a block of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Start of the line in the block.
    pub start: usize,
    /// Offset after its line feed, or the end of the block.
    pub end: usize,
    /// Text of the line, without line feed, carriage return and byte order mark.
    pub text: &'a [u8],
    /// False only for an object's last line that lacks it.
    has_line_feed: bool,
}

impl Line<'_> {
    /// Returns true if the line consists of its text and a line feed, so that it can be copied to the output unchanged.
    pub fn is_verbatim(&self) -> bool {
        self.has_line_feed && self.end - self.start == self.text.len() + 1
    }

    /// Returns true if the line is empty or consists of white space.
    pub fn is_blank(&self) -> bool {
        self.text.trim_ascii().is_empty()
    }
}

/// Iterates over the lines of a block that starts at `offset` in its object.
pub fn lines(block: &[u8], offset: u64) -> impl Iterator<Item = Line<'_>> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let start = block.len() - rest.len();
        let line_end = memchr(b'\n', rest);
        let (mut text, after) = match line_end {
            Some(index) => (rest.get(..index)?, rest.get(index + 1..)?),
            None => (rest, rest.get(rest.len()..)?),
        };
        rest = after;
        if start == 0 && offset == 0 {
            text = without_byte_order_mark(text);
        }
        text = text.strip_suffix(b"\r").unwrap_or(text);
        Some(Line { start, end: block.len() - rest.len(), text, has_line_feed: line_end.is_some() })
    })
}

#[cfg(test)]
mod tests;
