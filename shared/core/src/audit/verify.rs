//! Verifies the hash chain across the audit files and reports the first fault.

use serde::Deserialize;
use serde_json::Value;

use super::chain::{AuditFileName, ChainHead, ChainState, LineHash};
use super::event::CHAIN_EXTENSION;

/// The first fault of a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A file does not continue the file before it.
    #[error("{file}: expected record {expected} next, but this file starts with record {}: files were removed or added", file.first_sequence)]
    FileGap {
        /// The file.
        file: AuditFileName,
        /// Expected number of its first line.
        expected: u64,
    },
    /// The day of a file is before the day of the previous file.
    #[error("{file}: its day is before the day of the previous file")]
    DayOrder {
        /// The file.
        file: AuditFileName,
    },
    /// A line is not an audit record of this service, or is truncated.
    #[error("{file}, line {line}: not an audit record of this service, or truncated")]
    MalformedLine {
        /// The file.
        file: AuditFileName,
        /// Line number, from 1.
        line: usize,
    },
    /// A line has the wrong sequence number.
    #[error("{file}, line {line}: expected record {expected}, found record {found}: lines were removed, added or moved")]
    Sequence {
        /// The file.
        file: AuditFileName,
        /// Line number, from 1.
        line: usize,
        /// Expected sequence number.
        expected: u64,
        /// Sequence number of the line.
        found: u64,
    },
    /// A line does not hold the hash of the previous line.
    #[error("{file}, line {line}: record {} was changed, or this record was replaced", .sequence - 1)]
    HashMismatch {
        /// The file.
        file: AuditFileName,
        /// Line number, from 1.
        line: usize,
        /// Sequence number of the line.
        sequence: u64,
    },
    /// The files do not end where the job table says.
    #[error("the files end with record {found}, but the job table says {expected}: {}", if found < expected { "the last records are missing" } else { "records were added" })]
    EndMismatch {
        /// Number of the last record according to the job table.
        expected: u64,
        /// Number of the last record in the files.
        found: u64,
    },
    /// The last line differs from the one that the job table knows.
    #[error("record {0}, the last one, is not the record that was sealed")]
    LastRecordMismatch(u64),
}

/// A verifier of files one by one, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    first_file: Option<AuditFileName>,
    head: Option<ChainHead>,
    file_count: u64,
}

/// A chain without faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedChain {
    /// First file. Its first line's predecessor is no longer there, so that link cannot be checked.
    pub first_file: AuditFileName,
    /// End of the chain.
    pub head: ChainHead,
    /// Number of files.
    pub file_count: u64,
}

impl Verifier {
    /// Verifies that the file continues the chain of the files before, given all of its bytes.
    pub fn verify_file(&mut self, file: &AuditFileName, bytes: &[u8]) -> Result<(), ChainError> {
        if let Some(head) = &self.head {
            if file.first_sequence != head.sequence + 1 {
                return Err(ChainError::FileGap { file: file.clone(), expected: head.sequence + 1 });
            }
            if file.day < head.day {
                return Err(ChainError::DayOrder { file: file.clone() });
            }
        }
        let head = verify_file(self.head.as_ref(), file, bytes)?;
        self.first_file.get_or_insert_with(|| file.clone());
        self.head = Some(head);
        self.file_count += 1;
        Ok(())
    }

    /// Verifies that the files end where the job table says. Only this detects that the last lines were cut off.
    pub fn verify_end(&self, state: &ChainState) -> Result<(), ChainError> {
        let sealed = state.head.as_ref();
        let pending = state.pending.as_ref().map(|pending| &pending.head_after);
        let sequence = |head: Option<&ChainHead>| head.map_or(0, |head| head.sequence);
        let found = sequence(self.head.as_ref());
        let hash = self.head.as_ref().map(|head| &head.hash);
        // A file is written before the job table moves its head, so the end of a pending file is a valid end as well.
        match [sealed, pending].into_iter().flatten().find(|end| end.sequence == found) {
            Some(end) if Some(&end.hash) == hash => Ok(()),
            Some(end) => Err(ChainError::LastRecordMismatch(end.sequence)),
            None if found == sequence(sealed) => Ok(()),
            None if found < sequence(sealed) => Err(ChainError::EndMismatch { expected: sequence(sealed), found }),
            None => Err(ChainError::EndMismatch { expected: sequence(pending.or(sealed)), found }),
        }
    }

    /// Returns the chain of the files verified so far, or `None` if there was no file.
    pub fn into_verified(self) -> Option<VerifiedChain> {
        Some(VerifiedChain { first_file: self.first_file?, head: self.head?, file_count: self.file_count })
    }
}

/// Verifies the lines of one file and returns the end of the chain after it. Without a `head` to continue, the link of the
/// first line is trusted.
pub fn verify_file(head: Option<&ChainHead>, file: &AuditFileName, bytes: &[u8]) -> Result<ChainHead, ChainError> {
    let empty_chain = || ChainHead::new(file.day.clone());
    // The first record of all has no predecessor, so its link can be checked without a head.
    let mut known = head.cloned().or_else(|| (file.first_sequence == 1).then(empty_chain)).map(|head| head.advance_to(file.day.clone()));
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let (file, number) = (file.clone(), index + 1);
        let Some((line, link)) = line.strip_suffix(b"\n").and_then(|line| Some((line, ChainLink::parse(line)?))) else {
            return Err(ChainError::MalformedLine { file, line: number });
        };
        let (expected, previous) = match &known {
            Some(head) => (head.sequence + 1, &head.hash),
            None => (file.first_sequence, &link.previous),
        };
        if link.sequence != expected {
            return Err(ChainError::Sequence { file, line: number, expected, found: link.sequence });
        }
        if link.previous != *previous {
            return Err(ChainError::HashMismatch { file, line: number, sequence: expected });
        }
        known = Some(ChainHead { day: file.day, sequence: expected, hash: LineHash::digest(line) });
    }
    known.filter(|_| !bytes.is_empty()).ok_or_else(|| ChainError::MalformedLine { file: file.clone(), line: 1 })
}

/// The chain extension of a line.
struct ChainLink {
    sequence: u64,
    previous: LineHash,
}

impl ChainLink {
    /// Parses the chain extension of a line, an AuditEvent. `None` if it is missing or malformed.
    fn parse(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Event {
            extension: Vec<Value>,
        }
        let has_url = |extension: &&Value, url: &str| extension.get("url").and_then(Value::as_str) == Some(url);
        let event: Event = serde_json::from_slice(line).ok()?;
        let chain = event.extension.iter().find(|extension| has_url(extension, CHAIN_EXTENSION))?;
        let part = |url: &str| chain.get("extension")?.as_array()?.iter().find(|part| has_url(part, url));
        let sequence = part("sequence")?.get("valueDecimal")?.as_u64()?;
        let previous = serde_json::from_value(part("previous")?.get("valueString")?.clone()).ok()?;
        Some(Self { sequence, previous })
    }
}
