//! Generators for property tests.

use proptest::prelude::*;
use proptest::sample::Index;

/// Generates the text of an NDJSON object: both kinds of line ends, empty lines, multi-byte characters, occasional very long
/// lines, an optional byte order mark, and a last line with or without a line end.
pub(crate) fn text() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        6 => "[ -~äß☃🦀]{0,12}",
        1 => Just(String::new()),
        1 => (20_usize..400).prop_map(|length| "x☃".repeat(length)),
    ];
    let lines = prop::collection::vec((line, prop_oneof![4 => Just("\n"), 1 => Just("\r\n")]), 0..14);
    (any::<bool>(), lines, prop::option::of("[a-z☃]{1,8}\r?")).prop_map(|(has_byte_order_mark, lines, last)| {
        let mut text = String::from(if has_byte_order_mark { "\u{feff}" } else { "" });
        for (line, end) in lines {
            text.push_str(&line);
            text.push_str(end);
        }
        text.push_str(&last.unwrap_or_default());
        text.into_bytes()
    })
}

/// Splits `0..length` at these positions into adjacent ranges.
pub(crate) fn ranges(length: usize, positions: &[Index]) -> Vec<std::ops::Range<u64>> {
    let mut bounds: Vec<u64> = positions.iter().map(|position| position.index(length + 1) as u64).collect();
    bounds.extend([0, length as u64]);
    bounds.sort_unstable();
    bounds.dedup();
    bounds.iter().zip(bounds.iter().skip(1)).map(|(start, end)| *start..*end).collect()
}

/// Generates chunk sizes, to be used cyclically.
pub(crate) fn chunk_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1_usize..4, 1_usize..40, 500_usize..2_000], 1..6)
}
