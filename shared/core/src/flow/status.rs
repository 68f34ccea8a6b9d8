//! How far an export has come.

use std::time::Duration;

use crate::clock::Millis;
use crate::error::ExportError;
use crate::ids::{Caller, JobId};
use crate::job::{Job, JobState, Reason};
use crate::manifest::Manifest;
use crate::ports::{Clock, JobStore};

/// The answer to a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Still at work.
    InProgress {
        /// For `X-Progress`: under 100 characters.
        progress: String,
        /// When to ask again, in whole seconds: an HTTP date here makes a real client poll every 100 ms.
        retry_after: Duration,
    },
    /// Done.
    Complete {
        /// What there is to download.
        manifest: Box<Manifest>,
        /// Until when.
        expires: Millis,
    },
    /// Given up.
    Failed(Reason),
}

/// The status of the caller's own job (rule P9).
pub async fn status(jobs: &impl JobStore, clock: &impl Clock, id: &JobId, caller: &Caller) -> Result<Status, ExportError> {
    let now = clock.now();
    let job = jobs.job(id).await?.filter(|job| job.is_visible_to(caller, now)).ok_or(ExportError::NotFound("this export"))?;
    match (job.state, job.expires_at(), &job.reason) {
        (JobState::Complete, Some(expires), _) => {
            let parts = jobs.parts(id).await?;
            Ok(Status::Complete { manifest: Box::new(Manifest::of(&job, parts)), expires })
        }
        (JobState::Failed, _, Some(reason)) => Ok(Status::Failed(reason.clone())),
        (JobState::Complete | JobState::Failed | JobState::Cancelled | JobState::Expired, _, _) => {
            Err(ExportError::NotFound("this export"))
        }
        (JobState::Queued, _, _) => {
            // One at least must end before the first that waits.
            let before = jobs.waiting_before(&job).await?.saturating_add(1);
            let progress = format!("waiting for {before} earlier exports");
            Ok(Status::InProgress { progress, retry_after: retry_after(now.since(job.created_at)) })
        }
        (JobState::Accepted | JobState::Running, _, _) => {
            Ok(Status::InProgress { progress: progress(&job), retry_after: retry_after(now.since(job.created_at)) })
        }
    }
}

/// Percent by bytes of the lake read, the resources so far, and what is left.
pub fn progress(job: &Job) -> String {
    let Some(planned) = &job.planned else { return "planning the export".to_owned() };
    let read = job.tally.source_bytes.min(planned.source_bytes);
    // 100 is said by the manifest alone.
    let percent = (u128::from(read) * 100).checked_div(u128::from(planned.source_bytes)).map_or(0, |percent| percent.min(99));
    let resources = job.tally.resources;
    match (job.open_tasks, job.round) {
        (0, _) => format!("{percent} % done, {resources} resources, finishing"),
        (open, 0) => format!("{percent} % done, {resources} resources, {open} of {} tasks left", planned.tasks),
        (open, _) => format!("{percent} % done, {resources} resources, {open} tasks left to gather files"),
    }
}

/// A tenth of the job's age, from 1 to 10 seconds: short jobs answer soon, long ones are not worn out by polls.
fn retry_after(age: Duration) -> Duration {
    Duration::from_secs((age.as_secs() / 10).clamp(1, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_asked_back_within_one_to_ten_seconds() {
        for (age, pause) in [(0, 1), (9, 1), (25, 2), (100, 10), (100_000, 10)] {
            assert_eq!(retry_after(Duration::from_secs(age)), Duration::from_secs(pause), "{age}");
        }
    }
}
