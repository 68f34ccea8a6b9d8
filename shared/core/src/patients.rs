//! Output grouped by patient (`organizeOutputBy=Patient`; Bulk Data Access 3.0.0, "Output organized by resource"): one block
//! of lines for each patient, instead of one file for each type.
//!
//! A block starts with a header line. The Patient resource follows if it is exported, and then all resources in the patient's
//! compartment, by type and in the order in which they were read. A block is never split between files.
//!
//! * A resource in the compartments of several patients is copied to the block of each.
//! * A resource in no compartment of the export's patients belongs to no block, and the files hold only blocks. The standard
//!   permits to omit such resources. The `error` file reports their number for each type. This includes a Provenance that is
//!   related to a patient only by its target, except in an export of one patient.
//! * A resource whose copies exceed [`COPIES_LIMIT_BYTES`] is omitted and reported as well. A Group of a million patients,
//!   copied to the block of each, would be larger than all other data.
//!
//! Read tasks write frames, in files with a section for each [`Bucket`] of patients. If a bucket is larger than the memory of some tasks,
//! sort tasks write its frames again, in files with sections by position. After that, each grouping task reads its buckets, or its range
//! of positions within a bucket, and sorts the patients in a [`SortBuffer`], in as many passes as necessary, with bounded memory.

mod frame;
mod sections;
mod sort_buffer;

use std::collections::BTreeMap;
use std::ops::Range;

use headrace_fhir::definitions::ResourceType;

pub use frame::{Frame, FrameDecoder, FrameRole, MalformedFrame};
pub use sections::{SectionedFrames, Sections};
pub use sort_buffer::{LineOrder, SortBuffer, SortedLine};

use crate::job::JobSecret;
use crate::job::file::Bucket;
use crate::job::task::PatientGrouping;
use crate::versions::key::ResourceKeyHasher;
use crate::vocab::ids::JobId;

/// Maximum total size of a resource's copies, in bytes. It permits two copies of the longest line, and bounds the growth of a
/// checkpoint by one line.
pub const COPIES_LIMIT_BYTES: usize = 128 << 20;

/// Exclusive upper bound of positions. The remaining bits of a hash select the bucket.
const POSITION_COUNT: u64 = 1 << 48;

/// The assignment of patients to buckets and positions.
#[derive(Clone, Debug)]
pub struct PatientPartitioner {
    hasher: ResourceKeyHasher,
}

impl PatientPartitioner {
    /// Creates the partitioner of a job.
    ///
    /// * `secret`: secret of a de-identified export. Without it, the position of a block could be computed from a patient's id.
    pub fn new(job: &JobId, secret: Option<&JobSecret>) -> Self {
        Self { hasher: secret.map_or_else(|| ResourceKeyHasher::from_job(job), ResourceKeyHasher::from_secret) }
    }

    /// Returns the keyed hash of a patient's id. Buckets and positions derive from it.
    fn hash(&self, patient: &str) -> u64 {
        self.hasher.patient_key(patient.as_bytes()).high_bits()
    }

    /// Returns the bucket to which the resources of a patient are written before they are grouped.
    pub fn bucket(&self, patient: &str) -> Bucket {
        Bucket::from_hash(self.hash(patient))
    }

    /// Returns the position of a patient's block. Several patients can have the same position.
    pub fn position(&self, patient: &str) -> u64 {
        self.hash(patient) / (u64::MAX / POSITION_COUNT + 1)
    }
}

/// A resource to copy to the blocks of its patients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatientCopies<'a> {
    /// Resource type.
    pub resource_type: ResourceType,
    /// Line of the resource, without line feed.
    pub text: &'a [u8],
    /// Id of the resource if it is a Patient.
    pub patient_id: Option<&'a str>,
    /// Ids of its patients, without duplicates, and their buckets.
    pub patients: &'a [(Bucket, String)],
}

