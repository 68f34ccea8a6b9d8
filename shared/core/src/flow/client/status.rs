//! Reports the status of an export.
//!
//! Polls are not counted, and none is answered with 429. A poll reads one item. Counting it would write one, at ten times the price
//! of the read that it saves. Every answer says when to ask again. A client that ignores this is throttled by the API Gateway stage,
//! and clients handle its 429 in the same way as they would handle ours.

use std::time::Duration;

use crate::access::Principal;
use crate::job::ExportError;
use crate::job::file_list::{ERROR_PART, FileListPart, ListedFile, missing_list};
use crate::job::{FailureReason, Job, JobState, Phase, ReadMode};
use crate::output::manifest::Manifest;
use crate::ports::{Clock, JobStore};
use crate::vocab::clock::Millis;
use crate::vocab::ids::JobId;
use crate::vocab::plural::counted;

/// The answer to a poll.
#[derive(Clone, Debug, PartialEq)]
pub struct Polled {
    /// The status of the export.
    pub status: Status,
    /// True if the client asked for the status of the export apart from the status of the poll (`separate-export-status`).
    pub is_separate: bool,
}

/// The status of an export.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// The export is queued or running.
    InProgress {
        /// The text for `X-Progress`, shorter than 100 characters.
        progress: String,
        /// The delay until the next poll, in whole seconds. An HTTP date makes a widely used client poll every 100 ms.
        retry_after: Duration,
    },
    /// The export is complete.
    Complete {
        /// The requested page of the manifest.
        manifest: Box<Manifest>,
        /// The time at which the files are deleted.
        expires: Millis,
    },
    /// The export has failed.
    Failed(FailureReason),
}

/// Returns the status of a job of the client (rule P9). `page` is the requested page of the manifest, counted from 1.
pub async fn status(
    jobs: &impl JobStore,
    clock: &impl Clock,
    (id, page): (&JobId, usize),
    principal: &Principal,
) -> Result<Polled, ExportError> {
    let now = clock.now();
    let job = jobs.job(id).await?.filter(|job| job.is_visible_to(principal, now)).ok_or(ExportError::NotFound("this export"))?;
    let in_progress = |progress| Status::InProgress { progress, retry_after: retry_after(now.since(job.created_at)) };
    let status = match (job.state, job.expires_at(), &job.reason) {
        (JobState::Complete, Some(expires), _) => {
            let manifest = manifest_page(jobs, &job, page).await?.ok_or(ExportError::NotFound("this page of the manifest"))?;
            Status::Complete { manifest: Box::new(manifest), expires }
        }
        (JobState::Failed, _, Some(reason)) => Status::Failed(reason.clone()),
        (JobState::Complete | JobState::Failed | JobState::Cancelled | JobState::Expired, _, _) => {
            return Err(ExportError::NotFound("this export"));
        }
        (JobState::Queued, _, _) => {
            // Even the first job in the queue waits for one running export to end.
            let before = jobs.queue_position(&job).await?.saturating_add(1);
            in_progress(format!("waiting for {before} earlier exports"))
        }
        (JobState::Accepted | JobState::Running, _, _) => in_progress(progress(&jobs.with_progress(job.clone()).await?)),
    };
    Ok(Polled { status, is_separate: job.request.separates_status })
}

/// Returns a page of the manifest of a complete job, counted from 1. Returns `None` if there is no such page.
///
/// Without `allowPartialManifests`, the only page has the files of all parts of the list.
async fn manifest_page(jobs: &impl JobStore, job: &Job, page: usize) -> Result<Option<Manifest>, ExportError> {
    let Ok(number) = u32::try_from(page) else { return Ok(None) };
    let last = if job.request.allows_partial_manifests { number.saturating_add(1) } else { u32::MAX };
    let mut parts = jobs.file_list(job, ERROR_PART..=ERROR_PART).await?;
    let errors = parts.pop().ok_or_else(missing_list)?;
    let first = if job.request.allows_partial_manifests { number } else { ERROR_PART + 1 };
    let parts = jobs.file_list(job, first..=last).await?;
    if page != 1 && (!job.request.allows_partial_manifests || parts.is_empty()) {
        return Ok(None);
    }
    let is_on_page = |part: &&FileListPart| !job.request.allows_partial_manifests || part.number == number;
    let files: Vec<&ListedFile> = parts.iter().filter(is_on_page).flat_map(|part| &part.files).collect();
    let has_next = job.request.allows_partial_manifests && parts.iter().any(|part| part.number > number);
    Ok(Some(Manifest::page(job, &files, &errors.files, has_next.then_some(page + 1))))
}

/// The number of characters that `X-Progress` must not reach.
const PROGRESS_LIMIT: usize = 100;

