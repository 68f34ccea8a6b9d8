//! Job lists of a caller.

use headrace_core::access::Agent;
use headrace_core::job::{Job, JobEvent, JobState};
use headrace_core::ports::{JobStore, TaskStore};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{Caller, JobId, ListCursor};

use super::quotas::job_of;
use super::{T0, record_job};
use crate::contracts::{BoxError, CaseResult};

/// Lists all jobs of the caller in pages of `limit` jobs.
async fn list_all(store: &impl JobStore, owner: &str, limit: u16) -> Result<Vec<Job>, BoxError> {
    let (owner, mut found, mut before) = (Caller(owner.to_owned()), Vec::new(), None);
    loop {
        let page = store.list_jobs(&owner, before.as_ref(), limit).await?;
        assert!(page.jobs.len() <= usize::from(limit));
        found.extend(page.jobs);
        before = page.next;
        if before.is_none() {
            return Ok(found);
        }
    }
}

/// Checks that a list contains the caller's jobs in every state, even if several were created in the same millisecond, and no others.
pub async fn a_caller_lists_its_own_jobs_newest_first_in_pages(store: &impl TaskStore) -> CaseResult {
    let mut expected = Vec::new();
    // Three jobs have the same creation time.
    for (n, seconds) in [(3, 30), (1, 10), (7, 50), (5, 40), (2, 20), (6, 50), (4, 40), (8, 50)] {
        let state = if n == 2 { JobState::Queued } else { JobState::Accepted };
        let job = Job { state, ..job_of(n, "ann", seconds)? };
        record_job(store, &job).await?;
        expected.push(job);
        record_job(store, &job_of(100 + n, "ben", seconds)?).await?;
    }
    let cancelled = job_of(3, "ann", 30)?;
    store.end_job(&cancelled.id, JobEvent::CancelRequested, None, &Agent::service(), T0).await?;
    for job in &mut expected {
        *job = store.job(&job.id).await?.ok_or("the job is gone")?;
    }
    let whole = list_all(store, "ann", 100).await?;
    assert!(whole.is_sorted_by(|one, next| one.created_at >= next.created_at), "{whole:?}");
    let by_id = |jobs: &[Job]| {
        let mut jobs = jobs.to_vec();
        jobs.sort_by(|one, other| one.id.cmp(&other.id));
        jobs
    };
    assert_eq!(by_id(&whole), by_id(&expected), "the list must contain every job as stored");
    for limit in [1, 2, 3, 8] {
        assert_eq!(list_all(store, "ann", limit).await?, whole, "{limit}");
    }
    assert_eq!(list_all(store, "ben", 3).await?.len(), 8);
    assert!(list_all(store, "cid", 3).await?.is_empty());
    Ok(())
}

/// Checks forged cursors.
pub async fn a_list_cursor_reaches_only_the_callers_own_jobs(store: &impl TaskStore) -> CaseResult {
    for n in 1..=4 {
        record_job(store, &job_of(n, "ann", u64::from(n) * 10)?).await?;
        record_job(store, &job_of(100 + n, "ben", u64::from(n) * 10 + 5)?).await?;
    }
    let ann = Caller("ann".to_owned());
    let ids = |jobs: Vec<Job>| jobs.into_iter().map(|job| job.id).collect::<Vec<_>>();
    let own = |numbers: &[u8]| numbers.iter().map(|n| JobId::from_random([*n; 16])).collect::<Vec<_>>();
    // A cursor from Ben's list, one to no job, one before all jobs, and one after all jobs.
    for (created_at, n, expected) in [
        (Millis(T0.0 + 25_000), 102, &[2, 1][..]),
        (Millis(T0.0 + 35_000), 99, &[3, 2, 1]),
        (Millis(T0.0 + 1_000_000), 99, &[4, 3, 2, 1]),
        (Millis(0), 99, &[]),
    ] {
        let cursor = ListCursor { created_at, id: JobId::from_random([n; 16]) };
        let page = store.list_jobs(&ann, Some(&cursor), 10).await?;
        assert_eq!(ids(page.jobs), own(expected), "{cursor}");
        assert_eq!(page.next, None);
    }
    Ok(())
}
