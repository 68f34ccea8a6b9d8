//! Files of an export and how they are named.

use std::fmt;

use headrace_fhir::ResourceType;
use serde::{Deserialize, Serialize};

use crate::vocab::text::stored_as_text;

/// What the lines of one file are. A file holds one kind only (Bulk Data Access, "Bulk Data Output File Request").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OutputKind {
    /// Resources of this type: an entry of the manifest's `output`.
    Output(ResourceType),
    /// Bundles that say what was deleted: an entry of the manifest's `deleted`.
    Deleted,
    /// OperationOutcomes: an entry of the manifest's `error`.
    Error,
    /// Blocks of resources of any type, a patient each: an entry of the manifest's `output` (`organizeOutputBy`).
    Organized,
    /// What a reading task noted about the lines that it met: never seen by a client. See [`crate::versions::record`].
    Notes,
    /// References from one resource to another that decide whether the other is exported: never seen by a client.
    Links,
    /// What is to be done otherwise with some lines of the lake: never seen by a client. See [`crate::versions::correction`].
    Findings,
    /// The ids of the patients that an export is about: never seen by a client. See [`crate::cohort`].
    Roster,
    /// Resources on their way to their patients' blocks, by the patient's bucket: never seen by a client.
    Bucket(Bucket),
}

/// One of [`Bucket::COUNT`] heaps that resources are sorted into on their way to their patients' blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u8);

impl Bucket {
    /// How many there are: a page holds a tail of each.
    pub const COUNT: u8 = 64;

    #[rustfmt::skip]
    const NAMES: [&str; 64] = [
        "bucket-00", "bucket-01", "bucket-02", "bucket-03", "bucket-04", "bucket-05", "bucket-06", "bucket-07",
        "bucket-08", "bucket-09", "bucket-10", "bucket-11", "bucket-12", "bucket-13", "bucket-14", "bucket-15",
        "bucket-16", "bucket-17", "bucket-18", "bucket-19", "bucket-20", "bucket-21", "bucket-22", "bucket-23",
        "bucket-24", "bucket-25", "bucket-26", "bucket-27", "bucket-28", "bucket-29", "bucket-30", "bucket-31",
        "bucket-32", "bucket-33", "bucket-34", "bucket-35", "bucket-36", "bucket-37", "bucket-38", "bucket-39",
        "bucket-40", "bucket-41", "bucket-42", "bucket-43", "bucket-44", "bucket-45", "bucket-46", "bucket-47",
        "bucket-48", "bucket-49", "bucket-50", "bucket-51", "bucket-52", "bucket-53", "bucket-54", "bucket-55",
        "bucket-56", "bucket-57", "bucket-58", "bucket-59", "bucket-60", "bucket-61", "bucket-62", "bucket-63",
    ];

    /// The bucket of this hash.
    pub fn of(hash: u64) -> Self {
        Self(u8::try_from(hash % u64::from(Self::COUNT)).unwrap_or_default())
    }

    /// Every bucket.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// Which one, from 0.
    pub fn number(self) -> u8 {
        self.0
    }

    fn as_str(self) -> &'static str {
        Self::NAMES.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    fn named(name: &str) -> Option<Self> {
        Self::all().find(|bucket| bucket.as_str() == name)
    }
}

impl OutputKind {
    /// As it stands in file names and keys. The lower-case word cannot be a resource type's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Output(kind) => kind.as_str(),
            Self::Deleted => "deleted",
            Self::Error => "error",
            Self::Organized => "organized",
            Self::Notes => "notes",
            Self::Links => "links",
            Self::Findings => "findings",
            Self::Roster => "roster",
            Self::Bucket(bucket) => bucket.as_str(),
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn named(name: &str) -> Option<Self> {
        let plain = [Self::Deleted, Self::Error, Self::Organized, Self::Notes, Self::Links, Self::Findings, Self::Roster];
        ResourceType::named(name)
            .map(Self::Output)
            .or_else(|| plain.into_iter().find(|kind| kind.as_str() == name))
            .or_else(|| Bucket::named(name).map(Self::Bucket))
    }

