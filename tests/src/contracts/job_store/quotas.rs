//! How many jobs may be at work, and whose turn comes when one has ended.

use std::sync::atomic::{AtomicU8, Ordering};

use futures_util::future::{join_all, try_join_all};
use headrace_core::access::Agent;
use headrace_core::job::task::{Close, LeaseAnswer, Planning, Record, Work};
use headrace_core::job::{Conditions, Job, JobEvent, JobState, Limit, Quotas, Reason, ReasonKind, Recorded, Step};
use headrace_core::ports::{Admission, JobStore, Subject, TaskStore, Waiting};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, TaskId};

use super::{T0, TERMS, after, current, is_refused, lease, planned, record, sample};
use crate::contracts::{BoxError, Held};

const ANN: &str = "ann";
const BEN: &str = "ben";

/// The `n`th job, of this caller, recorded so many seconds after the first.
pub(super) fn job_of(n: u8, owner: &str, seconds: u64) -> Result<Job, BoxError> {
    Ok(Job { owner: Caller(owner.to_owned()), created_at: after(seconds), ..sample(n)? })
}

pub(super) fn per_caller(most: u32) -> Quotas {
    Quotas { per_caller: Some(most), ..Quotas::default() }
}

fn global(most: u32) -> Quotas {
    Quotas { global: Some(most), ..Quotas::default() }
}

pub(super) async fn record_within(store: &impl JobStore, job: &Job, quotas: Quotas) -> Result<Recorded, BoxError> {
    Ok(store.record_job(job, &Planning::default(), &Conditions { quotas, ..Conditions::default() }, &Agent::service()).await?)
}

/// So many jobs of this caller are at work, and so many of all callers: one more has room only where the limit is higher.
async fn must_be_at_work(store: &impl JobStore, owner: &str, own: u32, all: u32) -> Held {
    static PROBES: AtomicU8 = AtomicU8::new(0);
    let mut name = [0xee; 16];
    name[0] = PROBES.fetch_add(1, Ordering::Relaxed);
    let probe = Job { id: JobId::from_random(name), ..job_of(1, owner, 0)? };
    assert_eq!(record_within(store, &probe, per_caller(own)).await?, Recorded::Full(Limit::PerCaller(own)), "more than {own} of {owner}");
    assert_eq!(record_within(store, &probe, global(all)).await?, Recorded::Full(Limit::Global(all)), "more than {all} in all");
    assert_eq!(store.job(&probe.id).await?, None, "what is refused leaves nothing");
    let room = Quotas { per_caller: Some(own + 1), global: Some(all + 1), waits: false };
    assert_eq!(record_within(store, &probe, room).await?, Recorded::Yes, "fewer than {own} of {owner}, or than {all} in all");
    store.end_job(&probe.id, JobEvent::CancelAsked, None, &Agent::service(), T0).await?;
    Ok(())
}

/// Twenty at once where five may: five get in, of one caller and of all.
pub async fn limits_are_exact_however_many_ask_at_once(store: &impl TaskStore) -> Held {
    for (quotas, limit, first) in [(per_caller(5), Limit::PerCaller(5), 1), (global(10), Limit::Global(10), 101)] {
        let jobs = (first..first + 20)
            .map(|n| job_of(n, &if limit == Limit::PerCaller(5) { ANN.to_owned() } else { format!("caller {n}") }, 0))
            .collect::<Result<Vec<_>, _>>()?;
        let asked = try_join_all(jobs.iter().map(|job| record_within(store, job, quotas))).await?;
        for (job, answer) in jobs.iter().zip(&asked) {
            assert!(matches!(answer, Recorded::Yes) || *answer == Recorded::Full(limit), "{answer:?}");
            assert_eq!(store.job(&job.id).await?.is_some(), *answer == Recorded::Yes);
        }
        // The five of the first round are at work in the second.
        assert_eq!(asked.iter().filter(|answer| **answer == Recorded::Yes).count(), 5, "{quotas:?}");
    }
    must_be_at_work(store, ANN, 5, 10).await
}

/// Without a limit jobs are counted all the same; a job that is recorded again is counted once.
pub async fn a_limit_that_is_set_later_counts_what_is_at_work_already(store: &impl TaskStore) -> Held {
    for n in 1..=3 {
        record(store, &job_of(n, ANN, 0)?).await?;
        record(store, &job_of(n, ANN, 0)?).await?;
    }
    record(store, &job_of(4, BEN, 0)?).await?;
    assert_eq!(record_within(store, &job_of(1, ANN, 0)?, per_caller(1)).await?, Recorded::Yes, "it is there already");
    must_be_at_work(store, ANN, 3, 4).await?;
    must_be_at_work(store, BEN, 1, 4).await
}

