use async_compression::Level;
use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use async_compression::zstd::CParameter;
use futures_util::stream;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::io::AsyncReadExt;

use super::*;
use crate::arbitrary::{chunk_sizes, ranges, text};
use crate::lake::ndjson::LINE_LIMIT_BYTES;

const COMPRESSED: [Encoding; 2] = [Encoding::Gzip, Encoding::Zstd];

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Compresses text as one gzip member or Zstandard frame, with its checksum.
fn compress(encoding: Encoding, text: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    let written = match encoding {
        Encoding::Plain => Ok(0),
        Encoding::Gzip => block_on(GzipEncoder::new(text).read_to_end(&mut stored)),
        Encoding::Zstd => block_on(
            ZstdEncoder::with_quality_and_params(text, Level::Fastest, &[CParameter::checksum_flag(true)]).read_to_end(&mut stored),
        ),
    };
    written.unwrap();
    stored
}

/// Builds an object of an empty member and one member for each range of the text. Returns it with the end of each member.
fn compress_members(encoding: Encoding, text: &[u8], cuts: &[Index]) -> (Bytes, Vec<usize>) {
    let mut stored = compress(encoding, b"");
    let mut ends = vec![stored.len()];
    for range in ranges(text.len(), cuts) {
        let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        stored.extend(compress(encoding, &text[start..end]));
        ends.push(stored.len());
    }
    (stored.into(), ends)
}

fn whole_object(encoding: Encoding, stored: &Bytes) -> ReadRequest {
    let size = stored.len() as u64;
    ReadRequest { object: "Patient.ndjson".into(), encoding, range: 0..size, size, offset: 0 }
}

/// Reads all lines when stored bytes arrive in chunks of these sizes. Asserts that segments are contiguous, and returns the
/// offset of the first one.
fn read_lines(request: ReadRequest, stored: &Bytes, sizes: &[usize]) -> Result<(Option<u64>, Vec<u8>), SourceError> {
    let (sizes, bytes, start) = (sizes.to_vec(), stored.clone(), request.offset);
    let read = move |range: Range<u64>| -> ByteStream {
        let mut rest = bytes.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        let mut chunks = Vec::new();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            chunks.push(Ok(rest.split_to(rest.len().min(*size))));
        }
        Box::pin(stream::iter(chunks))
    };
    let mut reader = LineReader::open(request, read);
    let (mut first, mut text) = (None, Vec::new());
    while let Some(segment) = block_on(reader.next())? {
        if let Segment::Lines { offset, bytes } = segment {
            if bytes.is_empty() {
                assert_eq!((offset, first), (start, None), "only a reader that skips has no lines yet");
                continue;
            }
            assert_eq!(offset, *first.get_or_insert(offset) + text.len() as u64);
            text.extend_from_slice(&bytes);
        }
    }
    Ok((first, text))
}

