//! The report of an addition: what was added, what was left out, and why.

use std::collections::{BTreeMap, BTreeSet};

use headrace_core::vocab::clock::Millis;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::semantics::id::is_id;

use super::InputFormat;

/// The number of examples of each reason that are kept.
const MAX_EXAMPLES: usize = 20;

/// The result of an addition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddReport {
    /// The format of the input.
    pub format: Option<InputFormat>,
    /// The identity of the run.
    pub run: String,
    /// True if the same input was added before, so that nothing was done.
    pub is_repeat: bool,
    /// The number of files of the input.
    pub files: u64,
    /// The number of files that were added before, and were not added again.
    pub files_added_before: u64,
    /// The number of files that have nothing to add, such as manifests.
    pub files_without_data: u64,
    /// The number of objects that were written.
    pub objects: u64,
    /// The resources that came in, by folder of the lake (empty, or ending in `/`) and type.
    pub resources: BTreeMap<(String, ResourceType), u64>,
    /// The number of deletions that came in.
    pub deletions: u64,
    /// The number of deletions among them that have no time. Each hides its resource for ever.
    pub deletions_without_time: u64,
    /// Resources and entries that were left out, by reason.
    pub left_out: BTreeMap<LeftOutReason, LeftOut>,
    /// Resources that came in with an id that breaks the rules of FHIR. Exports take them unchanged.
    pub irregular_ids: LeftOut,
    /// The references of the resources that came in.
    pub references: ReferenceCounts,
    /// The number of resources of the lake that were written again, because references in them are resolved now.
    pub rewritten: u64,
    /// The number of resources of the lake that the input replaces by other content with the same time and version id, or without both.
    pub replaced: u64,
    /// The changes at or before the watermarks that the lake had, for each folder that has some.
    pub late: Vec<LateChanges>,
    /// The watermark of each folder of the lake.
    pub watermarks: Vec<(String, WatermarkChange)>,
    /// The reason why the input's own watermark was not taken.
    pub watermark_problem: Option<String>,
}

/// Changes at or before the watermark of a folder of the lake, which the lake did not have. No increment of later changes shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateChanges {
    /// The folder, empty or ending in `/`.
    pub folder: String,
    /// The watermark before the addition.
    pub complete_up_to: Millis,
    /// The number of resources of each type.
    pub resources: BTreeMap<ResourceType, u64>,
    /// The number of deletions of resources of each type.
    pub deletions: BTreeMap<ResourceType, u64>,
}

impl LateChanges {
    /// Creates a report without changes.
    pub(super) fn new(folder: &str, complete_up_to: Millis) -> Self {
        Self { folder: folder.to_owned(), complete_up_to, resources: BTreeMap::new(), deletions: BTreeMap::new() }
    }

    /// Returns the number of resources and deletions.
    pub fn count(&self) -> u64 {
        self.resources.values().chain(self.deletions.values()).sum()
    }
}

/// The change of a watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatermarkChange {
    /// The lake is now complete up to this moment.
    Written(Millis),
    /// The lake was complete up to this later moment before.
    KeptLater(Millis),
    /// The watermark of the lake is not valid, and was not changed.
    KeptInvalid,
    /// The first synchronization of the lake is not complete: it writes the watermark.
    KeptForSync,
    /// The watermark object belongs to another pipeline, and was not changed.
    KeptOfOthers,
    /// The input begins later than the lake ends, and the watermark was not changed.
    KeptBeforeGap {
        /// The moment up to which the lake is complete, if it says so.
        before: Option<Millis>,
        /// The moment at which the changes of the input begin.
        after: Millis,
    },
}

impl WatermarkChange {
    /// Returns the reason why the watermark stands still, for programs.
    pub fn problem(self) -> Option<&'static str> {
        match self {
            Self::Written(_) | Self::KeptLater(_) => None,
            Self::KeptInvalid => Some("invalid"),
            Self::KeptForSync => Some("unfinished-sync"),
            Self::KeptOfOthers => Some("other-pipeline"),
            Self::KeptBeforeGap { .. } => Some("gap"),
        }
    }
}

/// References that are not `Type/id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReferenceCounts {
    /// References to full URLs and identifiers that became `Type/id`.
    pub resolved: u64,
    /// References to a `urn:uuid:` or `urn:oid:` that no resource of the input or of the lake has.
    pub unknown_urls: u64,
    /// References by a search for an identifier that no resource of the input or of the lake has.
    pub unknown_identifiers: u64,
    /// References to a name or identifier that several resources of the input and of the lake have.
    pub ambiguous: u64,
    /// References by a search for something other than one identifier.
    pub other_searches: u64,
}

