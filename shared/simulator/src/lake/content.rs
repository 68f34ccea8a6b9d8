//! The content of objects: numbered lines of equal size, which compress about as well as real ones.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use headrace_fhir::definitions::ResourceType;
use zstd::stream::raw::{Encoder, InBuffer, Operation as _, OutBuffer};

use crate::scale::{COMPRESSION_RATIO, LINE_BYTES, Scale};

/// The stored bytes of a frame, which are decompressed at once.
pub(super) const FRAME_BYTES: u64 = 4 << 20;

/// The level of compression: the fastest of the usual ones.
const FASTEST_LEVEL: i32 = 1;

/// More bytes than the headers of a frame and of its blocks take.
const FRAME_HEADERS_BYTES: usize = 1 << 10;

/// The part of a line that does not compress, in hexadecimal digits.
const NOISE_DIGITS: usize = 54;

/// The start of the number in a line, after the type.
const BEFORE_NUMBER: &str = r#"","id":""#;

/// The number of digits of a line's number.
const NUMBER_DIGITS: usize = 10;

/// Returns the compressed lines with these numbers, and their size before compression.
///
/// They are in frames, so that the lines of a frame are there when its bytes are.
pub(super) fn compress(resource_type: ResourceType, lines: Range<u32>, scale: Scale) -> io::Result<(Bytes, u64)> {
    let frame_lines = (scale.shrink(FRAME_BYTES * COMPRESSION_RATIO) / LINE_BYTES).max(1);
    let frame_lines = u32::try_from(frame_lines).unwrap_or(u32::MAX);
    let (mut stored, mut text, mut line_bytes) = (Vec::new(), String::new(), 0);
    // One encoder for all frames: the creation of one asks the processor for its abilities, which takes long in a virtual machine.
    let mut encoder = Encoder::new(FASTEST_LEVEL)?;
    let mut start = lines.start;
    while start < lines.end {
        let end = lines.end.min(start.saturating_add(frame_lines));
        text.clear();
        (start..end).for_each(|number| add_line(&mut text, resource_type, number));
        line_bytes += text.len() as u64;
        add_frame(&mut encoder, text.as_bytes(), &mut stored)?;
        start = end;
    }
    Ok((stored.into(), line_bytes))
}

/// Appends a frame with this content.
fn add_frame(encoder: &mut Encoder<'_>, content: &[u8], stored: &mut Vec<u8>) -> io::Result<()> {
    encoder.reinit()?;
    // A frame is never longer than its content, apart from its headers.
    let mut frame = vec![0; content.len() + FRAME_HEADERS_BYTES];
    let mut output = OutBuffer::around(frame.as_mut_slice());
    let mut input = InBuffer::around(content);
    while input.pos() < content.len() {
        encoder.run(&mut input, &mut output)?;
    }
    if encoder.finish(&mut output, true)? > 0 {
        return Err(io::Error::other("a frame is longer than its content"));
    }
    stored.extend_from_slice(output.as_slice());
    Ok(())
}

/// Returns the lines with these numbers, not compressed.
pub(super) fn plain(resource_type: ResourceType, lines: Range<u32>) -> Bytes {
    let mut text = String::new();
    lines.for_each(|number| add_line(&mut text, resource_type, number));
    text.into()
}

/// Appends a line: a resource with the number as its id, noise, and a filler.
fn add_line(text: &mut String, resource_type: ResourceType, number: u32) {
    let start = text.len();
    let kind = resource_type.as_str();
    text.push_str(&format!(
        r#"{{"resourceType":"{kind}{BEFORE_NUMBER}{number:0NUMBER_DIGITS$}","meta":{{"lastUpdated":"2026-01-31T08:00:00Z"}},"x":""#
    ));
    let mut state = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..NOISE_DIGITS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push(char::from_digit(u32::try_from(state >> 60).unwrap_or_default(), 16).unwrap_or('0'));
    }
    let length = usize::try_from(LINE_BYTES).unwrap_or_default();
    let filler = (start + length).saturating_sub(text.len() + 3);
    text.extend(std::iter::repeat_n('-', filler));
    text.push_str("\"}\n");
}

/// Returns the number of a line. `None` if the line is not one of a synthetic lake.
pub fn line_number(line: &[u8]) -> Option<u32> {
    let start = line.windows(BEFORE_NUMBER.len()).position(|part| part == BEFORE_NUMBER.as_bytes())? + BEFORE_NUMBER.len();
    std::str::from_utf8(line.get(start..start + NUMBER_DIGITS)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_number_and_its_size() {
        for kind in ["ExplanationOfBenefit", "Claim"] {
            let mut text = String::new();
            add_line(&mut text, ResourceType::parse(kind).unwrap(), 1_234_567);
            assert_eq!((text.len() as u64, line_number(text.as_bytes())), (LINE_BYTES, Some(1_234_567)));
        }
    }

    #[test]
    fn lines_compress_as_the_scale_assumes() {
        let scale = Scale::from_bytes(1_000);
        let (stored, line_bytes) = compress(ResourceType::OBSERVATION, 0..100_000, scale).unwrap();
        let ratio = line_bytes as f64 / stored.len() as f64;
        assert!((7.5..8.5).contains(&ratio), "{ratio}");
    }
}