/// Returns the offsets at which lines start, and the end of the text.
fn line_starts(text: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    starts.extend((1..=text.len()).filter(|at| text[at - 1] == b'\n' || *at == text.len()));
    starts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn slices_of_a_plain_object_are_read_completely_from_any_line(
        text in text(), cuts in prop::collection::vec(any::<Index>(), 0..6), sizes in chunk_sizes(),
    ) {
        let stored = Bytes::from(text);
        let mut joined = 0;
        for range in ranges(stored.len(), &cuts) {
            let whole = ReadRequest { range: range.clone(), ..whole_object(Encoding::Plain, &stored) };
            let (first, text) = read_lines(whole.clone(), &stored, &sizes).unwrap();
            if let Some(first) = first {
                prop_assert!(range.contains(&first));
                prop_assert_eq!(first, joined as u64);
            }
            prop_assert_eq!(&text, &stored[joined..joined + text.len()]);
            for start in line_starts(&text) {
                let offset = (joined + start) as u64;
                if offset > range.start && !text.is_empty() {
                    let (from, rest) = read_lines(ReadRequest { offset, ..whole.clone() }, &stored, &sizes).unwrap();
                    prop_assert_eq!(from, (start < text.len()).then_some(offset));
                    prop_assert_eq!(&rest, &text[start..]);
                }
            }
            joined += text.len();
        }
        prop_assert_eq!(joined, stored.len());
    }

    #[test]
    fn compressed_objects_of_any_number_of_members_are_read_completely_from_any_line(
        text in text(), cuts in prop::collection::vec(any::<Index>(), 0..4), sizes in chunk_sizes(),
    ) {
        for encoding in COMPRESSED {
            let (stored, _) = compress_members(encoding, &text, &cuts);
            for start in line_starts(&text) {
                let from = ReadRequest { offset: start as u64, ..whole_object(encoding, &stored) };
                let (first, rest) = read_lines(from, &stored, &sizes).unwrap();
                prop_assert_eq!(first, (start < text.len()).then_some(start as u64));
                prop_assert_eq!(&rest, &text[start..]);
            }
        }
    }

    #[test]
    fn a_truncated_compressed_object_is_an_error(
        text in text(), cuts in prop::collection::vec(any::<Index>(), 0..3), cut in any::<Index>(), sizes in chunk_sizes(),
    ) {
        for encoding in COMPRESSED {
            let (stored, ends) = compress_members(encoding, &text, &cuts);
            let length = 1 + cut.index(stored.len() - 1);
            let stored = stored.slice(..length);
            let read = read_lines(whole_object(encoding, &stored), &stored, &sizes);
            // A missing member at the end cannot be detected.
            let is_whole = ends.contains(&length);
            prop_assert!(matches!(&read, Err(SourceError::Unreadable { object, .. }) if object == "Patient.ndjson") != is_whole, "{encoding:?} {length} {read:?}");
        }
    }

    #[test]
    fn a_corrupt_compressed_object_is_never_read_as_different_text(
        text in text(), place in any::<Index>(), bit in 0_u8..8, sizes in chunk_sizes(),
    ) {
        for encoding in COMPRESSED {
            let (stored, _) = compress_members(encoding, &text, &[]);
            let mut damaged = stored.to_vec();
            let at = place.index(damaged.len());
            damaged[at] ^= 1 << bit;
            let damaged = Bytes::from(damaged);
            match read_lines(whole_object(encoding, &damaged), &damaged, &sizes) {
                // Some bits carry no data, such as the time in a gzip header.
                Ok((_, read)) => prop_assert_eq!(&read, &text, "{:?} {} {}", encoding, at, bit),
                Err(SourceError::Unreadable { .. }) => {}
                Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
        }
    }
}

#[test]
fn an_uncompressed_object_with_a_compressed_name_is_an_error_that_names_the_object() {
    for encoding in COMPRESSED {
        let stored = Bytes::from_static(b"{\"resourceType\":\"Patient\",\"id\":\"1\"}\n");
        let error = read_lines(whole_object(encoding, &stored), &stored, &[7]).unwrap_err();
        assert!(matches!(&error, SourceError::Unreadable { .. }), "{error:?}");
        assert!(error.to_string().contains("Patient.ndjson") && !error.to_string().contains("resourceType"), "{error}");
    }
}

#[test]
fn errors_of_the_source_pass_through_decompression_unchanged() {
    for encoding in COMPRESSED {
        let text = "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n".repeat(1_000);
        let stored = Bytes::from(compress(encoding, text.as_bytes()));
        let beginning = stored.slice(..stored.len() / 2);
        let read = move |_: Range<u64>| -> ByteStream {
            Box::pin(stream::iter([Ok(beginning.clone()), Err(SourceError::Changed { object: "Patient.ndjson".into() })]))
        };
        let mut reader = LineReader::open(whole_object(encoding, &stored), read);
        let end = block_on(async {
            loop {
                match reader.next().await {
                    Ok(Some(_)) => {}
                    end => break end.map(drop),
                }
            }
        });
        assert!(matches!(&end, Err(SourceError::Changed { object }) if object == "Patient.ndjson"), "{end:?}");
    }
}

#[test]
fn the_rest_of_an_overlong_line_is_skipped_in_steps() {
    // Written with Zstandard, because a line of this size takes long otherwise.
    let overlong = LINE_LIMIT_BYTES + (8 << 20);
    let stored = Bytes::from(compress(Encoding::Zstd, &[&b" ".repeat(overlong)[..], b"\n{}\n"].concat()));
    let read = |range: Range<u64>| -> ByteStream {
        let bytes = stored.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        Box::pin(stream::iter([Ok(bytes)]))
    };
    let mut reader = LineReader::open(whole_object(Encoding::Zstd, &stored), read);
    let mut segments = Vec::new();
    while let Some(segment) = block_on(reader.next()).unwrap() {
        segments.push(segment);
    }
    let empty = Segment::Lines { offset: 0, bytes: Bytes::new() };
    let last = Segment::Lines { offset: overlong as u64 + 1, bytes: Bytes::from_static(b"{}\n") };
    let (steps, others): (Vec<_>, Vec<_>) = segments.into_iter().partition(|segment| *segment == empty);
    assert_eq!(others, [Segment::OverlongLine { offset: 0 }, last]);
    assert!(steps.len() > 10, "{}", steps.len());
}

#[test]
fn a_line_that_crosses_the_end_of_its_slice_by_megabytes_is_read_completely() {
    let line = [vec![b'x'; 3 << 20], b"\n".to_vec()].concat();
    let stored = Bytes::from([&b"a\n"[..], &line, b"b\n"].concat());
    let first = ReadRequest { range: 0..100, ..whole_object(Encoding::Plain, &stored) };
    let second = ReadRequest { range: 100..stored.len() as u64, ..whole_object(Encoding::Plain, &stored) };
    assert!(read_lines(first, &stored, &[1 << 20]).unwrap().1 == [b"a\n", line.as_slice()].concat());
    assert_eq!(read_lines(second, &stored, &[1 << 20]).unwrap().1, b"b\n");
}
