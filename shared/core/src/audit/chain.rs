//! The hash chain: each line of the audit files holds the hash of the line before it, across all files and days.
//!
//! Changing, removing, adding or moving a line requires changing every later line. The job table keeps the hash of the last
//! line ([`ChainHead`]), so that even this is detected.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::record::AuditRecordKey;
use crate::vocab::clock::Millis;
use crate::vocab::text::stored_as_text;

/// Maximum number of records in a file. A DynamoDB transaction has 100 items: it deletes these records and updates the head.
pub const RECORDS_PER_FILE: u16 = 98;

/// A UTC day, such as `2026-01-31`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day(String);

impl Day {
    /// Returns the UTC day of a time.
    pub fn from_millis(at: Millis) -> Self {
        Self(at.date())
    }

    /// Parses a day such as `2026-01-31`. Returns `None` for a text of another form.
    pub fn parse(text: &str) -> Option<Self> {
        let is_well_formed = text.len() == 10
            && text.bytes().zip(0..).all(|(byte, index)| if matches!(index, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
        is_well_formed.then(|| Self(text.to_owned()))
    }

    /// Returns the day as text, such as `2026-01-31`.
    fn as_str(&self) -> &str {
        &self.0
    }
}

stored_as_text!(Day, Self::parse, "not a day such as 2026-01-31");

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of a line without its line feed, as 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LineHash(String);

impl LineHash {
    /// Returns the hash that the first line of the chain names as its predecessor's: 64 zeros.
    pub fn zero() -> Self {
        Self("0".repeat(64))
    }

    /// Computes the hash of a line, which is given without its line feed.
    pub fn digest(line: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(line)))
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The end of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// Day of the file that holds the last line.
    pub day: Day,
    /// Number of the last line. Numbers start at 1 and never restart.
    pub sequence: u64,
    /// Hash of the last line.
    pub hash: LineHash,
}

impl ChainHead {
    /// Creates the head of an empty chain whose first file is of this day.
    pub fn new(day: Day) -> Self {
        Self { day, sequence: 0, hash: LineHash::zero() }
    }

    /// Returns the same head for a next file of `day`. An earlier day is ignored, so that a clock that is set back cannot
    /// reorder files.
    #[must_use]
    pub fn advance_to(self, day: Day) -> Self {
        Self { day: self.day.max(day), ..self }
    }

    /// Returns the name of the file that continues the chain after this head.
    pub fn next_file(&self) -> AuditFileName {
        AuditFileName { day: self.day.clone(), first_sequence: self.sequence + 1 }
    }
}

/// The name of an audit file below the common prefix: its day, and the number of its first line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditFileName {
    /// Day on which its lines were sealed.
    pub day: Day,
    /// Number of its first line.
    pub first_sequence: u64,
}

impl AuditFileName {
    /// Parses the output of `Display`. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (day, first_sequence) = text.strip_suffix(".ndjson")?.split_once('/')?;
        let name = Self { day: Day::parse(day)?, first_sequence: first_sequence.parse().ok()? };
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for AuditFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:010}.ndjson", self.day, self.first_sequence)
    }
}

/// State of sealing, as stored in the job table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ChainState {
    /// Number of updates so far. An update succeeds only if the writer has read the latest revision.
    pub revision: u64,
    /// End of the chain. `None` before the first line.
    pub head: Option<ChainHead>,
    /// File that is being written.
    pub pending: Option<PendingFile>,
}

/// A file that is about to be written. It is stored before the file, so that after a crash another process can write the
/// same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingFile {
    /// End of the chain before the file, on the day of the file.
    pub head_before: ChainHead,
    /// End of the chain after the file.
    pub head_after: ChainHead,
    /// Keys of its records, in the order of its lines.
    pub records: Vec<AuditRecordKey>,
}
