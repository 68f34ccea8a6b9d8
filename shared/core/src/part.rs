//! Files of an export and how they are named.

use std::fmt;

use headrace_fhir::ResourceType;
use serde::{Deserialize, Serialize};

/// What the lines of one file are. A file holds one kind only (Bulk Data Access, "Bulk Data Output File Request").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PartKind {
    /// Resources of this type: an entry of the manifest's `output`.
    Output(ResourceType),
    /// OperationOutcomes: an entry of the manifest's `error`.
    Error,
}

impl PartKind {
    /// As it stands in file names and keys. The lower-case word cannot be a resource type's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Output(kind) => kind.as_str(),
            Self::Error => "error",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn named(name: &str) -> Option<Self> {
        if name == "error" { Some(Self::Error) } else { ResourceType::named(name).map(Self::Output) }
    }

    /// The `type` of the manifest entry: what every line's `resourceType` is.
    pub fn manifest_type(self) -> &'static str {
        match self {
            Self::Output(kind) => kind.as_str(),
            Self::Error => "OperationOutcome",
        }
    }
}

impl TryFrom<String> for PartKind {
    type Error = &'static str;
    fn try_from(name: String) -> Result<Self, &'static str> {
        Self::named(&name).ok_or("not a kind of part")
    }
}

impl From<PartKind> for String {
    fn from(kind: PartKind) -> Self {
        kind.as_str().to_owned()
    }
}

impl fmt::Debug for PartKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of one file of a finished export: `Patient-1.ndjson`. Numbers count from 1 within a kind, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartName {
    /// What its lines are.
    pub kind: PartKind,
    /// Its number within the kind, from 1.
    pub number: u32,
}

impl PartName {
    /// Reads a name as it stands in a URL; `None` for whatever [`fmt::Display`] would not write.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, number) = text.strip_suffix(".ndjson")?.rsplit_once('-')?;
        let name = Self { kind: PartKind::named(kind)?, number: number.parse().ok()? };
        (name.number > 0 && name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.ndjson", self.kind.as_str(), self.number)
    }
}

/// The name of a **tail**: the last lines of one task's page, too few for a file of their own. Tails of a kind are
/// gathered into parts once every task has closed. The attempt in the name keeps two attempts from ever sharing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TailName {
    /// What its lines are.
    pub kind: PartKind,
    /// The task that wrote it.
    pub task: u32,
    /// The attempt of that task.
    pub attempt: u32,
    /// The step of that task, counted over all attempts.
    pub step: u32,
}

impl fmt::Display for TailName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "_tails/{:06}-{}-{}-{}.ndjson", self.task, self.attempt, self.step, self.kind.as_str())
    }
}

/// Any file that a job writes into its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileName {
    /// A file of the finished export.
    Part(PartName),
    /// A piece that waits to be gathered.
    Tail(TailName),
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part(name) => name.fmt(f),
            Self::Tail(name) => name.fmt(f),
        }
    }
}

/// What a written file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Size in bytes, line ends included.
    pub bytes: u64,
    /// Lines, that is resources.
    pub lines: u64,
    /// CRC-64/NVME of the bytes: the checksum that S3 verifies on receipt.
    pub crc64: u64,
}

/// A recorded part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: PartName,
    /// What it holds.
    pub content: Content,
}

/// A recorded tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// Its name.
    pub name: TailName,
    /// What it holds.
    pub content: Content,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_name_survives_its_text() {
        for kind in ResourceType::all().map(PartKind::Output).chain([PartKind::Error]) {
            for number in [1, 2, 10, u32::MAX] {
                let name = PartName { kind, number };
                assert_eq!(PartName::parse(&name.to_string()), Some(name));
            }
        }
    }

    #[test]
    fn only_the_one_spelling_is_a_part_name() {
        for text in [
            "Patient-0.ndjson",
            "Patient-01.ndjson",
            "Patient-+1.ndjson",
            "patient-1.ndjson",
            "Patient-1",
            "../Patient-1.ndjson",
            "-1.ndjson",
            "_tails/000001-1-0-Patient.ndjson",
        ] {
            assert_eq!(PartName::parse(text), None, "{text}");
        }
    }
}
