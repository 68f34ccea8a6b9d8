//! The chain: each line of the audit files holds the hash of the line before it, over all files and days.
//!
//! Whoever changes, removes, adds or moves a line must change every line behind it, and the job table still says how the
//! last one ended ([`Head`]).

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::AuditEntry;
use super::event::AuditEvent;
use crate::vocab::clock::Millis;
use crate::vocab::text::stored_as_text;

/// The most records of one file: a DynamoDB transaction has 100 items, and the head's move is one of them.
pub const RECORDS_PER_FILE: u16 = 98;

/// A day, UTC: `2026-01-31`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day(String);

impl Day {
    /// The day of a moment.
    pub fn of(at: Millis) -> Self {
        Self(at.date())
    }

    /// Reads what its display wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() == 10
            && text.bytes().zip(0..).all(|(byte, place)| if matches!(place, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
        is_plain.then(|| Self(text.to_owned()))
    }

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

/// SHA-256 of a line's bytes without its end: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LineHash(String);

impl LineHash {
    /// What stands before the first line of all.
    pub fn none() -> Self {
        Self("0".repeat(64))
    }

    /// Of this line.
    pub fn of(line: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(line)))
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the chain ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The day of the last line's file.
    pub day: Day,
    /// The last line's number. They count from 1 and never start again.
    pub sequence: u64,
    /// The last line's hash.
    pub hash: LineHash,
}

impl Head {
    /// Before the first line of all.
    pub fn begin(day: Day) -> Self {
        Self { day, sequence: 0, hash: LineHash::none() }
    }

    /// The same end, with what follows in a file of this day. Days never go back, whatever a clock says.
    #[must_use]
    pub fn on(self, day: Day) -> Self {
        Self { day: self.day.max(day), ..self }
    }

    /// The file that continues from here.
    pub fn next_file(&self) -> AuditFileName {
        AuditFileName { day: self.day.clone(), first: self.sequence + 1 }
    }

    /// The lines that continue from here, each with its end, and the head behind them.
    ///
    /// Fails if a record cannot be JSON, which none can.
    pub fn lines(&self, entries: &[AuditEntry]) -> Result<(Bytes, Self), serde_json::Error> {
        let (mut text, mut head) = (Vec::new(), self.clone());
        for entry in entries {
            let line = serde_json::to_vec(&AuditEvent::of(entry, &head))?;
            head = Self { sequence: head.sequence + 1, hash: LineHash::of(&line), ..head };
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        Ok((text.into(), head))
    }
}

/// The name of a file below the place of all audit files: its day, and the number of its first line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditFileName {
    /// The day on which its lines were sealed.
    pub day: Day,
    /// The number of its first line.
    pub first: u64,
}

impl AuditFileName {
    /// Reads what its display wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (day, first) = text.strip_suffix(".ndjson")?.split_once('/')?;
        let name = Self { day: Day::parse(day)?, first: first.parse().ok()? };
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for AuditFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:010}.ndjson", self.day, self.first)
    }
}

/// Where sealing stands, as the job table has it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Standing {
    /// How often it was moved: whoever moves it must have seen the last move.
    pub step: u64,
    /// Where the chain ends; `None` before the first line of all.
    pub head: Option<Head>,
    /// The file that is being written.
    pub claim: Option<Claim>,
}

/// A file that is to be written: recorded before it is, so that whoever comes next ends the work with the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Where the chain ends before it, on the day of its file.
    pub from: Head,
    /// Where the chain ends behind it.
    pub to: Head,
    /// Its records in the order of its lines.
    pub records: Vec<RecordName>,
}

/// Names a record that is not sealed yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordName {
    /// When it was made.
    pub at: Millis,
    /// Its name.
    pub id: String,
}

impl AuditEntry {
    /// Its name among those that are not sealed yet.
    pub fn name(&self) -> RecordName {
        RecordName { at: self.at, id: self.id.clone() }
    }
}
