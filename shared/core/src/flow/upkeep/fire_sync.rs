//! Starts the synchronization of the lake with its FHIR server when it is due.
//!
//! The job is recorded under a key of the time for which it is due, which no other job may have. So each time starts one job, and no state
//! beside the jobs is needed.

use std::time::Duration;

use crate::flow::client::start_sync::{start_due_sync, sync_owner};
use crate::job::sync::SyncRequest;
use crate::job::{ExportError, Job, JobSettings, JobState};
use crate::lake::watermark::{WATERMARK_OBJECT, parse_filled_watermark};
use crate::ports::{Clock, JobStore, Ports, ResourceSource, TaskQueue};
use crate::schedule::Timing;
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;
use crate::vocab::ids::JobId;

/// The time after which a failed synchronization is started again, if the schedule does not say earlier. An operator who has corrected a
/// setting need not wait for a day.
const RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// The time within which reapers that run at the same moment start one first synchronization.
const FIRST_SYNC_WINDOW_MILLIS: u64 = 600_000;

/// The moment from which intervals count.
const ANCHOR: Millis = Millis(0);

/// The synchronizations of a deployment: what to fetch, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncSchedule {
    /// The request of each synchronization.
    pub request: SyncRequest,
    /// The times.
    pub timing: Timing,
    /// The settings of the jobs.
    pub job: JobSettings,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncStart {
    /// No synchronization is due.
    NotDue,
    /// A synchronization is due, and an earlier one still runs. The next one starts after its end.
    StillRunning(JobId),
    /// A synchronization was due, and another process has started it, or one that the list of jobs did not show yet.
    StartedByAnother,
    /// A synchronization was started.
    Started(JobId),
}

/// Starts a synchronization if one is due and none runs. The first one is due at once. `new_id` creates the id of a job.
pub async fn fire_sync<O, F>(
    ports: &Ports<impl JobStore, impl TaskQueue, impl ResourceSource, O, impl Clock, F>,
    schedule: &SyncSchedule,
    new_id: fn() -> Result<JobId, StoreError>,
) -> Result<SyncStart, ExportError>
where
    O: Send + Sync,
    F: Send + Sync,
{
    let now = ports.clock.now();
    let last = ports.jobs.list_jobs(&sync_owner(), None, 1).await?.jobs.into_iter().next();
    let due_at = match &last {
        Some(job) => due_after_job(schedule, job),
        // The table has forgotten the last job, or there was none.
        None => due_after_watermark(&ports.source, schedule, now).await?,
    };
    let Some(due_at) = due_at.filter(|due_at| *due_at <= now) else { return Ok(SyncStart::NotDue) };
    if let Some(running) = last.filter(|job| job.state.is_open()) {
        return Ok(SyncStart::StillRunning(running.id));
    }
    let due = (schedule.request.clone(), due_at);
    let started = start_due_sync((&ports.jobs, &ports.queue), new_id()?, due, schedule.job, now).await?;
    Ok(started.map_or(SyncStart::StartedByAnother, |job| SyncStart::Started(job.id)))
}

/// Returns the time at which a synchronization is due after this one.
fn due_after_job(schedule: &SyncSchedule, last: &Job) -> Option<Millis> {
    let by_timing = schedule.timing.next_after(last.created_at, ANCHOR);
    match last.state {
        JobState::Failed => last.ended_at.map(|ended_at| ended_at + RETRY_AFTER).into_iter().chain(by_timing).min(),
        JobState::Queued | JobState::Accepted | JobState::Running | JobState::Complete | JobState::Cancelled | JobState::Expired => {
            by_timing
        }
    }
}

/// Returns the time at which a synchronization is due after the watermark of the lake. Without a watermark, it is due now.
async fn due_after_watermark(source: &impl ResourceSource, schedule: &SyncSchedule, now: Millis) -> Result<Option<Millis>, ExportError> {
    let object = source.read_metadata(WATERMARK_OBJECT).await?;
    match object.map(|object| parse_filled_watermark(&object, now)).transpose()?.flatten() {
        Some(watermark) => Ok(schedule.timing.next_after(watermark, ANCHOR)),
        None => Ok(Some(Millis(now.0 - now.0 % FIRST_SYNC_WINDOW_MILLIS))),
    }
}
