//! Splits a stream of Bundles into entries, however the stream is chunked.

use std::collections::BTreeSet;

use memchr::memchr2;

use super::error::BundleError;
use super::header::BundleHeader;

/// A splitter of a text of one Bundle, or of several with white space between them, into the texts of their entries.
///
/// It holds the chunk that was pushed last, and one entry. After an error it is in an undefined state.
#[derive(Debug)]
pub struct BundleSplitter {
    buffer: Vec<u8>,
    /// The start of the bytes in `buffer` that are not consumed yet.
    start: usize,
    /// The offset of the buffer in the text.
    buffer_offset: u64,
    expected: Expected,
    scan: ValueScan,
    limit_bytes: usize,
    /// The offset of the current Bundle.
    bundle_offset: u64,
    header: BundleHeader,
    seen_names: BTreeSet<String>,
}

/// A part of a Bundle.
#[derive(Debug, PartialEq, Eq)]
pub enum BundlePart<'a> {
    /// An entry. [`super::BundleEntry::parse`] parses its text.
    Entry {
        /// The offset of the entry in the text, in bytes.
        offset: u64,
        /// The text of the entry.
        text: &'a [u8],
    },
    /// The end of a Bundle, with its other members.
    End {
        /// The offset of the Bundle in the text, in bytes.
        offset: u64,
        /// The members of the Bundle beside its entries.
        header: BundleHeader,
    },
}

/// The next token of the grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Bundle,
    NameOrEnd,
    Name,
    Colon(String),
    Value(String),
    CommaOrEnd,
    EntryOrEnd,
    Entry,
    EntryCommaOrEnd,
}

impl BundleSplitter {
    /// Creates a splitter. An entry or another member of a Bundle with more than `limit_bytes` is an error.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            buffer_offset: 0,
            expected: Expected::Bundle,
            scan: ValueScan::default(),
            limit_bytes,
            bundle_offset: 0,
            header: BundleHeader::default(),
            seen_names: BTreeSet::new(),
        }
    }

    /// Adds the next bytes of the text.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.buffer_offset += self.start as u64;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the number of bytes that were pushed and are in no part yet.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len().saturating_sub(self.start)
    }

    /// Returns the next part. `None` if it is not complete: push more bytes, or finish.
    pub fn next_part(&mut self) -> Result<Option<BundlePart<'_>>, BundleError> {
        loop {
            let expected = self.expected.clone();
            let token = match expected {
                Expected::Value(_) | Expected::Entry | Expected::Name => None,
                Expected::Bundle
                | Expected::NameOrEnd
                | Expected::Colon(_)
                | Expected::CommaOrEnd
                | Expected::EntryOrEnd
                | Expected::EntryCommaOrEnd => match self.peek_token() {
                    Some(token) => Some(token),
                    None => return Ok(None),
                },
            };
            match (expected, token) {
                (Expected::Bundle, Some(b'{')) => {
                    self.bundle_offset = self.offset();
                    self.consume(Expected::NameOrEnd);
                }
                (Expected::Bundle, Some(b'"' | b'[' | b'0'..=b'9' | b't' | b'f' | b'n' | b'-')) => {
                    return Err(BundleError::NotABundle { offset: self.offset() });
                }
                (Expected::NameOrEnd | Expected::CommaOrEnd, Some(b'}')) => {
                    self.consume(Expected::Bundle);
                    return self.end_bundle().map(Some);
                }
                (Expected::NameOrEnd, Some(b'"')) => self.expected = Expected::Name,
                (Expected::CommaOrEnd, Some(b',')) => self.consume(Expected::Name),
                (Expected::Colon(name), Some(b':')) => self.consume(Expected::Value(name)),
                (Expected::EntryOrEnd | Expected::EntryCommaOrEnd, Some(b']')) => self.consume(Expected::CommaOrEnd),
                (Expected::EntryOrEnd, Some(_)) => self.expected = Expected::Entry,
                (Expected::EntryCommaOrEnd, Some(b',')) => self.consume(Expected::Entry),
                (Expected::Name, _) => {
                    let Some(name) = self.take_name()? else { return Ok(None) };
                    self.expected = Expected::Colon(name);
                }
                (Expected::Value(name), _) => {
                    if !self.take_member(&name)? {
                        return Ok(None);
                    }
                }
                (Expected::Entry, _) => {
                    let Some((offset, range)) = self.take_value()? else { return Ok(None) };
                    self.expected = Expected::EntryCommaOrEnd;
                    return Ok(Some(BundlePart::Entry { offset, text: self.buffer.get(range).unwrap_or_default() }));
                }
                (_, _) => return Err(BundleError::NotJson { offset: self.offset() }),
            }
        }
    }

    /// Checks that the text does not end within a Bundle.
    pub fn finish(mut self) -> Result<(), BundleError> {
        if self.expected == Expected::Bundle && self.peek_token().is_none() {
            return Ok(());
        }
        Err(BundleError::Truncated { offset: self.buffer_offset + self.buffer.len() as u64 })
    }

    /// Returns the offset of the next byte in the text.
    fn offset(&self) -> u64 {
        self.buffer_offset + self.start as u64
    }

    /// Skips white space, and a byte order mark at the start of the text. Returns the next byte without consuming it.
    fn peek_token(&mut self) -> Option<u8> {
        if self.offset() == 0 && self.buffer.starts_with(b"\xef\xbb\xbf") {
            self.start = 3;
        }
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.buffer.get(self.start) {
            self.start += 1;
        }
        self.buffer.get(self.start).copied()
    }

    /// Consumes one byte.
    fn consume(&mut self, expected: Expected) {
        self.start += 1;
        self.expected = expected;
    }

    /// Consumes the next value. Returns its offset in the text and its range in the buffer, or `None` if it is not complete.
    fn take_value(&mut self) -> Result<Option<(u64, std::ops::Range<usize>)>, BundleError> {
        let Some(first) = self.peek_token() else { return Ok(None) };
        let (offset, start) = (self.offset(), self.start);
        let end = self.scan.scan(first, self.buffer.get(start..).unwrap_or_default());
        if self.scan.scanned > self.limit_bytes {
            return Err(BundleError::TooLarge { offset, limit_bytes: self.limit_bytes });
        }
        match end {
            ScanEnd::Incomplete => Ok(None),
            ScanEnd::NoValue => Err(BundleError::NotJson { offset }),
            ScanEnd::At(length) => {
                self.scan = ValueScan::default();
                self.start = start + length;
                Ok(Some((offset, start..start + length)))
            }
        }
    }

    /// Consumes a member name.
    fn take_name(&mut self) -> Result<Option<String>, BundleError> {
        let Some((offset, range)) = self.take_value()? else { return Ok(None) };
        let name = serde_json::from_slice::<String>(self.buffer.get(range).unwrap_or_default());
        let name = name.map_err(|_| BundleError::NotJson { offset })?;
        if self.seen_names.insert(name.clone()) { Ok(Some(name)) } else { Err(BundleError::InvalidMember { offset }) }
    }

    /// Consumes the value of a root member, or the bracket in front of the entries. Returns false if it is not complete.
    fn take_member(&mut self, name: &str) -> Result<bool, BundleError> {
        let Some(first) = self.peek_token() else { return Ok(false) };
        if name == "entry" && first == b'[' {
            self.consume(Expected::EntryOrEnd);
            return Ok(true);
        }
        let Some((offset, range)) = self.take_value()? else { return Ok(false) };
        if name == "entry" {
            return Err(BundleError::InvalidMember { offset });
        }
        self.header.set(name, self.buffer.get(range).unwrap_or_default(), offset)?;
        self.expected = Expected::CommaOrEnd;
        Ok(true)
    }

    /// Ends the current Bundle and prepares for the next one.
    fn end_bundle(&mut self) -> Result<BundlePart<'static>, BundleError> {
        let (offset, header) = (self.bundle_offset, std::mem::take(&mut self.header));
        self.seen_names.clear();
        if header.is_bundle() { Ok(BundlePart::End { offset, header }) } else { Err(BundleError::NotABundle { offset }) }
    }
}

