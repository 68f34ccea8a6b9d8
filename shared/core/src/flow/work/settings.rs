//! The settings of workers.

use crate::flow::resolve_patients::PatientResolutionSettings;
use crate::job::Quotas;
use crate::ports::LeaseSettings;
use crate::vocab::lake_settings::LakeSettings;

/// The settings of workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// The settings of leases.
    pub lease: LeaseSettings,
    /// The smallest size of a slice of an object, in bytes.
    pub min_slice_bytes: u64,
    /// True to skip objects whose names promise a type that was not requested. If false, every object is read, and the `resourceType`
    /// of each line decides.
    pub trust_object_names: bool,
    /// The total size of the fragments, in bytes, up to which the finalize task merges them by itself. Larger totals are split among
    /// merge tasks.
    pub merge_limit_bytes: u64,
    /// The interpretation of the lake.
    pub lake: LakeSettings,
    /// The limits on concurrent exports. When an export has ended, the next queued one is started.
    pub quotas: Quotas,
    /// The limits of the plan's resolution of patients.
    pub patient_resolution: PatientResolutionSettings,
    /// The number of bytes of version records and links that one task resolves. In memory they take a quarter more.
    pub resolve_bytes: u64,
    /// The memory budget for sorting patient blocks, in bytes.
    pub grouping_memory_bytes: u64,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            lease: LeaseSettings::default(),
            min_slice_bytes: 1 << 20,
            trust_object_names: false,
            merge_limit_bytes: 1 << 30,
            lake: LakeSettings::default(),
            quotas: Quotas::default(),
            patient_resolution: PatientResolutionSettings::default(),
            resolve_bytes: 64 << 20,
            // A worker's memory also holds an output file of the default size that is being written, and the chunks of buckets that are
            // being read.
            grouping_memory_bytes: 128 << 20,
        }
    }
}
