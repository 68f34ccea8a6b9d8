//! The settings of workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::flow::resolve_patients::PatientResolutionSettings;
use crate::job::Quotas;
use crate::ports::LeaseSettings;
use crate::vocab::lake_settings::LakeSettings;

/// The number of [`WorkerSettings::cursor_interval`]s after which a task with open files records its cursor. Each time leaves
/// fragments, which must be merged later.
pub const CURSOR_INTERVALS_WITH_FILES: u32 = 6;

/// A flag that asks all workers of a process to stop at their next opportunity. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks the workers to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns true if the workers must stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl PartialEq for StopFlag {
    fn eq(&self, other: &Self) -> bool {
        self.is_set() == other.is_set()
    }
}

impl Eq for StopFlag {}

/// The settings of workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// The settings of leases.
    pub lease: LeaseSettings,
    /// The time after which a task that has selected nothing records its cursor. One with open files waits
    /// [`CURSOR_INTERVALS_WITH_FILES`] times as long.
    pub cursor_interval: Duration,
    /// The time after which a read task looks whether it is among the last of its round, and gives a part of its slices to a new task then. A
    /// merge task looks twice as often.
    pub split_interval: Duration,
    /// The flag that asks the workers of this process to stop.
    pub stop: StopFlag,
    /// The smallest size of a slice of an object, in bytes.
    pub min_slice_bytes: u64,
    /// True to skip objects whose names promise a type that was not requested. If false, every object is read, and the `resourceType`
    /// of each line decides.
    pub trust_object_names: bool,
    /// The total size of the fragments, in bytes, up to which the finalize task merges them by itself. Larger totals are split among
    /// merge tasks.
    pub merge_limit_bytes: u64,
    /// The number of lines in an output file if all are as long as a line usually is at most. A file exceeds its size by a part of its last
    /// line.
    pub lines_of_file: u64,
    /// The interpretation of the lake.
    pub lake: LakeSettings,
    /// The limits on concurrent exports. When an export has ended, the next queued one is started.
    pub quotas: Quotas,
    /// The limits of the plan's resolution of patients.
    pub patient_resolution: PatientResolutionSettings,
    /// The number of bytes of version records and links that one task resolves. In memory they take 1.6 times as much.
    pub resolve_bytes: u64,
    /// The number of reads of files of records, or of corrections, by all tasks of a round. If a round would need more, the files are merged
    /// in rounds before.
    pub max_record_reads: u64,
    /// The memory budget for sorting patient blocks, in bytes.
    pub grouping_memory_bytes: u64,
    /// The largest number of tasks that each read a whole bucket of patients. If a bucket is larger, it is sorted roughly in a round before.
    pub max_unsorted_ranges: u64,
    /// The largest number of resources of a window of a synchronization. The hash and the time of each are in memory until the window is
    /// complete. A window that the server does not count is divided by time at half of it, and a history may have half as many.
    pub max_window_resources: usize,
    /// The memory of the function that the workers run in, in MB. 0 on one machine.
    pub memory_mb: u32,
}

impl WorkerSettings {
    /// Returns the number of bytes of version records or links that a task merges at once. They are in memory as they are stored, beside the
    /// file that is written.
    pub(super) fn merge_step_bytes(&self) -> u64 {
        (self.resolve_bytes / 4 * 3).max(1)
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            lease: LeaseSettings::default(),
            cursor_interval: Duration::from_secs(20),
            split_interval: Duration::from_secs(10),
            stop: StopFlag::default(),
            min_slice_bytes: 1 << 20,
            trust_object_names: false,
            // 75 MiB/s in each direction: a task of its own reads and writes this in seven seconds.
            merge_limit_bytes: 256 << 20,
            lines_of_file: 1_024,
            lake: LakeSettings::default(),
            quotas: Quotas::default(),
            patient_resolution: PatientResolutionSettings::default(),
            resolve_bytes: 64 << 20,
            // 0.01 USD, and some seconds of the 5,500 reads per second that S3 allows in one folder.
            max_record_reads: 20_000,
            // A worker's memory also holds an output file of the default size that is being written, and the chunks of buckets that are
            // being read.
            grouping_memory_bytes: 128 << 20,
            max_unsorted_ranges: 4,
            max_window_resources: 1_800_000,
            memory_mb: 0,
        }
    }
}
