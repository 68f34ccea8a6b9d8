//! The report of a check.

use std::collections::{BTreeMap, HashMap};

use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::lake_settings::LakeWatermark;
use headrace_fhir::definitions::{ResourceType, TypeSet};
use headrace_fhir::instant::Instant;

use super::finding::{Finding, Findings};
use super::slice_report::SliceReport;

/// The contents of a lake.
#[derive(Clone, Debug, Default)]
pub struct LakeReport {
    /// The resources by type.
    pub types: BTreeMap<ResourceType, TypeReport>,
    /// The number of objects with data.
    pub objects: u64,
    /// The stored size of these objects, in bytes.
    pub stored_bytes: u64,
    /// The watermark.
    pub watermark: WatermarkReport,
    /// The faults that an export would refuse, leave out or report, the gravest first.
    pub findings: Vec<Finding>,
    /// The names that are nearly right, and the remedy for each kind.
    pub near_misses: Option<String>,
    /// The time of the check.
    pub checked_at: Option<Millis>,
    /// The objects that are read in several slices.
    large_objects: HashMap<String, LargeObject>,
}

/// The resources of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeReport {
    /// The number of objects that have resources of the type.
    pub objects: u64,
    /// The stored size in bytes. That of an object with several types is divided by the length of their lines.
    pub stored_bytes: u64,
    /// The number of lines with a resource.
    pub resources: u64,
    /// The number of distinct ids.
    pub ids: u64,
    /// The number of versions beyond the newest of each id.
    pub older_versions: u64,
    /// The number of deletions.
    pub deletions: u64,
    /// The number of ids whose versions are all deleted.
    pub deleted: u64,
    /// The number of ids whose newest versions have different content and the same time and version id, or neither.
    pub conflicting: u64,
    /// The number of deletions without a time.
    pub deletions_without_time: u64,
    /// The earliest `meta.lastUpdated`.
    pub oldest: Option<Instant>,
    /// The latest `meta.lastUpdated`.
    pub newest: Option<Instant>,
    /// The number of resources without a valid `meta.lastUpdated`.
    pub without_time: u64,
    /// The number of resources that are later than the watermark.
    pub after_watermark: u64,
}

/// The watermark of a lake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatermarkReport {
    /// The rule for the watermark.
    pub rule: LakeWatermark,
    /// The moment up to which the lake is complete, as its watermark object or the delay of the rule says.
    pub complete_up_to: Option<Millis>,
    /// True if the rule needs the watermark object, and this is not valid or missing.
    pub is_invalid: bool,
}

/// An object that is read in several slices.
#[derive(Clone, Debug, Default)]
struct LargeObject {
    types: TypeSet,
    /// The number of lines of each slice, by its start.
    lines: BTreeMap<u64, u64>,
}

impl LakeReport {
    /// Returns true if an export would take everything and report nothing.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Adds a slice.
    pub(super) fn add_slice(&mut self, slice: &SliceReport) {
        let mut known = TypeSet::default();
        if !slice.is_whole {
            let object = self.large_objects.entry(slice.object.clone()).or_default();
            object.lines.insert(slice.start, slice.lines);
            known = object.types;
            let found = slice.types.iter().filter(|(_, tally)| tally.resources > 0).map(|(kind, _)| *kind);
            object.types = known.iter().chain(found).collect();
        }
        let all_bytes: u64 = slice.types.values().map(|tally| tally.line_bytes).sum();
        for (kind, tally) in &slice.types {
            let report = self.types.entry(*kind).or_default();
            report.objects += u64::from(tally.resources > 0 && !known.contains(*kind));
            report.stored_bytes += share(slice.stored_bytes, tally.line_bytes, all_bytes);
            report.resources += tally.resources;
            report.deletions += tally.deletions;
            report.deletions_without_time += tally.deletions_without_time;
            report.oldest = [report.oldest, tally.oldest].into_iter().flatten().min();
            report.newest = report.newest.max(tally.newest);
            report.without_time += tally.without_time;
            report.after_watermark += tally.after_watermark;
        }
    }

    /// Takes the findings, with lines that are counted from the start of their objects.
    pub(super) fn finish(&mut self, findings: Findings) {
        self.findings = findings.into_findings();
        for example in self.findings.iter_mut().flat_map(|finding| &mut finding.examples) {
            if let (Some(line), Some(object)) = (&mut example.line, self.large_objects.get(&example.object)) {
                *line += object.lines.range(..example.slice_start).map(|(_, lines)| lines).sum::<u64>();
            }
            example.slice_start = 0;
        }
        self.large_objects = HashMap::new();
    }
}

/// Returns `bytes` times `part` divided by `whole`.
fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(part) / u128::from(whole.max(1))).unwrap_or(bytes)
}