/// Completes it, more than once.
async fn complete(store: &impl TaskStore, job: &Job, now: Millis) -> Held {
    let mut plan = lease(store, job, 0, now).await?;
    store.record(&mut plan, Record::Tasks(vec![(1, Work::Finish)]), now + TERMS.length).await?;
    store.close_task(&plan, Close::Planned(planned(0))).await?;
    let finish = lease(store, job, 1, now).await?;
    for _ in 0..3 {
        match store.close_task(&finish, Close::Finished(now)).await {
            Ok(_) | Err(StoreError::Stale) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn give_up(store: &impl TaskStore, job: &Job) -> Result<Option<Step>, BoxError> {
    let reason = Reason { kind: ReasonKind::Exhausted, text: "it failed".into() };
    Ok(store.end_job(&job.id, JobEvent::GivenUp, Some(reason), &Agent::service(), after(6)).await?)
}

/// Whatever ends it, however often, and whatever happens to it afterwards.
pub async fn every_end_frees_one_place_and_none_frees_two(store: &impl TaskStore) -> Held {
    let jobs = (1..=6).map(|n| job_of(n, ANN, 0)).collect::<Result<Vec<_>, _>>()?;
    for job in &jobs {
        record(store, job).await?;
    }
    record(store, &job_of(7, BEN, 0)?).await?;
    let [completed, failed, cancelled, running, torn, _stays] = jobs.as_slice() else { return Err("six jobs".into()) };
    must_be_at_work(store, ANN, 6, 7).await?;

    complete(store, completed, T0).await?;
    must_be_at_work(store, ANN, 5, 6).await?;
    for _ in 0..2 {
        give_up(store, failed).await?;
        must_be_at_work(store, ANN, 4, 5).await?;
    }
    for _ in 0..2 {
        store.end_job(&cancelled.id, JobEvent::CancelAsked, None, &Agent::service(), after(6)).await?;
        must_be_at_work(store, ANN, 3, 4).await?;
    }
    let plan = lease(store, running, 0, T0).await?;
    store.close_task(&plan, Close::Planned(planned(3))).await?;
    must_be_at_work(store, ANN, 3, 4).await?;
    store.end_job(&running.id, JobEvent::CancelAsked, None, &Agent::service(), after(6)).await?;
    must_be_at_work(store, ANN, 2, 3).await?;
    // Two who end it at once.
    let at_once = join_all((0..6).map(|n| async move {
        let cancel = async { Ok::<_, BoxError>(store.end_job(&torn.id, JobEvent::CancelAsked, None, &Agent::service(), after(6)).await?) };
        if n % 2 == 0 { give_up(store, torn).await } else { cancel.await }
    }));
    at_once.await.into_iter().collect::<Result<Vec<_>, _>>()?;
    must_be_at_work(store, ANN, 1, 2).await?;
    // What had ended ends once more.
    for job in [completed, failed] {
        store.end_job(&job.id, JobEvent::RetentionOver, None, &Agent::service(), after(7)).await?;
        store.end_job(&job.id, JobEvent::CancelAsked, None, &Agent::service(), after(7)).await?;
    }
    must_be_at_work(store, ANN, 1, 2).await?;
    must_be_at_work(store, BEN, 1, 2).await
}

fn queued(n: u8, owner: &str, seconds: u64) -> Result<Job, BoxError> {
    Ok(Job { state: JobState::Queued, ..job_of(n, owner, seconds)? })
}

fn place_of(job: &Job) -> Waiting {
    Waiting { since: job.created_at, job: job.id.clone(), owner: job.owner.clone(), client_jobs: None }
}

async fn is_due(store: &impl JobStore, subject: &Subject, seconds: u64) -> Result<bool, BoxError> {
    Ok(store.due(after(seconds), 1_000).await?.iter().any(|due| due.subject == *subject))
}

/// It can be taken back and given up like any other, and is looked after until its deadline.
pub async fn a_job_that_waits_is_nobodys_work_and_ends_without_freeing_a_place(store: &impl TaskStore) -> Held {
    record(store, &job_of(1, ANN, 0)?).await?;
    for (n, event, end) in [(2, JobEvent::CancelAsked, JobState::Cancelled), (3, JobEvent::GivenUp, JobState::Failed)] {
        let job = queued(n, ANN, 1)?;
        assert_eq!(record_within(store, &job, per_caller(1)).await?, Recorded::Yes, "waiting needs no room");
        assert_eq!(current(store, &job).await?, job);
        assert_eq!(is_refused(store, &job, 0, after(1_000)).await?, LeaseAnswer::NotNow);
        assert!(is_due(store, &Subject::Job(job.id.clone()), 3_600).await?);
        assert!(!is_due(store, &Subject::Task(TaskId::plan(&job.id)), u64::from(u32::MAX)).await?);
        assert_eq!(store.waiting(None, 10).await?, [place_of(&job)]);
        assert_eq!(store.end_job(&job.id, event, None, &Agent::service(), after(5)).await?, Some(Step::To(end)));
        assert!(store.waiting(None, 10).await?.is_empty());
        assert_eq!(store.admit(&place_of(&job), &Quotas::default(), after(6)).await?, Admission::Gone);
        assert_eq!(current(store, &job).await?.state, end);
        must_be_at_work(store, ANN, 1, 1).await?;
    }
    Ok(())
}

/// However many want to begin it.
pub async fn a_waiting_job_begins_once_and_only_where_there_is_room(store: &impl TaskStore) -> Held {
    let first = job_of(1, ANN, 0)?;
    record(store, &first).await?;
    let job = queued(2, ANN, 1)?;
    record(store, &job).await?;
    let place = place_of(&job);
    assert_eq!(store.admit(&place, &per_caller(1), after(9)).await?, Admission::Full(Limit::PerCaller(1)));
    assert_eq!(store.admit(&place, &global(1), after(9)).await?, Admission::Full(Limit::Global(1)));
    let both = Quotas { per_caller: Some(1), global: Some(1), waits: true };
    assert!(matches!(store.admit(&place, &both, after(9)).await?, Admission::Full(_)));
    assert_eq!((current(store, &job).await?, store.waiting(None, 10).await?), (job.clone(), vec![place.clone()]));
    must_be_at_work(store, ANN, 1, 1).await?;

    store.end_job(&first.id, JobEvent::CancelAsked, None, &Agent::service(), after(10)).await?;
    let asked = try_join_all((0..8).map(|_| store.admit(&place, &both, after(11)))).await?;
    assert_eq!(asked.iter().filter(|answer| **answer == Admission::Begun).count(), 1, "{asked:?}");
    assert_eq!(asked.iter().filter(|answer| **answer == Admission::Gone).count(), 7, "{asked:?}");
    assert_eq!(current(store, &job).await?, Job { state: JobState::Accepted, ..job.clone() });
    assert!(store.waiting(None, 10).await?.is_empty());
    must_be_at_work(store, ANN, 1, 1).await?;
    // Its announcement may be lost: somebody looks.
    assert!(!is_due(store, &Subject::Task(TaskId::plan(&job.id)), 11).await?);
    assert!(is_due(store, &Subject::Task(TaskId::plan(&job.id)), 600).await?);
    assert_eq!(lease(store, &job, 0, after(12)).await?.work, Work::Plan(Planning::default()));
    complete(store, &job, after(100)).await?;
    must_be_at_work(store, ANN, 0, 0).await
}

/// At once, or when its turn comes.
pub async fn a_clients_own_limit_counts_and_stays_with_a_job_that_waits(store: &impl TaskStore) -> Held {
    let own = |most| Conditions { quotas: per_caller(2), client_jobs: Some(most), key: None };
    let record_under = async |job: &Job, most| store.record_job(job, &Planning::default(), &own(most), &Agent::service()).await;
    assert_eq!(record_under(&job_of(1, ANN, 0)?, 1).await?, Recorded::Yes);
    assert_eq!(record_under(&job_of(2, ANN, 0)?, 1).await?, Recorded::Full(Limit::PerCaller(1)));
    for n in [3, 4] {
        assert_eq!(record_under(&job_of(n, ANN, 0)?, 3).await?, Recorded::Yes);
    }
    let job = queued(5, ANN, 1)?;
    assert_eq!(record_under(&job, 7).await?, Recorded::Yes);
    assert_eq!(store.waiting(None, 10).await?, [Waiting { client_jobs: Some(7), ..place_of(&job) }]);
    must_be_at_work(store, ANN, 3, 3).await
}

/// Whoever recorded them in whatever order; page by page.
pub async fn those_that_wait_stand_in_line_oldest_first(store: &impl TaskStore) -> Held {
    let jobs = [(5, ANN, 50), (1, BEN, 10), (4, ANN, 40), (2, ANN, 20), (3, BEN, 30)];
    for (n, owner, seconds) in jobs {
        record(store, &queued(n, owner, seconds)?).await?;
    }
    let mut line = jobs.map(|(n, owner, seconds)| (seconds, n, owner));
    line.sort_unstable();
    let line = line.iter().map(|(seconds, n, owner)| Ok(place_of(&queued(*n, owner, *seconds)?))).collect::<Result<Vec<_>, BoxError>>()?;
    assert_eq!(store.waiting(None, 100).await?, line);
    let (mut read, mut after) = (Vec::new(), None);
    loop {
        let page = store.waiting(after.as_ref(), 2).await?;
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        read.extend(page);
    }
    assert_eq!(read, line);
    for (n, owner, seconds, before) in [(1, BEN, 10, 0), (2, ANN, 20, 0), (3, BEN, 30, 1), (4, ANN, 40, 1), (5, ANN, 50, 2)] {
        assert_eq!(store.waiting_before(&queued(n, owner, seconds)?).await?, before, "{n}");
    }
    Ok(())
}
