//! Runs one attempt at one task: leases it, does the work, and completes it, yields it or records the failure.

use std::time::Duration;

use crate::access::Agent;
use crate::flow::client::end_job::end_job_and_free_space;
use crate::flow::client::start_queued::start_queued_after_end;
use crate::job::ExportError;
use crate::job::file_names::FileNames;
use crate::job::task::{Lease, LeaseOutcome, PlanInput, Release, Work};
use crate::job::{FailureKind, FailureReason, Job, JobEvent, JobState, Transition};
use crate::metering::{continue_from, metered};
use crate::ports::{AllPorts, JobStore as _, OutputStore as _, TaskQueue as _, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::{SourceError, StoreError};
use crate::vocab::ids::TaskId;

use super::corrections::run_merge_corrections_task;
use super::finalize::run_finalize_task;
use super::group_by_patient::run_grouping_task;
use super::heartbeat::release_task;
use super::merge_records::run_merge_records_task;
use super::plan::run_plan_task;
use super::pump::pump;
use super::resolve_versions::run_resolve_task;
use super::settings::WorkerSettings;
use super::sort_patients::run_sort_task;
use super::sync::{run_fetch_task, run_finalize_sync_task, run_plan_sync_task, run_publish_task};
use super::task_end::TaskEnd;

/// The longest time that a task may spend without progress in pauses that the FHIR server demands, and in the attempts that end with them.
/// It outlasts a maintenance at night.
const PAUSES_WITHOUT_PROGRESS: Duration = Duration::from_secs(12 * 3_600);

/// The longest delay of the queue.
const LONGEST_DELAY: Duration = Duration::from_secs(900);

/// Runs one attempt at a task. `stop_at` is the time at which the attempt should yield (rule P7).
///
/// Returns an error only if not even the failure could be recorded. Then the lease expires, and the reaper announces the task.
pub async fn run_task(ports: &impl AllPorts, task: &TaskId, settings: &WorkerSettings, stop_at: Millis) -> Result<TaskEnd, ExportError> {
    // Boxed: the future of an attempt is large.
    let attempt = Box::pin(run_attempt(ports, task, settings, stop_at));
    let end = metered(ports.now(), settings.memory_mb, attempt).await?;
    let has_job_ended = match &end {
        TaskEnd::Completed(_, job) => !job.state.is_open(),
        TaskEnd::JobFailed(_) => true,
        TaskEnd::Yielded(_) | TaskEnd::Unavailable | TaskEnd::Obsolete | TaskEnd::Retried(_) | TaskEnd::Paused(_) => false,
    };
    // Jobs may be queued even if the deployment has no limit, because a client may have a limit of its own.
    if has_job_ended && settings.quotas.queue_when_full {
        start_queued_after_end(ports.jobs(), ports.queue(), &settings.quotas, ports.now()).await;
    }
    Ok(end)
}

/// Leases the task and runs its work until it is completed, yields or fails. Handles errors of the work: returns an error only if
/// the outcome could not be recorded.
async fn run_attempt(ports: &impl AllPorts, task: &TaskId, settings: &WorkerSettings, stop_at: Millis) -> Result<TaskEnd, ExportError> {
    let started_at = ports.now();
    let outcome = match ports.jobs().lease_task(task, settings.lease, ports.now()).await {
        Err(error @ StoreError::OutOfSpace { .. }) => {
            return fail_job(ports, task, FailureReason { kind: FailureKind::OutOfSpace, text: error.to_string() }).await;
        }
        Err(error @ (StoreError::Overloaded { .. } | StoreError::Unknown { .. } | StoreError::NotApplied { .. })) => {
            return announce_unleased(ports, task, &error).await;
        }
        outcome => outcome?,
    };
    let mut lease = match outcome {
        LeaseOutcome::Granted(lease) => *lease,
        LeaseOutcome::Unavailable => return Ok(TaskEnd::Unavailable),
        LeaseOutcome::Obsolete => return Ok(TaskEnd::Obsolete),
        LeaseOutcome::Exhausted(fault) => {
            let is_sync = ports.jobs().job(&task.job).await?.is_some_and(|job| job.is_sync());
            return fail_job(ports, task, exhausted_reason((task, is_sync), settings, fault)).await;
        }
    };
    continue_from(lease.counters.usage);
    tracing::debug!(job.id = %task.job, task.id = task.task, attempt = lease.attempt, work = lease.work.as_str(), "leased");
    let result = match lease.work {
        Work::Plan(PlanInput { sync: Some(ref request), .. }) => {
            let request = request.as_ref().clone();
            run_plan_sync_task(ports, &mut lease, settings, stop_at, &request).await
        }
        Work::Plan(_) => run_plan_task(ports, &mut lease, settings, stop_at).await,
        Work::MergeRecords(merge) => run_merge_records_task(ports, &mut lease, settings, merge).await,
        Work::MergeCorrections(merge) => run_merge_corrections_task(ports, &mut lease, settings, merge).await,
        Work::Resolve(range) => run_resolve_task(ports, &mut lease, settings, range).await,
        Work::SortPatients(sort) => run_sort_task(ports, &mut lease, settings, stop_at, sort).await,
        Work::GroupByPatient(grouping) => run_grouping_task(ports, &mut lease, settings, stop_at, grouping).await,
        Work::Read(_) | Work::Reread(_) | Work::Merge(_) => pump(ports, &mut lease, settings, stop_at).await,
        Work::Fetch(ref fetch) => {
            let fetch = fetch.clone();
            run_fetch_task(ports, &mut lease, settings, stop_at, &fetch).await
        }
        Work::Publish(ref publications) => {
            let publications = publications.clone();
            run_publish_task(ports, &mut lease, settings, stop_at, &publications).await
        }
        Work::FinalizeSync(ref finalize) => {
            let finalize = finalize.as_ref().clone();
            run_finalize_sync_task(ports, &mut lease, settings, &finalize).await
        }
        Work::Finalize => run_finalize_task(ports, &mut lease, settings, stop_at).await,
    };
    let error = match result {
        Ok(end) => return Ok(end),
        Err(error) => error,
    };
    // The files of a cancelled job are deleted, so an attempt that is still writing fails. That is expected.
    let has_ended = ports.jobs().job(&task.job).await.is_ok_and(|job| job.is_none_or(|job| !job.state.is_open()));
    match FaultHandling::from_error(&error) {
        FaultHandling::FailJob(_) | FaultHandling::Retry | FaultHandling::DropLease | FaultHandling::Pause(_) if has_ended => {
            drop_lease(ports, &lease.job).await
        }
        FaultHandling::DropLease => drop_lease(ports, &lease.job).await,
        FaultHandling::FailJob(kind) => fail_job(ports, task, job_failure_reason(&lease.job, &error, kind)).await,
        FaultHandling::Retry => retry(ports, lease, settings, &error).await,
        FaultHandling::Postpone => postpone(ports, lease, &error).await,
        FaultHandling::Pause(until) => pause(ports, lease, until, started_at).await,
    }
}

/// Fails the job of a task whose worker is stuck in a call that does not return. `error` describes the call.
pub async fn fail_stuck_task(ports: &impl AllPorts, task: &TaskId, error: &ExportError) -> Result<TaskEnd, ExportError> {
    let FaultHandling::FailJob(kind) = FaultHandling::from_error(error) else { return Ok(TaskEnd::Unavailable) };
    let Some(job) = ports.jobs().job(&task.job).await? else { return Ok(TaskEnd::Obsolete) };
    fail_job(ports, task, job_failure_reason(&job, error, kind)).await
}

/// Ends an attempt whose lease or job is over.
async fn drop_lease(ports: &impl AllPorts, job: &Job) -> Result<TaskEnd, ExportError> {
    delete_late_files(ports, job).await;
    Ok(TaskEnd::Obsolete)
}

/// Returns the reason of a job that fails with this error. That of a de-identified export does not show names of objects.
fn job_failure_reason(job: &Job, error: &ExportError, kind: FailureKind) -> FailureReason {
    match job.request.anonymization {
        Some(_) => FailureReason { kind, text: text_without_object_names(error) },
        None => FailureReason { kind, text: error.to_string() },
    }
}

/// Stores the failure of the attempt and announces the task again. Fails the job if this was the last attempt.
async fn retry(ports: &impl AllPorts, mut lease: Lease, settings: &WorkerSettings, error: &ExportError) -> Result<TaskEnd, ExportError> {
    let task = lease.task.clone();
    let fault = error.to_string();
    tracing::warn!(job.id = %task.job, task.id = task.task, attempt = lease.attempt, error = error as &dyn std::error::Error, "an attempt failed");
    let now = ports.now();
    match release_task(ports, &mut lease, Release::Fault(fault.clone()), now).await {
        // The lease is also stale if the write that seemed to fail was the completion of the task, and succeeded.
        Err(StoreError::Stale) => return Ok(TaskEnd::Obsolete),
        released => released?,
    }
    if lease.attempts_since_progress >= settings.lease.max_attempts {
        return fail_job(ports, &task, exhausted_reason((&task, lease.job.is_sync()), settings, Some(fault))).await;
    }
    ports.queue().announce(std::slice::from_ref(&task), retry_delay(lease.attempts_since_progress)).await?;
    Ok(TaskEnd::Retried(fault))
}

/// Gives the task back without counting the attempt, because a store was overloaded. The job's deadline limits how often that happens.
async fn postpone(ports: &impl AllPorts, mut lease: Lease, error: &ExportError) -> Result<TaskEnd, ExportError> {
    let task = lease.task.clone();
    tracing::warn!(job.id = %task.job, task.id = task.task, attempt = lease.attempt, error = error as &dyn std::error::Error, "a store is overloaded, and the attempt is repeated");
    let now = ports.now();
    match release_task(ports, &mut lease, Release::Overload, now).await {
        Err(StoreError::Stale) => return Ok(TaskEnd::Obsolete),
        released => released?,
    }
    ports.queue().announce(std::slice::from_ref(&task), overload_delay(&task)).await?;
    Ok(TaskEnd::Retried(error.to_string()))
}

/// Gives the task back until the end of a pause that the FHIR server demands. The attempt does not count, but the time does: fails the job
/// if the task has spent too much of it in such attempts and pauses since it last made progress.
async fn pause(ports: &impl AllPorts, mut lease: Lease, until: Millis, started_at: Millis) -> Result<TaskEnd, ExportError> {
    let (task, now) = (lease.task.clone(), ports.now());
    let total = lease.paused.saturating_add(until.since(started_at));
    if total > PAUSES_WITHOUT_PROGRESS {
        return fail_job(ports, &task, busy_reason(until, total)).await;
    }
    match release_task(ports, &mut lease, Release::Pause { until, total }, now).await {
        Err(StoreError::Stale) => return Ok(TaskEnd::Obsolete),
        released => released?,
    }
    // The reaper announces the task after a longer pause.
    let delay = until.since(now);
    if delay <= LONGEST_DELAY {
        ports.queue().announce(std::slice::from_ref(&task), delay).await?;
    }
    Ok(TaskEnd::Paused(until))
}

/// Returns the failure reason of a synchronization whose FHIR server demands pauses only.
fn busy_reason(until: Millis, total: Duration) -> FailureReason {
    let text = format!(
        "the FHIR server was busy: it has demanded pauses, the last one until {until}, and within {} hours a task has made no progress; \
         synchronize again when the server answers",
        total.as_secs() / 3_600
    );
    FailureReason { kind: FailureKind::Exhausted, text }
}

/// Announces a task again whose lease was not granted because of this error. A message that the queue delivers again would come back only
/// after its visibility timeout, which is longer than any attempt.
async fn announce_unleased(ports: &impl AllPorts, task: &TaskId, error: &StoreError) -> Result<TaskEnd, ExportError> {
    tracing::warn!(job.id = %task.job, task.id = task.task, error = error as &dyn std::error::Error, "a task was not leased and is announced again");
    ports.queue().announce(std::slice::from_ref(task), overload_delay(task)).await?;
    Ok(TaskEnd::Retried(error.to_string()))
}

/// The handling of an attempt's error.
enum FaultHandling {
    /// The lease or the job is over: do nothing more.
    DropLease,
    /// Fail the job, because no attempt can succeed.
    FailJob(FailureKind),
    /// Another attempt may succeed.
    Retry,
    /// A store was overloaded. Another attempt may succeed, and this one does not count.
    Postpone,
    /// The FHIR server demands a pause until this time.
    Pause(Millis),
}

impl FaultHandling {
    /// Decides what to do after an error of a task's work.
    fn from_error(error: &ExportError) -> Self {
        match error {
            ExportError::Store(StoreError::Stale) => Self::DropLease,
            ExportError::Store(StoreError::Misconfigured { .. }) | ExportError::Source(SourceError::Misconfigured { .. }) => {
                Self::FailJob(FailureKind::Misconfigured)
            }
            ExportError::Store(StoreError::OutOfSpace { .. }) => Self::FailJob(FailureKind::OutOfSpace),
            ExportError::Source(SourceError::Changed { .. }) => Self::FailJob(FailureKind::SourceChanged),
            ExportError::Source(SourceError::Unreadable { .. } | SourceError::Archived { .. }) => {
                Self::FailJob(FailureKind::SourceUnreadable)
            }
            ExportError::Store(StoreError::Overloaded { .. })
            | ExportError::Source(SourceError::Overloaded(_) | SourceError::OriginUnavailable(_)) => Self::Postpone,
            ExportError::Source(SourceError::OriginBusy { until }) => Self::Pause(*until),
            // The plan has found what the precheck of the kick-off had no time to find.
            ExportError::NotFound(_) => Self::FailJob(FailureKind::NotFound),
            ExportError::Rejected(_) | ExportError::Remarked(_) => Self::FailJob(FailureKind::NotSupported),
            ExportError::NotDeidentified(_) => Self::FailJob(FailureKind::NotDeidentified),
            ExportError::Store(StoreError::NotApplied { .. } | StoreError::Unknown { .. } | StoreError::Unreadable { .. })
            | ExportError::Source(SourceError::Unavailable(_))
            | ExportError::QuotaReached(_) => Self::Retry,
        }
    }
}

/// Returns the error's text without names of objects, because some operators name objects by patients. The names are logged.
fn text_without_object_names(error: &ExportError) -> String {
    tracing::warn!(error = error as &dyn std::error::Error, "a de-identified export fails");
    match error {
        ExportError::Source(SourceError::Changed { .. }) => {
            "an object of the lake was changed or removed after the export had pinned it; start a new export".to_owned()
        }
        ExportError::Source(SourceError::Unreadable { detail, .. }) => {
            format!("an object of the lake cannot be read: {detail}; correct or replace it and start a new export")
        }
        ExportError::Source(SourceError::Archived { storage_class, .. }) => {
            format!("an object of the lake is archived ({storage_class}) and cannot be read; restore it and start a new export")
        }
        ExportError::Source(
            SourceError::Misconfigured { .. }
            | SourceError::Unavailable(_)
            | SourceError::Overloaded(_)
            | SourceError::OriginUnavailable(_)
            | SourceError::OriginBusy { .. },
        )
        | ExportError::Rejected(_)
        | ExportError::Remarked(_)
        | ExportError::QuotaReached(_)
        | ExportError::NotFound(_)
        | ExportError::NotDeidentified(_)
        | ExportError::Store(_) => error.to_string(),
    }
}

/// Returns the delay before the next attempt: 1, 2, 4, … seconds, at most a minute. It grows so that retries do not prolong an overload.
fn retry_delay(attempts: u32) -> Duration {
    crate::vocab::back_off::doubled_pause(Duration::from_secs(1), attempts.saturating_sub(1), Duration::from_secs(60))
}

/// Returns the delay before an attempt that follows an overload: 5 to 34 seconds, by the number of the task, so that the tasks that were
/// rejected together are not tried again together.
fn overload_delay(task: &TaskId) -> Duration {
    Duration::from_secs(5 + u64::from(task.task % 30))
}

/// Returns the failure reason of a job whose task has used up its attempts. `fault` is the last error; `None` if the process
/// ended without recording one.
fn exhausted_reason((task, is_sync): (&TaskId, bool), settings: &WorkerSettings, fault: Option<String>) -> FailureReason {
    let fault = fault.unwrap_or_else(|| "its process ended unexpectedly".to_owned());
    let remedy = if is_sync {
        "synchronize again, and see the log if it fails again"
    } else {
        "start a new export, and tell the operator if it fails again"
    };
    let text = format!(
        "task {} failed {} times without progress, the last time because {fault}; {remedy}",
        task.task, settings.lease.max_attempts
    );
    FailureReason { kind: FailureKind::Exhausted, text }
}

/// Deletes the files of a job that has ended, because this attempt may have written some after the end. The reaper would do so later, and
/// deletes those of a large export: thousands of workers must not all list its whole folder.
async fn delete_late_files(ports: &impl AllPorts, job: &Job) {
    let deleted = match ports.jobs().job(&job.id).await.map(|job| job.map(|job| job.state)) {
        Ok(Some(JobState::Cancelled | JobState::Failed | JobState::Expired)) => {
            ports.output().delete_part_except(&job.folder(), &FileNames::default(), None).await.map(drop)
        }
        // Only the lease was lost: the files may belong to another attempt or to the completed export.
        Ok(Some(JobState::Queued | JobState::Accepted | JobState::Running | JobState::Complete) | None) => return,
        Err(error) => Err(error),
    };
    if let Err(error) = deleted {
        tracing::warn!(job.id = %job.id, error = &error as &dyn std::error::Error, "files of an export that has ended were not deleted; the reaper will delete them");
    }
}

/// Fails the job and parks the task's message for the operator. Does neither if the job has already ended.
async fn fail_job(ports: &impl AllPorts, task: &TaskId, reason: FailureReason) -> Result<TaskEnd, ExportError> {
    let Some(job) = ports.jobs().job(&task.job).await? else { return Ok(TaskEnd::Obsolete) };
    let failed = (JobEvent::Failed, Some(reason.clone()));
    let transition = end_job_and_free_space(ports.jobs(), ports.output(), &job, failed, &Agent::service(), ports.now()).await?;
    if !matches!(transition, Some(Transition::To(_))) {
        return Ok(TaskEnd::Obsolete);
    }
    if reason.kind == FailureKind::OutOfSpace {
        // The files of this job are of no use, and others need the space. The reaper deletes what other workers still write.
        delete_late_files(ports, &job).await;
    }
    let message = serde_json::to_string(task).unwrap_or_default();
    if let Err(error) = ports.queue().park(&message).await {
        tracing::warn!(job.id = %task.job, task.id = task.task, error = &error as &dyn std::error::Error, "the message of a failed task was not parked");
    }
    Ok(TaskEnd::JobFailed(reason))
}
