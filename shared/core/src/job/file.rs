//! The files of a job: output files, fragments and their names.

use std::fmt;
use std::ops::Range;

use headrace_fhir::definitions::ResourceType;
use serde::{Deserialize, Serialize};

use crate::vocab::text::stored_as_text;

/// The kind of a file's lines. A file holds lines of one kind (Bulk Data Access, "Bulk Data Output File Request").
///
/// Only the first four kinds are visible to clients. The others are intermediate files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OutputKind {
    /// Resources of this type: an entry of the manifest's `output`.
    Output(ResourceType),
    /// Bundles that list deleted resources: an entry of the manifest's `deleted`.
    Deleted,
    /// OperationOutcomes: an entry of the manifest's `error`.
    Error,
    /// Blocks of resources of any type, one block per patient: an entry of the manifest's `output` (`organizeOutputBy`).
    PatientBlocks,
    /// Records of the resource versions that a reading task has found.
    VersionRecords,
    /// Records of the resource versions that many tasks have found, merged.
    MergedVersionRecords,
    /// Links: references between resources that decide whether the target is exported.
    Links,
    /// Corrections of the verdicts on lines of the lake.
    Corrections,
    /// All corrections of the lines that some tasks have read.
    MergedCorrections,
    /// Ids of the exported patients.
    PatientSet,
    /// An empty line for each deletion that a de-identified export must not report.
    UnreportedDeletions,
    /// Resources that are yet to be grouped by patient, in a section for each bucket.
    PatientPages,
    /// A record of each window that a task has fetched.
    SyncRecords,
    /// The progress of a task that finds what a FHIR server has deleted, with the ids or events that it has read.
    SyncProgress,
    /// Resources of the patients of a bucket, in sections by the positions of the patients.
    Bucket(Bucket),
}

/// A bucket: one of [`Bucket::COUNT`] parts of all patients, by the hash of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u8);

impl Bucket {
    /// The number of buckets.
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

    /// Returns the bucket that a hash belongs to.
    pub fn from_hash(hash: u64) -> Self {
        Self(u8::try_from(hash % u64::from(Self::COUNT)).unwrap_or_default())
    }

    /// Returns the bucket with this number. `None` if the number is too large.
    pub fn from_number(number: u8) -> Option<Self> {
        (number < Self::COUNT).then_some(Self(number))
    }

    /// Iterates over all buckets.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// Returns the number of the bucket, from 0.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Returns the name of the bucket for file names and stored keys.
    fn as_str(self) -> &'static str {
        Self::NAMES.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    /// Parses the name of a bucket. Returns `None` for any other text.
    fn parse(text: &str) -> Option<Self> {
        Self::all().find(|bucket| bucket.as_str() == text)
    }
}

impl OutputKind {
    /// Returns the name for file names and stored keys. Names other than resource types are in lower case, so that they
    /// cannot be the name of a resource type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Output(kind) => kind.as_str(),
            Self::Deleted => "deleted",
            Self::Error => "error",
            Self::PatientBlocks => "organized",
            Self::VersionRecords => "version-records",
            Self::MergedVersionRecords => "merged-version-records",
            Self::Links => "links",
            Self::Corrections => "corrections",
            Self::MergedCorrections => "merged-corrections",
            Self::PatientSet => "patient-set",
            Self::UnreportedDeletions => "unreported-deletions",
            Self::PatientPages => "patient-pages",
            Self::SyncRecords => "sync-records",
            Self::SyncProgress => "sync-progress",
            Self::Bucket(bucket) => bucket.as_str(),
        }
    }

    /// Parses the output of [`Self::as_str`]. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let others = [
            Self::Deleted,
            Self::Error,
            Self::PatientBlocks,
            Self::VersionRecords,
            Self::MergedVersionRecords,
            Self::Links,
            Self::Corrections,
            Self::MergedCorrections,
            Self::PatientSet,
            Self::UnreportedDeletions,
            Self::PatientPages,
            Self::SyncRecords,
            Self::SyncProgress,
        ];
        ResourceType::parse(text)
            .map(Self::Output)
            .or_else(|| others.into_iter().find(|kind| kind.as_str() == text))
            .or_else(|| Bucket::parse(text).map(Self::Bucket))
    }

    /// Returns true if files of this kind are part of a finished export. The others are intermediate files.
    pub fn is_exported(self) -> bool {
        match self {
            Self::Output(_) | Self::Deleted | Self::Error | Self::PatientBlocks => true,
            Self::VersionRecords
            | Self::MergedVersionRecords
            | Self::Links
            | Self::Corrections
            | Self::MergedCorrections
            | Self::PatientSet
            | Self::UnreportedDeletions
            | Self::PatientPages
            | Self::SyncRecords
            | Self::SyncProgress
            | Self::Bucket(_) => false,
        }
    }

    /// Returns the `type` of the manifest entry: the `resourceType` of every line. `None` if lines have different types.
    pub fn manifest_type(self) -> Option<&'static str> {
        match self {
            Self::Output(kind) => Some(kind.as_str()),
            Self::Deleted => Some("Bundle"),
            Self::Error => Some("OperationOutcome"),
            Self::PatientBlocks
            | Self::VersionRecords
            | Self::MergedVersionRecords
            | Self::Links
            | Self::Corrections
            | Self::MergedCorrections
            | Self::PatientSet
            | Self::UnreportedDeletions
            | Self::PatientPages
            | Self::SyncRecords
            | Self::SyncProgress
            | Self::Bucket(_) => None,
        }
    }
}

stored_as_text!(OutputKind, Self::parse, "not an output kind");

