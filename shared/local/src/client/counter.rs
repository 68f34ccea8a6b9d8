//! Counts the resources of a downloaded file, and notices what is not NDJSON.

use headrace_core::vocab::byte_order_mark::BYTE_ORDER_MARK;
use memchr::memchr;
use serde::Deserialize;

use crate::client::line_rule::{LineRule, MAX_CHECKED_LINE};

/// Length of the longest first line whose type is checked, in bytes.
const MAX_FIRST_LINE: usize = 1 << 20;

/// A counter of the resources of a file. It counts like the reader of a lake: lines that are not blank, with any line end.
#[derive(Debug, Default)]
pub(crate) struct ResourceCounter {
    lines: u64,
    headers: u64,
    /// Bytes of the byte order mark that were read, or all if there is none.
    mark_bytes: usize,
    /// First line that is not blank, up to a limit, and whether it is complete.
    first_line: Vec<u8>,
    has_first_line: bool,
    /// The beginning of the current line, as far as it tells a header of a block from a resource.
    line_start: Vec<u8>,
    /// Last byte of the current line that is not white space.
    last_byte: Option<u8>,
    rule: LineRule,
    /// Number of lines before the current one, with blank ones.
    earlier_lines: u64,
    /// The current line, if there is a rule, up to a limit.
    line: Vec<u8>,
    invalid: Option<InvalidLines>,
}

/// Lines that violate the rule for the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvalidLines {
    /// Number of these lines.
    pub(crate) count: u64,
    /// Number of the first one, from 1.
    pub(crate) first: u64,
    /// Reason for the first one.
    pub(crate) reason: String,
}

/// The beginning of the header line of a block, without white space.
const BLOCK_HEADER: &[u8] = b"{\"resourceType\":\"Parameters\"";

/// The type of a resource, and the reason of an OperationOutcome.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FirstLine {
    resource_type: Option<String>,
}

impl ResourceCounter {
    /// Creates a counter that checks each line by this rule.
    pub(crate) fn with_rule(rule: LineRule) -> Self {
        Self { rule, ..Self::default() }
    }

    /// Adds bytes of the file.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while let (Some(mark), Some((first, rest))) = (BYTE_ORDER_MARK.get(self.mark_bytes), bytes.split_first()) {
            if first != mark {
                self.mark_bytes = BYTE_ORDER_MARK.len();
                break;
            }
            (self.mark_bytes, bytes) = (self.mark_bytes + 1, rest);
        }
        while let Some(end) = memchr(b'\n', bytes) {
            self.extend_line(bytes.get(..end).unwrap_or_default());
            self.end_line();
            bytes = bytes.get(end + 1..).unwrap_or_default();
        }
        self.extend_line(bytes);
    }

    /// Adds bytes to the current line.
    fn extend_line(&mut self, text: &[u8]) {
        let Some(last) = text.trim_ascii_end().last() else { return };
        self.last_byte = Some(*last);
        if self.line_start.len() < BLOCK_HEADER.len() {
            let missing = BLOCK_HEADER.len() - self.line_start.len();
            self.line_start.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()).take(missing));
        }
        if !self.has_first_line && self.first_line.len() <= MAX_FIRST_LINE {
            self.first_line.extend_from_slice(text.get(..MAX_FIRST_LINE + 1).unwrap_or(text));
        }
        if self.rule != LineRule::Any && self.line.len() <= MAX_CHECKED_LINE {
            self.line.extend_from_slice(text.get(..MAX_CHECKED_LINE + 1).unwrap_or(text));
        }
    }

    /// Ends the current line.
    fn end_line(&mut self) {
        if self.last_byte.take().is_some() {
            self.lines += 1;
            self.has_first_line = true;
            let is_header = self.line_start == BLOCK_HEADER;
            self.headers += u64::from(is_header);
            if !is_header {
                self.check_line();
            }
        }
        self.earlier_lines += 1;
        self.line_start.clear();
        self.line.clear();
    }

    /// Checks the current line by the rule.
    fn check_line(&mut self) {
        let line = Some(self.line.trim_ascii()).filter(|line| line.len() <= MAX_CHECKED_LINE);
        let Some(reason) = line.and_then(|line| self.rule.fault(line)) else { return };
        match &mut self.invalid {
            Some(invalid) => invalid.count += 1,
            None => self.invalid = Some(InvalidLines { count: 1, first: self.earlier_lines + 1, reason }),
        }
    }

    /// Returns the number of resources on lines that are complete.
    pub(crate) fn complete_resources(&self) -> u64 {
        self.lines - self.headers
    }

    /// Ends the file and returns its count.
    pub(crate) fn finish(mut self) -> FileCount {
        // The last line may lack its line feed. A file that was cut off inside of it does not end with the end of an object.
        let is_cut_off = self.last_byte.is_some_and(|last| last != b'}');
        self.end_line();
        FileCount { lines: self.lines, headers: self.headers, is_cut_off, first_line: self.first_line, invalid: self.invalid }
    }
}

/// The count of a file.
#[derive(Debug)]
pub(crate) struct FileCount {
    pub(crate) lines: u64,
    /// Lines that begin a block, in a file that is organized by patient.
    headers: u64,
    is_cut_off: bool,
    first_line: Vec<u8>,
    /// Lines that violate the rule for the file.
    pub(crate) invalid: Option<InvalidLines>,
}

