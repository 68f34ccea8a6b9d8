//! Findings: data of a lake that an export would refuse, leave out or report.

use std::collections::{BTreeMap, BTreeSet};

/// The number of examples of each kind that are kept.
const MAX_EXAMPLES: usize = 20;

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// The watermark object is not valid.
    WatermarkInvalid,
    /// A synchronization has not published everything.
    UnfinishedPublication,
    /// An object is in an archive.
    Archived,
    /// An object cannot be read or decompressed.
    Unreadable,
    /// There is nothing to export.
    NoObjects,
    /// A line is not a valid resource.
    RejectedLine,
    /// A line is too long to be read.
    OverlongLine,
    /// A resource has changed later than now.
    AheadOfClock,
    /// An entry is skipped, such as a link that leads nowhere.
    Skipped,
    /// An object has a name that is nearly that of an NDJSON object.
    NearMiss,
    /// A resource has a type other than the one in its object's name.
    OtherType,
    /// A resource has a `meta.lastUpdated` that is not an instant.
    UnreadableTime,
    /// Versions of a resource with other content have the same time and version id, or neither.
    ConflictingVersions,
    /// A resource has an id that breaks the rules of FHIR.
    IrregularId,
}

impl FindingKind {
    /// Every kind, the gravest first.
    pub const ALL: [Self; 14] = [
        Self::WatermarkInvalid,
        Self::UnfinishedPublication,
        Self::Archived,
        Self::Unreadable,
        Self::NoObjects,
        Self::RejectedLine,
        Self::OverlongLine,
        Self::AheadOfClock,
        Self::Skipped,
        Self::NearMiss,
        Self::OtherType,
        Self::UnreadableTime,
        Self::ConflictingVersions,
        Self::IrregularId,
    ];

    /// Returns the name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WatermarkInvalid => "watermark-invalid",
            Self::UnfinishedPublication => "unfinished-publication",
            Self::Archived => "archived",
            Self::Unreadable => "unreadable",
            Self::NoObjects => "no-objects",
            Self::RejectedLine => "rejected-line",
            Self::OverlongLine => "overlong-line",
            Self::AheadOfClock => "ahead-of-clock",
            Self::Skipped => "skipped",
            Self::NearMiss => "near-miss",
            Self::OtherType => "other-type",
            Self::UnreadableTime => "unreadable-time",
            Self::ConflictingVersions => "conflicting-versions",
            Self::IrregularId => "irregular-id",
        }
    }

    /// Returns the words that follow the count: for 1, and for other counts.
    pub fn subject(self) -> (&'static str, &'static str) {
        match self {
            Self::WatermarkInvalid => ("invalid watermark object", "invalid watermark objects"),
            Self::UnfinishedPublication => {
                ("synchronization that publishes now or was interrupted", "synchronizations that publish now or were interrupted")
            }
            Self::Archived => ("archived object", "archived objects"),
            Self::Unreadable => ("unreadable object", "unreadable objects"),
            Self::NoObjects => ("empty lake", "empty lakes"),
            Self::RejectedLine => ("line that is not a valid resource", "lines that are not valid resources"),
            Self::OverlongLine => ("line that is too long", "lines that are too long"),
            Self::AheadOfClock => ("resource with a meta.lastUpdated in the future", "resources with a meta.lastUpdated in the future"),
            Self::Skipped => ("entry that is skipped", "entries that are skipped"),
            Self::NearMiss => ("object with a name that is nearly right", "objects with names that are nearly right"),
            Self::OtherType => {
                ("resource whose type is not the one in its object's name", "resources whose type is not the one in their object's name")
            }
            Self::UnreadableTime => {
                ("resource with a meta.lastUpdated that is not an instant", "resources with a meta.lastUpdated that is not an instant")
            }
            Self::ConflictingVersions => (
                "id with different content and the same or no meta.lastUpdated and versionId",
                "ids with different content and the same or no meta.lastUpdated and versionId",
            ),
            Self::IrregularId => ("resource with an id that breaks FHIR's rules", "resources with an id that breaks FHIR's rules"),
        }
    }

    /// Describes what an export does.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::WatermarkInvalid => "no export starts until it is corrected or removed",
            Self::UnfinishedPublication => {
                "the lake may have a part of it; run headrace sync to its end. No export starts until then if it is the first one or adds earlier changes"
            }
            Self::Archived => "an export fails; restore first",
            Self::Unreadable => "an export fails; correct or remove first",
            Self::NoObjects => "an export is empty; names of objects end in .ndjson, .ndjson.gz or .ndjson.zst",
            Self::RejectedLine | Self::OverlongLine => "left out of exports, and reported in their error file",
            Self::AheadOfClock => "left out of exports until then, with a warning; check the clock of the system that writes the lake",
            Self::Skipped => "not exported, and nothing but the log of exports says so; correct or remove",
            Self::NearMiss => "skipped by exports",
            Self::OtherType => "exported, but --trust-object-names with --type may miss some",
            Self::UnreadableTime => "always exported, whatever _since is, with a warning",
            Self::ConflictingVersions => "the last one in the order of objects is exported; two persons may have one id",
            Self::IrregularId => "exported unchanged; readers may refuse such ids",
        }
    }
}