    /// Whether files of this kind are part of a finished export; the others are on their way.
    pub fn is_exported(self) -> bool {
        match self {
            Self::Output(_) | Self::Deleted | Self::Error | Self::Organized => true,
            Self::Notes | Self::Links | Self::Findings | Self::Roster | Self::Bucket(_) => false,
        }
    }

    /// The `type` of the manifest entry: what every line's `resourceType` is; `None` where lines are of many types.
    pub fn manifest_type(self) -> Option<&'static str> {
        match self {
            Self::Output(kind) => Some(kind.as_str()),
            Self::Deleted => Some("Bundle"),
            Self::Error => Some("OperationOutcome"),
            Self::Organized | Self::Notes | Self::Links | Self::Findings | Self::Roster | Self::Bucket(_) => None,
        }
    }
}

stored_as_text!(OutputKind, Self::named, "not a kind of part");

impl fmt::Debug for OutputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of one file of a finished export: `Patient-1.ndjson`. Numbers count from 1 within a kind, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OutputFileName {
    /// What its lines are.
    pub kind: OutputKind,
    /// Its number within the kind, from 1.
    pub number: u32,
}

impl OutputFileName {
    /// Reads a name as it stands in a URL; `None` for whatever [`fmt::Display`] would not write.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, number) = text.strip_suffix(".ndjson")?.rsplit_once('-')?;
        let name = Self { kind: OutputKind::named(kind)?, number: number.parse().ok()? };
        (name.number > 0 && name.kind.is_exported() && name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for OutputFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.ndjson", self.kind.as_str(), self.number)
    }
}

/// The name of a **tail**: the last lines of one task's page, too few for a file of their own. Tails of a kind are
/// gathered into parts once every task has closed. The attempt in the name keeps two attempts from ever sharing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FragmentName {
    /// What its lines are.
    pub kind: OutputKind,
    /// The task that wrote it.
    pub task: u32,
    /// The attempt of that task.
    pub attempt: u32,
    /// The step of that task, counted over all attempts.
    pub step: u32,
}

impl fmt::Display for FragmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "_tails/{:06}-{}-{}-{}.ndjson", self.task, self.attempt, self.step, self.kind.as_str())
    }
}

/// Any file that a job writes into its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileName {
    /// A file of the finished export.
    Part(OutputFileName),
    /// The same, where files of an earlier reading of the lake may lie under such names: it takes their place. Nobody
    /// else writes other bytes there anew.
    Anew(OutputFileName),
    /// A piece that waits to be gathered.
    Tail(FragmentName),
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part(name) | Self::Anew(name) => name.fmt(f),
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
    pub name: OutputFileName,
    /// What it holds.
    pub content: Content,
}

/// A recorded tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// Its name.
    pub name: FragmentName,
    /// What it holds.
    pub content: Content,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_name_survives_its_text() {
        for kind in ResourceType::all().map(OutputKind::Output).chain([OutputKind::Deleted, OutputKind::Error, OutputKind::Organized]) {
            for number in [1, 2, 10, u32::MAX] {
                let name = OutputFileName { kind, number };
                assert_eq!(OutputFileName::parse(&name.to_string()), Some(name));
            }
        }
    }

    #[test]
    fn every_kind_survives_its_text() {
        let inner = [OutputKind::Notes, OutputKind::Links, OutputKind::Findings, OutputKind::Roster];
        for kind in inner.into_iter().chain(Bucket::all().map(OutputKind::Bucket)) {
            assert_eq!(OutputKind::named(kind.as_str()), Some(kind));
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
            "notes-1.ndjson",
            "roster-1.ndjson",
            "bucket-00-1.ndjson",
        ] {
            assert_eq!(OutputFileName::parse(text), None, "{text}");
        }
    }
}
