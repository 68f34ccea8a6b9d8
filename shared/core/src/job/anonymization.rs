//! De-identified exports (`_anonymizationConfig`): by which configuration, and with which secret.

use std::fmt;

use bytes::Bytes;
use headrace_fhir::{Deidentifier, JobTerms};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::patients::header;
use crate::vocab::text::stored_as_text;

/// Below this folder of a destination lie the configurations that exports to it can be de-identified by.
pub const FOLDER: &str = "anonymization";

/// The longest configuration that is read, in bytes.
pub const LIMIT_BYTES: u64 = 1 << 20;

/// The name of a configuration: a path below [`FOLDER`] of at most 256 characters. Its segments are letters, digits, blanks,
/// `-`, `_` and `.`, and none is dots alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConfigName(String);

impl ConfigName {
    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_' | b'.');
        let is_segment = |segment: &str| segment.bytes().all(is_plain) && segment.bytes().any(|byte| !matches!(byte, b'.' | b' '));
        ((1..=256).contains(&text.len()) && text.split('/').all(is_segment)).then(|| Self(text.to_owned()))
    }

    /// The name itself: safe as a path and as a key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

stored_as_text!(ConfigName, Self::parse, "not a configuration's name");

/// What a request says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anonymization {
    /// `_anonymizationConfig`.
    pub config: ConfigName,
    /// `_anonymizationConfigEtag`, in quotes: the very state of the file that is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// A configuration as a destination has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// Its bytes, and the tag of its state, in quotes.
    Found(Bytes, String),
    /// There is none of this name.
    Absent,
    /// It is not in the state that was meant.
    Changed,
    /// Longer than [`LIMIT_BYTES`].
    TooLong,
}

/// What an export's own keys are derived from: the same for all its tasks, and known to nobody once it has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JobSecret(pub [u8; 32]);

impl fmt::Debug for JobSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

/// What the job keeps of it while it is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The state of the configuration with which the job was accepted: no task goes by another.
    pub etag: String,
    /// The job's secret, as [`crate::ports::JobStore::seal`] has sealed it.
    pub sealed: Vec<u8>,
}

/// A worker's tools for one de-identified export.
#[derive(Debug)]
pub struct Deid {
    /// The rules.
    pub rules: Deidentifier,
    /// The job's secret.
    pub secret: JobSecret,
}

impl Deid {
    /// How the header of a patient's block refers to the patient: as the rules leave that reference. Where they leave none
    /// the block has a name of its own, from which nobody can tell whose it is.
    pub fn reference_to(&self, patient: &str) -> String {
        self.rewritten(patient).unwrap_or_else(|| {
            let name = Sha256::new().chain_update(b"names of blocks").chain_update(self.secret.0).chain_update(patient).finalize();
            format!("Patient/{}", hex::encode(name))
        })
    }

    fn rewritten(&self, patient: &str) -> Option<String> {
        let line = header(&format!("Patient/{patient}"));
        let mut written = Vec::new();
        self.rules.apply(line.as_bytes(), Some(patient), &mut written).ok()?;
        let written: serde_json::Value = serde_json::from_slice(&written).ok()?;
        written.pointer("/parameter/0/valueReference/reference")?.as_str().map(str::to_owned)
    }
}

/// What a job brings to the rules.
pub fn terms(secret: &JobSecret, today: time::Date) -> JobTerms {
    JobTerms { key: secret.0, today }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_a_file_below_its_folder_and_nowhere_else() {
        for name in ["config.json", "safe harbor v2.json", "team-1/study_7/config.json", "..a", "a..b"] {
            assert_eq!(ConfigName::parse(name).unwrap().as_str(), name);
        }
        let long = "a".repeat(257);
        for name in ["", "/etc/passwd", "..", "a/../b", "a//b", "a/", ".", " ", "a\\b", "a%2fb", "ä", "a\nb", "../x", &long] {
            assert_eq!(ConfigName::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", JobSecret([7; 32])), "a secret");
    }
}
