//! How far an export has come.
//!
//! Polls are not counted, and none is ever answered with 429. A poll reads one item; counting it would write one, at ten
//! times the price of what it saves. Every answer says when to ask again; a stage's throttling in API Gateway is what
//! holds off a client that does not care, and clients take its 429 as they would take ours.

use std::time::Duration;

use crate::access::Principal;
use crate::job::{Job, JobState, Phase, Reason};
use crate::output::manifest::Manifest;
use crate::ports::{Clock, JobStore};
use crate::vocab::clock::Millis;
use crate::vocab::error::ExportError;
use crate::vocab::ids::JobId;

/// The answer to a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polled {
    /// How the export stands.
    pub status: Status,
    /// Whether the client asked for the export's status apart from the poll's own (`separate-export-status`).
    pub is_separate: bool,
}

/// How an export stands.
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
        /// What there is to download, or the page of it that was asked for.
        manifest: Box<Manifest>,
        /// Until when.
        expires: Millis,
    },
    /// Given up.
    Failed(Reason),
}

/// The status of the caller's own job (rule P9); `page` of the manifest, from 1.
pub async fn status(
    jobs: &impl JobStore,
    clock: &impl Clock,
    (id, page): (&JobId, usize),
    visitor: &Principal,
) -> Result<Polled, ExportError> {
    let now = clock.now();
    let job = jobs.job(id).await?.filter(|job| job.is_visible_to(visitor, now)).ok_or(ExportError::NotFound("this export"))?;
    let in_progress = |progress| Status::InProgress { progress, retry_after: retry_after(now.since(job.created_at)) };
    let status = match (job.state, job.expires_at(), &job.reason) {
        (JobState::Complete, Some(expires), _) => {
            let parts = jobs.parts(id).await?;
            let manifest = Manifest::pages(&job, parts).nth(page.saturating_sub(1));
            let manifest = manifest.ok_or(ExportError::NotFound("this page of the manifest"))?;
            Status::Complete { manifest: Box::new(manifest), expires }
        }
        (JobState::Failed, _, Some(reason)) => Status::Failed(reason.clone()),
        (JobState::Complete | JobState::Failed | JobState::Cancelled | JobState::Expired, _, _) => {
            return Err(ExportError::NotFound("this export"));
        }
        (JobState::Queued, _, _) => {
            // One at least must end before the first that waits.
            let before = jobs.waiting_before(&job).await?.saturating_add(1);
            in_progress(format!("waiting for {before} earlier exports"))
        }
        (JobState::Accepted | JobState::Running, _, _) => in_progress(progress(&job)),
    };
    Ok(Polled { status, is_separate: job.request.separates_status })
}

/// Percent by bytes of the lake read, the resources so far, and what is left.
pub fn progress(job: &Job) -> String {
    let Some(planned) = &job.planned else { return "planning the export".to_owned() };
    let read = job.tally.source_bytes.min(planned.source_bytes);
    // 100 is said by the manifest alone.
    let percent = (u128::from(read) * 100).checked_div(u128::from(planned.source_bytes)).map_or(0, |percent| percent.min(99));
    let resources = job.tally.resources;
    let left = match (job.open_tasks, job.phase) {
        (0, _) => "finishing".to_owned(),
        (open, Phase::Read) => format!("{open} of {} tasks left", planned.tasks),
        (open, Phase::Resolve) => format!("{open} tasks left to compare versions"),
        (open, Phase::Link) => format!("{open} tasks left to follow references"),
        (open, Phase::Reread) => format!("{open} tasks left to read again"),
        (open, Phase::Organize) => format!("{open} tasks left to sort by patient"),
        (open, Phase::Gather) => format!("{open} tasks left to gather files"),
    };
    format!("{percent} % done, {resources} resources, {left}")
}

/// A tenth of the job's age, from 1 to 10 seconds: short jobs answer soon, long ones are not worn out by polls.
fn retry_after(age: Duration) -> Duration {
    Duration::from_secs((age.as_secs() / 10).clamp(1, 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohort::LeftOut;
    use crate::job::{Pass, Planned, Tally};
    use crate::request::ExportRequest;
    use crate::vocab::ids::Caller;

    // Holds: S1, B16
    #[test]
    fn progress_is_shorter_than_100_characters_whatever_there_is_to_tell() {
        let job = Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), ExportRequest::default(), Millis(0));
        let planned = Planned {
            transaction_time: Millis(0),
            tasks: 999_999,
            source_bytes: u64::MAX,
            pass: Pass::Direct,
            roster: None,
            left_out: LeftOut::default(),
        };
        for phase in Phase::ALL {
            let tally = Tally { source_bytes: u64::MAX, resources: u64::MAX, refused: 0 };
            let job = Job { planned: Some(planned), open_tasks: 999_999, phase, tally, ..job.clone() };
            let text = progress(&job);
            assert!(text.len() < 100 && text.starts_with("99 % done, "), "{text}");
        }
        assert_eq!(progress(&job), "planning the export");
    }

    // Holds: S1, B2
    #[test]
    fn clients_are_asked_back_within_one_to_ten_seconds() {
        for (age, pause) in [(0, 1), (9, 1), (25, 2), (100, 10), (100_000, 10)] {
            assert_eq!(retry_after(Duration::from_secs(age)), Duration::from_secs(pause), "{age}");
        }
    }
}
