//! Idempotency keys.

use futures_util::future::try_join_all;
use headrace_core::access::Agent;
use headrace_core::job::task::Planning;
use headrace_core::job::{Conditions, IdempotencyKey, Job, JobEvent, JobState, Limit, Quotas, Recorded};
use headrace_core::ports::{JobStore, TaskStore};
use headrace_core::vocab::ids::Caller;

use super::quotas::{job_of, per_caller};
use super::{T0, current, record};
use crate::contracts::{BoxError, Held};

fn key(owner: &str, key: &str, request: &str) -> Result<IdempotencyKey, BoxError> {
    Ok(IdempotencyKey::read(key, &Caller(owner.to_owned()), &[request.as_bytes()])?)
}

async fn record_under(store: &impl JobStore, job: &Job, quotas: Quotas, key: IdempotencyKey) -> Result<Recorded, BoxError> {
    Ok(store
        .record_job(job, &Planning::default(), &Conditions { quotas, key: Some(key), ..Conditions::default() }, &Agent::service())
        .await?)
}

/// One after the other, at once, over the limit, and after the job has ended.
pub async fn a_key_starts_one_job_however_often_it_comes(store: &impl TaskStore) -> Held {
    let jobs = (1..=10).map(|n| job_of(n, "ann", 0)).collect::<Result<Vec<_>, _>>()?;
    let same = key("ann", "k-1", "a request")?;
    let asked = try_join_all(jobs.iter().map(|job| record_under(store, job, per_caller(1), same.clone()))).await?;
    let started = jobs.iter().zip(&asked).filter(|(_, answer)| **answer == Recorded::Yes).map(|(job, _)| job).collect::<Vec<_>>();
    let [started] = started.as_slice() else { return Err(format!("{asked:?}").into()) };
    for (job, answer) in jobs.iter().zip(&asked).filter(|(job, _)| job.id != started.id) {
        assert_eq!(*answer, Recorded::Before(Some(Box::new((*started).clone()))));
        assert_eq!(store.job(&job.id).await?, None);
    }
    assert_eq!(record_under(store, started, per_caller(1), same.clone()).await?, Recorded::Yes, "a call whose answer was lost");
    store.end_job(&started.id, JobEvent::CancelAsked, None, &Agent::service(), T0).await?;
    let now = current(store, started).await?;
    assert_eq!(now.state, JobState::Cancelled);
    assert_eq!(record_under(store, &job_of(11, "ann", 0)?, per_caller(1), same).await?, Recorded::Before(Some(Box::new(now))));
    // Nothing was counted twice.
    record(store, &job_of(12, "ann", 0)?).await?;
    let full = record_under(store, &job_of(13, "ann", 0)?, per_caller(1), key("ann", "k-2", "a request")?).await?;
    assert_eq!(full, Recorded::Full(Limit::PerCaller(1)));
    Ok(())
}

/// Another caller's key of the same text is another key; another request under a key is told so.
pub async fn a_key_belongs_to_one_caller_and_one_request(store: &impl TaskStore) -> Held {
    let yes = |n: u8, owner: &'static str, request: &'static str, waits: bool| async move {
        let state = if waits { JobState::Queued } else { JobState::Accepted };
        let job = Job { state, ..job_of(n, owner, 0)? };
        record_under(store, &job, Quotas::default(), key(owner, "k", request)?).await
    };
    assert_eq!(yes(1, "ann", "one", false).await?, Recorded::Yes);
    assert_eq!(yes(2, "ben", "two", true).await?, Recorded::Yes);
    assert_eq!(yes(3, "ann", "two", false).await?, Recorded::KeyReused);
    assert_eq!(yes(4, "ben", "one", true).await?, Recorded::KeyReused);
    let again = yes(5, "ben", "two", true).await?;
    assert!(matches!(&again, Recorded::Before(Some(job)) if job.id == job_of(2, "ben", 0)?.id), "{again:?}");
    assert_eq!(store.waiting(None, 10).await?.len(), 1);
    for n in [3, 4, 5] {
        assert_eq!(store.job(&job_of(n, "ann", 0)?.id).await?, None);
    }
    Ok(())
}

/// For want of room: the client tries again with the same key.
pub async fn a_kick_off_that_is_refused_leaves_its_key_unused(store: &impl TaskStore) -> Held {
    let first = job_of(1, "ann", 0)?;
    record(store, &first).await?;
    let job = job_of(2, "ann", 0)?;
    let full = record_under(store, &job, per_caller(1), key("ann", "k", "one")?).await?;
    assert_eq!(full, Recorded::Full(Limit::PerCaller(1)));
    store.end_job(&first.id, JobEvent::CancelAsked, None, &Agent::service(), T0).await?;
    assert_eq!(record_under(store, &job, per_caller(1), key("ann", "k", "another")?).await?, Recorded::Yes);
    Ok(())
}