impl FileCount {
    /// Returns the number of resources. The header lines of blocks are not resources, but a server may have counted them.
    pub(crate) fn resources(&self, expected: Option<u64>) -> u64 {
        if expected == Some(self.lines) { self.lines } else { self.lines - self.headers }
    }

    /// Returns why the file is not NDJSON of this type, or `None` if it is.
    pub(crate) fn problem(&self, resource_type: Option<&str>) -> Option<String> {
        let line = self.first_line.trim_ascii();
        match line {
            [] => return None,
            [0x1f, 0x8b, ..] => return Some("it is a gzip file within a gzip file".to_owned()),
            [b'<', ..] => return Some("it is HTML or XML, not NDJSON".to_owned()),
            [b'[', ..] => return Some("it is a JSON array, not NDJSON".to_owned()),
            [b'{', ..] => {}
            [first, ..] => return Some(format!("it does not begin with a JSON object but with `{}`", first.escape_ascii())),
        }
        if self.is_cut_off {
            return Some("it ends in the middle of a resource".to_owned());
        }
        if self.first_line.len() > MAX_FIRST_LINE {
            return None;
        }
        let Ok(FirstLine { resource_type: found }) = serde_json::from_slice(line) else {
            return Some("its first line is not a JSON object".to_owned());
        };
        let expected = resource_type.filter(|expected| found.as_deref() != Some(*expected))?;
        let found = found.map_or_else(|| "something without a resourceType".to_owned(), |found| crate::terminal::shorten(&found, 64));
        Some(format!("its first line is {found}, not {expected}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts a text that arrives in chunks of this size.
    fn count(text: &[u8], chunk: usize) -> FileCount {
        let mut counter = ResourceCounter::default();
        for part in text.chunks(chunk) {
            counter.push(part);
        }
        counter.finish()
    }

    #[test]
    fn resources_are_counted_as_a_lake_is_read() {
        for (text, lines) in [
            (&b""[..], 0),
            (b"{}", 1),
            (b"{}\n", 1),
            (b"{}\n{}", 2),
            (b"{}\r\n{}\r\n", 2),
            (b"\n\n{}\n \t\r\n\n{}\n\n", 2),
            (b"\xef\xbb\xbf{}\n{}", 2),
            (b"\xef\xbb\xbf", 0),
            (b"\n \r\n", 0),
        ] {
            for chunk in [1, 2, 3, 1000] {
                assert_eq!(count(text, chunk).lines, lines, "{text:?} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn header_lines_of_blocks_are_distinguished_from_resources() {
        let text =
            b"{\"resourceType\":\"Parameters\",\"parameter\":[]}\n{\"resourceType\":\"Patient\"}\n { \"resourceType\" : \"Parameters\" }\n";
        for chunk in [1, 7, 1000] {
            let count = count(text, chunk);
            assert_eq!((count.lines, count.headers), (3, 2));
        }
    }

    #[test]
    fn lines_that_no_lake_has_are_found_with_their_number() {
        let text = b"\n{\"resourceType\":\"Patient\",\"id\":\"1\"}\n{\"resourceType\":\"Patient\"}\r\n \n{\"id\":\"2\"}";
        let blocks = b"{\"resourceType\":\"Parameters\",\"parameter\":[]}\n{\"resourceType\":\"Patient\",\"id\":\"1\"}\n";
        for chunk in [1, 7, 1000] {
            let count = |text: &[u8], rule| {
                let mut counter = ResourceCounter::with_rule(rule);
                text.chunks(chunk).for_each(|part| counter.push(part));
                counter.finish()
            };
            let expected = InvalidLines { count: 2, first: 3, reason: "no id".to_owned() };
            assert_eq!(count(text, LineRule::Resources).invalid, Some(expected));
            assert_eq!(count(text, LineRule::Any).invalid, None);
            assert_eq!(count(blocks, LineRule::Resources).invalid, None);
        }
    }

    #[test]
    fn content_that_is_not_ndjson_of_the_type_is_described() {
        let outcome = br#"{"resourceType":"OperationOutcome","issue":[]}"#;
        for (text, kind, problem) in [
            (&b"<?xml version='1.0'?><Error/>"[..], None, "HTML or XML"),
            (b"[{}]", None, "JSON array"),
            (b"Internal error", None, "begin with a JSON object but with `I`"),
            (b"{\n \"resourceType\": \"Patient\"\n}\n", None, "first line is not a JSON object"),
            (b"{\"resourceType\":\"Patient\"}\n{\"resourceTy", Some("Patient"), "ends in the middle"),
            (outcome, Some("Patient"), "first line is OperationOutcome, not Patient"),
            (b"\x1f\x8b\x08", None, "gzip file within"),
            (b"{}", Some("Patient"), "without a resourceType, not Patient"),
        ] {
            let found = count(text, 5).problem(kind).unwrap_or_default();
            assert!(found.contains(problem), "{problem}: {found}");
        }
        for text in [&b""[..], b"\n", b"\xef\xbb\xbf{\"resourceType\":\"Patient\"}", b"{\"resourceType\":\"Patient\"}\r\n\r\n"] {
            assert_eq!(count(text, 5).problem(Some("Patient")), None, "{text:?}");
        }
        assert_eq!(count(outcome, 5).problem(None), None);
    }
}