/// Resources and entries that were left out for one reason, or that the operator must know for another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The number of resources and entries.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<LeftOutExample>,
}

/// The position of something that was left out. It has no data of patients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOutExample {
    /// The file, below the input.
    pub file: String,
    /// The position in the file.
    pub position: InputPosition,
    /// More about the reason, or empty.
    pub detail: String,
}

/// A position in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputPosition {
    /// The offset in the decompressed content, in bytes.
    Byte(u64),
    /// The number of a line, from 1.
    Line(u64),
}

/// The reason why something was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOutReason {
    /// The resource is not valid.
    InvalidResource,
    /// The id cannot be part of a reference.
    UnusableId,
    /// The line is too long to be read.
    OverlongLine,
    /// The request is an operation, whose resource is a parameter.
    Operation,
    /// The request is a PATCH: the resource that it makes is not in the input.
    Patch,
    /// The request deletes the results of a search, which are not exactly one resource of the input.
    UnknownDeletion,
    /// The entry of a history has no resource, and does not say that it is a change or a deletion.
    UnclearHistory,
    /// The item of a table is not a resource.
    InvalidItem,
    /// The item of a table was removed without a deletion.
    RemovedItem,
    /// The data of a Binary was not found.
    BinaryNotFound,
    /// The data of a Binary is too long for a line.
    BinaryTooLarge,
    /// The input has the resource again later with other content, and with the same time and version id.
    Conflicting,
    /// The entry describes a search.
    SearchOutcome,
    /// The entry has no resource.
    NoResource,
    /// The input has the resource again later, with the same time and version id.
    Repeated,
    /// The version is not the current one.
    OldVersion,
    /// The version was not committed.
    PendingVersion,
    /// The item is of another tenant.
    OtherTenant,
}

impl LeftOutReason {
    /// Returns the name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidResource => "invalid-resource",
            Self::UnusableId => "unusable-id",
            Self::OverlongLine => "overlong-line",
            Self::Operation => "operation",
            Self::Patch => "patch",
            Self::UnknownDeletion => "unknown-deletion",
            Self::UnclearHistory => "unclear-history",
            Self::InvalidItem => "invalid-item",
            Self::RemovedItem => "removed-item",
            Self::BinaryNotFound => "binary-not-found",
            Self::BinaryTooLarge => "binary-too-large",
            Self::Conflicting => "conflicting",
            Self::SearchOutcome => "search-outcome",
            Self::NoResource => "no-resource",
            Self::Repeated => "repeated",
            Self::OldVersion => "old-version",
            Self::PendingVersion => "pending-version",
            Self::OtherTenant => "other-tenant",
        }
    }

    /// Describes the reason.
    pub fn describe(self) -> &'static str {
        match self {
            Self::InvalidResource => "not a valid resource",
            Self::UnusableId => "an id that cannot be part of a reference",
            Self::OverlongLine => "longer than 64 MiB",
            Self::Operation => "the parameter of an operation",
            Self::Patch => "a PATCH request: the resource that it makes is not in the input",
            Self::UnknownDeletion => "a deletion that does not name exactly one resource of the input",
            Self::UnclearHistory => "an entry of a history that may be a deletion and does not say so",
            Self::InvalidItem => "not an item of a FHIR Works table",
            Self::RemovedItem => "removed from the table without a deletion",
            Self::BinaryNotFound => "a Binary whose data is not in the folder of --binaries",
            Self::BinaryTooLarge => "a Binary with more data than fits into a line",
            Self::Conflicting => {
                "an id that comes again later in the input with other content, and with the same lastUpdated and versionId or without both"
            }
            Self::SearchOutcome => "an outcome of a search",
            Self::NoResource => "an entry without a resource",
            Self::Repeated => "again later in the input, with the same lastUpdated and versionId or without both",
            Self::OldVersion => "an older version",
            Self::PendingVersion => "a version that was not committed",
            Self::OtherTenant => "of another tenant",
        }
    }

    /// Returns true if the operator must know: something that could belong to a lake is not in it.
    pub fn is_loss(self) -> bool {
        match self {
            Self::InvalidResource
            | Self::UnusableId
            | Self::OverlongLine
            | Self::Operation
            | Self::Patch
            | Self::UnknownDeletion
            | Self::UnclearHistory
            | Self::InvalidItem
            | Self::RemovedItem
            | Self::BinaryNotFound
            | Self::BinaryTooLarge
            | Self::Conflicting => true,
            Self::SearchOutcome | Self::NoResource | Self::Repeated | Self::OldVersion | Self::PendingVersion | Self::OtherTenant => false,
        }
    }
}

