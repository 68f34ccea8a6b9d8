//! Quotas of concurrent jobs, and the queue of jobs that wait for a slot.

use std::sync::atomic::{AtomicU8, Ordering};

use futures_util::future::{join_all, try_join_all};
use headrace_core::access::Agent;
use headrace_core::job::task::{LeaseOutcome, PlanInput, TaskCompletion, TaskUpdate, Work};
use headrace_core::job::{FailureKind, FailureReason, Job, JobEvent, JobState, Quota, Quotas, RecordConditions, RecordOutcome, Transition};
use headrace_core::ports::{DueSubject, JobStore, QueueStart, QueuedJob, TaskStore};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, TaskId};

use super::{LEASE_SETTINGS, T0, after, lease, lease_refusal, plan_result, record_job, reload, sample_job};
use crate::contracts::{BoxError, CaseResult};

const ANN: &str = "ann";
const BEN: &str = "ben";

/// Creates the `n`th job, of this caller, created `seconds` after [`T0`].
pub(super) fn job_of(n: u8, owner: &str, seconds: u64) -> Result<Job, BoxError> {
    Ok(Job { owner: Caller(owner.to_owned()), created_at: after(seconds), ..sample_job(n)? })
}

/// Returns a quota of at most `most` active jobs per caller.
pub(super) fn per_caller_quota(most: u32) -> Quotas {
    Quotas { per_caller: Some(most), ..Quotas::default() }
}

/// Returns a quota of at most `most` active jobs in total.
fn global_quota(most: u32) -> Quotas {
    Quotas { global: Some(most), ..Quotas::default() }
}

/// Records a job with these quotas and without an idempotency key.
pub(super) async fn record_with_quotas(store: &impl JobStore, job: &Job, quotas: Quotas) -> Result<RecordOutcome, BoxError> {
    Ok(store.record_job(job, &PlanInput::default(), &RecordConditions { quotas, ..RecordConditions::default() }, &Agent::service()).await?)
}

/// Checks that `own` jobs of this caller and `all` jobs in total are active: a further job is rejected at these quotas and
/// accepted at higher ones.
async fn assert_active_jobs(store: &impl JobStore, owner: &str, own: u32, all: u32) -> CaseResult {
    static PROBES: AtomicU8 = AtomicU8::new(0);
    let mut name = [0xee; 16];
    name[0] = PROBES.fetch_add(1, Ordering::Relaxed);
    let probe = Job { id: JobId::from_random(name), ..job_of(1, owner, 0)? };
    assert_eq!(
        record_with_quotas(store, &probe, per_caller_quota(own)).await?,
        RecordOutcome::NoSlot(Quota::PerCaller(own)),
        "more than {own} of {owner}"
    );
    assert_eq!(
        record_with_quotas(store, &probe, global_quota(all)).await?,
        RecordOutcome::NoSlot(Quota::Global(all)),
        "more than {all} in all"
    );
    assert_eq!(store.job(&probe.id).await?, None, "a rejected job must not be stored");
    let higher = Quotas { per_caller: Some(own + 1), global: Some(all + 1), queue_when_full: false };
    assert_eq!(
        record_with_quotas(store, &probe, higher).await?,
        RecordOutcome::Recorded,
        "fewer than {own} of {owner}, or than {all} in all"
    );
    store.end_job(&probe.id, JobEvent::CancelRequested, None, &Agent::service(), T0).await?;
    Ok(())
}

/// Checks that exactly five of twenty concurrent kick-offs succeed, for the quota of a caller and for the global one.
pub async fn quotas_are_exact_under_concurrent_kick_offs(store: &impl TaskStore) -> CaseResult {
    for (quotas, limit, first) in [(per_caller_quota(5), Quota::PerCaller(5), 1), (global_quota(10), Quota::Global(10), 101)] {
        let jobs = (first..first + 20)
            .map(|n| job_of(n, &if limit == Quota::PerCaller(5) { ANN.to_owned() } else { format!("caller {n}") }, 0))
            .collect::<Result<Vec<_>, _>>()?;
        let outcomes = try_join_all(jobs.iter().map(|job| record_with_quotas(store, job, quotas))).await?;
        for (job, outcome) in jobs.iter().zip(&outcomes) {
            assert!(matches!(outcome, RecordOutcome::Recorded) || *outcome == RecordOutcome::NoSlot(limit), "{outcome:?}");
            assert_eq!(store.job(&job.id).await?.is_some(), *outcome == RecordOutcome::Recorded);
        }
        // The five jobs of the first round are still active in the second.
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == RecordOutcome::Recorded).count(), 5, "{quotas:?}");
    }
    assert_active_jobs(store, ANN, 5, 10).await
}

