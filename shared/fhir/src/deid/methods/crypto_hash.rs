//! `cryptoHash`: a keyed hash, equal for equal values and not reversible without the key.

use hmac::{Hmac, KeyInit, Mac};
use memchr::memrchr;
use sha2::{Digest, Sha256};

use crate::definitions::ResourceType;
use crate::semantics::id::is_id;

/// HMAC-SHA256 with a prepared key. The key's share of the work, half of a short hash, is done once.
#[derive(Clone)]
pub(in crate::deid) struct Hasher(Hmac<Sha256>);

impl Hasher {
    /// Creates a hasher with a key of any length.
    pub(in crate::deid) fn new(key: &[u8]) -> Self {
        // HMAC hashes longer keys and pads shorter ones. Doing it here gives a block of fixed length, which cannot fail.
        let digest;
        let key = if key.len() > 64 {
            digest = Sha256::digest(key);
            &*digest
        } else {
            key
        };
        let mut block = [0; 64];
        block.iter_mut().zip(key).for_each(|(target, byte)| *target = *byte);
        Self(Hmac::new(&block.into()))
    }

    /// Returns the hash of several parts. Each is preceded by its length, so that different splits give different hashes.
    pub(in crate::deid) fn hash_parts(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Appends the hash of a text in hexadecimal digits. Appends nothing for an empty text.
    pub(in crate::deid) fn write_hash(&self, text: &str, out: &mut String) {
        if text.is_empty() {
            return;
        }
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        let hash: [u8; 32] = mac.finalize().into_bytes().into();
        let mut digits = [0; 64];
        // Arithmetic instead of a table lets the compiler vectorize the loop.
        let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        for (byte, pair) in hash.iter().zip(digits.chunks_exact_mut(2)) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        out.push_str(std::str::from_utf8(&digits).unwrap_or_default());
    }

    /// Appends a reference with its id hashed, so that it still resolves to the resource whose id is hashed.
    ///
    /// A text without a recognizable id is hashed as a whole.
    pub(in crate::deid) fn write_reference_hash(&self, reference: &str, out: &mut String) {
        let (before, id, after) = split_reference(reference);
        out.push_str(before);
        self.write_hash(id, out);
        out.push_str(after);
    }
}

/// Splits a reference into the text before its id, the id, and the text after it. Without an id, all of it is the id.
fn split_reference(reference: &str) -> (&str, &str, &str) {
    let unsplit = ("", reference, "");
    for (prefix, is_valid) in [("urn:oid:", is_oid as fn(&str) -> bool), ("urn:uuid:", is_uuid)] {
        if let Some(id) = reference.strip_prefix(prefix) {
            return if is_valid(id) { (prefix, id, "") } else { unsplit };
        }
    }
    if let Some(id) = reference.strip_prefix('#') {
        return ("#", id, "");
    }
    let Some((mut path, mut id)) = split_at_last_slash(reference) else { return unsplit };
    let mut without_version = reference;
    if let Some(before_history) = path.strip_suffix("/_history") {
        let Some((type_path, versioned_id)) = split_at_last_slash(before_history).filter(|_| is_id(id)) else { return unsplit };
        (without_version, path, id) = (before_history, type_path, versioned_id);
    }
    if !is_id(id) {
        return unsplit;
    }
    let has_resource_type = match split_at_last_slash(path) {
        Some((base, type_name)) => is_base_url(base) && ResourceType::parse(type_name).is_some(),
        None => ResourceType::parse(path).is_some(),
    };
    let split = || Some((reference.get(..path.len() + 1)?, id, reference.get(without_version.len()..)?));
    if has_resource_type { split().unwrap_or(unsplit) } else { unsplit }
}

/// Splits a text at its last slash, which is dropped.
fn split_at_last_slash(text: &str) -> Option<(&str, &str)> {
    let slash = memrchr(b'/', text.as_bytes())?;
    Some((text.get(..slash)?, text.get(slash + 1..)?))
}

/// Returns true for the base URL of a FHIR server that cannot name a person or a resource: a host and a path without user, query, hyphens
/// and names of resource types. Ids and names of people in any other text would stay readable.
fn is_base_url(base: &str) -> bool {
    let Some(address) = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://")) else { return false };
    let has_only = |text: &str, others: &[u8]| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte));
    let mut segments = address.split('/');
    let has_host = segments.next().is_some_and(|host| !host.is_empty() && has_only(host, b".-:"));
    has_host && segments.all(|segment| has_only(segment, b".") && ResourceType::parse_ignoring_case(segment).is_none())
}

/// Returns true for an OID such as `1.2.840`: at least two numbers without leading zeros, the first from 0 to 2.
fn is_oid(text: &str) -> bool {
    let is_number =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !matches!(part.as_bytes(), [] | [b'0', ..]));
    let mut parts = text.split('.');
    let has_root = matches!(parts.next(), Some("0" | "1" | "2"));
    has_root && text.contains('.') && parts.all(is_number)
}

/// Returns true for a UUID in upper or lower case.
fn is_uuid(text: &str) -> bool {
    let has_groups = text.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    has_groups && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_split_at_its_id() {
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
            ("https://h.example:8443/r4/Patient/1", ("https://h.example:8443/r4/Patient/", "1", "")),
            ("http://x/Patient/23-7a/Observation/7", ("", "http://x/Patient/23-7a/Observation/7", "")),
            ("http://x/patient/23/Observation/7/_history/1", ("", "http://x/patient/23/Observation/7/_history/1", "")),
            ("https://x/r4/MRN-123-JohnDoe/Patient/7", ("", "https://x/r4/MRN-123-JohnDoe/Patient/7", "")),
            ("https://x/John%20Doe/Patient/7", ("", "https://x/John%20Doe/Patient/7", "")),
            ("http://john-doe@x/Patient/7", ("", "http://john-doe@x/Patient/7", "")),
            ("http://john:doe@x/Patient/7", ("", "http://john:doe@x/Patient/7", "")),
            ("urn:oid:3.1", ("", "urn:oid:3.1", "")),
        ] {
            assert_eq!(split_reference(reference), expected, "{reference}");
        }
    }

    #[test]
    fn keys_of_any_length_give_different_hashes() {
        let hash = |key: &[u8]| {
            let mut out = String::new();
            Hasher::new(key).write_hash("x", &mut out);
            out
        };
        let hashes: std::collections::BTreeSet<_> = [0, 1, 63, 64, 65, 200].map(|length| hash(&vec![b'k'; length])).into();
        assert_eq!(hashes.len(), 6);
    }
}