/// Describes the progress of a running job: percentage of source bytes read, resources exported, tasks left, and the moment whose
/// state of the lake is exported if it is earlier than the plan.
pub fn progress(job: &Job) -> String {
    let Some(planned) = &job.planned else { return "planning the export".to_owned() };
    let read = job.counters.source_bytes.min(planned.source_bytes);
    // Only the manifest says that an export is complete, so progress stops at 99 %.
    let percent = (u128::from(read) * 100).checked_div(u128::from(planned.source_bytes)).map_or(0, |percent| percent.min(99));
    let resources = match job.counters.resources {
        // The first of two readings writes nothing.
        0 if planned.read_mode == ReadMode::TwoPass => String::new(),
        1 => "1 resource, ".to_owned(),
        count => format!("{count} resources, "),
    };
    let left = match (job.open_tasks, job.phase) {
        (0, _) => "finishing".to_owned(),
        (open, Phase::Read) if planned.read_mode == ReadMode::TwoPass => {
            format!("{open} of {} tasks left of the first of two readings", job.read_tasks())
        }
        (open, Phase::Read) => format!("{open} of {} tasks left", job.read_tasks()),
        (open, Phase::MergeVersionRecords) => format!("{} to sort versions", tasks_left(open)),
        (open, Phase::ResolveVersions) => format!("{} to compare versions", tasks_left(open)),
        (open, Phase::MergeLinks) => format!("{} to sort references", tasks_left(open)),
        (open, Phase::ResolveLinks) => format!("{} to follow references", tasks_left(open)),
        (open, Phase::MergeCorrections) => format!("{} to sort corrections", tasks_left(open)),
        (open, Phase::Reread) => format!("{} to read again", tasks_left(open)),
        (open, Phase::SortPatients) => format!("{} before resources are sorted by patient", tasks_left(open)),
        (open, Phase::GroupByPatient) => format!("{} to sort by patient", tasks_left(open)),
        (open, Phase::Merge) => format!("{} to merge files", tasks_left(open)),
        (open, Phase::ReadHistory) => format!("{} to read the history", tasks_left(open)),
        (open, Phase::Publish) => format!("{} to add to the lake", tasks_left(open)),
    };
    let text = format!("{percent} % done, {resources}{left}");
    // Only a time that lies behind is worth the space.
    let is_behind = planned.time.transaction_time < planned.time.planned_at;
    let with_time = format!("{text}, as of {}", planned.time.transaction_time.instant());
    if is_behind && with_time.len() < PROGRESS_LIMIT { with_time } else { text }
}

/// Formats the number of open tasks.
fn tasks_left(open: u32) -> String {
    counted(open.into(), "task left", "tasks left")
}

/// Returns a tenth of the job's age, clamped to 1 to 10 seconds: short exports are answered soon, long ones cause few polls.
fn retry_after(age: Duration) -> Duration {
    Duration::from_secs((age.as_secs() / 10).clamp(1, 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::OmittedSubjects;
    use crate::job::{Counters, ExportTime, Planned, Watermark};
    use crate::request::ExportRequest;
    use crate::vocab::ids::Caller;

    // Holds: S1, B16
    #[test]
    fn progress_is_always_shorter_than_100_characters() {
        let job = Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), ExportRequest::default(), Millis(0));
        let planned = Planned {
            time: ExportTime::new(Millis(1_769_846_400_000), Watermark::Lag(Millis(900_000))),
            tasks: 999_999,
            source_bytes: u64::MAX,
            read_mode: ReadMode::SinglePass,
            patient_set: None,
            omitted: OmittedSubjects::default(),
            group_patients: 0,
        };
        for phase in Phase::ALL {
            let counters = Counters { source_bytes: u64::MAX, resources: u64::MAX, ..Counters::default() };
            let job = Job { planned: Some(planned), open_tasks: 999_999, phase, counters, ..job.clone() };
            let text = progress(&job);
            assert!(text.len() < 100 && text.starts_with("99 % done, "), "{text}");
        }
        assert_eq!(progress(&job), "planning the export");
        let text = |resources, read_mode| {
            let counters = Counters { source_bytes: 80, resources, ..Counters::default() };
            let planned = Planned { tasks: 4, source_bytes: 100, read_mode, ..planned };
            progress(&Job { planned: Some(planned), open_tasks: 1, counters, ..job.clone() })
        };
        assert!(text(0, ReadMode::SinglePass).starts_with("80 % done, 0 resources, 1 of 4 tasks left"));
        assert!(text(1, ReadMode::SinglePass).starts_with("80 % done, 1 resource, 1 of 4 tasks left"));
        assert!(text(0, ReadMode::TwoPass).starts_with("80 % done, 1 of 4 tasks left of the first of two readings"));
    }

    // Holds: S1, B2
    #[test]
    fn retry_after_is_between_one_and_ten_seconds() {
        for (age, seconds) in [(0, 1), (9, 1), (25, 2), (100, 10), (100_000, 10)] {
            assert_eq!(retry_after(Duration::from_secs(age)), Duration::from_secs(seconds), "{age}");
        }
    }
}