impl PatientCopies<'_> {
    /// Returns true if the resource is written to at least one block.
    pub fn is_exported(&self) -> bool {
        self.omission().is_none()
    }

    /// Returns the role of the frame that reports the resource as omitted, or `None` if it is exported.
    fn omission(&self) -> Option<FrameRole> {
        match self.patients {
            [] => Some(FrameRole::NoPatient),
            [_] => None,
            several if self.text.len().saturating_mul(several.len()) > COPIES_LIMIT_BYTES => Some(FrameRole::TooManyCopies),
            _ => None,
        }
    }

    /// Returns a frame for each patient, or one frame that reports the resource as omitted.
    pub fn frames(&self) -> impl Iterator<Item = (Bucket, Frame<'_>)> {
        let omission =
            self.omission().map(|role| (Bucket::from_hash(0), Frame { role, resource_type: self.resource_type, patient: "", text: b"" }));
        let patients = if omission.is_some() { &[] } else { self.patients };
        let frames = patients.iter().map(|(bucket, patient)| {
            let role = if self.patient_id == Some(patient) { FrameRole::Patient } else { FrameRole::Member };
            (*bucket, Frame { role, resource_type: self.resource_type, patient, text: self.text })
        });
        omission.into_iter().chain(frames)
    }
}

/// Returns the header line of a patient's block.
///
/// * `reference`: reference to the patient.
pub fn block_header(reference: &str) -> String {
    let reference = serde_json::Value::from(reference);
    format!("{HEADER_PREFIX}{reference}{HEADER_SUFFIX}")
}

const HEADER_PREFIX: &str = r#"{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"#;
const HEADER_SUFFIX: &str = "}}]}";

/// Returns true if a line is the header of a block. A Parameters resource of the lake is never taken for one, since it has
/// an id.
pub fn is_block_header(line: &[u8]) -> bool {
    let reference = line.strip_prefix(HEADER_PREFIX.as_bytes()).and_then(|rest| rest.strip_suffix(HEADER_SUFFIX.as_bytes()));
    reference.is_some_and(|reference| serde_json::from_slice::<String>(reference).is_ok())
}

/// Returns the range of positions that a grouping task writes.
pub fn position_range(grouping: &PatientGrouping) -> Range<u64> {
    let of = u128::from(grouping.ranges.max(1));
    let start = |range: u32| u64::try_from(u128::from(POSITION_COUNT) * u128::from(range) / of).unwrap_or(POSITION_COUNT);
    start(grouping.range)..start(grouping.range + 1)
}

/// Returns the number of bytes of frames that a task may hold within its memory budget. Ranges differ in size, and a frame takes more bytes
/// in memory than in a file, so use three quarters of the budget.
pub fn task_frame_bytes(limit_bytes: u64) -> u64 {
    (limit_bytes / 4 * 3).max(1)
}

/// Divides buckets among grouping tasks: one task for several small buckets, several tasks for a large one.
///
/// * `buckets`: size of each bucket, in bytes.
/// * `limit_bytes`: memory budget of a task.
/// * `is_sorted`: copied to the tasks. True if the buckets have files of their own.
pub fn plan_grouping_tasks(buckets: &BTreeMap<Bucket, u64>, limit_bytes: u64, is_sorted: bool) -> Vec<PatientGrouping> {
    let task_bytes = task_frame_bytes(limit_bytes);
    let mut tasks: Vec<(u64, PatientGrouping)> = Vec::new();
    for (bucket, bytes) in buckets {
        let (from, to) = (bucket.number(), bucket.number() + 1);
        match tasks.last_mut() {
            Some((total, last)) if *total + bytes <= task_bytes => (*total, last.end_bucket) = (*total + bytes, to),
            Some(_) | None => {
                let of = u32::try_from(bytes.div_ceil(task_bytes)).unwrap_or(MAX_RANGES).clamp(1, MAX_RANGES);
                tasks.extend(
                    (0..of).map(|range| (*bytes, PatientGrouping { first_bucket: from, end_bucket: to, range, ranges: of, is_sorted })),
                );
            }
        }
    }
    tasks.into_iter().map(|(_, task)| task).collect()
}

/// Maximum number of ranges of a bucket. A larger range takes several passes instead.
const MAX_RANGES: u32 = 4_096;

#[cfg(test)]
mod tests;
