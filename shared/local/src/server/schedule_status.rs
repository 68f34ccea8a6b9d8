//! The status of schedules, as commands and the page tell it.

use headrace_aws::DynamoJobStore;
use headrace_core::job::{Job, JobState};
use headrace_core::ports::JobStore as _;
use headrace_core::schedule::{Schedule, ScheduleProblem};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::level::Level;
use headrace_core::vocab::plural::counted;

/// Returns the job of the last run, or `None` if there was none or its record is gone.
pub(crate) async fn last_job(store: &DynamoJobStore, schedule: &Schedule) -> Result<Option<Job>, StoreError> {
    match &schedule.state.last_run {
        Some(run) => store.job(&run.job).await,
        None => Ok(None),
    }
}

/// Returns the time of the next run. `None` if none will start.
pub(crate) fn next(schedule: &Schedule) -> Option<String> {
    if let Some(requested_at) = schedule.state.requested_at {
        return Some(requested_at.instant());
    }
    let next = schedule.next_after(schedule.state.handled_until).filter(|_| !schedule.state.is_paused);
    next.map(|next| next.instant())
}

/// Returns the result of the last run: the state of its export.
pub(crate) fn result(schedule: &Schedule, job: Option<&Job>) -> String {
    match (&schedule.state.problem, &schedule.state.last_run, job) {
        (Some(ScheduleProblem { is_overlap: true, .. }), ..) => "skipped".to_owned(),
        (Some(_), ..) => "not started".to_owned(),
        (None, None, _) => "none".to_owned(),
        (None, Some(_), None) => "gone".to_owned(),
        (None, Some(_), Some(job)) => job.state.as_str().to_owned(),
    }
}

/// Returns the result of the last run with what is missing: lines that were left out, and the files of a complete run that somebody has
/// deleted or that have expired.
pub(crate) fn shown_result(schedule: &Schedule, job: Option<&Job>) -> String {
    let state = result(schedule, job);
    let Some(job) = job.filter(|job| job.state.as_str() == state) else { return state };
    match job.state {
        JobState::Complete if job.counters.lines_rejected > 0 => format!("{state}, {}", lines_left_out(job)),
        JobState::Cancelled if was_complete(schedule, job) => "complete, deleted".to_owned(),
        JobState::Expired if was_complete(schedule, job) => "complete, expired".to_owned(),
        JobState::Queued
        | JobState::Accepted
        | JobState::Running
        | JobState::Complete
        | JobState::Failed
        | JobState::Cancelled
        | JobState::Expired => state,
    }
}

/// Returns true if the last complete run of the schedule was this job, whatever became of it since.
fn was_complete(schedule: &Schedule, job: &Job) -> bool {
    schedule.complete_run.as_ref().is_some_and(|run| run.job == job.id)
}

/// Formats the number of lines that an export has left out.
fn lines_left_out(job: &Job) -> String {
    counted(job.counters.lines_rejected, "line left out", "lines left out")
}

/// Returns what somebody should do about the last run, if there is something.
pub(crate) fn attention(schedule: &Schedule, job: Option<&Job>) -> Option<String> {
    let job = job?;
    let is_incremental = schedule.definition.is_incremental;
    match job.state {
        JobState::Complete if job.counters.lines_rejected > 0 => {
            let later =
                "after a repair, later increments have a resource only with a new meta.lastUpdated, full exports have it in any case";
            let remedy = if is_incremental { later } else { "the next run after a repair has them" };
            let lines = counted(
                job.counters.lines_rejected,
                "line of the lake is not a resource and was left out",
                "lines of the lake are not resources and were left out",
            );
            Some(format!("{lines}, see `headrace jobs show {}`: {remedy}", job.id))
        }
        JobState::Cancelled if is_incremental && was_complete(schedule, job) => {
            Some("the files of the last complete run were deleted, and no later increment has its changes: run a full export".to_owned())
        }
        JobState::Queued
        | JobState::Accepted
        | JobState::Running
        | JobState::Complete
        | JobState::Failed
        | JobState::Cancelled
        | JobState::Expired => None,
    }
}

/// Formats a level as the command line takes it.
pub(crate) fn format_level(level: &Level) -> String {
    match level {
        Level::System => "system".to_owned(),
        Level::AllPatients => "patient".to_owned(),
        Level::OnePatient(id) => format!("patient:{id}"),
        Level::Group(id) => format!("group:{id}"),
    }
}

/// Returns the reason for which the export of the last run has failed.
pub(crate) fn failure_reason(job: Option<&Job>) -> Option<String> {
    let failed = job.filter(|job| job.state == JobState::Failed)?;
    failed.reason.as_ref().map(|reason| reason.text.clone())
}
