//! The fast way through a line: one pass that validates the whole of it and stops at the members of interest.
//!
//! It knows what almost every resource looks like. Of anything else (escapes in names, members twice or of another JSON
//! type, deep nesting, errors) it says `None`, and [`crate::head()`] reads the line again in the general way, which also
//! says what is wrong. On Synthea's resources `head` so does 1.7 instead of 1.2 GB/s per core.

use std::borrow::Cow;
use std::ops::Range;

use crate::head::Head;
use crate::head::resource::Outline;
use crate::json::Json;
use crate::{Instant, ResourceType};

/// The head of a line that looks as usual; `None` says nothing about the line.
pub(crate) fn skim(line: &str) -> Option<Head> {
    pass(line, &mut |_, _| {})
}

/// The same, and where each root member stands.
pub(crate) fn skim_members(line: &str, outline: &mut Outline) -> Option<Head> {
    pass(line, &mut |name, value| outline.push(name, value))
}

#[inline(always)]
fn pass(line: &str, member: &mut impl FnMut(Range<usize>, Range<usize>)) -> Option<Head> {
    let mut text = Text::of(line)?;
    let (mut kind, mut has_id, mut meta) = (None, false, None);
    text.expect(b'{')?;
    // An object without members has no type either.
    loop {
        let name = text.name()?;
        text.skip_blanks();
        let (name_end, start) = (text.name_end, text.at);
        match name {
            "resourceType" if kind.is_none() => kind = Some(ResourceType::named(text.plain_string()?)?),
            "id" if !has_id => has_id = !text.plain_string()?.is_empty(),
            "meta" if meta.is_none() => meta = Some(text.last_updated()?),
            "resourceType" | "id" | "meta" => return None,
            _ => text.skip_value()?,
        }
        member(name_end - name.len()..name_end, start..text.at);
        match text.token()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    text.skip_blanks();
    let is_whole = text.at == line.len() && has_id;
    Some(Head { kind: kind.filter(|_| is_whole)?, last_updated: meta.flatten() })
}

/// A text and how far it has been read.
#[derive(Clone)]
pub(crate) struct Text<'a> {
    pub(crate) line: &'a str,
    bytes: &'a [u8],
    pub(crate) at: usize,
    /// Where the last name ended.
    name_end: usize,
}

/// The deepest nesting that is read: one bit each.
const DEPTH: u32 = u128::BITS;

impl<'a> Text<'a> {
    /// A line without control characters; of any other it says nothing.
    pub(crate) fn of(line: &'a str) -> Option<Self> {
        // Once over the whole line, where the compiler takes sixteen bytes at a time: no string need look for them again.
        let has_none = !line.bytes().fold(false, |found, byte| found | (byte < b' '));
        has_none.then_some(Self { line, bytes: line.as_bytes(), at: 0, name_end: 0 })
    }