/// The number of findings of one kind, with the first examples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The kind.
    pub kind: FindingKind,
    /// The number of lines or objects.
    pub count: u64,
    /// The first of them in the order of the lake.
    pub examples: Vec<FindingExample>,
}

/// One line or object that is found. It never contains data of patients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FindingExample {
    /// The object.
    pub object: String,
    /// The start of the slice in the object. Lines are counted from there until the check is complete.
    pub(super) slice_start: u64,
    /// The number of the line, from 1.
    pub line: Option<u64>,
    /// The offset of the line in the object, in decompressed bytes, as the error files of exports have it.
    pub offset: Option<u64>,
    /// The reason, or empty.
    pub detail: String,
}

impl FindingExample {
    /// Creates an example that is about a whole object.
    pub(super) fn about_object(object: &str, detail: String) -> Self {
        Self { object: object.to_owned(), detail, ..Self::default() }
    }
}

/// Counts of findings with the first examples of each kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings(BTreeMap<FindingKind, (u64, BTreeSet<FindingExample>)>);

impl Findings {
    /// Counts a finding.
    pub(super) fn add(&mut self, kind: FindingKind, example: FindingExample) {
        let (count, examples) = self.0.entry(kind).or_default();
        *count += 1;
        keep_first(examples, [example]);
    }

    /// Counts findings without examples.
    pub(super) fn add_count(&mut self, kind: FindingKind, more: u64) {
        if more > 0 {
            self.0.entry(kind).or_default().0 += more;
        }
    }

    /// Counts a finding. Makes the example only if it may be kept, for findings that may occur in each line.
    pub(super) fn add_line(&mut self, kind: FindingKind, example: impl FnOnce() -> FindingExample) {
        let (count, examples) = self.0.entry(kind).or_default();
        *count += 1;
        // The lines of a slice come in order.
        if examples.len() < MAX_EXAMPLES {
            examples.insert(example());
        }
    }

    /// Adds the findings of a slice.
    pub(super) fn merge(&mut self, other: Self) {
        for (kind, (more, added)) in other.0 {
            let (count, examples) = self.0.entry(kind).or_default();
            *count += more;
            keep_first(examples, added);
        }
    }

    /// Returns the findings, the gravest first.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.0.into_iter().map(|(kind, (count, examples))| Finding { kind, count, examples: examples.into_iter().collect() }).collect()
    }
}

/// Adds examples and keeps the first ones.
fn keep_first(examples: &mut BTreeSet<FindingExample>, added: impl IntoIterator<Item = FindingExample>) {
    examples.extend(added);
    while examples.len() > MAX_EXAMPLES {
        examples.pop_last();
    }
}
