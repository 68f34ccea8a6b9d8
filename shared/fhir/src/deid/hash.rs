//! `cryptoHash`: one value for one value, and no way back without the key.

use hmac::{Hmac, KeyInit, Mac};
use memchr::memrchr;
use sha2::{Digest, Sha256};

use crate::ResourceType;

/// A key, prepared: half of the work of each hash is done once.
#[derive(Clone)]
pub(super) struct Hasher(Hmac<Sha256>);

impl Hasher {
    /// Any length of key will do, as HMAC has it.
    pub(super) fn new(key: &[u8]) -> Self {
        // What HMAC does with keys: longer ones are hashed, shorter ones filled up. Said here, because it cannot fail.
        let digest;
        let key = if key.len() > 64 {
            digest = Sha256::digest(key);
            &*digest
        } else {
            key
        };
        let mut block = [0; 64];
        block.iter_mut().zip(key).for_each(|(place, byte)| *place = *byte);
        Self(Hmac::new(&block.into()))
    }

    /// The hash of several parts, each told from the next.
    pub(super) fn parts(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Appends the hash of a text in hexadecimal digits; nothing of an empty text.
    pub(super) fn hash(&self, text: &str, out: &mut String) {
        if text.is_empty() {
            return;
        }
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        let hash: [u8; 32] = mac.finalize().into_bytes().into();
        let mut digits = [0; 64];
        // Without a table the compiler makes many digits at a time.
        let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        for (byte, pair) in hash.iter().zip(digits.chunks_exact_mut(2)) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        out.push_str(std::str::from_utf8(&digits).unwrap_or_default());
    }

    /// Appends a reference whose id is hashed, so that it still leads to the resource whose id is hashed. A text in which
    /// no id can be told is hashed as a whole.
    pub(super) fn hash_reference(&self, reference: &str, out: &mut String) {
        let (before, id, after) = split_reference(reference);
        out.push_str(before);
        self.hash(id, out);
        out.push_str(after);
    }
}

/// What stands before the id of a reference, the id, and what stands behind it.
fn split_reference(reference: &str) -> (&str, &str, &str) {
    let whole = ("", reference, "");
    for (prefix, is_id) in [("urn:oid:", is_oid as fn(&str) -> bool), ("urn:uuid:", is_uuid)] {
        if let Some(id) = reference.strip_prefix(prefix) {
            return if is_id(id) { (prefix, id, "") } else { whole };
        }
    }
    if let Some(id) = reference.strip_prefix('#') {
        return ("#", id, "");
    }
    let Some((mut path, mut id)) = split_at_last_slash(reference) else { return whole };
    let mut current = reference;
    if let Some(without) = path.strip_suffix("/_history") {
        let Some((before, versioned)) = split_at_last_slash(without).filter(|_| is_id(id)) else { return whole };
        (current, path, id) = (without, before, versioned);
    }
    if !is_id(id) {
        return whole;
    }
    let is_named = match split_at_last_slash(path) {
        Some((base, kind)) => is_base(base) && ResourceType::named(kind).is_some(),
        None => ResourceType::named(path).is_some(),
    };
    let parts = || Some((reference.get(..path.len() + 1)?, id, reference.get(current.len()..)?));
    if is_named { parts().unwrap_or(whole) } else { whole }
}

fn split_at_last_slash(text: &str) -> Option<(&str, &str)> {
    let at = memrchr(b'/', text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn is_base(base: &str) -> bool {
    let address = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://"));
    address.is_some_and(|address| !address.is_empty() && !address.contains(['?', '#', ' ']))
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// `1.2.840`: at least two numbers, the first 0 to 2, none with a zero before it.
fn is_oid(text: &str) -> bool {
    let is_number =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !matches!(part.as_bytes(), [] | [b'0', ..]));
    let mut parts = text.split('.');
    let is_root = matches!(parts.next(), Some("0" | "1" | "2"));
    is_root && text.contains('.') && parts.all(is_number)
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    lengths && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_where_a_reference_has_one() {
        for (reference, expected) in [
            ("Patient/1", ("Patient/", "1", "")),
            (
                "https://my-server.example/fhir/r4/Patient/a.b-c/_history/3",
                ("https://my-server.example/fhir/r4/Patient/", "a.b-c", "/_history/3"),
            ),
            ("#", ("#", "", "")),
            ("Patient?identifier=x|1", ("", "Patient?identifier=x|1", "")),
            ("http://x/Patient?y/Patient/1", ("", "http://x/Patient?y/Patient/1", "")),
            ("Patient/1/_history/", ("", "Patient/1/_history/", "")),
            ("http:///Patient/1", ("", "http:///Patient/1", "")),
            ("x/Patient/1", ("", "x/Patient/1", "")),
            ("urn:oid:3.1", ("", "urn:oid:3.1", "")),
        ] {
            assert_eq!(split_reference(reference), expected, "{reference}");
        }
    }

    #[test]
    fn a_key_of_any_length_is_a_key() {
        let hash = |key: &[u8]| {
            let mut out = String::new();
            Hasher::new(key).hash("x", &mut out);
            out
        };
        let hashes: std::collections::BTreeSet<_> = [0, 1, 63, 64, 65, 200].map(|length| hash(&vec![b'k'; length])).into();
        assert_eq!(hashes.len(), 6);
    }
}