    /// The byte that comes next.
    pub(crate) fn next_byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(crate) fn skip_blanks(&mut self) {
        while let Some(b' ') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The next byte that is not a blank.
    #[inline(always)]
    pub(crate) fn token(&mut self) -> Option<u8> {
        let mut byte = *self.bytes.get(self.at)?;
        if byte <= b' ' {
            self.skip_blanks();
            byte = *self.bytes.get(self.at)?;
        }
        self.at += 1;
        Some(byte)
    }

    pub(crate) fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.token()? == wanted).then_some(())
    }

    /// A string without escapes.
    #[inline(always)]
    pub(crate) fn plain_string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let start = self.at;
        self.find_stop()?;
        let end = self.at;
        if *self.bytes.get(end)? != b'"' {
            return None;
        }
        self.at += 1;
        self.line.get(start..end)
    }

    /// A value that holds no others: what a string says, its escapes undone; any other as it is written.
    pub(crate) fn scalar(&mut self) -> Option<Cow<'a, str>> {
        let begin = self.at;
        if self.next_byte() == Some(b'"')
            && let Some(plain) = self.plain_string()
        {
            return Some(Cow::Borrowed(plain));
        }
        self.at = begin;
        self.skip_value()?;
        Some(Json::of_valid(self.line.get(begin..self.at)?).scalar())
    }

    /// A member's name and its colon.
    #[inline(always)]
    pub(crate) fn name(&mut self) -> Option<&'a str> {
        let name = self.plain_string()?;
        self.name_end = self.at - 1;
        self.expect(b':')?;
        Some(name)
    }

    /// `meta` and what its `lastUpdated` says.
    fn last_updated(&mut self) -> Option<Option<Instant>> {
        self.expect(b'{')?;
        let mut found = None;
        loop {
            match self.name()? {
                "lastUpdated" if found.is_none() => found = Some(Instant::parse(self.plain_string()?).ok()),
                "lastUpdated" => return None,
                _ => self.skip_value()?,
            }
            match self.token()? {
                b',' => {}
                b'}' => return Some(found.flatten()),
                _ => return None,
            }
        }
    }

    /// Goes on to the next quote or backslash within a string.
    #[inline(always)]
    fn find_stop(&mut self) -> Option<()> {
        // Eight bytes at a time; the lowest set bit is exact, whatever subtraction borrows above it.
        const ONES: u64 = u64::MAX / 255;
        const HIGH: u64 = ONES << 7;
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
        while let Some(chunk) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_le_bytes(*chunk);
            let stops = (zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c))) & HIGH;
            if stops != 0 {
                self.at += (stops.trailing_zeros() / 8) as usize;
                return Some(());
            }
            self.at += 8;
        }
        while !matches!(self.bytes.get(self.at)?, b'"' | b'\\') {
            self.at += 1;
        }
        Some(())
    }

    /// The rest of a string behind its opening quote.
    #[inline(always)]
    fn skip_string(&mut self) -> Option<()> {
        loop {
            self.find_stop()?;
            let stop = *self.bytes.get(self.at)?;
            self.at += 1;
            match stop {
                b'"' => return Some(()),
                b'\\' => self.skip_escape()?,
                _ => return None,
            }
        }
    }

    fn skip_escape(&mut self) -> Option<()> {
        let escaped = *self.bytes.get(self.at)?;
        self.at += 1;
        match escaped {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.bytes.get(self.at..self.at + 4)?;
                self.at += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    /// A number behind its first character.
    fn skip_number(&mut self, first: u8) -> Option<()> {
        let leading = if first == b'-' { self.digit()? } else { first };
        if leading != b'0' {
            self.skip_digits();
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit()?;
            self.skip_digits();
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digit()?;
            self.skip_digits();
        }
        Some(())
    }

    fn digit(&mut self) -> Option<u8> {
        let digit = self.bytes.get(self.at).copied().filter(u8::is_ascii_digit)?;
        self.at += 1;
        Some(digit)
    }

    fn skip_digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn skip_word(&mut self, rest: &[u8]) -> Option<()> {
        let is_there = self.bytes.get(self.at..)?.starts_with(rest);
        self.at += rest.len();
        is_there.then_some(())
    }

    /// Any value.
    pub(crate) fn skip_value(&mut self) -> Option<()> {
        // The containers that are open, the innermost one the lowest bit: 1 is an object.
        let (mut open, mut depth) = (0_u128, 0);
        loop {
            let first = self.token()?;
            match first {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    if depth == DEPTH {
                        return None;
                    }
                    (open, depth) = (open << 1 | u128::from(first == b'{'), depth + 1);
                    // Behind it comes a value or its end; of an object, a name first.
                    let next = self.token()?;
                    self.at -= 1;
                    match (first, next) {
                        (b'{', b'"') => {
                            self.name()?;
                            continue;
                        }
                        // The end is taken below.
                        (b'{', b'}') | (b'[', b']') => {}
                        (b'{', _) => return None,
                        _ => continue,
                    }
                }
                b'-' | b'0'..=b'9' => self.skip_number(first)?,
                b't' => self.skip_word(b"rue")?,
                b'f' => self.skip_word(b"alse")?,
                b'n' => self.skip_word(b"ull")?,
                _ => return None,
            }
            // A value is behind us.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::read;

    const SAMPLES: [&str; 3] = [
        include_str!("../../../../tests/samples/lake/Patient.ndjson"),
        include_str!("../../../../tests/samples/lake/DocumentReference.ndjson"),
        include_str!("../../../../tests/samples/lake/Claim/claims.ndjson"),
    ];

    #[test]
    fn ordinary_resources_take_the_fast_way_and_read_the_same() {
        for line in SAMPLES.iter().flat_map(|sample| sample.lines()) {
            assert_eq!(skim(line), read(line).ok(), "{line}");
        }
    }

    #[test]
    fn whatever_is_cut_or_damaged_is_never_taken_for_whole() {
        for line in SAMPLES.iter().filter_map(|sample| sample.lines().next()) {
            for (at, byte) in line.bytes().enumerate() {
                assert_eq!(skim(&line[..at]), None, "cut at {at}");
                for damage in [b'"', b'\\', b'{', b'}', b'[', b']', b',', b':', b'0', b'.', b'-', b' ', b'\n', b'n'] {
                    let mut damaged = line.as_bytes().to_vec();
                    damaged[at] = damage;
                    let damaged = String::from_utf8(damaged).unwrap();
                    let skimmed = skim(&damaged);
                    assert!(skimmed.is_none() || skimmed == read(&damaged).ok(), "{} for {} at {at}", damage as char, byte as char);
                }
            }
        }
    }

    #[test]
    fn json_is_what_the_general_way_says_it_is() {
        for value in [
            "0",
            "-0",
            "01",
            "-",
            "1.",
            "1.50",
            ".5",
            "1e5",
            "1E+05",
            "1e",
            "1e+",
            "-1.0e-7",
            "+1",
            "1x",
            "true",
            "tru",
            "nul",
            "null",
            "falsey",
            "[]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[[],[{}]]",
            "{}",
            "{,}",
            "{\"a\":1,}",
            "{\"a\"}",
            "{\"a\":{\"b\":[]}}",
            "{1:2}",
            "[}",
            "{]",
            "[ 1 , { \"a\" : [ ] } ]",
            r#""\n\u00e9\/""#,
            r#""\x""#,
            r#""\u00g0""#,
            r#""\ud800""#,
            "\"\t\"",
            "\"é\u{2028}\u{1F600}\"",
            "\"",
        ] {
            let line = format!(r#" {{ "resourceType" : "Patient" , "x" : {value} , "id" : "1" }} "#);
            assert_eq!(skim(&line), read(&line).ok(), "{value}");
        }
    }
}
