//! The report about one slice of an object.

use std::collections::BTreeMap;
use std::io;

use headrace_core::job::task::Slice;
use headrace_core::lake::line::{LakeLine, has_time};
use headrace_core::lake::ndjson::LINE_LIMIT_BYTES;
use headrace_core::lake::slices::type_from_name;
use headrace_core::versions::key::ResourceKeyHasher;
use headrace_core::versions::record::{change_time, deletion_time, version_rank};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::SourceError;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{MemberIndex, Resource, ResourceHead, ResourceIdentity};
use headrace_fhir::instant::Instant;
use headrace_fhir::semantics::deletion::Deletions;
use headrace_fhir::semantics::id::is_id;
use headrace_fhir::semantics::reference::rewrite_references;

use super::finding::{FindingExample, FindingKind, Findings};
use super::versions::SeenVersion;
use crate::reading::SliceLine;
use crate::sorting::RecordSorter;

/// The rules that lines are compared with.
#[derive(Clone, Debug)]
pub(super) struct LineRules {
    keys: ResourceKeyHasher,
    now: Instant,
    watermark: Option<Instant>,
}

impl LineRules {
    /// Creates rules without a watermark.
    pub(super) fn new(keys: ResourceKeyHasher, now: Millis) -> Self {
        Self { keys, now: Instant::from_millis(now.0), watermark: None }
    }

    /// Returns the hash of a resource without its references: an addition may have resolved them in a second version.
    fn content_hash(&self, kind: ResourceType, text: &[u8]) -> u128 {
        let mut without_references = Vec::with_capacity(text.len());
        let text = std::str::from_utf8(text).unwrap_or_default();
        rewrite_references(text, &mut without_references, &mut |_| Some(String::new()));
        self.keys.key(kind, &without_references).0
    }

    /// Sets the watermark of the lake.
    pub(super) fn set_watermark(&mut self, complete_up_to: Millis) {
        self.watermark = Some(Instant::from_millis(complete_up_to.0));
    }
}

/// The contents of one slice.
#[derive(Clone, Debug)]
pub(super) struct SliceReport {
    pub(super) object: String,
    pub(super) start: u64,
    pub(super) stored_bytes: u64,
    /// True if the slice is the whole object.
    pub(super) is_whole: bool,
    pub(super) lines: u64,
    pub(super) types: BTreeMap<ResourceType, TypeTally>,
    pub(super) findings: Findings,
    /// The type in the object's name.
    name_type: Option<ResourceType>,
}

/// Counts of the resources of one type in a slice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TypeTally {
    pub(super) resources: u64,
    /// The bytes of lines, decompressed.
    pub(super) line_bytes: u64,
    pub(super) deletions: u64,
    pub(super) deletions_without_time: u64,
    pub(super) oldest: Option<Instant>,
    pub(super) newest: Option<Instant>,
    pub(super) without_time: u64,
    pub(super) after_watermark: u64,
}

impl SliceReport {
    /// Creates the report of a slice that is not read yet.
    pub(super) fn new(slice: &Slice) -> Self {
        Self {
            object: slice.pin.object.clone(),
            start: slice.start,
            stored_bytes: slice.end - slice.start,
            is_whole: slice.start == 0 && slice.end == slice.pin.size,
            lines: 0,
            types: BTreeMap::new(),
            findings: Findings::default(),
            name_type: type_from_name(&slice.pin.object),
        }
    }

    /// Adds that the object cannot be read.
    pub(super) fn add_unreadable(&mut self, error: &SourceError) {
        let example = FindingExample { slice_start: self.start, ..FindingExample::about_object(&self.object, error.to_string()) };
        self.findings.add(FindingKind::Unreadable, example);
    }

