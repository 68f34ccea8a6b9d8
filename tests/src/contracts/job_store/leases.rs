//! Leases of tasks: order, duration and number of attempts.

use std::time::Duration;

use headrace_core::access::Agent;
use headrace_core::job::task::{Cursor, LeaseOutcome, PlanInput, PlanProgress, Release, TaskCompletion, TaskUpdate, Work};
use headrace_core::job::{JobEvent, JobState};
use headrace_core::ports::{DueSubject, TaskStore};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{JobId, TaskId};

use super::{
    LEASE_SETTINGS, T0, after, assert_all_updates_are_stale, checkpoint, kind, lease, lease_refusal, plan_result, read_work, record_job,
    reload, running_job, sample_job, task,
};
use crate::contracts::CaseResult;

/// Checks the order of a job's tasks: plan, read tasks, then the finalize task when no other task is open. Closed and unknown tasks
/// are never leased.
pub async fn a_task_is_leased_only_in_its_phase(store: &impl TaskStore) -> CaseResult {
    let job = sample_job(1)?;
    record_job(store, &job).await?;
    let mut plan = lease(store, &job, 0, T0).await?;
    assert_eq!(
        (&plan.task, &plan.work, plan.attempt, plan.attempts_since_progress, plan.until),
        (&TaskId::plan(&job.id), &Work::Plan(PlanInput::default()), 1, 1, after(60))
    );
    store.update_task(&mut plan, TaskUpdate::AddTasks(vec![(1, Work::Finalize), (2, read_work(2))]), after(60)).await?;
    assert_eq!(lease_refusal(store, &job, 2, T0).await?, LeaseOutcome::Unavailable);
    assert_eq!(lease_refusal(store, &job, 1, T0).await?, LeaseOutcome::Unavailable);
    store.complete_task(&plan, TaskCompletion::Planned(plan_result(1))).await?;

    assert_eq!(lease_refusal(store, &job, 0, after(1_000)).await?, LeaseOutcome::Obsolete);
    assert_eq!(lease_refusal(store, &job, 1, T0).await?, LeaseOutcome::Unavailable);
    assert_eq!(lease_refusal(store, &job, 50, T0).await?, LeaseOutcome::Obsolete);
    let stranger = TaskId::plan(&JobId::from_random([99; 16]));
    assert_eq!(store.lease_task(&stranger, LEASE_SETTINGS, T0).await?, LeaseOutcome::Obsolete);
    let read = lease(store, &job, 2, T0).await?;
    assert_eq!((&read.work, read.cursor, &read.reserved_files), (&read_work(2), Cursor::default(), &Vec::new()));
    assert_eq!((read.job.state, read.job.planned), (JobState::Running, Some(plan_result(1))));
    assert_eq!(lease_refusal(store, &job, 1, T0).await?, LeaseOutcome::Unavailable);
    store.complete_task(&read, TaskCompletion::Done).await?;

    assert_eq!(lease_refusal(store, &job, 2, after(1_000)).await?, LeaseOutcome::Obsolete);
    let finalize = lease(store, &job, 1, T0).await?;
    assert_eq!(finalize.work, Work::Finalize);
    let done = store.complete_task(&finalize, TaskCompletion::JobComplete(after(9))).await?;
    assert_eq!((done.state, done.ended_at), (JobState::Complete, Some(after(9))));
    assert_eq!(lease_refusal(store, &job, 1, after(1_000)).await?, LeaseOutcome::Obsolete);
    Ok(())
}

/// Checks that a heartbeat extends a lease, and that the next attempt continues at the last checkpoint.
pub async fn a_task_is_not_leased_again_before_its_lease_expires(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    let mut first = lease(store, &job, 2, T0).await?;
    assert_eq!(lease_refusal(store, &job, 2, after(59)).await?, LeaseOutcome::Unavailable);
    store.update_task(&mut first, TaskUpdate::Heartbeat, after(100)).await?;
    assert_eq!(first.until, after(100));
    assert_eq!(lease_refusal(store, &job, 2, after(99)).await?, LeaseOutcome::Unavailable);
    let behind = checkpoint(&first, &[kind("Patient")?], 123);
    store.update_task(&mut first, TaskUpdate::Checkpoint(behind.clone()), after(100)).await?;
    let second = lease(store, &job, 2, after(100)).await?;
    assert_eq!((second.attempt, second.cursor, second.counters), (2, behind.cursor, behind.counters));
    assert!(second.fencing_token > first.fencing_token);
    assert_eq!(second.until, after(160));
    Ok(())
}

