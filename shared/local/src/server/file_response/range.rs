//! The part of a file that a request asks for (RFC 9110, section 14).

use std::ops::Range;

use http::HeaderMap;
use http::header::RANGE;

/// The requested part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestedRange {
    /// All of it: no range was asked for, or one that this server ignores.
    Whole,
    /// A part of the file.
    Part(Range<u64>),
    /// Bytes that the file does not have.
    Unsatisfiable,
}

/// Returns the part of a file of `length` bytes that the header `Range` asks for.
///
/// A header that is malformed, has another unit or asks for several ranges is ignored: the answer to it is the whole file.
pub(super) fn requested_range(headers: &HeaderMap, length: u64) -> RequestedRange {
    let mut values = headers.get_all(RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return RequestedRange::Whole };
    match value.to_str().ok().and_then(parse) {
        Some(spec) => spec.resolve(length),
        None => RequestedRange::Whole,
    }
}

/// A range as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RangeSpec {
    /// From this byte to that one, or to the end.
    Bytes(u64, Option<u64>),
    /// The last bytes.
    Suffix(u64),
}

impl RangeSpec {
    /// Returns the part of a file of `length` bytes.
    fn resolve(self, length: u64) -> RequestedRange {
        let start = match self {
            // The last bytes of an empty file are all that it has.
            Self::Suffix(count) if count > 0 && length == 0 => return RequestedRange::Whole,
            Self::Suffix(0) => length,
            Self::Suffix(count) => length.saturating_sub(count),
            Self::Bytes(first, _) => first,
        };
        let end = match self {
            Self::Bytes(_, Some(last)) => last.saturating_add(1).min(length),
            Self::Bytes(_, None) | Self::Suffix(_) => length,
        };
        if start < length { RequestedRange::Part(start..end) } else { RequestedRange::Unsatisfiable }
    }
}

/// Parses a header with a single range of bytes. `None` for others.
fn parse(value: &str) -> Option<RangeSpec> {
    let (unit, range) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    match (first, last) {
        ("", count) => Some(RangeSpec::Suffix(number(count)?)),
        (first, "") => Some(RangeSpec::Bytes(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(RangeSpec::Bytes(first, Some(last)))
        }
    }
}

/// Parses a number. One that is too large stands for a position behind the end of every file.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn range(value: &str, length: u64) -> RequestedRange {
        requested_range(&HeaderMap::from_iter([(RANGE, HeaderValue::from_str(value).unwrap())]), length)
    }

    #[test]
    fn a_single_range_of_bytes_is_resolved() {
        let huge = format!("bytes=5-{}0", u64::MAX);
        for (value, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-5", 2..6),
            ("bytes=2-", 2..10),
            ("bytes=9-9", 9..10),
            ("bytes=5-100", 5..10),
            (&huge, 5..10),
            ("bytes=-3", 7..10),
            ("bytes=-10", 0..10),
            ("bytes=-99", 0..10),
            ("Bytes=1-2", 1..3),
            ("bytes= 1-2", 1..3),
        ] {
            assert_eq!(range(value, 10), RequestedRange::Part(part), "{value}");
        }
    }

    #[test]
    fn bytes_behind_the_end_cannot_be_satisfied() {
        let huge = format!("bytes={}0-", u64::MAX);
        for value in ["bytes=10-", "bytes=10-20", "bytes=-0", &huge] {
            assert_eq!(range(value, 10), RequestedRange::Unsatisfiable, "{value}");
        }
        assert_eq!(range("bytes=0-", 0), RequestedRange::Unsatisfiable);
        assert_eq!(range("bytes=-5", 0), RequestedRange::Whole);
    }

    #[test]
    fn other_ranges_are_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=1-2,4-5",
            "bytes=0-1, -1",
            "bytes=+1-2",
            "bytes=1--2",
            "lines=1-2",
            "0-5",
            "bytes:0-5",
            "bytes=0 - 5",
        ] {
            assert_eq!(range(value, 10), RequestedRange::Whole, "{value}");
        }
        let twice = ["bytes=0-1", "bytes=2-3"].map(|value| (RANGE, HeaderValue::from_static(value)));
        assert_eq!(requested_range(&HeaderMap::from_iter(twice), 10), RequestedRange::Whole);
        assert_eq!(requested_range(&HeaderMap::new(), 10), RequestedRange::Whole);
    }
}