/// Checks that jobs are counted even without a quota, and that a job that is recorded twice counts once.
pub async fn a_quota_that_is_set_later_counts_running_jobs(store: &impl TaskStore) -> CaseResult {
    for n in 1..=3 {
        record_job(store, &job_of(n, ANN, 0)?).await?;
        record_job(store, &job_of(n, ANN, 0)?).await?;
    }
    record_job(store, &job_of(4, BEN, 0)?).await?;
    assert_eq!(
        record_with_quotas(store, &job_of(1, ANN, 0)?, per_caller_quota(1)).await?,
        RecordOutcome::Recorded,
        "the job is stored already"
    );
    assert_active_jobs(store, ANN, 3, 4).await?;
    assert_active_jobs(store, BEN, 1, 4).await
}

/// Completes a job, and repeats the last call.
async fn complete(store: &impl TaskStore, job: &Job, now: Millis) -> CaseResult {
    let mut plan = lease(store, job, 0, now).await?;
    store.update_task(&mut plan, TaskUpdate::AddTasks(vec![(1, Work::Finalize)]), now + LEASE_SETTINGS.duration).await?;
    store.complete_task(&plan, TaskCompletion::Planned(plan_result(0))).await?;
    let finalize = lease(store, job, 1, now).await?;
    for _ in 0..3 {
        match store.complete_task(&finalize, TaskCompletion::JobComplete(now)).await {
            Ok(_) | Err(StoreError::Stale) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Ends a job as failed, and returns the transition if the job had not ended before.
async fn give_up(store: &impl TaskStore, job: &Job) -> Result<Option<Transition>, BoxError> {
    let reason = FailureReason { kind: FailureKind::Exhausted, text: "it failed".into() };
    Ok(store.end_job(&job.id, JobEvent::Failed, Some(reason), &Agent::service(), after(6)).await?)
}

/// Checks every way in which a job ends, also repeatedly, concurrently, and followed by other events.
pub async fn every_ended_job_frees_exactly_one_slot(store: &impl TaskStore) -> CaseResult {
    let jobs = (1..=6).map(|n| job_of(n, ANN, 0)).collect::<Result<Vec<_>, _>>()?;
    for job in &jobs {
        record_job(store, job).await?;
    }
    record_job(store, &job_of(7, BEN, 0)?).await?;
    let [completed, failed, cancelled, running, ended_concurrently, _stays] = jobs.as_slice() else { return Err("six jobs".into()) };
    assert_active_jobs(store, ANN, 6, 7).await?;

    complete(store, completed, T0).await?;
    assert_active_jobs(store, ANN, 5, 6).await?;
    for _ in 0..2 {
        give_up(store, failed).await?;
        assert_active_jobs(store, ANN, 4, 5).await?;
    }
    for _ in 0..2 {
        store.end_job(&cancelled.id, JobEvent::CancelRequested, None, &Agent::service(), after(6)).await?;
        assert_active_jobs(store, ANN, 3, 4).await?;
    }
    let plan = lease(store, running, 0, T0).await?;
    store.complete_task(&plan, TaskCompletion::Planned(plan_result(3))).await?;
    assert_active_jobs(store, ANN, 3, 4).await?;
    store.end_job(&running.id, JobEvent::CancelRequested, None, &Agent::service(), after(6)).await?;
    assert_active_jobs(store, ANN, 2, 3).await?;
    // Concurrent calls end the same job.
    let concurrent_ends = join_all((0..6).map(|n| async move {
        let cancel = async {
            Ok::<_, BoxError>(store.end_job(&ended_concurrently.id, JobEvent::CancelRequested, None, &Agent::service(), after(6)).await?)
        };
        if n % 2 == 0 { give_up(store, ended_concurrently).await } else { cancel.await }
    }));
    concurrent_ends.await.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert_active_jobs(store, ANN, 1, 2).await?;
    // Ended jobs receive further events.
    for job in [completed, failed] {
        store.end_job(&job.id, JobEvent::RetentionExpired, None, &Agent::service(), after(7)).await?;
        store.end_job(&job.id, JobEvent::CancelRequested, None, &Agent::service(), after(7)).await?;
    }
    assert_active_jobs(store, ANN, 1, 2).await?;
    assert_active_jobs(store, BEN, 1, 2).await
}

/// Checks that a synchronization of the lake takes no slot of an export and needs none, and that the quota of synchronizations is their own.
pub async fn a_synchronization_has_a_slot_of_its_own(store: &impl TaskStore) -> CaseResult {
    let quotas = Quotas { per_caller: Some(1), global: Some(1), queue_when_full: false };
    let [first, second, third] = [job_of(1, Caller::SYNC, 0)?, job_of(2, Caller::SYNC, 1)?, job_of(3, Caller::SYNC, 2)?];
    assert_eq!(record_with_quotas(store, &job_of(9, ANN, 0)?, quotas).await?, RecordOutcome::Recorded);
    assert_eq!(record_with_quotas(store, &first, quotas).await?, RecordOutcome::Recorded, "no slot of exports is free");
    assert_eq!(record_with_quotas(store, &second, quotas).await?, RecordOutcome::NoSlot(Quota::PerCaller(1)), "the first one runs");
    assert_active_jobs(store, ANN, 1, 1).await?;
    complete(store, &first, T0).await?;
    assert_eq!(record_with_quotas(store, &second, quotas).await?, RecordOutcome::Recorded);
    give_up(store, &second).await?;
    assert_eq!(record_with_quotas(store, &third, quotas).await?, RecordOutcome::Recorded);
    assert_active_jobs(store, ANN, 1, 1).await
}

/// Creates a job like [`job_of`] that waits for a free slot.
fn queued_job(n: u8, owner: &str, seconds: u64) -> Result<Job, BoxError> {
    Ok(Job { state: JobState::Queued, ..job_of(n, owner, seconds)? })
}

/// Returns the entry of a job in the queue of waiting jobs.
fn queue_entry(job: &Job) -> QueuedJob {
    QueuedJob { queued_at: job.created_at, job: job.id.clone(), owner: job.owner.clone(), client_quota: None }
}

/// Returns true if the job or task is due `seconds` after [`T0`].
async fn is_due(store: &impl JobStore, subject: &DueSubject, seconds: u64) -> Result<bool, BoxError> {
    Ok(store.due(after(seconds), 1_000).await?.iter().any(|due| due.subject == *subject))
}

/// Checks that a queued job can be cancelled and can fail, and becomes due at its deadline.
pub async fn a_queued_job_has_no_task_to_lease_and_ends_without_freeing_a_slot(store: &impl TaskStore) -> CaseResult {
    record_job(store, &job_of(1, ANN, 0)?).await?;
    for (n, event, end) in [(2, JobEvent::CancelRequested, JobState::Cancelled), (3, JobEvent::Failed, JobState::Failed)] {
        let job = queued_job(n, ANN, 1)?;
        assert_eq!(record_with_quotas(store, &job, per_caller_quota(1)).await?, RecordOutcome::Recorded, "queuing needs no free slot");
        assert_eq!(reload(store, &job).await?, job);
        assert_eq!(lease_refusal(store, &job, 0, after(1_000)).await?, LeaseOutcome::Unavailable);
        assert!(is_due(store, &DueSubject::Job(job.id.clone()), 3_600).await?);
        assert!(!is_due(store, &DueSubject::Task(TaskId::plan(&job.id)), u64::from(u32::MAX)).await?);
        assert_eq!(store.queued_jobs(None, 10).await?, [queue_entry(&job)]);
        assert_eq!(store.end_job(&job.id, event, None, &Agent::service(), after(5)).await?, Some(Transition::To(end)));
        assert!(store.queued_jobs(None, 10).await?.is_empty());
        assert_eq!(store.start_queued(&queue_entry(&job), &Quotas::default(), after(6)).await?, QueueStart::NotQueued);
        assert_eq!(reload(store, &job).await?.state, end);
        assert_active_jobs(store, ANN, 1, 1).await?;
    }
    Ok(())
}

/// Checks that only one of several concurrent calls starts a queued job.
pub async fn a_queued_job_starts_once_and_only_if_a_slot_is_free(store: &impl TaskStore) -> CaseResult {
    let first = job_of(1, ANN, 0)?;
    record_job(store, &first).await?;
    let job = queued_job(2, ANN, 1)?;
    record_job(store, &job).await?;
    let entry = queue_entry(&job);
    assert_eq!(store.start_queued(&entry, &per_caller_quota(1), after(9)).await?, QueueStart::NoSlot(Quota::PerCaller(1)));
    assert_eq!(store.start_queued(&entry, &global_quota(1), after(9)).await?, QueueStart::NoSlot(Quota::Global(1)));
    let both = Quotas { per_caller: Some(1), global: Some(1), queue_when_full: true };
    assert!(matches!(store.start_queued(&entry, &both, after(9)).await?, QueueStart::NoSlot(_)));
    assert_eq!((reload(store, &job).await?, store.queued_jobs(None, 10).await?), (job.clone(), vec![entry.clone()]));
    assert_active_jobs(store, ANN, 1, 1).await?;

    store.end_job(&first.id, JobEvent::CancelRequested, None, &Agent::service(), after(10)).await?;
    let outcomes = try_join_all((0..8).map(|_| store.start_queued(&entry, &both, after(11)))).await?;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == QueueStart::Started).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == QueueStart::NotQueued).count(), 7, "{outcomes:?}");
    assert_eq!(reload(store, &job).await?, Job { state: JobState::Accepted, ..job.clone() });
    assert!(store.queued_jobs(None, 10).await?.is_empty());
    assert_active_jobs(store, ANN, 1, 1).await?;
    // The announcement may be lost, so the plan task becomes due.
    assert!(!is_due(store, &DueSubject::Task(TaskId::plan(&job.id)), 11).await?);
    assert!(is_due(store, &DueSubject::Task(TaskId::plan(&job.id)), 600).await?);
    assert_eq!(lease(store, &job, 0, after(12)).await?.work, Work::Plan(PlanInput::default()));
    complete(store, &job, after(100)).await?;
    assert_active_jobs(store, ANN, 0, 0).await
}