/// Checks that the only process of a deployment can void the leases of its predecessor: also one that ends in the future because the
/// clock was set back, and as often as it is restarted.
pub async fn a_void_lease_does_not_count_as_an_attempt_whatever_its_time(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    assert!(!store.void_lease(&task(&job, 2), T0).await?, "the task is not leased");
    for attempt in 1..=3 * LEASE_SETTINGS.max_attempts {
        let mut old = lease(store, &job, 2, after(3_600)).await?;
        assert_eq!((old.attempt, old.attempts_since_progress), (attempt, 1));
        assert_eq!(lease_refusal(store, &job, 2, T0).await?, LeaseOutcome::Unavailable);
        assert!(store.void_lease(&task(&job, 2), T0).await?);
        assert!(!store.void_lease(&task(&job, 2), T0).await?);
        let late = store.update_task(&mut old, TaskUpdate::Heartbeat, after(9_999)).await;
        assert!(matches!(late, Err(StoreError::Stale)), "{late:?}");
    }
    let due = store.due(T0, 100).await?;
    assert!(due.iter().any(|due| due.subject == DueSubject::Task(task(&job, 2))), "{due:?}");
    let again = lease(store, &job, 2, T0).await?;
    assert_eq!(again.attempts_since_progress, 1);
    store.complete_task(&again, TaskCompletion::Done).await?;
    assert!(!store.void_lease(&task(&job, 2), T0).await?);
    Ok(())
}

/// Checks that a task that is handed back because its process stops has not lost an attempt.
pub async fn a_stop_does_not_count_as_an_attempt(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    for _ in 0..3 * LEASE_SETTINGS.max_attempts {
        let mut stopped = lease(store, &job, 2, T0).await?;
        assert_eq!(stopped.attempts_since_progress, 1);
        store.update_task(&mut stopped, TaskUpdate::Release(Release::Stop), T0).await?;
    }
    Ok(())
}

/// Checks that a paused task is available from the end of its pause on and not before, that the pause does not count as an attempt, and that
/// progress ends the sum of the pauses.
pub async fn a_paused_task_is_available_after_its_pause_and_keeps_their_sum(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    let (mut now, mut total) = (T0, Duration::ZERO);
    for _ in 0..3 * LEASE_SETTINGS.max_attempts {
        let mut paused = lease(store, &job, 2, now).await?;
        assert_eq!((paused.attempts_since_progress, paused.paused), (1, total));
        let until = now + Duration::from_millis(7_200_001);
        total += until.since(now);
        store.update_task(&mut paused, TaskUpdate::Release(Release::Pause { until, total }), now).await?;
        let late = store.update_task(&mut paused, TaskUpdate::Heartbeat, after(9_999_999)).await;
        assert!(matches!(late, Err(StoreError::Stale)), "{late:?}");
        let just_before = Millis(until.0 - 1);
        assert_eq!(lease_refusal(store, &job, 2, just_before).await?, LeaseOutcome::Unavailable);
        let is_due = async |now| {
            let due = store.due(now, 100).await?;
            Ok::<_, StoreError>(due.iter().any(|due| due.subject == DueSubject::Task(task(&job, 2))))
        };
        assert_eq!((is_due(just_before).await?, is_due(until).await?), (false, true));
        now = until;
    }
    let mut working = lease(store, &job, 2, now).await?;
    let written = checkpoint(&working, &[], 7);
    store.update_task(&mut working, TaskUpdate::Checkpoint(written), now).await?;
    assert_eq!(working.paused, Duration::ZERO);
    store.update_task(&mut working, TaskUpdate::Release(Release::Yield), now).await?;
    assert_eq!(lease(store, &job, 2, now).await?.paused, Duration::ZERO);
    Ok(())
}

/// Checks that the next attempt at a plan continues where the last one has stopped, and that this counts as progress.
pub async fn a_plan_keeps_its_progress_within_the_listing(store: &impl TaskStore) -> CaseResult {
    let job = sample_job(1)?;
    record_job(store, &job).await?;
    let mut first = lease(store, &job, 0, T0).await?;
    assert_eq!(first.plan_progress, None);
    let progress = PlanProgress { after: "token ß\"".into(), next_task: 7, plain_bytes: 1 << 50, compressed_bytes: 3 };
    store.update_task(&mut first, TaskUpdate::ListedUpTo(progress.clone()), after(60)).await?;
    assert_eq!((first.plan_progress.as_ref(), first.attempts_since_progress), (Some(&progress), 0));
    let second = lease(store, &job, 0, after(60)).await?;
    assert_eq!((second.plan_progress, second.attempts_since_progress), (Some(progress), 1));
    Ok(())
}

/// Checks rule P8: the number of attempts is limited.
pub async fn attempts_without_progress_are_limited_and_the_last_error_is_kept(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 2).await?;
    for attempt in 1..=LEASE_SETTINGS.max_attempts {
        let silent = lease(store, &job, 2, after(u64::from(attempt) * 100)).await?;
        assert_eq!((silent.attempt, silent.attempts_since_progress), (attempt, attempt));
        let mut faulty = lease(store, &job, 3, T0).await?;
        assert_eq!((faulty.attempt, faulty.attempts_since_progress), (attempt, attempt));
        store.update_task(&mut faulty, TaskUpdate::Release(Release::Fault(format!("fault {attempt}"))), T0).await?;
    }
    assert_eq!(lease_refusal(store, &job, 2, after(399)).await?, LeaseOutcome::Exhausted(None));
    assert_eq!(lease_refusal(store, &job, 3, T0).await?, LeaseOutcome::Exhausted(Some("fault 3".into())));
    assert!(reload(store, &job).await?.state.is_open(), "the caller decides whether the job fails");
    Ok(())
}

