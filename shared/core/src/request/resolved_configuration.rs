//! The results of the checks of an anonymization configuration at the kick-off.

use std::collections::BTreeSet;
use std::fmt;

use headrace_fhir::deid::DeidKeys;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::vocab::text::stored_as_text;

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

/// The configuration of a job, as it was checked at the kick-off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedConfiguration {
    /// The digest of the file.
    pub digest: ConfigDigest,
    /// The digest of the file and its keys: exports with the same one de-identify alike. `None` for a job of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ConfigDigest>,
    /// The names of the remarks that the operator has accepted, as far as the configuration has them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accepted_remarks: BTreeSet<String>,
    /// True if deletions can be reported: the ids of at least one exported type are hashed with a lasting key.
    #[serde(default)]
    pub reports_deletions: bool,
}