/// Checks the client's own quota for jobs that start at once, and that a queued job keeps it.
pub async fn a_clients_own_quota_applies_and_is_kept_with_a_queued_job(store: &impl TaskStore) -> CaseResult {
    let own = |most| RecordConditions { quotas: per_caller_quota(2), client_quota: Some(most), ..RecordConditions::default() };
    let record_with_client_quota =
        async |job: &Job, most| store.record_job(job, &PlanInput::default(), &own(most), &Agent::service()).await;
    assert_eq!(record_with_client_quota(&job_of(1, ANN, 0)?, 1).await?, RecordOutcome::Recorded);
    assert_eq!(record_with_client_quota(&job_of(2, ANN, 0)?, 1).await?, RecordOutcome::NoSlot(Quota::PerCaller(1)));
    for n in [3, 4] {
        assert_eq!(record_with_client_quota(&job_of(n, ANN, 0)?, 3).await?, RecordOutcome::Recorded);
    }
    let job = queued_job(5, ANN, 1)?;
    assert_eq!(record_with_client_quota(&job, 7).await?, RecordOutcome::Recorded);
    assert_eq!(store.queued_jobs(None, 10).await?, [QueuedJob { client_quota: Some(7), ..queue_entry(&job) }]);
    assert_active_jobs(store, ANN, 3, 3).await
}

