//! A fast scanner that validates JSON while it reads.
//!
//! It supports the JSON that nearly all resources consist of. It returns `None` for everything else (escapes in names, tabs
//! and line breaks, deep nesting) and for errors; callers then use the general parser, which also reports the error.

use std::borrow::Cow;
use std::ops::Range;

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
const MAX_DEPTH: u32 = u128::BITS;

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

    /// Skips spaces.
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
        self.skip_value()?;
        Some(JsonValue::from_valid(self.text.get(start..self.position)?).primitive_text())
    }

    /// Reads the name of a member and the colon behind it.
    #[inline(always)]
    pub(crate) fn name(&mut self) -> Option<&'a str> {
        let name = self.plain_string()?;
        self.name_end = self.position - 1;
        self.expect(b':')?;
        Some(name)
    }

    /// Moves to the next quote or backslash within a string.
    #[inline(always)]
    fn skip_to_quote_or_backslash(&mut self) -> Option<()> {
        // Checks eight bytes at a time. Borrows of the subtraction can only disturb higher bits, so the lowest set bit is exact.
        const ONES: u64 = u64::MAX / 255;
        const HIGH: u64 = ONES << 7;
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
        while let Some(chunk) = self.bytes.get(self.position..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_le_bytes(*chunk);
            let stops = (zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c))) & HIGH;
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

    /// Skips and validates one value of any type.
    pub(crate) fn skip_value(&mut self) -> Option<()> {
        // One bit for each open container, the innermost in the lowest bit: 1 is an object, 0 an array.
        let (mut open, mut depth) = (0_u128, 0);
        loop {
            let first = self.token()?;
            match first {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    if depth == MAX_DEPTH {
                        return None;
                    }
                    (open, depth) = (open << 1 | u128::from(first == b'{'), depth + 1);
                    // A container may be empty. In an object, a name comes before the value.
                    let next = self.token()?;
                    self.position -= 1;
                    match (first, next) {
                        (b'{', b'"') => {
                            self.name()?;
                            continue;
                        }
                        // The closing bracket is consumed below.
                        (b'{', b'}') | (b'[', b']') => {}
                        (b'{', _) => return None,
                        _ => continue,
                    }
                }
                b'-' | b'0'..=b'9' => self.skip_number(first)?,
                b't' => self.skip_literal(b"rue")?,
                b'f' => self.skip_literal(b"alse")?,
                b'n' => self.skip_literal(b"ull")?,
                _ => return None,
            }
            // The value is complete: close containers until another value follows.
            loop {
                if depth == 0 {
                    return Some(());
                }
                match (self.token()?, open & 1) {
                    (b',', 1) => {
                        self.name()?;
                        break;
                    }
                    (b',', _) => break,
                    (b'}', 1) | (b']', 0) => (open, depth) = (open >> 1, depth - 1),
                    _ => return None,
                }
            }
        }
    }
}
