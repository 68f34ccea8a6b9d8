//! Rounds beyond the first reading, and taking back what it wrote.

use headrace_core::access::Agent;
use headrace_core::job::task::{Close, Lease, LeaseAnswer, Planning, Record, Regroup, Rereading, Resolving, Stage, Work};
use headrace_core::job::{Conditions, Job, JobEvent, Phase, ROUND_TASKS, Tally};
use headrace_core::output::file::OutputFileName;
use headrace_core::ports::TaskStore;
use headrace_core::vocab::ids::TaskId;

use super::{T0, after, current, is_refused, kind, lease, must_be_stale, page, read_work, running, sample};
use crate::contracts::{BoxError, Held};

fn resolve() -> Work {
    Work::Resolve(Resolving { stage: Stage::Versions, range: 0, of: 1 })
}

/// Reads a slice, counts it and writes a tail.
async fn read_one(store: &impl TaskStore, job: &Job, number: u32, offset: u64) -> Result<Tally, BoxError> {
    // Whoever had it before has died.
    let mut lease = lease(store, job, number, after(60)).await?;
    let written = page(&lease, &[kind("Patient")?], offset);
    store.record(&mut lease, Record::Page(written.clone()), after(120)).await?;
    store.close_task(&lease, Close::Done).await?;
    Ok(written.tally)
}

/// What the finish says of the next round is what its tasks are leased under.
pub async fn a_round_does_what_its_phase_says_and_a_fresh_one_forgets_what_was_counted(store: &impl TaskStore) -> Held {
    let job = running(store, 1).await?;
    assert_eq!((job.phase, job.tails_from), (Phase::Read, 0));
    let counted = read_one(store, &job, 2, 10).await?;
    let rounds = [
        (resolve(), Regroup { tasks: 1, phase: Phase::Resolve, tails_from: 0, is_fresh: false }, counted),
        (
            Work::Reread(Rereading { task: 2, only_added: false }),
            Regroup { tasks: 1, phase: Phase::Reread, tails_from: 2, is_fresh: true },
            Tally::default(),
        ),
    ];
    for (round, (work, regroup, tally)) in (1..).zip(rounds) {
        let mut finish = lease(store, &job, 1, T0).await?;
        let number = round * ROUND_TASKS;
        store.record(&mut finish, Record::Tasks(vec![(number, work.clone())]), after(60)).await?;
        let begun = store.close_task(&finish, Close::Regroup(regroup)).await?;
        assert_eq!((begun.round, begun.round_tasks, begun.open_tasks), (round, 1, 1));
        assert_eq!((begun.phase, begun.tails_from, begun.tally), (regroup.phase, regroup.tails_from, tally));
        assert_eq!(current(store, &job).await?, begun);
        assert_eq!(is_refused(store, &job, number + 1, T0).await?, LeaseAnswer::Gone);
        let task = lease(store, &job, number, T0).await?;
        assert_eq!((&task.work, &task.job), (&work, &begun));
        if round == 1 {
            let done = store.close_task(&task, Close::Done).await?;
            assert_eq!((done.open_tasks, done.tally), (0, counted));
        }
    }
    // The lake is read again, and counted again.
    let again = read_one(store, &job, 2 * ROUND_TASKS, 77).await?;
    let job = current(store, &job).await?;
    assert_eq!((job.tally, job.open_tasks), (again, 0));
    assert_eq!((store.tails(&job.id, 2..=2).await?.len(), store.tails(&job.id, 0..=2).await?.len()), (1, 2));
    Ok(())
}

/// Also after it has closed, for whoever does it again otherwise.
pub async fn what_a_task_has_to_do_can_be_read_again(store: &impl TaskStore) -> Held {
    let job = running(store, 2).await?;
    read_one(store, &job, 2, 10).await?;
    for number in [2, 3] {
        assert_eq!(store.work(&TaskId { job: job.id.clone(), task: number }).await?, Some(read_work(number)));
    }
    assert_eq!(store.work(&TaskId { job: job.id.clone(), task: 4 }).await?, None);
    let named = sample(2)?;
    let plan = Planning { patients: vec!["p-1".into(), "p-2".into()] };
    store.record_job(&named, &plan, &Conditions::default(), &Agent::service()).await?;
    assert_eq!(store.work(&TaskId::plan(&named.id)).await?, Some(Work::Plan(plan)));
    Ok(())
}

async fn write_parts(store: &impl TaskStore, lease: &mut Lease, kind_name: &str, count: u64) -> Held {
    for offset in 1..=count {
        store.record(lease, Record::Claim(kind(kind_name)?), after(60)).await?;
        let written = page(lease, &[], lease.cursor.offset + offset);
        store.record(lease, Record::Page(written), after(60)).await?;
    }
    Ok(())
}

/// More than fit into one transaction, written ones and those that are only claimed.
pub async fn dropped_parts_leave_no_gap_and_their_numbers_are_free_again(store: &impl TaskStore) -> Held {
    let job = running(store, 2).await?;
    for (number, kind_name, count) in [(2, "Patient", 70), (3, "Observation", 40)] {
        let mut read = lease(store, &job, number, T0).await?;
        write_parts(store, &mut read, kind_name, count).await?;
        if number == 3 {
            store.record(&mut read, Record::Claim(kind("Patient")?), after(60)).await?;
        }
        store.close_task(&read, Close::Done).await?;
    }
    let mut finish = lease(store, &job, 1, T0).await?;
    let dropped = store.drop_parts(&mut finish, after(90)).await?;
    let named = |name: &str, count: u32| (1..=count).map(|number| (name.to_owned(), number)).collect::<Vec<_>>();
    let mut said: Vec<_> = dropped.iter().map(|name| (name.kind.as_str().to_owned(), name.number)).collect();
    said.sort();
    assert_eq!(said, [named("Observation", 40), named("Patient", 71)].concat());
    assert!(store.parts(&job.id).await?.is_empty());
    assert_eq!(finish.until, after(90));
    // The lease goes on, and numbers begin anew.
    store.record(&mut finish, Record::Claim(kind("Patient")?), after(91)).await?;
    assert_eq!(finish.claim, Some(OutputFileName { kind: kind("Patient")?, number: 1 }));
    Ok(())
}

/// Its lease has passed to another, or its job is over: what is recorded stays.
pub async fn a_fenced_off_finish_drops_no_parts(store: &impl TaskStore) -> Held {
    let job = running(store, 1).await?;
    let mut read = lease(store, &job, 2, T0).await?;
    write_parts(store, &mut read, "Patient", 3).await?;
    store.close_task(&read, Close::Done).await?;
    let mut late = lease(store, &job, 1, T0).await?;
    let mut current = lease(store, &job, 1, after(60)).await?;
    must_be_stale("a late drop", store.drop_parts(&mut late, after(200)).await)?;
    assert_eq!(store.parts(&job.id).await?.len(), 3);
    store.end_job(&job.id, JobEvent::CancelAsked, None, &Agent::service(), after(61)).await?;
    must_be_stale("a drop after the end", store.drop_parts(&mut current, after(200)).await)?;
    assert_eq!(store.parts(&job.id).await?.len(), 3);
    Ok(())
}
