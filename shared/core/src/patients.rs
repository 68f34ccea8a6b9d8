//! Organized output (`organizeOutputBy=Patient`; Bulk Data Access 3.0.0, "Output organized by resource"): blocks of a
//! patient each instead of files of a type each.
//!
//! A block is a header line, the Patient if the export holds it, and then, by type and in the order in which they were
//! met, all resources in the patient's compartment. Blocks are never split over files.
//!
//! * A resource in the compartments of several patients is repeated in the block of each.
//! * A resource in no patient's compartment (of those that the export is about) can stand in no block, and files hold
//!   nothing but blocks. The standard allows to omit it; how many of each type were left out is said in the `error` file.
//!   So is a Provenance that is about a patient only by way of what it is about.
//! * So is a resource whose repetitions would take more than [`REPEATS_LIMIT_BYTES`]: a Group of a million patients, in
//!   the block of each of them, would be larger than all the rest.
//!
//! Tasks that read the lake write frames into the [`Bucket`]s of the patients. Once they have closed, organizing tasks
//! go through the buckets, and each takes the patients of a range of positions onto a [`SortBuffer`] until it is full: as many
//! passes as it takes, in bounded memory.

mod frame;
mod shelf;

use std::collections::BTreeMap;
use std::ops::Range;

use headrace_fhir::ResourceType;

pub use frame::{Frame, FrameDecoder, Malformed, Role};
pub use shelf::{Book, Order, SortBuffer};

use crate::job::anonymization::JobSecret;
use crate::job::task::Organizing;
use crate::output::file::Bucket;
use crate::versions::key::Keys;
use crate::vocab::ids::JobId;

/// A resource whose copies take more than this, in bytes, is left out; two copies of the longest line are not too much.
/// It bounds what one line can make of a page.
pub const REPEATS_LIMIT_BYTES: usize = 128 << 20;

/// Positions are below this. Some bits of a hash are left for the bucket.
const POSITIONS: u64 = 1 << 48;

/// Where the block of a patient stands among all blocks.
#[derive(Clone, Debug)]
pub struct PatientPartitioner {
    keys: Keys,
}

impl PatientPartitioner {
    /// The places of a job's blocks.
    ///
    /// `secret`: that of a de-identified export. Without it, whoever knows a patient's id could tell where the block stands.
    pub fn of(job: &JobId, secret: Option<&JobSecret>) -> Self {
        Self { keys: secret.map_or_else(|| Keys::of(job), Keys::of_secret) }
    }

    fn hash(&self, patient: &str) -> u64 {
        self.keys.patient(patient.as_bytes()).position()
    }

    /// The bucket of a patient's resources.
    pub fn bucket_of(&self, patient: &str) -> Bucket {
        Bucket::of(self.hash(patient))
    }

    /// The position of a patient's block within every range of buckets. Patients may share one.
    pub fn position_of(&self, patient: &str) -> u64 {
        self.hash(patient) / (u64::MAX / POSITIONS + 1)
    }
}

/// One resource on its way into the blocks of its patients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed<'a> {
    /// Its type.
    pub kind: ResourceType,
    /// Its line, without a line end.
    pub text: &'a [u8],
    /// If it is a Patient: its own id.
    pub own: Option<&'a str>,
    /// Its patients, each once, and their buckets.
    pub patients: &'a [(Bucket, String)],
}

impl Placed<'_> {
    /// Whether it stands in a block.
    pub fn is_exported(&self) -> bool {
        self.role_of_left_out().is_none()
    }

    fn role_of_left_out(&self) -> Option<Role> {
        match self.patients {
            [] => Some(Role::WithoutPatient),
            [_] => None,
            several if self.text.len().saturating_mul(several.len()) > REPEATS_LIMIT_BYTES => Some(Role::OfTooMany),
            _ => None,
        }
    }

    /// A frame for each of its patients, or one that says that it is left out.
    pub fn frames(&self) -> impl Iterator<Item = (Bucket, Frame<'_>)> {
        let left_out = self.role_of_left_out().map(|role| (Bucket::of(0), Frame { role, kind: self.kind, patient: "", text: b"" }));
        let patients = if left_out.is_some() { &[] } else { self.patients };
        let frames = patients.iter().map(|(bucket, patient)| {
            let role = if self.own == Some(patient) { Role::Patient } else { Role::Other };
            (*bucket, Frame { role, kind: self.kind, patient, text: self.text })
        });
        left_out.into_iter().chain(frames)
    }
}

/// The line that begins a patient's block.
///
/// `reference`: to the patient.
pub fn header(reference: &str) -> String {
    let reference = serde_json::Value::from(reference);
    format!("{HEADER_BEGIN}{reference}{HEADER_END}")
}

const HEADER_BEGIN: &str = r#"{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"#;
const HEADER_END: &str = "}}]}";

/// Whether a line of an organized file begins a block. A Parameters resource of the lake does not: it has an id.
pub fn is_header(line: &[u8]) -> bool {
    let reference = line.strip_prefix(HEADER_BEGIN.as_bytes()).and_then(|rest| rest.strip_suffix(HEADER_END.as_bytes()));
    reference.is_some_and(|reference| serde_json::from_slice::<String>(reference).is_ok())
}

/// Which of the patients in some buckets a task writes the blocks of.
pub fn positions(organizing: &Organizing) -> Range<u64> {
    let of = u128::from(organizing.of.max(1));
    let begin = |range: u32| u64::try_from(u128::from(POSITIONS) * u128::from(range) / of).unwrap_or(POSITIONS);
    begin(organizing.range)..begin(organizing.range + 1)
}

/// Shares the buckets, of which each holds so many bytes, among tasks that take about `limit_bytes` into memory: one for
/// several small ones, several for a large one.
pub fn share(buckets: &BTreeMap<Bucket, u64>, limit_bytes: u64) -> Vec<Organizing> {
    // Ranges are not all alike, and a frame takes more in memory than in a file.
    let share_bytes = (limit_bytes / 4 * 3).max(1);
    let mut shares: Vec<(u64, Organizing)> = Vec::new();
    for (bucket, bytes) in buckets {
        let (from, to) = (bucket.number(), bucket.number() + 1);
        match shares.last_mut() {
            Some((held, last)) if *held + bytes <= share_bytes => (*held, last.to) = (*held + bytes, to),
            Some(_) | None => {
                let of = u32::try_from(bytes.div_ceil(share_bytes)).unwrap_or(RANGES_LIMIT).clamp(1, RANGES_LIMIT);
                shares.extend((0..of).map(|range| (*bytes, Organizing { from, to, range, of })));
            }
        }
    }
    shares.into_iter().map(|(_, share)| share).collect()
}

/// More ranges than this are larger ones, which take several passes each: every range costs a read of the bucket.
const RANGES_LIMIT: u32 = 4_096;

#[cfg(test)]
mod tests;
