use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::arbitrary::{chunk_sizes, ranges, text};

/// Splits the given slice of the text, read in chunks of these sizes.
fn split(text: &Bytes, range: std::ops::Range<u64>, sizes: &[usize], limit_bytes: usize) -> Vec<Segment> {
    let mut splitter = LineSplitter { limit_bytes, ..LineSplitter::from_slice_start(range.start, range.end) };
    let mut position = usize::try_from(range.start.saturating_sub(1)).unwrap();
    let mut segments = Vec::new();
    for size in sizes.iter().cycle() {
        if position >= text.len() || !splitter.needs_more() {
            break;
        }
        let end = text.len().min(position + size);
        segments.extend(splitter.push(text.slice(position..end)));
        position = end;
    }
    segments.extend(splitter.finish());
    segments
}

/// Returns the range of each line of a text, with its line feed.
fn line_ranges(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    text.split_inclusive(|byte| *byte == b'\n')
        .map(|line| {
            start += line.len();
            start - line.len()..start
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_line_belongs_to_exactly_one_slice_for_any_slices_and_chunks(
        text in text(), cuts in prop::collection::vec(any::<Index>(), 0..8), sizes in chunk_sizes(),
    ) {
        let text = Bytes::from(text);
        let mut joined = Vec::new();
        for range in ranges(text.len(), &cuts) {
            for segment in split(&text, range.clone(), &sizes, LINE_LIMIT_BYTES) {
                let Segment::Lines { offset, bytes } = segment else { return Err(TestCaseError::fail("an overlong line")) };
                prop_assert_eq!(offset, joined.len() as u64);
                prop_assert!(range.contains(&offset));
                let last_line = line_ranges(&bytes).last().map_or(0, |line| line.start) as u64;
                prop_assert!(range.contains(&(offset + last_line)));
                joined.extend_from_slice(&bytes);
                prop_assert!(joined.ends_with(b"\n") || joined.len() == text.len());
            }
        }
        prop_assert_eq!(Bytes::from(joined), text);
    }

    #[test]
    fn only_its_length_makes_a_line_overlong(
        text in text(), cuts in prop::collection::vec(any::<Index>(), 0..4), sizes in chunk_sizes(), limit_bytes in 4_usize..40,
    ) {
        let text = Bytes::from(text);
        // Chunks are a few MiB in practice, and never longer than the limit.
        let sizes: Vec<usize> = sizes.into_iter().map(|size| size.min(limit_bytes)).collect();
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for range in ranges(text.len(), &cuts) {
            for segment in split(&text, range, &sizes, limit_bytes) {
                match segment {
                    Segment::Lines { offset, bytes } => {
                        let start = usize::try_from(offset).unwrap();
                        prop_assert_eq!(&bytes, &text.slice(start..start + bytes.len()));
                        kept.extend(line_ranges(&bytes).into_iter().map(|line| start + line.start));
                    }
                    Segment::OverlongLine { offset } => dropped.push(usize::try_from(offset).unwrap()),
                }
            }
        }
        let is_overlong = |line: &std::ops::Range<usize>| text[line.clone()].strip_suffix(b"\n").unwrap_or(&text[line.clone()]).len() > limit_bytes;
        let (long, short): (Vec<_>, Vec<_>) = line_ranges(&text).into_iter().partition(is_overlong);
        prop_assert_eq!(dropped, long.iter().map(|line| line.start).collect::<Vec<_>>());
        prop_assert_eq!(kept, short.iter().map(|line| line.start).collect::<Vec<_>>());
    }

    #[test]
    fn lines_cover_their_block_and_verbatim_lines_equal_their_stored_bytes(block in text(), is_first in any::<bool>()) {
        let mut end = 0;
        for line in lines(&block, u64::from(!is_first)) {
            prop_assert_eq!(line.start, end);
            end = line.end;
            let stored = &block[line.start..line.end];
            prop_assert!(!line.text.contains(&b'\n'));
            prop_assert!(stored.windows(line.text.len().max(1)).any(|window| window == line.text) || line.text.is_empty());
            prop_assert_eq!(line.is_verbatim(), stored == [line.text, b"\n"].concat());
        }
        prop_assert_eq!(end, block.len());
    }
}

#[test]
fn the_text_of_a_line_excludes_byte_order_mark_and_line_end() {
    let texts = |block, offset| lines(block, offset).map(|line| line.text).collect::<Vec<_>>();
    assert_eq!(texts(b"\xef\xbb\xbfa\r\n\nb\r\r\nc", 0), [&b"a"[..], b"", b"b\r", b"c"]);
    assert_eq!(texts(b"\xef\xbb\xbfa\n", 1), [b"\xef\xbb\xbfa"]);
}

#[test]
fn a_last_line_with_only_a_carriage_return_is_not_verbatim() {
    let line = lines(b"a\r", 0).next().unwrap();
    assert_eq!(line.text, b"a");
    assert!(!line.is_verbatim());
}

#[test]
fn a_line_of_20_mb_is_accepted() {
    let text = Bytes::from([&b"a\n"[..], &vec![b'x'; 20_000_000], b"\nb\n"].concat());
    let middle = 10_000_000;
    let mut joined = Vec::new();
    for range in [0..middle, middle..text.len() as u64] {
        for segment in split(&text, range, &[1 << 20], LINE_LIMIT_BYTES) {
            assert!(matches!(&segment, Segment::Lines { offset, bytes } if *offset == joined.len() as u64 && !bytes.is_empty()));
            if let Segment::Lines { bytes, .. } = segment {
                joined.extend_from_slice(&bytes);
            }
        }
    }
    assert!(text == joined);
}

#[test]
fn an_overlong_line_is_reported_once_and_its_neighbours_are_kept() {
    for over in [1, 1 << 20, 5 << 20] {
        let text = Bytes::from([&b"a\n"[..], &vec![b'x'; LINE_LIMIT_BYTES + over], b"\nb\n"].concat());
        let segments = split(&text, 0..text.len() as u64, &[4 << 20], LINE_LIMIT_BYTES);
        let next_line = 2 + LINE_LIMIT_BYTES as u64 + over as u64 + 1;
        let block = |offset, text: &'static [u8]| Segment::Lines { offset, bytes: Bytes::from_static(text) };
        assert!(segments == [block(0, b"a\n"), Segment::OverlongLine { offset: 2 }, block(next_line, b"b\n")], "{over}");
    }
}
