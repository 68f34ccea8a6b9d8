//! Leases: whose turn it is, for how long, how often.

use headrace_core::access::Agent;
use headrace_core::job::task::{Close, Cursor, LeaseAnswer, Planning, Record, Release, Work};
use headrace_core::job::{JobEvent, JobState};
use headrace_core::ports::{LeaseSettings, TaskStore};
use headrace_core::vocab::ids::{JobId, TaskId};

use super::{
    T0, TERMS, after, all_must_be_stale, current, is_refused, kind, lease, page, planned, read_work, record, running, sample, task,
};
use crate::contracts::Held;

/// The plan first, then reading, the finish once nothing is open; nothing twice, nothing unknown.
pub async fn a_task_is_leased_when_its_turn_has_come(store: &impl TaskStore) -> Held {
    let job = sample(1)?;
    record(store, &job).await?;
    let mut plan = lease(store, &job, 0, T0).await?;
    assert_eq!(
        (&plan.task, &plan.work, plan.attempt, plan.tries, plan.until),
        (&TaskId::plan(&job.id), &Work::Plan(Planning::default()), 1, 1, after(60))
    );
    store.record(&mut plan, Record::Tasks(vec![(1, Work::Finish), (2, read_work(2))]), after(60)).await?;
    assert_eq!(is_refused(store, &job, 2, T0).await?, LeaseAnswer::NotNow);
    assert_eq!(is_refused(store, &job, 1, T0).await?, LeaseAnswer::NotNow);
    store.close_task(&plan, Close::Planned(planned(1))).await?;

    assert_eq!(is_refused(store, &job, 0, after(1_000)).await?, LeaseAnswer::Gone);
    assert_eq!(is_refused(store, &job, 1, T0).await?, LeaseAnswer::NotNow);
    assert_eq!(is_refused(store, &job, 50, T0).await?, LeaseAnswer::Gone);
    let stranger = TaskId::plan(&JobId::from_random([99; 16]));
    assert_eq!(store.lease_task(&stranger, TERMS, T0).await?, LeaseAnswer::Gone);
    let read = lease(store, &job, 2, T0).await?;
    assert_eq!((&read.work, read.cursor, read.claim), (&read_work(2), Cursor::default(), None));
    assert_eq!((read.job.state, read.job.planned), (JobState::Running, Some(planned(1))));
    assert_eq!(is_refused(store, &job, 1, T0).await?, LeaseAnswer::NotNow);
    store.close_task(&read, Close::Done).await?;

    assert_eq!(is_refused(store, &job, 2, after(1_000)).await?, LeaseAnswer::Gone);
    let finish = lease(store, &job, 1, T0).await?;
    assert_eq!(finish.work, Work::Finish);
    let done = store.close_task(&finish, Close::Finished(after(9))).await?;
    assert_eq!((done.state, done.ended_at), (JobState::Complete, Some(after(9))));
    assert_eq!(is_refused(store, &job, 1, after(1_000)).await?, LeaseAnswer::Gone);
    Ok(())
}

/// A heartbeat prolongs it; then the next attempt goes on where the last one was.
pub async fn a_lease_keeps_others_away_until_it_runs_out(store: &impl TaskStore) -> Held {
    let job = running(store, 1).await?;
    let mut first = lease(store, &job, 2, T0).await?;
    assert_eq!(is_refused(store, &job, 2, after(59)).await?, LeaseAnswer::NotNow);
    store.record(&mut first, Record::Heartbeat, after(100)).await?;
    assert_eq!(first.until, after(100));
    assert_eq!(is_refused(store, &job, 2, after(99)).await?, LeaseAnswer::NotNow);
    let behind = page(&first, &[kind("Patient")?], 123);
    store.record(&mut first, Record::Page(behind.clone()), after(100)).await?;
    let second = lease(store, &job, 2, after(100)).await?;
    assert_eq!((second.attempt, second.cursor, second.tally), (2, behind.cursor, behind.tally));
    assert!(second.step > first.step);
    assert_eq!(second.until, after(160));
    Ok(())
}

/// On one machine, a new process knows that the old one is dead.
pub async fn a_restart_of_the_only_process_voids_leases(store: &impl TaskStore) -> Held {
    let job = running(store, 1).await?;
    lease(store, &job, 2, T0).await?;
    let restarted = LeaseSettings { void_before: after(2), ..TERMS };
    let LeaseAnswer::Yours(again) = store.lease_task(&task(&job, 2), restarted, after(3)).await? else {
        return Err("the old lease is void".into());
    };
    assert_eq!(again.attempt, 2);
    assert_eq!(store.lease_task(&task(&job, 2), restarted, after(4)).await?, LeaseAnswer::NotNow);
    Ok(())
}