impl fmt::Debug for OutputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of an output file: `Patient-1.ndjson`. Within a kind, the files of a complete export are numbered from 1 without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OutputFileName {
    /// The kind of the lines.
    pub kind: OutputKind,
    /// The number within the kind, from 1.
    pub number: u32,
}

impl OutputFileName {
    /// Parses a name from a URL. Returns `None` for every text that `Display` does not write.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, number) = text.strip_suffix(".ndjson")?.rsplit_once('-')?;
        let name = Self { kind: OutputKind::parse(kind)?, number: number.parse().ok()? };
        (name.number > 0 && name.kind.is_exported() && name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for OutputFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.ndjson", self.kind.as_str(), self.number)
    }
}

/// The name of a fragment: the last lines of a checkpoint, too few to fill an output file. Fragments of a kind are merged into
/// output files after all tasks have completed. The name contains the attempt, so that two attempts never write the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FragmentName {
    /// The kind of the lines.
    pub kind: OutputKind,
    /// The task that wrote the fragment.
    pub task: u32,
    /// The attempt of the task.
    pub attempt: u32,
    /// The fencing token of the task's lease, or a later number: the names of an attempt differ.
    pub fencing_token: u32,
}

impl fmt::Display for FragmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "_fragments/{:06}-{}-{}-{}.ndjson", self.task, self.attempt, self.fencing_token, self.kind.as_str())
    }
}

/// The name of any file in a job's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileName {
    /// An output file.
    Output(OutputFileName),
    /// An output file that replaces a file of an earlier reading of the lake with the same name. No other attempt writes
    /// different bytes under this name.
    Overwrite(OutputFileName),
    /// A fragment.
    Fragment(FragmentName),
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output(name) | Self::Overwrite(name) => name.fmt(f),
            Self::Fragment(name) => name.fmt(f),
        }
    }
}

/// The size and checksum of a written file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSummary {
    /// The size in bytes, including line feeds.
    pub bytes: u64,
    /// The number of lines, which is the number of resources.
    pub lines: u64,
    /// The CRC-64/NVME of the bytes: the checksum that S3 verifies on upload.
    pub crc64: u64,
}

/// A recorded output file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputFile {
    /// The name.
    pub name: OutputFileName,
    /// The size and checksum.
    pub summary: FileSummary,
}

/// A recorded fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// The name.
    pub name: FragmentName,
    /// The size and checksum.
    pub summary: FileSummary,
}

/// A fragment that a task merges, or a part of it: the lines that begin in a byte range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FragmentPart {
    /// The fragment.
    #[serde(flatten)]
    pub fragment: Fragment,
    /// The byte range, if it is not the whole fragment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<Range<u64>>,
}

impl FragmentPart {
    /// Returns the whole fragment.
    pub fn whole(fragment: Fragment) -> Self {
        Self { fragment, range: None }
    }

    /// Returns the byte range in which the lines begin.
    pub fn range(&self) -> Range<u64> {
        self.range.clone().unwrap_or(0..self.fragment.summary.bytes)
    }

    /// Returns the part of the same fragment with the lines that begin in this byte range.
    #[must_use]
    pub fn with_range(&self, range: Range<u64>) -> Self {
        Self { fragment: self.fragment, range: Some(range).filter(|range| *range != (0..self.fragment.summary.bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_fragment_round_trips_and_a_whole_one_is_stored_without_its_range() {
        let name = FragmentName { kind: OutputKind::Output(ResourceType::PATIENT), task: 2, attempt: 1, fencing_token: 3 };
        let whole = FragmentPart::whole(Fragment { name, summary: FileSummary { bytes: 90, lines: 9, crc64: u64::MAX } });
        let json = serde_json::to_string(&whole).unwrap();
        assert!(!json.contains("range"), "{json}");
        for part in [whole.clone(), whole.with_range(30..60)] {
            assert_eq!(serde_json::from_str::<FragmentPart>(&serde_json::to_string(&part).unwrap()).unwrap(), part);
        }
        assert_eq!((whole.range(), whole.with_range(0..90)), (0..90, whole));
    }

    #[test]
    fn an_output_file_name_round_trips() {
        for kind in ResourceType::all().map(OutputKind::Output).chain([OutputKind::Deleted, OutputKind::Error, OutputKind::PatientBlocks]) {
            for number in [1, 2, 10, u32::MAX] {
                let name = OutputFileName { kind, number };
                assert_eq!(OutputFileName::parse(&name.to_string()), Some(name));
            }
        }
    }

    #[test]
    fn every_intermediate_kind_round_trips() {
        let intermediate = [
            OutputKind::VersionRecords,
            OutputKind::MergedVersionRecords,
            OutputKind::Links,
            OutputKind::Corrections,
            OutputKind::MergedCorrections,
            OutputKind::PatientSet,
            OutputKind::UnreportedDeletions,
            OutputKind::PatientPages,
            OutputKind::SyncRecords,
            OutputKind::SyncProgress,
        ];
        for kind in intermediate.into_iter().chain(Bucket::all().map(OutputKind::Bucket)) {
            assert_eq!(OutputKind::parse(kind.as_str()), Some(kind));
        }
    }

    #[test]
    fn other_spellings_and_intermediate_files_are_not_output_file_names() {
        for text in [
            "Patient-0.ndjson",
            "Patient-01.ndjson",
            "Patient-+1.ndjson",
            "patient-1.ndjson",
            "Patient-1",
            "../Patient-1.ndjson",
            "-1.ndjson",
            "_fragments/000001-1-0-Patient.ndjson",
            "version-records-1.ndjson",
            "patient-set-1.ndjson",
            "bucket-00-1.ndjson",
        ] {
            assert_eq!(OutputFileName::parse(text), None, "{text}");
        }
    }
}