/// Checks that only a checkpoint counts as progress.
pub async fn a_checkpoint_resets_the_attempt_count_and_a_yield_does_not(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    lease(store, &job, 2, T0).await?;
    let mut second = lease(store, &job, 2, after(60)).await?;
    assert_eq!(second.attempts_since_progress, 2);
    let written = checkpoint(&second, &[], 7);
    store.update_task(&mut second, TaskUpdate::Checkpoint(written), after(120)).await?;
    assert_eq!(second.attempts_since_progress, 0);
    let mut third = lease(store, &job, 2, after(120)).await?;
    assert_eq!((third.attempt, third.attempts_since_progress), (3, 1));
    store.update_task(&mut third, TaskUpdate::Release(Release::Yield), after(121)).await?;
    let fourth = lease(store, &job, 2, after(121)).await?;
    // A yield without a checkpoint counts as an attempt, so that a task that never progresses is parked in the end.
    assert_eq!((fourth.attempt, fourth.attempts_since_progress, fourth.cursor.offset), (4, 2, 7));
    Ok(())
}

/// Checks every update and completion, for a lease with and without a reserved file number.
pub async fn an_attempt_with_an_old_fencing_token_changes_nothing(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    let late = lease(store, &job, 2, T0).await?;
    let mut claimed = late.clone();
    store.update_task(&mut claimed, TaskUpdate::ReserveFiles(vec![kind("Patient")?]), after(60)).await?;
    let mut second = lease(store, &job, 2, after(60)).await?;
    assert_all_updates_are_stale(store, &late).await?;
    assert_all_updates_are_stale(store, &claimed).await?;
    store.update_task(&mut second, TaskUpdate::Heartbeat, after(120)).await?;
    assert_all_updates_are_stale(store, &claimed).await?;
    assert_eq!(lease_refusal(store, &job, 77, after(60)).await?, LeaseOutcome::Obsolete);
    let written = checkpoint(&second, &[], 8);
    store.update_task(&mut second, TaskUpdate::Checkpoint(written), after(120)).await?;
    let closed = store.complete_task(&second, TaskCompletion::Done).await?;
    assert_eq!(closed.open_tasks, 0);
    assert_all_updates_are_stale(store, &claimed).await?;
    // The finalize task is protected in the same way.
    let finalize = lease(store, &job, 1, T0).await?;
    lease(store, &job, 1, after(60)).await?;
    assert_all_updates_are_stale(store, &finalize).await
}

/// Checks that updates of running workers fail after the job has ended, and that no task is leased.
pub async fn p10_nothing_is_recorded_after_a_job_has_ended(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 2).await?;
    let mut worker = lease(store, &job, 2, T0).await?;
    store.update_task(&mut worker, TaskUpdate::ReserveFiles(vec![kind("Patient")?]), after(60)).await?;
    let early = sample_job(2)?;
    record_job(store, &early).await?;
    let planner = lease(store, &early, 0, T0).await?;
    for (job, lease, event) in [(&job, &worker, JobEvent::CancelRequested), (&early, &planner, JobEvent::Failed)] {
        store.end_job(&job.id, event, None, &Agent::service(), after(1)).await?;
        assert_all_updates_are_stale(store, lease).await?;
        for number in [0, 1, 2, 3] {
            assert_eq!(lease_refusal(store, job, number, after(1_000)).await?, LeaseOutcome::Obsolete);
        }
    }
    Ok(())
}

/// Checks that an abandoned plan attempt with more tasks leaves none that are leased.
pub async fn tasks_of_an_abandoned_plan_attempt_are_never_leased(store: &impl TaskStore) -> CaseResult {
    let job = sample_job(1)?;
    record_job(store, &job).await?;
    let mut dead = lease(store, &job, 0, T0).await?;
    store.update_task(&mut dead, TaskUpdate::AddTasks((2..7).map(|n| (n, read_work(n + 100))).collect()), after(60)).await?;
    let mut plan = lease(store, &job, 0, after(60)).await?;
    store.update_task(&mut plan, TaskUpdate::AddTasks(vec![(1, Work::Finalize), (2, read_work(2)), (3, read_work(3))]), after(120)).await?;
    store.complete_task(&plan, TaskCompletion::Planned(plan_result(2))).await?;
    for number in [4, 5, 6] {
        lease_refusal(store, &job, number, after(1_000)).await?;
    }
    for number in [2, 3] {
        let read = lease(store, &job, number, after(60)).await?;
        assert_eq!(read.work, read_work(number));
        store.complete_task(&read, TaskCompletion::Done).await?;
    }
    lease(store, &job, 1, after(60)).await?;
    Ok(())
}
