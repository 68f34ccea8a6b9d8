//! The hashes of ids and references that were computed before.

/// Replacements by hashes that were written before: resources of one patient follow each other and refer to the same few others.
pub(in crate::deid) struct HashCache(Vec<CachedHash>);

/// A text and the JSON that replaces it.
#[derive(Clone)]
struct CachedHash {
    /// The text, followed by the JSON.
    bytes: [u8; CACHED_BYTES],
    text_length: usize,
    /// The length of both; 0 if there are none.
    length: usize,
    /// True if only the id in the text is hashed.
    is_reference: bool,
}

/// The greatest length of a text and its JSON that are kept. It suffices for absolute references with UUIDs.
const CACHED_BYTES: usize = 232;

/// The number of hashes that are kept. They fit into the cache of a processor.
const CACHED_HASHES: usize = 1 << 10;

impl Default for HashCache {
    fn default() -> Self {
        Self(vec![CachedHash { bytes: [0; CACHED_BYTES], text_length: 0, length: 0, is_reference: false }; CACHED_HASHES])
    }
}

impl HashCache {
    /// Returns the JSON that is kept for a text.
    pub(in crate::deid) fn get(&self, text: &str, is_reference: bool) -> Option<&str> {
        let kept = self.0.get(slot(text))?;
        let (kept_text, json) = kept.bytes.get(..kept.length)?.split_at_checked(kept.text_length)?;
        let is_same = kept_text == text.as_bytes() && kept.is_reference == is_reference && !json.is_empty();
        if is_same { std::str::from_utf8(json).ok() } else { None }
    }

    /// Keeps the JSON that replaces a text, unless both are too long.
    pub(in crate::deid) fn insert(&mut self, text: &str, is_reference: bool, json: &str) {
        let length = text.len() + json.len();
        let Some(kept) = self.0.get_mut(slot(text)).filter(|_| length <= CACHED_BYTES) else { return };
        let Some((kept_text, rest)) = kept.bytes.split_at_mut_checked(text.len()) else { return };
        let Some(kept_json) = rest.get_mut(..json.len()) else { return };
        kept_text.copy_from_slice(text.as_bytes());
        kept_json.copy_from_slice(json.as_bytes());
        (kept.text_length, kept.length, kept.is_reference) = (text.len(), length, is_reference);
    }
}

/// Returns the index at which the hash of a text is kept.
fn slot(text: &str) -> usize {
    let bytes = text.as_bytes();
    let short = || bytes.iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte));
    let word = |chunk: Option<&[u8; 8]>| chunk.map_or_else(short, |chunk| u64::from_le_bytes(*chunk));
    let mixed = word(bytes.first_chunk()) ^ word(bytes.last_chunk()).rotate_left(32);
    usize::try_from(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_hash_is_that_of_the_same_text() {
        let mut cache = HashCache::default();
        // Many more texts than hashes that are kept, and some that are too long.
        for number in 0..5_000 {
            let text = format!("{number}{}", "x".repeat(number % 120));
            for is_reference in [false, true] {
                let json = format!("\"{is_reference} {text}\"");
                assert_eq!(cache.get(&text, is_reference), None, "{text}");
                cache.insert(&text, is_reference, &json);
                let is_short = text.len() + json.len() <= CACHED_BYTES;
                assert_eq!(cache.get(&text, is_reference), is_short.then_some(json.as_str()), "{text}");
                assert_eq!(cache.get(&text, !is_reference), None, "{text}");
            }
        }
    }
}