/// Checks the order of the queue in pages of any size, and the positions of jobs.
pub async fn queued_jobs_are_listed_oldest_first(store: &impl TaskStore) -> CaseResult {
    let jobs = [(5, ANN, 50), (1, BEN, 10), (4, ANN, 40), (2, ANN, 20), (3, BEN, 30)];
    for (n, owner, seconds) in jobs {
        record_job(store, &queued_job(n, owner, seconds)?).await?;
    }
    let mut queue = jobs.map(|(n, owner, seconds)| (seconds, n, owner));
    queue.sort_unstable();
    let queue =
        queue.iter().map(|(seconds, n, owner)| Ok(queue_entry(&queued_job(*n, owner, *seconds)?))).collect::<Result<Vec<_>, BoxError>>()?;
    assert_eq!(store.queued_jobs(None, 100).await?, queue);
    let (mut read, mut after) = (Vec::new(), None);
    loop {
        let page = store.queued_jobs(after.as_ref(), 2).await?;
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        read.extend(page);
    }
    assert_eq!(read, queue);
    for (n, owner, seconds, before) in [(1, BEN, 10, 0), (2, ANN, 20, 0), (3, BEN, 30, 1), (4, ANN, 40, 1), (5, ANN, 50, 2)] {
        assert_eq!(store.queue_position(&queued_job(n, owner, seconds)?).await?, before, "{n}");
    }
    Ok(())
}
