//! A fast scanner that validates JSON while it reads.
//!
//! It supports the JSON that nearly all resources consist of. It returns `None` for everything else (escapes in names, names that
//! may occur twice in one object, tabs and line breaks, deep nesting) and for errors; callers then use the general parser, which
//! also reports the error.

use std::borrow::Cow;
use std::ops::Range;

use super::name_token::NameToken;
use super::open_names::OpenNames;
use super::quote_finder::QuoteFinder;
use crate::json::JsonValue;

/// A JSON text and the position up to which it has been read.
///
/// After a method has returned `None`, the position is undefined.
#[derive(Clone, Copy)]
pub(crate) struct Scanner<'a> {
    pub(crate) text: &'a str,
    bytes: &'a [u8],
    pub(crate) position: usize,
    /// The end of the name that was read last.
    name_end: usize,
    quotes: QuoteFinder,
}

/// The deepest nesting that is supported: one bit for each level.
const MAX_DEPTH: u32 = u64::BITS;

/// The number of bytes of a word, of which the hash of a name is made.
const WORD_BYTES: usize = 8;

/// An odd factor whose product mixes all bits, so that different names practically never have the same hash.
const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl<'a> Scanner<'a> {
    /// Creates a scanner at the start of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), position: 0, name_end: 0, quotes: QuoteFinder::default() }
    }

    /// Returns the range of the name that [`Self::name`] read last, without its quotes.
    pub(crate) fn name_range(&self, name: &str) -> Range<usize> {
        self.name_end - name.len()..self.name_end
    }

    /// Returns the next byte without consuming it.
    pub(crate) fn next_byte(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    /// Skips spaces, the only whitespace that a scanned text can have.
    #[inline(always)]
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
    #[inline(always)]
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
        self.skip_rest_of_name(names)?;
        Some(start)
    }

    /// Skips a name from behind its opening quote, and the colon behind it. Returns `None` if the name has escapes.
    #[inline(always)]
    fn skip_rest_of_name(&mut self, names: &mut OpenNames) -> Option<()> {
        let start = self.position;
        self.skip_to_quote_or_backslash()?;
        self.name_end = self.position;
        names.add(hash_name(self.bytes, start, self.name_end)?)?;
        // The usual end of a name is tested at once.
        if self.bytes.get(self.position..).and_then(<[u8]>::first_chunk) == Some(b"\":") {
            self.position += 2;
            return Some(());
        }
        let is_quote = self.next_byte()? == b'"';
        self.position += 1;
        if is_quote { self.expect(b':') } else { None }
    }

    /// Moves to the next quote or backslash within a string.
    #[inline(always)]
    fn skip_to_quote_or_backslash(&mut self) -> Option<()> {
        self.position = self.quotes.next(self.bytes, self.position)?;
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
                b'\\' => self.position = escape_end(self.bytes, self.position)?,
                _ => return None,
            }
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
            b'-' | b'0'..=b'9' => {
                self.position = number_end(self.bytes, self.position, first)?;
                Some(())
            }
            b't' => self.skip_literal(b"rue"),
            b'f' => self.skip_literal(b"alse"),
            b'n' => self.skip_literal(b"ull"),
            _ => None,
        }
    }

    /// Skips and validates one value of any type. Returns `None` also if an object in it may have a member twice.
    pub(crate) fn skip_value(&mut self, names: &mut OpenNames) -> Option<()> {
        // The copy stays in registers.
        let mut scanner = *self;
        scanner.skip_value_inline(names)?;
        *self = scanner;
        Some(())
    }

    /// Skips a value as [`Self::skip_value`] does.
    #[inline(always)]
    fn skip_value_inline(&mut self, names: &mut OpenNames) -> Option<()> {
        // One bit for each open container, the innermost in the lowest bit: 1 is an object, 0 an array.
        let (mut open, mut depth) = (0_u64, 0);
        let mut first = self.token()?;
        loop {
            match first {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    if depth == MAX_DEPTH {
                        return None;
                    }
                    let is_object = first == b'{';
                    (open, depth) = (open << 1 | u64::from(is_object), depth + 1);
                    let next = self.token()?;
                    match (is_object, next) {
                        (true, b'"') => {
                            names.open_object()?;
                            self.skip_rest_of_name(names)?;
                            first = self.token()?;
                            continue;
                        }
                        (true, b'}') => {
                            names.open_object()?;
                            self.position -= 1;
                        }
                        (false, b']') => self.position -= 1,
                        (true, _) => return None,
                        (false, _) => {
                            first = next;
                            continue;
                        }
                    }
                }
                _ => self.skip_primitive_from(first)?,
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
            first = self.token()?;
        }
    }
}

