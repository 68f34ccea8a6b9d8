//! Follows the chain through the files, and says where it breaks first.

use serde::Deserialize;
use serde_json::Value;

use super::chain::{AuditFileName, Head, LineHash, Standing};
use super::event::CHAIN;

/// Why the files cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A file does not follow the one before it.
    #[error("{file}: record {expected} should come next, and this file begins with {}: files are missing, or were added", file.first)]
    Gap {
        /// The file.
        file: AuditFileName,
        /// The number that its first line should have.
        expected: u64,
    },
    /// A file lies on a day before that of the file before it.
    #[error("{file}: it lies on an earlier day than the file before it")]
    Day {
        /// The file.
        file: AuditFileName,
    },
    /// A line is no record, or is cut short.
    #[error("{file}, line {line}: it is no record of this service, or not a whole one")]
    Line {
        /// The file.
        file: AuditFileName,
        /// The line, from 1.
        line: usize,
    },
    /// A line has another number than it should.
    #[error("{file}, line {line}: record {expected} should stand here, and this is {found}: lines were removed, added or moved")]
    Order {
        /// The file.
        file: AuditFileName,
        /// The line, from 1.
        line: usize,
        /// The number that it should have.
        expected: u64,
        /// The number that it has.
        found: u64,
    },
    /// A line does not hold the hash of the line before it.
    #[error("{file}, line {line}: record {} was changed, or this one was put in its place", .sequence - 1)]
    Link {
        /// The file.
        file: AuditFileName,
        /// The line, from 1.
        line: usize,
        /// Its number.
        sequence: u64,
    },
    /// The files end elsewhere than the job table says.
    #[error("the files end with record {found}, and the job table says {expected}: {}", if found < expected { "the last ones are missing" } else { "some were added" })]
    End {
        /// The last record's number, as the job table has it.
        expected: u64,
        /// The last record's number, as the files have it.
        found: u64,
    },
    /// The last line is not the one that the job table knows.
    #[error("record {0}, the last one, is not the one that was sealed")]
    Last(u64),
}

/// Follows the chain, file by file in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    first: Option<AuditFileName>,
    head: Option<Head>,
    files: u64,
}

/// What was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The first file. Whatever its first line says came before it cannot be checked any more.
    pub first: AuditFileName,
    /// Where the chain ends.
    pub head: Head,
    /// How many files there are.
    pub files: u64,
}

impl Verifier {
    /// The next file and all of its bytes.
    pub fn file(&mut self, file: &AuditFileName, bytes: &[u8]) -> Result<(), Broken> {
        if let Some(head) = &self.head {
            if file.first != head.sequence + 1 {
                return Err(Broken::Gap { file: file.clone(), expected: head.sequence + 1 });
            }
            if file.day < head.day {
                return Err(Broken::Day { file: file.clone() });
            }
        }
        let head = follow(self.head.as_ref(), file, bytes)?;
        self.first.get_or_insert_with(|| file.clone());
        self.head = Some(head);
        self.files += 1;
        Ok(())
    }

    /// Whether the files end where the job table says: only that shows that their last lines were cut off.
    pub fn must_end_at(&self, standing: &Standing) -> Result<(), Broken> {
        let sealed = standing.head.as_ref();
        let begun = standing.claim.as_ref().map(|claim| &claim.to);
        let number = |head: Option<&Head>| head.map_or(0, |head| head.sequence);
        let found = number(self.head.as_ref());
        let hash = self.head.as_ref().map(|head| &head.hash);
        // A file is written before the table says so.
        match [sealed, begun].into_iter().flatten().find(|end| end.sequence == found) {
            Some(end) if Some(&end.hash) == hash => Ok(()),
            Some(end) => Err(Broken::Last(end.sequence)),
            None if found == number(sealed) => Ok(()),
            None if found < number(sealed) => Err(Broken::End { expected: number(sealed), found }),
            None => Err(Broken::End { expected: number(begun.or(sealed)), found }),
        }
    }

    /// What was followed; `None` if there was no file.
    pub fn followed(self) -> Option<Followed> {
        Some(Followed { first: self.first?, head: self.head?, files: self.files })
    }
}

/// The end of the chain behind this file. Without a `head` to continue, the file's first line is believed.
pub fn follow(head: Option<&Head>, file: &AuditFileName, bytes: &[u8]) -> Result<Head, Broken> {
    let begin = || Head { day: file.day.clone(), sequence: file.first.saturating_sub(1), hash: LineHash::none() };
    // Before the first record of all there is nothing: that is known without a head.
    let mut known = head.cloned().or_else(|| (file.first == 1).then(begin)).map(|head| head.on(file.day.clone()));
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let (file, number) = (file.clone(), index + 1);
        let Some((line, link)) = line.strip_suffix(b"\n").and_then(|line| Some((line, Link::read(line)?))) else {
            return Err(Broken::Line { file, line: number });
        };
        let (expected, previous) = match &known {
            Some(head) => (head.sequence + 1, &head.hash),
            None => (file.first, &link.previous),
        };
        if link.sequence != expected {
            return Err(Broken::Order { file, line: number, expected, found: link.sequence });
        }
        if link.previous != *previous {
            return Err(Broken::Link { file, line: number, sequence: expected });
        }
        known = Some(Head { day: file.day, sequence: expected, hash: LineHash::of(line) });
    }
    known.filter(|_| !bytes.is_empty()).ok_or_else(|| Broken::Line { file: file.clone(), line: 1 })
}

/// What a line says of its place in the chain.
struct Link {
    sequence: u64,
    previous: LineHash,
}

impl Link {
    fn read(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Event {
            extension: Vec<Value>,
        }
        let event: Event = serde_json::from_slice(line).ok()?;
        let chain = event.extension.iter().find(|extension| extension.get("url").and_then(Value::as_str) == Some(CHAIN))?;
        let link = |url: &str| chain.get("extension")?.as_array()?.iter().find(|link| link.get("url").and_then(Value::as_str) == Some(url));
        let sequence = link("sequence")?.get("valueDecimal")?.as_u64()?;
        let previous = serde_json::from_value(link("previous")?.get("valueString")?.clone()).ok()?;
        Some(Self { sequence, previous })
    }
}
