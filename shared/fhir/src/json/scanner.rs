//! A fast scanner that validates JSON while it reads.
//!
//! It supports the JSON that nearly all resources consist of. It returns `None` for everything else (escapes in names, names that
//! may occur twice in one object, tabs and line breaks, deep nesting) and for errors; callers then use the general parser, which
//! also reports the error.

use std::borrow::Cow;
use std::ops::Range;

use super::name_token::NameToken;
use super::open_names::OpenNames;
use crate::json::JsonValue;

/// A JSON text and the position up to which it has been read.
///
/// After a method has returned `None`, the position is undefined.
#[derive(Clone)]
pub(crate) struct Scanner<'a> {
    pub(crate) text: &'a str,
    bytes: &'a [u8],
    pub(crate) position: usize,
    /// The end of the name that was read last.
    name_end: usize,
}

/// The deepest nesting that is supported: one bit for each level.
const MAX_DEPTH: u32 = u64::BITS;

/// An odd factor whose product mixes all bits, so that different names practically never have the same hash.
const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl<'a> Scanner<'a> {
    /// Creates a scanner at the start of `text`. Returns `None` if the text has control characters.
    pub(crate) fn new(text: &'a str) -> Option<Self> {
        // One check of the whole text, which the compiler vectorises, so that no string has to be checked again.
        let has_control = text.bytes().fold(false, |found, byte| found | (byte < b' '));
        (!has_control).then_some(Self { text, bytes: text.as_bytes(), position: 0, name_end: 0 })
    }

    /// Returns the range of the name that [`Self::name`] read last, without its quotes.
    pub(crate) fn name_range(&self, name: &str) -> Range<usize> {
        self.name_end - name.len()..self.name_end
    }

    /// Returns the next byte without consuming it.
    pub(crate) fn next_byte(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    /// Skips spaces, the only whitespace that a scanned text can have: [`Self::new`] rejects control characters.
    pub(crate) fn skip_spaces(&mut self) {
        while let Some(b' ') = self.bytes.get(self.position) {
            self.position += 1;
        }
    }

    /// Consumes and returns the next byte that is not a space.
    #[inline(always)]
    pub(crate) fn token(&mut self) -> Option<u8> {
        let mut byte = *self.bytes.get(self.position)?;
        if byte <= b' ' {
            self.skip_spaces();
            byte = *self.bytes.get(self.position)?;
        }
        self.position += 1;
        Some(byte)
    }

    /// Consumes the next byte that is not a space. Returns `None` if it is not `expected`.
    pub(crate) fn expect(&mut self, expected: u8) -> Option<()> {
        (self.token()? == expected).then_some(())
    }

    /// Reads a string. Returns `None` if it has escapes.
    #[inline(always)]
    pub(crate) fn plain_string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let start = self.position;
        self.skip_to_quote_or_backslash()?;
        let end = self.position;
        if *self.bytes.get(end)? != b'"' {
            return None;
        }
        self.position += 1;
        self.text.get(start..end)
    }

    /// Reads a primitive value: a string is unescaped, any other value keeps its JSON text.
    pub(crate) fn primitive(&mut self) -> Option<Cow<'a, str>> {
        let start = self.position;
        if self.next_byte() == Some(b'"')
            && let Some(plain) = self.plain_string()
        {
            return Some(Cow::Borrowed(plain));
        }
        self.position = start;
        self.skip_primitive()?;
        Some(JsonValue::from_valid(self.text.get(start..self.position)?).primitive_text())
    }

    /// Reads the name of a member and the colon behind it. `None` if the name has escapes.
    #[inline(always)]
    pub(crate) fn name(&mut self) -> Option<&'a str> {
        let name = self.plain_string()?;
        self.name_end = self.position - 1;
        self.expect(b':')?;
        Some(name)
    }

    /// Reads a name and its colon if they are this token, and returns true then. Otherwise reads nothing.
    #[inline(always)]
    pub(crate) fn skip_name_token(&mut self, token: &NameToken) -> bool {
        let is_next = self.bytes.get(self.position..).is_some_and(|rest| token.is_at_start(rest));
        if is_next {
            self.position += token.length();
            self.name_end = self.position - 2;
        }
        is_next
    }

    /// Reads a name like [`Self::name`]. Returns `None` also if the open object may already have a member of this name.
    #[inline(always)]
    pub(crate) fn unique_name(&mut self, names: &mut OpenNames) -> Option<&'a str> {
        let start = self.skip_unique_name(names)?;
        self.text.get(start..self.name_end)
    }

    /// Skips a name and the colon behind it, and returns the start of the name.
    #[inline(always)]
    fn skip_unique_name(&mut self, names: &mut OpenNames) -> Option<usize> {
        self.expect(b'"')?;
        let start = self.position;
        let hash = self.skip_and_hash_name()?;
        self.name_end = self.position;
        self.position += 1;
        self.expect(b':')?;
        names.add(hash)?;
        Some(start)
    }

    /// Moves to the quote that ends a name, and returns the hash of the name. Returns `None` if the name has escapes.
    #[inline(always)]
    fn skip_and_hash_name(&mut self) -> Option<u64> {
        let mut hash = 0_u64;
        loop {
            let rest = self.bytes.get(self.position..)?;
            let word = match rest.first_chunk::<8>() {
                Some(chunk) => u64::from_le_bytes(*chunk),
                None if rest.is_empty() => return None,
                None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
            };
            let stops = quotes_and_backslashes(word);
            if stops != 0 {
                let bits = stops.trailing_zeros() & !7;
                self.position += (bits / 8) as usize;
                let is_quote = self.bytes.get(self.position) == Some(&b'"');
                return is_quote.then_some((hash ^ (word & !(u64::MAX << bits))).wrapping_mul(HASH_FACTOR));
            }
            hash = (hash ^ word).wrapping_mul(HASH_FACTOR);
            self.position += 8;
        }
    }

    /// Moves to the next quote or backslash within a string.
    #[inline(always)]
    fn skip_to_quote_or_backslash(&mut self) -> Option<()> {
        while let Some(chunk) = self.bytes.get(self.position..).and_then(<[u8]>::first_chunk::<8>) {
            let stops = quotes_and_backslashes(u64::from_le_bytes(*chunk));
            if stops != 0 {
                self.position += (stops.trailing_zeros() / 8) as usize;
                return Some(());
            }
            self.position += 8;
        }
        while !matches!(self.bytes.get(self.position)?, b'"' | b'\\') {
            self.position += 1;
        }
        Some(())
    }

    /// Skips the rest of a string, from behind its opening quote.
    #[inline(always)]
    fn skip_string(&mut self) -> Option<()> {
        loop {
            self.skip_to_quote_or_backslash()?;
            let stop = *self.bytes.get(self.position)?;
            self.position += 1;
            match stop {
                b'"' => return Some(()),
                b'\\' => self.skip_escape()?,
                _ => return None,
            }
        }
    }

    /// Skips and validates an escape, from behind its backslash.
    fn skip_escape(&mut self) -> Option<()> {
        let escaped = *self.bytes.get(self.position)?;
        self.position += 1;
        match escaped {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.bytes.get(self.position..self.position + 4)?;
                self.position += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    /// Skips and validates the rest of a number, whose first byte is `first`.
    fn skip_number(&mut self, first: u8) -> Option<()> {
        let leading = if first == b'-' { self.digit()? } else { first };
        if leading != b'0' {
            self.skip_digits();
        }
        if self.bytes.get(self.position) == Some(&b'.') {
            self.position += 1;
            self.digit()?;
            self.skip_digits();
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.position) {
            self.position += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.position) {
                self.position += 1;
            }
            self.digit()?;
            self.skip_digits();
        }
        Some(())
    }

    /// Reads one digit.
    fn digit(&mut self) -> Option<u8> {
        let digit = self.bytes.get(self.position).copied().filter(u8::is_ascii_digit)?;
        self.position += 1;
        Some(digit)
    }

    /// Skips any number of digits.
    fn skip_digits(&mut self) {
        while self.bytes.get(self.position).is_some_and(u8::is_ascii_digit) {
            self.position += 1;
        }
    }

    /// Skips the rest of `true`, `false` or `null`.
    fn skip_literal(&mut self, rest: &[u8]) -> Option<()> {
        let is_present = self.bytes.get(self.position..)?.starts_with(rest);
        self.position += rest.len();
        is_present.then_some(())
    }

    /// Skips and validates a value that is neither an object nor an array.
    pub(crate) fn skip_primitive(&mut self) -> Option<()> {
        let first = self.token()?;
        self.skip_primitive_from(first)
    }

    /// Skips and validates the rest of a value that is neither an object nor an array. `first` is its first byte.
    #[inline(always)]
    fn skip_primitive_from(&mut self, first: u8) -> Option<()> {
        match first {
            b'"' => self.skip_string(),
            b'-' | b'0'..=b'9' => self.skip_number(first),
            b't' => self.skip_literal(b"rue"),
            b'f' => self.skip_literal(b"alse"),
            b'n' => self.skip_literal(b"ull"),
            _ => None,
        }
    }

    /// Skips and validates one value of any type. Returns `None` also if an object in it may have a member twice.
    pub(crate) fn skip_value(&mut self, names: &mut OpenNames) -> Option<()> {
        // One bit for each open container, the innermost in the lowest bit: 1 is an object, 0 an array.
        let (mut open, mut depth) = (0_u64, 0);
        loop {
            let first = self.token()?;
            if let b'{' | b'[' = first {
                if depth == MAX_DEPTH {
                    return None;
                }
                let is_object = first == b'{';
                (open, depth) = (open << 1 | u64::from(is_object), depth + 1);
                // A container may be empty. In an object, a name comes before the value.
                let next = self.token()?;
                self.position -= 1;
                match (is_object, next) {
                    (true, b'"') => {
                        names.open_object()?;
                        self.skip_unique_name(names)?;
                        continue;
                    }
                    // The closing bracket is consumed below.
                    (true, b'}') => names.open_object()?,
                    (false, b']') => {}
                    (true, _) => return None,
                    (false, _) => continue,
                }
            } else {
                self.skip_primitive_from(first)?;
            }
            // The value is complete: close containers until another value follows.
            loop {
                if depth == 0 {
                    return Some(());
                }
                match (self.token()?, open & 1) {
                    (b',', 1) => {
                        self.skip_unique_name(names)?;
                        break;
                    }
                    (b',', _) => break,
                    (b'}', 1) => {
                        (open, depth) = (open >> 1, depth - 1);
                        names.close_object();
                    }
                    (b']', 0) => (open, depth) = (open >> 1, depth - 1),
                    _ => return None,
                }
            }
        }
    }
}

/// Returns a word in which the lowest set bit marks the first byte of `word` that is a quote or a backslash, and 0 if there is none.
#[inline(always)]
fn quotes_and_backslashes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // Borrows of the subtraction can only disturb higher bits, so the lowest set bit is exact.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    (zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c))) & HIGH
}