/// A search for the end of a value that continues when more bytes are there. Only strings and brackets are recognised.
#[derive(Debug, Default)]
struct ValueScan {
    /// The number of bytes that are scanned.
    scanned: usize,
    depth: usize,
    is_in_string: bool,
}

/// The result of a scan.
enum ScanEnd {
    /// The value has this length.
    At(usize),
    /// The value continues in bytes that are not there yet.
    Incomplete,
    /// The first byte starts no value.
    NoValue,
}

impl ValueScan {
    /// Continues the scan of `value`, which starts with the byte `first` and has all bytes that were scanned before.
    fn scan(&mut self, first: u8, value: &[u8]) -> ScanEnd {
        match first {
            b'"' | b'{' | b'[' => self.scan_nested(value),
            b'}' | b']' | b',' | b':' => ScanEnd::NoValue,
            _ => match value.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')) {
                Some(end) => ScanEnd::At(end),
                None => {
                    self.scanned = value.len();
                    ScanEnd::Incomplete
                }
            },
        }
    }

    /// Continues the scan of a string, an object or an array.
    fn scan_nested(&mut self, value: &[u8]) -> ScanEnd {
        while let Some(byte) = value.get(self.scanned) {
            if self.is_in_string {
                let Some(at) = memchr2(b'"', b'\\', value.get(self.scanned..).unwrap_or_default()) else {
                    self.scanned = value.len();
                    break;
                };
                let position = self.scanned + at;
                if value.get(position) == Some(&b'\\') {
                    // The escaped byte must be there, too, before both are skipped.
                    if position + 1 >= value.len() {
                        self.scanned = position;
                        break;
                    }
                    self.scanned = position + 2;
                    continue;
                }
                (self.scanned, self.is_in_string) = (position + 1, false);
            } else {
                self.scanned += 1;
                match byte {
                    b'"' => {
                        self.is_in_string = true;
                        continue;
                    }
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => continue,
                }
            }
            if self.depth == 0 {
                return ScanEnd::At(self.scanned);
            }
        }
        ScanEnd::Incomplete
    }
}
