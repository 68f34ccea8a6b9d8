//! The store of jobs.

use std::ops::RangeInclusive;

use crate::access::Agent;
use crate::job::file::{OutputFile, OutputFileName};
use crate::job::file_list::FileListPart;
use crate::job::task::PlanInput;
use crate::job::{FailureReason, Job, JobEvent, Quota, Quotas, RecordConditions, RecordOutcome, Transition};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;
use crate::vocab::ids::{Caller, JobId, ListCursor, TaskId};

/// The store of jobs and their output files.
///
/// [`crate::job::JobState::transition`] decides which state changes are legal. The store applies each with a condition on
/// the current state, in one transaction with its audit record.
pub trait JobStore: JobLists {
    /// Stores a new job, its plan task and its idempotency key, and counts the job against the quotas, in one transaction
    /// (rule P1). Recording the same job again changes nothing.
    fn record_job(
        &self,
        job: &Job,
        plan: &PlanInput,
        conditions: &RecordConditions,
        agent: &Agent,
    ) -> impl Future<Output = Result<RecordOutcome, StoreError>> + Send;

    /// Returns a job, or `None` if it does not exist. A running job is as it was when its current round began.
    fn job(&self, id: &JobId) -> impl Future<Output = Result<Option<Job>, StoreError>> + Send;

    /// Adds the progress of its current round to a running job: the number of open tasks, and the sum of the counters. Adds the counters to
    /// a failed job.
    fn with_progress(&self, job: Job) -> impl Future<Output = Result<Job, StoreError>> + Send;

    /// Applies an `event` that ends a job. Returns `None` if the job does not exist or its state does not allow the event.
    fn end_job(
        &self,
        id: &JobId,
        event: JobEvent,
        reason: Option<FailureReason>,
        agent: &Agent,
        now: Millis,
    ) -> impl Future<Output = Result<Option<Transition>, StoreError>> + Send;

    /// Lists the recorded output files of a job, sorted by kind and number. Files from before the round in which the export last started
    /// over are left out.
    fn output_files(&self, job: &Job) -> impl Future<Output = Result<Vec<OutputFile>, StoreError>> + Send;

    /// Returns a recorded output file, or `None` if no file of this name is recorded.
    fn output_file(&self, job: &Job, name: OutputFileName) -> impl Future<Output = Result<Option<OutputFile>, StoreError>> + Send;

    /// Returns the parts with these numbers of the list of a complete job's files, sorted by number.
    fn file_list(&self, job: &Job, parts: RangeInclusive<u32>) -> impl Future<Output = Result<Vec<FileListPart>, StoreError>> + Send;

    /// Lists the jobs and tasks that are due for a check by `now`, longest overdue first, up to `limit` of each shard.
    fn due(&self, now: Millis, limit: u16) -> impl Future<Output = Result<Vec<DueItem>, StoreError>> + Send;

    /// Sets the time of the next check of a due job or task. `None` ends its checks. Returns false if another process has
    /// changed the time since the item was read.
    fn postpone(&self, due: &DueItem, until: Option<Millis>) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Records that the folder of a due job is swept up to `position` ([`Job::swept_to`]), and sets the time of the job's next check as
    /// [`Self::postpone`] does, in one write. `None` instead of a position: the folder is swept to its end. A position is forgotten when
    /// the job moves to another state.
    fn record_sweep(
        &self,
        due: &DueItem,
        position: Option<&str>,
        until: Option<Millis>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The queue of jobs that wait for a slot, and the lists of a client's jobs.
pub trait JobLists: Send + Sync {
    /// Lists up to `limit` queued jobs, oldest first, starting after `after`.
    fn queued_jobs(&self, after: Option<&QueuedJob>, limit: u16) -> impl Future<Output = Result<Vec<QueuedJob>, StoreError>> + Send;

    /// Returns the number of queued jobs of the same caller that are ahead of this job.
    fn queue_position(&self, job: &Job) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// Starts a queued job if a slot is free and schedules its plan task for the next reaper run.
    fn start_queued(&self, queued: &QueuedJob, quotas: &Quotas, now: Millis)
    -> impl Future<Output = Result<QueueStart, StoreError>> + Send;

    /// Lists up to `limit` of a client's jobs in any state, newest first, starting after `before`.
    fn list_jobs(
        &self,
        owner: &Caller,
        before: Option<&ListCursor>,
        limit: u16,
    ) -> impl Future<Output = Result<JobPage, StoreError>> + Send;
}

/// A job that waits for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedJob {
    /// The time at which the job was recorded. It determines the order of the queue.
    pub queued_at: Millis,
    /// The job.
    pub job: JobId,
    /// The job's owner.
    pub owner: Caller,
    /// The owner's own quota when the job was recorded: [`RecordConditions::client_quota`].
    pub client_quota: Option<u32>,
}

/// The result of starting a queued job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueStart {
    /// The job has started.
    Started,
    /// The job stays queued: this quota is used up.
    NoSlot(Quota),
    /// The job is not queued any more: another process has started it, or it has ended.
    NotQueued,
}

/// A page of a client's jobs.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<Job>,
    /// The position at which the next page starts. `None` on the last page.
    pub next: Option<ListCursor>,
}

/// A job or task that is due for a check by the reaper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueItem {
    /// The job or task.
    pub subject: DueSubject,
    /// The time since when it is due.
    pub due_at: Millis,
}

/// The subject of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DueSubject {
    /// A job that may be stuck, past its deadline, or expired.
    Job(JobId),
    /// A task that was announced but not leased, or whose lease has ended.
    Task(TaskId),
}
