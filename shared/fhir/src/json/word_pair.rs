//! Sixteen bytes of a text that are examined at once, without branches.

/// Sixteen bytes of a text, as two words.
#[derive(Clone, Copy)]
pub(super) struct WordPair {
    low: u64,
    high: u64,
}

/// A word whose bytes are all 1.
const ONES: u64 = u64::MAX / 255;

/// The highest bit of each byte.
const HIGH_BITS: u64 = ONES << 7;

/// An odd factor whose product mixes all bits, so that different names practically never have the same hash.
const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl WordPair {
    pub(super) const BYTES: usize = 16;
    pub(super) const BITS: u32 = u128::BITS;

    /// Creates a pair of words.
    #[inline(always)]
    pub(super) fn new(bytes: &[u8; Self::BYTES]) -> Self {
        match bytes.as_chunks() {
            ([low, high], _) => Self { low: u64::from_le_bytes(*low), high: u64::from_le_bytes(*high) },
            _ => Self { low: 0, high: 0 },
        }
    }

    /// Creates a pair from the end of a text, with zeros behind it.
    #[cold]
    pub(super) fn from_end(bytes: &[u8]) -> Self {
        let mut padded = [0; Self::BYTES];
        padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self::new(&padded)
    }

    /// Returns the number of bits before the first quote or backslash, and up to 7 more. Returns [`Self::BITS`] if there is neither.
    #[inline(always)]
    pub(super) fn bits_before_stop(self, has_backslash: bool) -> u32 {
        let (mut low, mut high) = (positions(self.low, b'"'), positions(self.high, b'"'));
        // The same for a whole text, so that the branch is foreseen.
        if has_backslash {
            (low, high) = (low | positions(self.low, b'\\'), high | positions(self.high, b'\\'));
        }
        (u128::from(high) << 64 | u128::from(low)).trailing_zeros()
    }

    /// Returns the bytes that are complete within the first bits. Other bytes are zero.
    #[inline(always)]
    pub(super) fn first_bits(self, bits: u32) -> Self {
        let bits = bits & !7;
        let mask = |bits| 1_u64.checked_shl(bits).unwrap_or_default().wrapping_sub(1);
        Self { low: self.low & mask(bits), high: self.high & mask(bits.saturating_sub(u64::BITS)) }
    }

    /// Returns the hash of a text whose next bytes these are. `hash` is that of the bytes before them.
    #[inline(always)]
    pub(super) fn mix_into(self, hash: u64) -> u64 {
        (hash.rotate_left(23) ^ self.low ^ self.high.rotate_left(29)).wrapping_mul(HASH_FACTOR)
    }
}

/// Returns a word in which the lowest set bit marks the first byte of `word` that is `wanted`, and 0 if there is none.
#[inline(always)]
fn positions(word: u64, wanted: u8) -> u64 {
    let differences = word ^ (ONES * u64::from(wanted));
    // Borrows of the subtraction can only disturb higher bits, so the lowest set bit is exact.
    differences.wrapping_sub(ONES) & !differences & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_quote_or_backslash_is_found_at_every_position() {
        for filler in [b'a', b'#', b'!', b']', b'[', 0, 0x7f, 0xa2, 0xdc, 0xff] {
            for at in 0..WordPair::BYTES {
                for (stop, has_backslash) in [(b'"', false), (b'"', true), (b'\\', true)] {
                    let mut bytes = [filler; WordPair::BYTES];
                    bytes[at] = stop;
                    let found = WordPair::new(&bytes).bits_before_stop(has_backslash);
                    assert_eq!(found / 8, u32::try_from(at).unwrap(), "{filler} {stop}");
                }
            }
            assert_eq!(WordPair::new(&[filler; WordPair::BYTES]).bits_before_stop(true), WordPair::BITS, "{filler}");
        }
    }

    #[test]
    fn a_hash_does_not_depend_on_what_follows_the_name() {
        let hash = |text: &[u8], length: u32| WordPair::from_end(text).first_bits(length * 8 + 7).mix_into(0);
        for name in [&b""[..], b"a", b"abcdefg", b"abcdefgh", b"abcdefghijklmno"] {
            let length = u32::try_from(name.len()).unwrap();
            let followed = [name, &b"\":\"something else\""[..]].concat();
            assert_eq!(hash(name, length), hash(&followed, length));
        }
        assert_ne!(hash(b"ab", 2), hash(b"ba", 2));
    }
}
