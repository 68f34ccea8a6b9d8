//! Idempotency keys.

use futures_util::future::try_join_all;
use headrace_core::access::Agent;
use headrace_core::job::task::PlanInput;
use headrace_core::job::{IdempotencyKey, Job, JobEvent, JobState, Quota, Quotas, RecordConditions, RecordOutcome};
use headrace_core::ports::{JobStore, TaskStore};
use headrace_core::vocab::ids::Caller;

use super::quotas::{job_of, per_caller_quota};
use super::{T0, record_job, reload};
use crate::contracts::{BoxError, CaseResult};

/// Creates the idempotency key that a caller sent with a request.
fn key(owner: &str, key: &str, request: &str) -> Result<IdempotencyKey, BoxError> {
    Ok(IdempotencyKey::parse(key, &Caller(owner.to_owned()), &[request.as_bytes()])?)
}

/// Records a job with an idempotency key.
async fn record_with_key(store: &impl JobStore, job: &Job, quotas: Quotas, key: IdempotencyKey) -> Result<RecordOutcome, BoxError> {
    Ok(store
        .record_job(
            job,
            &PlanInput::default(),
            &RecordConditions { quotas, key: Some(key), ..RecordConditions::default() },
            &Agent::service(),
        )
        .await?)
}

/// Checks repeated kick-offs with one key: concurrently, above the quota, and after the job has ended.
pub async fn an_idempotency_key_starts_only_one_job(store: &impl TaskStore) -> CaseResult {
    let jobs = (1..=10).map(|n| job_of(n, "ann", 0)).collect::<Result<Vec<_>, _>>()?;
    let same = key("ann", "k-1", "a request")?;
    let outcomes = try_join_all(jobs.iter().map(|job| record_with_key(store, job, per_caller_quota(1), same.clone()))).await?;
    let started =
        jobs.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == RecordOutcome::Recorded).map(|(job, _)| job).collect::<Vec<_>>();
    let [started] = started.as_slice() else { return Err(format!("{outcomes:?}").into()) };
    for (job, outcome) in jobs.iter().zip(&outcomes).filter(|(job, _)| job.id != started.id) {
        assert_eq!(*outcome, RecordOutcome::Duplicate(Some(Box::new((*started).clone()))));
        assert_eq!(store.job(&job.id).await?, None);
    }
    assert_eq!(
        record_with_key(store, started, per_caller_quota(1), same.clone()).await?,
        RecordOutcome::Recorded,
        "a repeated call after a lost response"
    );
    store.end_job(&started.id, JobEvent::CancelRequested, None, &Agent::service(), T0).await?;
    let now = reload(store, started).await?;
    assert_eq!(now.state, JobState::Cancelled);
    assert_eq!(
        record_with_key(store, &job_of(11, "ann", 0)?, per_caller_quota(1), same).await?,
        RecordOutcome::Duplicate(Some(Box::new(now)))
    );
    // Only one job was counted for the quota.
    record_job(store, &job_of(12, "ann", 0)?).await?;
    let full = record_with_key(store, &job_of(13, "ann", 0)?, per_caller_quota(1), key("ann", "k-2", "a request")?).await?;
    assert_eq!(full, RecordOutcome::NoSlot(Quota::PerCaller(1)));
    Ok(())
}

/// Checks that keys of different callers are independent, and that a key with a different request is rejected.
pub async fn an_idempotency_key_belongs_to_one_caller_and_one_request(store: &impl TaskStore) -> CaseResult {
    let yes = |n: u8, owner: &'static str, request: &'static str, waits: bool| async move {
        let state = if waits { JobState::Queued } else { JobState::Accepted };
        let job = Job { state, ..job_of(n, owner, 0)? };
        record_with_key(store, &job, Quotas::default(), key(owner, "k", request)?).await
    };
    assert_eq!(yes(1, "ann", "one", false).await?, RecordOutcome::Recorded);
    assert_eq!(yes(2, "ben", "two", true).await?, RecordOutcome::Recorded);
    assert_eq!(yes(3, "ann", "two", false).await?, RecordOutcome::KeyReused);
    assert_eq!(yes(4, "ben", "one", true).await?, RecordOutcome::KeyReused);
    let again = yes(5, "ben", "two", true).await?;
    assert!(matches!(&again, RecordOutcome::Duplicate(Some(job)) if job.id == job_of(2, "ben", 0)?.id), "{again:?}");
    assert_eq!(store.queued_jobs(None, 10).await?.len(), 1);
    for n in [3, 4, 5] {
        assert_eq!(store.job(&job_of(n, "ann", 0)?.id).await?, None);
    }
    Ok(())
}

/// Checks that a client that was rejected because of its quota can retry with the same key.
pub async fn a_rejected_kick_off_leaves_its_idempotency_key_unused(store: &impl TaskStore) -> CaseResult {
    let first = job_of(1, "ann", 0)?;
    record_job(store, &first).await?;
    let job = job_of(2, "ann", 0)?;
    let full = record_with_key(store, &job, per_caller_quota(1), key("ann", "k", "one")?).await?;
    assert_eq!(full, RecordOutcome::NoSlot(Quota::PerCaller(1)));
    store.end_job(&first.id, JobEvent::CancelRequested, None, &Agent::service(), T0).await?;
    assert_eq!(record_with_key(store, &job, per_caller_quota(1), key("ann", "k", "another")?).await?, RecordOutcome::Recorded);
    Ok(())
}
