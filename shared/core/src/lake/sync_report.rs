//! The report of the last synchronization of a lake.

use std::collections::{BTreeMap, BTreeSet};

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::instant::Instant;
use serde::{Deserialize, Serialize};

use crate::job::sync::SyncRecord;
use crate::vocab::clock::Millis;

/// The name of the object with the report below the root of the lake.
pub const SYNC_REPORT_OBJECT: &str = "_headrace/sync.json";

/// The largest number of faults that are reported of a type. The others are counted.
const FAULTS_PER_TYPE: usize = 3;

/// The length of a remark to which no further one is added, in bytes.
const REMARK_BYTES: usize = 1_000;

/// The report of a synchronization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncReport {
    /// The base URL of the FHIR server.
    pub origin: String,
    /// The id of the job.
    pub job: String,
    /// The moment up to which the lake was complete before. `None` if everything was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The watermark that the lake had. `None` if it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_watermark: Option<String>,
    /// The moment up to which the lake is complete now, if nothing is missing.
    pub complete_up_to: String,
    /// True if nothing is missing. Otherwise nothing was added to the lake, and its watermark was not moved.
    pub is_complete: bool,
    /// The types, sorted by name.
    pub types: Vec<TypeReport>,
}

/// The report of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypeReport {
    /// The type.
    #[serde(rename = "type")]
    pub resource_type: ResourceType,
    /// True if the type was fetched.
    pub is_covered: bool,
    /// The number of windows.
    pub windows: u64,
    /// The number of fetched resources.
    pub resources: u64,
    /// The number of windows that were read again.
    pub repeats: u64,
    /// The number of resources that the server sent more than once.
    pub duplicates: u64,
    /// The number of deletions. `None` if they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions: Option<u64>,
    /// True if the deletions were found by a comparison of ids, not by a history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_reconciled: bool,
    /// True if the whole type was fetched, because the server cannot search by time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_whole: bool,
    /// The number of fetched resources that changed at or before the watermark that the lake had. Exports with a `_since` after it do not
    /// have them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late_changes: u64,
    /// The number of deletions at or before the watermark that the lake had, which it did not have yet. Exports with a `_since` after it do
    /// not have them. If the synchronization before could not decide between events of the same time, deletions that have the time of a
    /// version count, too, although it may have stored them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late_deletions: u64,
    /// The moment up to which the lake has the type, if it keeps its resources and the synchronization goes on without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<String>,
    /// The moment up to which the lake had the deletions before. The synchronization finds those after it, or none if `deletions` is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions_known_up_to: Option<Instant>,
    /// The moment of the oldest event that the history did not decide. All deletions before it are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecided_from: Option<Instant>,
    /// The reasons why something is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// The number of reasons that are not in `faults`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub further_faults: u64,
    /// A remark about what the synchronization could not determine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

/// Returns true for 0.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl SyncReport {
    /// Returns what is known about deletions: `history` if histories have shown those of all types, `reconciled` if those of some types were
    /// found by their ids, otherwise `unknown`.
    pub fn deletions(&self) -> &'static str {
        let covered = || self.types.iter().filter(|report| report.is_covered);
        if !covered().all(|report| report.deletions.is_some()) {
            "unknown"
        } else if covered().any(|report| report.is_reconciled) {
            "reconciled"
        } else {
            "history"
        }
    }

    /// Returns the types of which not all deletions are known, with the moments up to which they are. A type that is left out keeps its
    /// moment, and so does one whose history could not be read.
    pub fn unknown_deletions(&self) -> BTreeMap<ResourceType, Instant> {
        let unknown = self.types.iter().filter(|report| (report.is_covered || report.left_at.is_some()) && report.deletions.is_none());
        // Some servers show events from before the requested time, too. The lake has those.
        let known = |report: &TypeReport| {
            let before = report.deletions_known_up_to?;
            Some((report.resource_type, report.undecided_from.map_or(before, |from| before.max(from))))
        };
        unknown.filter_map(known).collect()
    }

    /// Returns the types whose histories were read and did not decide between all events of the same time.
    pub fn undecided_types(&self) -> BTreeSet<ResourceType> {
        let undecided = self.types.iter().filter(|report| report.deletions.is_none() && report.undecided_from.is_some());
        undecided.map(|report| report.resource_type).collect()
    }
}

impl TypeReport {
    /// Creates the report of a type without windows.
    pub fn new(resource_type: ResourceType) -> Self {
        Self {
            resource_type,
            is_covered: false,
            windows: 0,
            resources: 0,
            repeats: 0,
            duplicates: 0,
            deletions: None,
            is_reconciled: false,
            is_whole: false,
            late_changes: 0,
            late_deletions: 0,
            left_at: None,
            deletions_known_up_to: None,
            undecided_from: None,
            faults: Vec::new(),
            further_faults: 0,
            remark: None,
        }
    }

    /// Adds the record of a task.
    pub fn add(&mut self, record: &SyncRecord) {
        self.is_covered |= record.is_covered;
        self.windows += record.windows;
        self.resources += record.resources;
        self.repeats += record.repeats;
        self.duplicates += record.duplicates;
        self.is_reconciled |= record.is_reconciled;
        self.is_whole |= record.is_whole;
        self.late_changes += record.late_changes;
        self.late_deletions += record.late_deletions;
        self.left_at = self.left_at.take().or_else(|| record.left_at.clone());
        // A history and a comparison of ids find the same deletions.
        self.deletions = self.deletions.max(record.deletions);
        let instant = |time: Millis| Instant::from_millis(time.0);
        let (known_up_to, undecided_from) = (record.deletions_known_up_to.map(instant), record.undecided_from.map(instant));
        self.deletions_known_up_to = self.deletions_known_up_to.or(known_up_to);
        self.undecided_from = self.undecided_from.or(undecided_from);
        match &record.fault {
            Some(fault) if self.faults.len() < FAULTS_PER_TYPE => self.faults.push(fault.clone()),
            Some(_) => self.further_faults += 1,
            None => {}
        }
        self.add_remark(record.remark.as_deref());
        self.add_remark(record.warning.as_deref());
    }

    /// Adds a remark, unless the report has it.
    fn add_remark(&mut self, remark: Option<&str>) {
        let Some(remark) = remark else { return };
        let known = self.remark.get_or_insert_default();
        if known.len() < REMARK_BYTES && !known.contains(remark) {
            if !known.is_empty() {
                known.push_str("; ");
            }
            known.push_str(remark);
        }
    }
}
