//! Lines out of bytes, wherever the bytes were cut.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memrchr};

/// The longest line that is read as a resource, in bytes. It bounds a worker's memory; FHIR Binary and DocumentReference
/// resources of tens of MiB pass.
pub const LINE_LIMIT_BYTES: usize = 64 << 20;

/// What a [`Splitter`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Whole lines, each with its `\n` but perhaps the last of the object.
    Block {
        /// Where the first line begins in the object.
        offset: u64,
        /// The lines.
        bytes: Bytes,
    },
    /// A line longer than [`LINE_LIMIT_BYTES`], left out.
    Overlong {
        /// Where it begins in the object.
        offset: u64,
    },
}

/// Cuts a stream of bytes into blocks of whole lines.
///
/// It owns the lines that begin before `end`; a line that begins there and goes on beyond is read to its own end. Of
/// neighbouring slices, each line so belongs to exactly one.
#[derive(Debug)]
pub struct Splitter {
    /// Offset in the object of the first byte of `carry`.
    offset: u64,
    /// Lines that begin here or later are not ours.
    end: u64,
    /// The beginning of a line whose end has not come yet.
    carry: BytesMut,
    /// What to do with bytes until the next line end.
    until_line_end: Until,
    /// [`LINE_LIMIT_BYTES`].
    limit_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Keep,
    /// They belong to the slice before.
    Skip,
    /// They are the rest of a line that is too long.
    SkipOverlong,
}

impl Splitter {
    /// For bytes from `offset`, which is the beginning of a line.
    pub fn at_line(offset: u64, end: u64) -> Self {
        Self { offset, end, carry: BytesMut::new(), until_line_end: Until::Keep, limit_bytes: LINE_LIMIT_BYTES }
    }

    /// For bytes from `start - 1`, the byte before a slice: lines of ours begin behind the first line end.
    pub fn at_slice(start: u64, end: u64) -> Self {
        match start.checked_sub(1) {
            None => Self::at_line(0, end),
            Some(before) => Self { until_line_end: Until::Skip, ..Self::at_line(before, end) },
        }
    }

    /// Whether more bytes could still belong to a line of ours.
    pub fn wants_more(&self) -> bool {
        self.offset < self.end
    }

    /// Takes the next bytes, fewer than [`LINE_LIMIT_BYTES`]; yields what they complete.
    pub fn feed(&mut self, mut chunk: Bytes) -> impl Iterator<Item = Piece> + use<> {
        let completed = self.complete_carry(&mut chunk);
        let block = if self.carry.is_empty() { self.take_whole_lines(&mut chunk) } else { None };
        if self.wants_more() && self.until_line_end == Until::Keep && !chunk.is_empty() {
            self.carry.extend_from_slice(&chunk);
        }
        let overlong = self.drop_overlong();
        [completed, block, overlong].into_iter().flatten()
    }

    /// The object is at its end; yields its last line if that has no line end.
    pub fn finish(mut self) -> Option<Piece> {
        if !self.wants_more() || self.carry.is_empty() {
            return None;
        }
        Some(Piece::Block { offset: self.offset, bytes: self.carry.split().freeze() })
    }

    /// Ends the line that began in an earlier chunk.
    fn complete_carry(&mut self, chunk: &mut Bytes) -> Option<Piece> {
        if self.carry.is_empty() && self.until_line_end == Until::Keep {
            return None;
        }
        let Some(line_end) = memchr(b'\n', chunk) else {
            if self.until_line_end != Until::Keep {
                self.offset += chunk.len() as u64;
                chunk.clear();
            }
            return None;
        };
        let rest = chunk.split_to(line_end + 1);
        if self.until_line_end != Until::Keep {
            self.until_line_end = Until::Keep;
            self.offset += rest.len() as u64;
            return None;
        }
        self.carry.extend_from_slice(&rest);
        let (offset, bytes) = (self.offset, self.carry.split().freeze());
        self.offset += bytes.len() as u64;
        // By its length alone, not by where chunks end: what passes here must pass again when it is read back from a tail.
        let is_overlong = bytes.len() > self.limit_bytes + 1;
        Some(if is_overlong { Piece::Overlong { offset } } else { Piece::Block { offset, bytes } })
    }

    /// The lines that begin and end in this chunk, without copying them.
    fn take_whole_lines(&mut self, chunk: &mut Bytes) -> Option<Piece> {
        if !self.wants_more() {
            return None;
        }
        let mut length = memrchr(b'\n', chunk)? + 1;
        // Of the lines that begin before `end`, the last one begins at `end - 1` or earlier.
        if let Ok(own) = usize::try_from(self.end - self.offset)
            && own < length
        {
            let last_begins_before = chunk.get(own - 1..length)?;
            length = own + memchr(b'\n', last_begins_before)?;
        }
        let (offset, bytes) = (self.offset, chunk.split_to(length));
        self.offset += bytes.len() as u64;
        Some(Piece::Block { offset, bytes })
    }

    fn drop_overlong(&mut self) -> Option<Piece> {
        if self.carry.len() <= self.limit_bytes {
            return None;
        }
        let offset = self.offset;
        self.offset += self.carry.len() as u64;
        self.carry = BytesMut::new();
        self.until_line_end = Until::SkipOverlong;
        Some(Piece::Overlong { offset })
    }
}

/// One line of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Where it begins in the block.
    pub start: usize,
    /// One past its line end, or the block's end.
    pub next: usize,
    /// Its text: without line end, carriage return and byte order mark.
    pub text: &'a [u8],
    /// Whether it is not the object's last line without a `\n`.
    is_ended: bool,
}

impl Line<'_> {
    /// Whether the block has the text followed by one `\n` and nothing else: copied as it stands, it is an output line.
    pub fn is_verbatim(&self) -> bool {
        self.is_ended && self.next - self.start == self.text.len() + 1
    }

    /// Whether there is nothing but white space.
    pub fn is_blank(&self) -> bool {
        self.text.trim_ascii().is_empty()
    }
}

/// The lines of a block that begins at `offset` of its object.
pub fn lines(block: &[u8], offset: u64) -> impl Iterator<Item = Line<'_>> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let start = block.len() - rest.len();
        let line_end = memchr(b'\n', rest);
        let (mut text, after) = match line_end {
            Some(at) => (rest.get(..at)?, rest.get(at + 1..)?),
            None => (rest, rest.get(rest.len()..)?),
        };
        rest = after;
        if start == 0 && offset == 0 {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        text = text.strip_suffix(b"\r").unwrap_or(text);
        Some(Line { start, next: block.len() - rest.len(), text, is_ended: line_end.is_some() })
    })
}

#[cfg(test)]
mod tests;