/// Rule P8: attempts are bounded.
pub async fn tries_without_progress_are_used_up_and_the_last_fault_is_remembered(store: &impl TaskStore) -> Held {
    let job = running(store, 2).await?;
    for attempt in 1..=TERMS.tries {
        let silent = lease(store, &job, 2, after(u64::from(attempt) * 100)).await?;
        assert_eq!((silent.attempt, silent.tries), (attempt, attempt));
        let mut faulty = lease(store, &job, 3, T0).await?;
        assert_eq!((faulty.attempt, faulty.tries), (attempt, attempt));
        store.record(&mut faulty, Record::Release(Release::Fault(format!("fault {attempt}"))), T0).await?;
    }
    assert_eq!(is_refused(store, &job, 2, after(399)).await?, LeaseAnswer::Exhausted(None));
    assert_eq!(is_refused(store, &job, 3, T0).await?, LeaseAnswer::Exhausted(Some("fault 3".into())));
    assert!(current(store, &job).await?.state.is_open(), "who asked decides what that means for the job");
    Ok(())
}

/// A page is progress; a process that was stopped is nobody's fault.
pub async fn progress_and_yielding_give_all_tries_back(store: &impl TaskStore) -> Held {
    let job = running(store, 1).await?;
    lease(store, &job, 2, T0).await?;
    let mut second = lease(store, &job, 2, after(60)).await?;
    assert_eq!(second.tries, 2);
    let written = page(&second, &[], 7);
    store.record(&mut second, Record::Page(written), after(120)).await?;
    assert_eq!(second.tries, 0);
    let mut third = lease(store, &job, 2, after(120)).await?;
    assert_eq!((third.attempt, third.tries), (3, 1));
    store.record(&mut third, Record::Release(Release::Yield), after(121)).await?;
    let fourth = lease(store, &job, 2, after(121)).await?;
    // A yield without a page is a try: what cannot come forward within a worker's time is parked in the end.
    assert_eq!((fourth.attempt, fourth.tries, fourth.cursor.offset), (4, 2, 7));
    Ok(())
}

/// Whatever it tries, at whatever step it was left.
pub async fn a_fenced_off_attempt_changes_nothing(store: &impl TaskStore) -> Held {
    let job = running(store, 1).await?;
    let late = lease(store, &job, 2, T0).await?;
    let mut claimed = late.clone();
    store.record(&mut claimed, Record::Claim(kind("Patient")?), after(60)).await?;
    let mut second = lease(store, &job, 2, after(60)).await?;
    all_must_be_stale(store, &late).await?;
    all_must_be_stale(store, &claimed).await?;
    store.record(&mut second, Record::Heartbeat, after(120)).await?;
    all_must_be_stale(store, &claimed).await?;
    assert_eq!(is_refused(store, &job, 77, after(60)).await?, LeaseAnswer::Gone);
    let written = page(&second, &[], 8);
    store.record(&mut second, Record::Page(written), after(120)).await?;
    let closed = store.close_task(&second, Close::Done).await?;
    assert_eq!(closed.open_tasks, 0);
    all_must_be_stale(store, &claimed).await?;
    // The finish and the plan as well.
    let finish = lease(store, &job, 1, T0).await?;
    lease(store, &job, 1, after(60)).await?;
    all_must_be_stale(store, &finish).await
}

/// Running workers notice at their next record; nobody starts anew.
pub async fn p10_after_a_job_has_ended_nothing_is_recorded(store: &impl TaskStore) -> Held {
    let job = running(store, 2).await?;
    let mut worker = lease(store, &job, 2, T0).await?;
    store.record(&mut worker, Record::Claim(kind("Patient")?), after(60)).await?;
    let early = sample(2)?;
    record(store, &early).await?;
    let planner = lease(store, &early, 0, T0).await?;
    for (job, lease, event) in [(&job, &worker, JobEvent::CancelAsked), (&early, &planner, JobEvent::GivenUp)] {
        store.end_job(&job.id, event, None, &Agent::service(), after(1)).await?;
        all_must_be_stale(store, lease).await?;
        for number in [0, 1, 2, 3] {
            assert_eq!(is_refused(store, job, number, after(1_000)).await?, LeaseAnswer::Gone);
        }
    }
    Ok(())
}

/// A plan that died had seen a larger lake: its tasks beyond those of the recorded plan are nobody's.
pub async fn what_a_dead_plan_left_behind_is_never_leased(store: &impl TaskStore) -> Held {
    let job = sample(1)?;
    record(store, &job).await?;
    let mut dead = lease(store, &job, 0, T0).await?;
    store.record(&mut dead, Record::Tasks((2..7).map(|n| (n, read_work(n + 100))).collect()), after(60)).await?;
    let mut plan = lease(store, &job, 0, after(60)).await?;
    store.record(&mut plan, Record::Tasks(vec![(1, Work::Finish), (2, read_work(2)), (3, read_work(3))]), after(120)).await?;
    store.close_task(&plan, Close::Planned(planned(2))).await?;
    for number in [4, 5, 6] {
        is_refused(store, &job, number, after(1_000)).await?;
    }
    for number in [2, 3] {
        let read = lease(store, &job, number, after(60)).await?;
        assert_eq!(read.work, read_work(number));
        store.close_task(&read, Close::Done).await?;
    }
    lease(store, &job, 1, after(60)).await?;
    Ok(())
}