/// Returns the hash of the name in `bytes` from `start` to `end`.
#[inline(always)]
fn hash_name(bytes: &[u8], start: usize, end: usize) -> Option<u64> {
    let up_to_end = bytes.get(..end)?;
    let length = end - start;
    let (first, last) = match up_to_end.last_chunk() {
        Some(last) if (1..=2 * WORD_BYTES).contains(&length) => {
            // Two words cover the name, and overlap if it is shorter than both. What stands before it is shifted out.
            let first = up_to_end.get(start.min(end - WORD_BYTES)..)?.first_chunk()?;
            let shift = WORD_BYTES.saturating_sub(length) * 8;
            (u64::from_le_bytes(*first) >> shift, u64::from_le_bytes(*last) >> shift)
        }
        _ => words_of_unusual_name(up_to_end.get(start..)?),
    };
    Some((first.wrapping_mul(HASH_FACTOR) ^ last).wrapping_mul(HASH_FACTOR))
}

/// Returns two words that stand for a name that is long, empty, or within the first bytes of the text. They are the same for the same name
/// wherever it stands.
#[inline(never)]
fn words_of_unusual_name(name: &[u8]) -> (u64, u64) {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    if name.len() <= WORD_BYTES {
        return (word(name), word(name));
    }
    name.chunks(WORD_BYTES).fold((0, 0), |(hash, last): (u64, u64), chunk| ((hash ^ last).wrapping_mul(HASH_FACTOR), word(chunk)))
}

/// Validates an escape from behind its backslash, and returns its end.
fn escape_end(bytes: &[u8], position: usize) -> Option<usize> {
    match bytes.get(position)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(position + 1),
        b'u' => {
            let digits = bytes.get(position + 1..position + 5)?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(position + 5)
        }
        _ => None,
    }
}

/// Validates the rest of a number, whose first byte is `first`, and returns its end.
fn number_end(bytes: &[u8], position: usize, first: u8) -> Option<usize> {
    let byte = |position: usize| bytes.get(position).copied();
    let digits = |mut position: usize| {
        while byte(position).is_some_and(|byte| byte.is_ascii_digit()) {
            position += 1;
        }
        position
    };
    // At least one digit.
    let some_digits = |position: usize| Some(digits(position)).filter(|end| *end > position);
    let mut end = match (first, byte(position)) {
        (b'-', Some(b'0')) => position + 1,
        (b'-', _) => some_digits(position)?,
        (b'0', _) => position,
        _ => digits(position),
    };
    if byte(end) == Some(b'.') {
        end = some_digits(end + 1)?;
    }
    if let Some(b'e' | b'E') = byte(end) {
        end += 1;
        if let Some(b'+' | b'-') = byte(end) {
            end += 1;
        }
        end = some_digits(end)?;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_has_the_same_hash_wherever_it_stands(name in "[a-zA-Zé]{0,40}", before in "[a-z ]{0,20}", behind in "[a-z\":]{0,20}") {
            let alone = hash_name(name.as_bytes(), 0, name.len());
            let text = format!("{before}{name}{behind}");
            prop_assert!(alone.is_some());
            prop_assert_eq!(hash_name(text.as_bytes(), before.len(), before.len() + name.len()), alone);
        }

        #[test]
        fn different_names_have_different_hashes(names in prop::collection::btree_set("[a-zA-Z]{0,40}", 2)) {
            let hashes: Vec<_> = names.iter().map(|name| hash_name(name.as_bytes(), 0, name.len())).collect();
            prop_assert_ne!(hashes[0], hashes[1]);
        }
    }

    #[test]
    fn a_number_ends_where_json_says() {
        for (text, end) in [
            ("0", Some(1)),
            ("01", Some(1)),
            ("-0", Some(2)),
            ("-", None),
            ("-x", None),
            ("12.50]", Some(5)),
            ("1.", None),
            ("1e5,", Some(3)),
            ("1E+05", Some(5)),
            ("1e", None),
            ("1e+", None),
            ("-1.0e-7 ", Some(7)),
        ] {
            assert_eq!(number_end(text.as_bytes(), 1, text.as_bytes()[0]), end, "{text}");
        }
    }
}
