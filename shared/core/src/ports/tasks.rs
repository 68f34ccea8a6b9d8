//! The store of tasks and their leases.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::JobStore;
use crate::job::Job;
use crate::job::file::{Fragment, FragmentName, OutputKind};
use crate::job::task::{Lease, LeaseOutcome, TaskCompletion, TaskSplit, TaskUpdate, Work};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;
use crate::vocab::ids::{JobId, TaskId};

/// The maximum number of tasks in [`TaskUpdate::AddTasks`]. A DynamoDB transaction has at most 100 items, and a task needs
/// two.
pub const TASKS_PER_UPDATE: usize = 49;

/// The maximum number of bytes of JSON of the tasks in [`TaskUpdate::AddTasks`]. A DynamoDB transaction is at most 4 MB.
pub const TASK_BYTES_PER_UPDATE: usize = 3_000_000;

/// The maximum number of output files in a [`crate::job::task::Checkpoint`]. Each costs a part of a write less, and an attempt that stops
/// repeats more: a worker on AWS writes this many files of the default size in seven seconds.
pub const OUTPUT_FILES_PER_CHECKPOINT: usize = 8;

/// The maximum number of promoted fragments in a [`crate::job::task::Checkpoint`], which are copied at the same time. An export of most lakes
/// has no more types, so it waits once for all of them. With so many reserved names, the item of the task is still about 1 KB.
pub const PROMOTIONS_PER_CHECKPOINT: usize = 16;

/// The maximum number of fragments in a [`crate::job::task::Checkpoint`]. A DynamoDB transaction has at most 100 items. The others are the
/// task and its output files.
pub const FRAGMENTS_PER_CHECKPOINT: usize = 99 - OUTPUT_FILES_PER_CHECKPOINT;

/// The store of tasks and their leases.
pub trait TaskStore: JobStore {
    /// Requests the lease of a task. A granted lease invalidates the leases of all earlier attempts.
    fn lease_task(
        &self,
        task: &TaskId,
        settings: LeaseSettings,
        now: Millis,
    ) -> impl Future<Output = Result<LeaseOutcome, StoreError>> + Send;

    /// Ends the lease of a task that nobody works on any more, and makes the task available at once. The attempt does not count
    /// against the maximum. Returns false if the task is not leased.
    ///
    /// Only for a deployment with one process: at its start no earlier worker runs, and at its end its workers have stopped.
    fn void_lease(&self, task: &TaskId, now: Millis) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Applies an update of a leased task, increments the fencing token of `lease` and sets its end to `until`.
    ///
    /// Fails with [`StoreError::Stale`] if the lease has ended, or if the job has ended and the update changes the end of the lease. If the update was applied but its answer was lost,
    /// the store detects that and does not apply it again.
    fn update_task(&self, lease: &mut Lease, update: TaskUpdate, until: Millis) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Records that a leased task keeps a part of its slices or fragments, and that a new task of the round has the others, like an update of
    /// the task. Returns the new task, which the caller announces.
    ///
    /// Returns `None` and changes nothing if another task is split at the same moment.
    fn split_task(
        &self,
        lease: &mut Lease,
        split: TaskSplit,
        until: Millis,
    ) -> impl Future<Output = Result<Option<TaskId>, StoreError>> + Send;

    /// Completes a task and counts it in its job. Returns the job after the change. Its number of open tasks is 0 only if all tasks of the
    /// round are complete. Otherwise it may count a part of the round.
    fn complete_task(&self, lease: &Lease, completion: TaskCompletion) -> impl Future<Output = Result<Job, StoreError>> + Send;

    /// Returns the work of a task, or `None` if the task is not recorded.
    fn task_work(&self, task: &TaskId) -> impl Future<Output = Result<Option<Work>, StoreError>> + Send;

    /// Lists the selected fragments that were recorded in these rounds, sorted by kind, task and fencing token.
    fn fragments(
        &self,
        id: &JobId,
        rounds: RangeInclusive<u32>,
        selection: &FragmentSelection,
    ) -> impl Future<Output = Result<Vec<Fragment>, StoreError>> + Send;
}

/// A selection of fragments. The store reads the selected ones only, because there may be a million others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FragmentSelection {
    /// The fragments of all kinds that are exported.
    Exported,
    /// The fragments of one kind.
    Kind(OutputKind),
    /// The fragments of one kind that these tasks have written.
    KindOfTasks(OutputKind, Range<u32>),
    /// The fragments of the buckets with these numbers.
    Buckets(Range<u8>),
}

impl FragmentSelection {
    /// Returns true if a fragment of this name is selected.
    pub fn contains(&self, name: FragmentName) -> bool {
        match (self, name.kind) {
            (Self::Exported, kind) => kind.is_exported(),
            (Self::Kind(selected), kind) => *selected == kind,
            (Self::KindOfTasks(selected, tasks), kind) => *selected == kind && tasks.contains(&name.task),
            (Self::Buckets(buckets), OutputKind::Bucket(bucket)) => buckets.contains(&bucket.number()),
            (Self::Buckets(_), _) => false,
        }
    }
}

/// The settings of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// The duration of a lease after its last heartbeat. After that, another worker may lease the task.
    pub duration: Duration,
    /// The number of attempts without progress after which a task is parked.
    pub max_attempts: u32,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        // A minute is about a hundred times the duration of a store call. Five attempts outlast a short outage of any
        // single service.
        Self { duration: Duration::from_secs(60), max_attempts: 5 }
    }
}