impl ReferenceCounts {
    /// Returns the number of references that stayed as they were.
    pub fn unresolved(&self) -> u64 {
        self.unknown_urls + self.unknown_identifiers + self.ambiguous + self.other_searches
    }

    /// Adds the counts of another thread.
    pub(super) fn merge(&mut self, other: &Self) {
        self.resolved += other.resolved;
        self.unknown_urls += other.unknown_urls;
        self.unknown_identifiers += other.unknown_identifiers;
        self.ambiguous += other.ambiguous;
        self.other_searches += other.other_searches;
    }
}

impl AddReport {
    /// Returns true if nothing that belongs to a lake was left out, every reference was resolved, and no watermark stands still.
    pub fn is_complete(&self) -> bool {
        let has_watermarks = self.watermark_problem.is_none() && self.watermarks.iter().all(|(_, change)| change.problem().is_none());
        has_watermarks && self.lost() == 0 && self.references.unresolved() == 0
    }

    /// Returns the number of resources and entries that were left out although they belong to a lake.
    pub(super) fn lost(&self) -> u64 {
        self.left_out.iter().filter(|(reason, _)| reason.is_loss()).map(|(_, left_out)| left_out.count).sum()
    }

    /// Returns the number of resources that were added.
    pub fn resource_count(&self) -> u64 {
        self.resources.values().sum()
    }

    /// Adds what a thread has counted.
    pub(super) fn merge(&mut self, counts: Counts) {
        for (key, count) in counts.resources {
            *self.resources.entry(key).or_default() += count;
        }
        self.deletions += counts.deletions;
        self.deletions_without_time += counts.deletions_without_time;
        self.references.merge(&counts.references);
        self.rewritten += counts.rewritten;
        self.irregular_ids.merge(counts.irregular_ids);
        for (reason, found) in counts.left_out {
            self.left_out.entry(reason).or_default().merge(found);
        }
    }
}

impl LeftOut {
    /// Adds what a thread has found.
    fn merge(&mut self, (count, examples): FoundExamples) {
        self.count += count;
        self.examples.extend(examples);
        self.examples.sort();
        self.examples.truncate(MAX_EXAMPLES);
    }
}

/// The number of resources and entries that a thread has found, and the first of them.
type FoundExamples = (u64, BTreeSet<LeftOutExample>);

/// Counts a resource or an entry, and keeps it if it is among the first ones.
fn add_example((count, examples): &mut FoundExamples, example: LeftOutExample) {
    *count += 1;
    if examples.len() >= MAX_EXAMPLES && examples.last().is_some_and(|last| *last < example) {
        return;
    }
    examples.insert(example);
    if examples.len() > MAX_EXAMPLES {
        examples.pop_last();
    }
}

/// The counts of one thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) resources: BTreeMap<(String, ResourceType), u64>,
    pub(super) deletions: u64,
    pub(super) deletions_without_time: u64,
    pub(super) references: ReferenceCounts,
    /// The number of resources of the lake that were written again.
    pub(super) rewritten: u64,
    irregular_ids: FoundExamples,
    left_out: BTreeMap<LeftOutReason, FoundExamples>,
}

impl Counts {
    /// Counts a resource in a folder of the lake.
    pub(super) fn add_resource(&mut self, folder: &str, kind: ResourceType) {
        *self.resources.entry((folder.to_owned(), kind)).or_default() += 1;
    }

    /// Counts a resource that is added if its id breaks the rules of FHIR.
    pub(super) fn check_id(&mut self, (kind, id): (ResourceType, &str), file: &str, position: InputPosition) {
        if !is_id(id) {
            add_example(&mut self.irregular_ids, LeftOutExample { file: file.to_owned(), position, detail: kind.to_string() });
        }
    }

    /// Counts something that is left out.
    pub(super) fn leave_out(&mut self, reason: LeftOutReason, file: &str, position: InputPosition, detail: String) {
        add_example(self.left_out.entry(reason).or_default(), LeftOutExample { file: file.to_owned(), position, detail });
    }
}
