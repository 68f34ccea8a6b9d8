//! Digests of anonymization configurations.

use std::fmt;

use headrace_fhir::deid::DeidKeys;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::text::stored_as_text;

/// The SHA-256 of a configuration file, in hexadecimal digits: what `sha256sum` prints. With keys, the HMAC of the file under them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConfigDigest(String);

impl ConfigDigest {
    /// Computes the digest of a file.
    pub fn from_bytes(text: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(text)))
    }

    /// Computes the digest of a file and its keys. It reveals no key.
    pub fn with_keys(text: &[u8], keys: &DeidKeys) -> Self {
        Self(hex::encode(keys.keyed_digest(text)))
    }

    /// Parses the digits. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        (text.len() == 64 && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    /// Returns the 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

stored_as_text!(ConfigDigest, Self::parse, "not a SHA-256 in hexadecimal digits");

impl fmt::Display for ConfigDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
