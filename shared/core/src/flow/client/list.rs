//! Lists a client's own exports, newest first.

use crate::access::Principal;
use crate::job::ExportError;
use crate::job::{Job, JobState};
use crate::ports::{Clock, JobPage, JobStore};
use crate::vocab::ids::ListCursor;

/// The largest number of jobs on a page.
pub const MAX_PAGE_SIZE: u16 = 100;

/// The largest number of jobs read for one page. A client that has cancelled more than this in a row gets a short page with a link
/// to the next one.
const MAX_JOBS_READ: usize = 1_000;

/// Lists up to `count` visible jobs of the client. Cancelled and expired jobs are not visible.
///
/// A page with fewer than `count` jobs is the last one, unless `MAX_JOBS_READ` was reached.
pub async fn list(
    jobs: &impl JobStore,
    clock: &impl Clock,
    principal: &Principal,
    mut before: Option<ListCursor>,
    count: u16,
) -> Result<JobPage, ExportError> {
    let now = clock.now();
    let count = count.clamp(1, MAX_PAGE_SIZE);
    // One job more than is shown tells whether there is a next page.
    let limit = count + 1;
    let mut visible: Vec<Job> = Vec::new();
    let mut read = 0;
    loop {
        let page = jobs.list_jobs(&principal.caller, before.as_ref(), limit).await?;
        read += page.jobs.len();
        visible.extend(page.jobs.into_iter().filter(|job| job.is_visible_to(principal, now)));
        if visible.len() > usize::from(count) {
            visible.truncate(usize::from(count));
            let next = visible.last().map(|last| ListCursor { created_at: last.created_at, id: last.id.clone() });
            return Ok(JobPage { jobs: with_progress(jobs, visible).await?, next });
        }
        before = page.next;
        if before.is_none() || read >= MAX_JOBS_READ {
            return Ok(JobPage { jobs: with_progress(jobs, visible).await?, next: before });
        }
    }
}

/// Adds the progress to the running jobs, of which there are few, because their number is limited, and to the failed ones: what they have
/// used is in the counters of the round in which they failed.
async fn with_progress(jobs: &impl JobStore, listed: Vec<Job>) -> Result<Vec<Job>, ExportError> {
    let mut with_progress = Vec::with_capacity(listed.len());
    for job in listed {
        with_progress.push(if matches!(job.state, JobState::Running | JobState::Failed) { jobs.with_progress(job).await? } else { job });
    }
    Ok(with_progress)
}
