//! Search for the quotes and backslashes of a JSON text, 64 bytes at a time.

use wide::u8x16;

/// The number of bytes of a block: one for each bit of a word.
const BLOCK_BYTES: usize = u64::BITS as usize;

/// The number of bytes of a vector.
const VECTOR_BYTES: usize = 16;

/// The quotes and backslashes of the block of a text in which one was found last.
#[derive(Clone, Copy)]
pub(super) struct QuoteFinder {
    /// The number of the block.
    block: usize,
    /// One bit for each byte of the block, the first in the lowest bit.
    found: u64,
}

impl Default for QuoteFinder {
    /// Starts without a block.
    fn default() -> Self {
        Self { block: usize::MAX, found: 0 }
    }
}

impl QuoteFinder {
    /// Returns the position of the first quote or backslash from `position` on. Returns `None` if there is none, or if a block up to it has
    /// a control character, which no string may have.
    ///
    /// All calls must pass the same text.
    #[inline(always)]
    pub(super) fn next(&mut self, text: &[u8], position: usize) -> Option<usize> {
        let block = position / BLOCK_BYTES;
        if block != self.block {
            self.load(text, block)?;
        }
        let found = self.found >> (position % BLOCK_BYTES);
        if found != 0 {
            return Some(position + found.trailing_zeros() as usize);
        }
        loop {
            self.load(text, self.block + 1)?;
            if self.found != 0 {
                return Some(self.block * BLOCK_BYTES + self.found.trailing_zeros() as usize);
            }
        }
    }

    /// Moves to a block of the text.
    #[inline(always)]
    fn load(&mut self, text: &[u8], block: usize) -> Option<()> {
        *self = Self { block, found: quotes_and_backslashes(text.get(block * BLOCK_BYTES..)?)? };
        Some(())
    }
}

/// Returns one bit for each of the first 64 bytes of `text` that is a quote or a backslash. Returns `None` if the text is empty, or if one of
/// the bytes is a control character.
// Not inlined: the loops of the scanner keep their values in registers.
#[inline(never)]
fn quotes_and_backslashes(text: &[u8]) -> Option<u64> {
    match text.first_chunk() {
        Some(block) => quotes_in_block(block),
        None if text.is_empty() => None,
        None => {
            let mut block = [b' '; BLOCK_BYTES];
            block.get_mut(..text.len())?.copy_from_slice(text);
            quotes_in_block(&block)
        }
    }
}

/// Returns one bit for each byte that is a quote or a backslash. Returns `None` if a byte is a control character.
// `wide` has vectors in safe code, of SSE2 and of NEON, which all our targets have.
#[inline(always)]
fn quotes_in_block(block: &[u8; BLOCK_BYTES]) -> Option<u64> {
    let (quote, backslash) = (u8x16::splat(b'"'), u8x16::splat(b'\\'));
    let (vectors, _) = block.as_chunks::<VECTOR_BYTES>();
    let (mut found, mut lowest) = (0, u8x16::MAX);
    for (index, vector) in vectors.iter().enumerate() {
        let vector = u8x16::new(*vector);
        let is_found = vector.simd_eq(quote) | vector.simd_eq(backslash);
        found |= u64::from(is_found.to_bitmask()) << (index * VECTOR_BYTES);
        lowest = lowest.min(vector);
    }
    let has_control = lowest.simd_lt(u8x16::splat(b' ')).any();
    (!has_control).then_some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quotes_and_backslashes_are_found_in_texts_of_any_length(text in "[\"\\\\a-cé🙂 ]{0,300}", from in any::<prop::sample::Index>()) {
            let bytes = text.as_bytes();
            let position = from.index(bytes.len() + 1);
            let expected = (position..bytes.len()).find(|at| matches!(bytes[*at], b'"' | b'\\'));
            prop_assert_eq!(QuoteFinder::default().next(bytes, position), expected);
            // A finder that has moved on finds the same.
            let mut used = QuoteFinder::default();
            used.next(bytes, bytes.len() / 2);
            prop_assert_eq!(used.next(bytes, position), expected);
        }

        #[test]
        fn a_string_with_a_control_character_has_no_end(length in 0..200_usize, control in 0..b' ', at in any::<prop::sample::Index>()) {
            let mut text = vec![b'x'; length + 1];
            text[at.index(length + 1)] = control;
            text.push(b'"');
            prop_assert_eq!(QuoteFinder::default().next(&text, 0), None);
        }
    }
}