    /// Adds a line.
    pub(super) fn add_line(&mut self, rules: &LineRules, line: SliceLine<'_>, sorter: &mut RecordSorter<SeenVersion>) -> io::Result<()> {
        let Some(text) = line.text else {
            self.find(FindingKind::OverlongLine, line, || format!("longer than {} MiB", LINE_LIMIT_BYTES >> 20));
            return Ok(());
        };
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        match LakeLine::parse(text) {
            LakeLine::Outcome => Ok(()),
            LakeLine::Rejected(reason) => {
                self.find(FindingKind::RejectedLine, line, || reason.to_string());
                Ok(())
            }
            LakeLine::Deletions(deletions) if deletions.unread > 0 => {
                self.find(FindingKind::RejectedLine, line, || format!("{} DELETE requests do not name one resource", deletions.unread));
                self.add_deletions(rules, &deletions, sorter)
            }
            LakeLine::Deletions(deletions) => self.add_deletions(rules, &deletions, sorter),
            LakeLine::Resource(head, identity) => self.add_resource(rules, (line, text), head, identity, sorter),
        }
    }

    /// Counts deletions and records when they happened.
    fn add_deletions(&mut self, rules: &LineRules, deletions: &Deletions<'_>, sorter: &mut RecordSorter<SeenVersion>) -> io::Result<()> {
        deletions.iter().try_for_each(|deletion| {
            let tally = self.types.entry(deletion.resource_type).or_default();
            tally.deletions += 1;
            tally.deletions_without_time += u64::from(deletion.deleted_at.is_none());
            let key = rules.keys.key(deletion.resource_type, deletion.id.as_bytes());
            sorter.push(SeenVersion::from_deletion(deletion.resource_type, key, deletion_time(deletion.deleted_at)))
        })
    }

    /// Counts a resource and records what is wrong with it.
    fn add_resource(
        &mut self,
        rules: &LineRules,
        (line, text): (SliceLine<'_>, &[u8]),
        head: ResourceHead,
        identity: Option<ResourceIdentity<'_>>,
        sorter: &mut RecordSorter<SeenVersion>,
    ) -> io::Result<()> {
        let kind = head.resource_type;
        let tally = self.types.entry(kind).or_default();
        tally.resources += 1;
        tally.line_bytes += text.len() as u64 + 1;
        tally.add_time(head.last_updated, rules.watermark);
        if head.last_updated.is_some_and(|changed| changed > rules.now) {
            self.find(FindingKind::AheadOfClock, line, String::new);
        }
        if head.last_updated.is_none() && has_time(text) {
            self.find(FindingKind::UnreadableTime, line, String::new);
        }
        if let Some(expected) = self.name_type.filter(|expected| *expected != kind) {
            self.find(FindingKind::OtherType, line, || format!("{kind} instead of {expected}"));
        }
        let mut members = MemberIndex::default();
        // The fast parser of heads does not read every valid line.
        let parsed = if identity.is_none() { Resource::parse(text, &mut members).ok() } else { None };
        let parsed = parsed.map(|resource| (resource.id(), version_rank(resource.version_id().as_deref())));
        let own = identity.map(|identity| (identity.id, version_rank(identity.version_id)));
        let (id, rank) = own.or(parsed.as_ref().map(|(id, rank)| (id.as_ref(), *rank))).unwrap_or_default();
        if !id.is_empty() && !is_id(id) {
            self.find(FindingKind::IrregularId, line, || format!("{kind}"));
        }
        let (key, content) = (rules.keys.key(kind, id.as_bytes()), rules.content_hash(kind, text));
        sorter.push(SeenVersion::from_resource(kind, key, change_time(head.last_updated), rank, content))
    }

    /// Adds a finding about a line.
    fn find(&mut self, kind: FindingKind, line: SliceLine<'_>, detail: impl FnOnce() -> String) {
        let Self { object, start, findings, .. } = self;
        findings.add_line(kind, || FindingExample {
            object: object.clone(),
            slice_start: *start,
            line: Some(line.index + 1),
            offset: Some(line.offset),
            detail: detail(),
        });
    }
}

impl TypeTally {
    /// Adds the time of a resource.
    fn add_time(&mut self, changed: Option<Instant>, watermark: Option<Instant>) {
        let Some(changed) = changed else {
            self.without_time += 1;
            return;
        };
        self.oldest = Some(self.oldest.map_or(changed, |oldest| oldest.min(changed)));
        self.newest = self.newest.max(Some(changed));
        self.after_watermark += u64::from(watermark.is_some_and(|watermark| changed > watermark));
    }
}
