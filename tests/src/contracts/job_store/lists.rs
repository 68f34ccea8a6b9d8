//! The jobs of one caller.

use headrace_core::access::Agent;
use headrace_core::job::{Job, JobEvent, JobState};
use headrace_core::ports::{JobStore, TaskStore};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{Caller, JobId, ListCursor};

use super::quotas::job_of;
use super::{T0, record};
use crate::contracts::{BoxError, Held};

/// Everything that the caller's list has, read in pages of this size.
async fn all(store: &impl JobStore, owner: &str, limit: u16) -> Result<Vec<Job>, BoxError> {
    let (owner, mut found, mut before) = (Caller(owner.to_owned()), Vec::new(), None);
    loop {
        let page = store.jobs_of(&owner, before.as_ref(), limit).await?;
        assert!(page.jobs.len() <= usize::from(limit));
        found.extend(page.jobs);
        before = page.next;
        if before.is_none() {
            return Ok(found);
        }
    }
}

/// In every state, also where several were recorded in one moment; nobody else's.
pub async fn a_caller_lists_its_own_jobs_newest_first_page_by_page(store: &impl TaskStore) -> Held {
    let mut expected = Vec::new();
    // Some of one moment.
    for (n, seconds) in [(3, 30), (1, 10), (7, 50), (5, 40), (2, 20), (6, 50), (4, 40), (8, 50)] {
        let state = if n == 2 { JobState::Queued } else { JobState::Accepted };
        let job = Job { state, ..job_of(n, "ann", seconds)? };
        record(store, &job).await?;
        expected.push(job);
        record(store, &job_of(100 + n, "ben", seconds)?).await?;
    }
    let cancelled = job_of(3, "ann", 30)?;
    store.end_job(&cancelled.id, JobEvent::CancelAsked, None, &Agent::service(), T0).await?;
    for job in &mut expected {
        *job = store.job(&job.id).await?.ok_or("the job is gone")?;
    }
    let whole = all(store, "ann", 100).await?;
    assert!(whole.is_sorted_by(|one, next| one.created_at >= next.created_at), "{whole:?}");
    let by_id = |jobs: &[Job]| {
        let mut jobs = jobs.to_vec();
        jobs.sort_by(|one, other| one.id.cmp(&other.id));
        jobs
    };
    assert_eq!(by_id(&whole), by_id(&expected), "as they are in the table");
    for limit in [1, 2, 3, 8] {
        assert_eq!(all(store, "ann", limit).await?, whole, "{limit}");
    }
    assert_eq!(all(store, "ben", 3).await?.len(), 8);
    assert!(all(store, "cid", 3).await?.is_empty());
    Ok(())
}

/// Whatever somebody writes into it.
pub async fn a_cursor_leads_nowhere_but_into_the_callers_own_list(store: &impl TaskStore) -> Held {
    for n in 1..=4 {
        record(store, &job_of(n, "ann", u64::from(n) * 10)?).await?;
        record(store, &job_of(100 + n, "ben", u64::from(n) * 10 + 5)?).await?;
    }
    let ann = Caller("ann".to_owned());
    let ids = |jobs: Vec<Job>| jobs.into_iter().map(|job| job.id).collect::<Vec<_>>();
    let own = |numbers: &[u8]| numbers.iter().map(|n| JobId::from_random([*n; 16])).collect::<Vec<_>>();
    // A place in Ben's list, a place that never was, before everything, behind everything.
    for (created_at, n, expected) in [
        (Millis(T0.0 + 25_000), 102, &[2, 1][..]),
        (Millis(T0.0 + 35_000), 99, &[3, 2, 1]),
        (Millis(T0.0 + 1_000_000), 99, &[4, 3, 2, 1]),
        (Millis(0), 99, &[]),
    ] {
        let cursor = ListCursor { created_at, id: JobId::from_random([n; 16]) };
        let page = store.jobs_of(&ann, Some(&cursor), 10).await?;
        assert_eq!(ids(page.jobs), own(expected), "{cursor}");
        assert_eq!(page.next, None);
    }
    Ok(())
}
