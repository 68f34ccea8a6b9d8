//! What leased tasks record.

use futures_util::future::try_join_all;
use headrace_core::job::task::{Close, Cursor, LeaseAnswer, Page, Record, Release, Work};
use headrace_core::job::{ROUND_TASKS, Tally};
use headrace_core::output::file::{FragmentName, OutputFileName, Tail};
use headrace_core::ports::TaskStore;
use headrace_core::vocab::error::StoreError;

use super::{T0, after, content, current, is_refused, kind, lease, must_be_stale, page, regroup, running};
use crate::contracts::{BoxError, Held};

/// Part, tails, cursor and tally; of a late page none of them.
pub async fn p5_files_and_cursor_are_recorded_together_or_not_at_all(store: &impl TaskStore) -> Held {
    let job = running(store, 1).await?;
    let (patient, observation) = (kind("Patient")?, kind("Observation")?);
    let mut first = lease(store, &job, 2, T0).await?;
    store.record(&mut first, Record::Claim(patient), after(60)).await?;
    let written = page(&first, &[observation, kind("error")?], 500);
    store.record(&mut first, Record::Page(written.clone()), after(60)).await?;
    assert_eq!((first.cursor, first.tally, first.claim), (written.cursor, written.tally, None));
    assert_eq!(store.parts(&job.id).await?, Vec::from_iter(written.part));
    let tails = store.tails(&job.id, 0..=0).await?;
    assert_eq!(tails, written.tails);

    store.record(&mut first, Record::Claim(patient), after(60)).await?;
    let second = lease(store, &job, 2, after(60)).await?;
    assert_eq!((second.cursor, second.tally), (written.cursor, written.tally));
    assert_eq!(second.claim, Some(OutputFileName { kind: patient, number: 2 }));
    let late = page(&first, &[observation], 900);
    must_be_stale("a late page", store.record(&mut first, Record::Page(late), after(60)).await)?;
    assert_eq!(store.parts(&job.id).await?, Vec::from_iter(written.part));
    assert_eq!(store.tails(&job.id, 0..=0).await?, tails);
    let third = lease(store, &job, 2, after(120)).await?;
    assert_eq!((third.cursor, third.tally), (written.cursor, written.tally));
    Ok(())
}

/// Numbers count from 1 within a kind.
pub async fn numbers_have_no_gaps_however_many_claim_at_once(store: &impl TaskStore) -> Held {
    const CLAIMANTS: u32 = 16;
    let job = running(store, CLAIMANTS).await?;
    let (patient, observation) = (kind("Patient")?, kind("Observation")?);
    let claims = (2..2 + CLAIMANTS).map(|number| {
        let job = &job;
        async move {
            let mut lease = lease(store, job, number, T0).await?;
            let mut taken = Vec::new();
            for _ in 0..2 {
                store.record(&mut lease, Record::Claim(patient), after(60)).await?;
                taken.extend(lease.claim);
                let written = page(&lease, &[], 1);
                store.record(&mut lease, Record::Page(written), after(60)).await?;
            }
            Ok::<_, BoxError>(taken)
        }
    });
    let mut taken: Vec<OutputFileName> = try_join_all(claims).await?.into_iter().flatten().collect();
    taken.sort_unstable();
    let expected: Vec<OutputFileName> = (1..=2 * CLAIMANTS).map(|number| OutputFileName { kind: patient, number }).collect();
    assert_eq!(taken, expected);
    assert_eq!(store.parts(&job.id).await?.iter().map(|part| part.name).collect::<Vec<_>>(), expected);
    let mut other = lease(store, &job, 2, after(60)).await?;
    store.record(&mut other, Record::Claim(observation), after(120)).await?;
    assert_eq!(other.claim, Some(OutputFileName { kind: observation, number: 1 }));
    Ok(())
}

/// The next attempt writes the file that the dead one had begun, under its number.
pub async fn a_claim_survives_its_attempt(store: &impl TaskStore) -> Held {
    let job = running(store, 2).await?;
    let patient = kind("Patient")?;
    let mut dead = lease(store, &job, 2, T0).await?;
    store.record(&mut dead, Record::Claim(patient), after(60)).await?;
    let mut other = lease(store, &job, 3, T0).await?;
    store.record(&mut other, Record::Claim(patient), after(60)).await?;
    let mut next = lease(store, &job, 2, after(60)).await?;
    assert_eq!(next.claim, Some(OutputFileName { kind: patient, number: 1 }));
    // Released by a fault, too.
    store.record(&mut next, Record::Release(Release::Fault("it did not answer".into())), after(61)).await?;
    let mut last = lease(store, &job, 2, after(61)).await?;
    assert_eq!(last.claim, next.claim);
    let written = page(&last, &[], 1);
    store.record(&mut last, Record::Page(written), after(121)).await?;
    assert_eq!(lease(store, &job, 2, after(121)).await?.claim, None);
    assert_eq!(store.parts(&job.id).await?.len(), 1);
    Ok(())
}

/// However often it is closed, by whomever.
pub async fn p6_a_task_is_counted_once(store: &impl TaskStore) -> Held {
    let job = running(store, 3).await?;
    let mut read = lease(store, &job, 2, T0).await?;
    let written = page(&read, &[], 40);
    store.record(&mut read, Record::Page(written.clone()), after(60)).await?;
    let closed = store.close_task(&read, Close::Done).await?;
    assert_eq!((closed.open_tasks, closed.tally), (2, written.tally));
    for _ in 0..3 {
        match store.close_task(&read, Close::Done).await {
            // Recognised as the call whose answer was lost.
            Ok(again) => assert_eq!(again, closed),
            Err(StoreError::Stale) => {}
            Err(error) => return Err(error.into()),
        }
        assert_eq!(current(store, &job).await?, closed);
    }
    let others = try_join_all([3, 4].map(|number| {
        let job = &job;
        async move {
            let lease = lease(store, job, number, T0).await?;
            Ok::<_, BoxError>(store.close_task(&lease, Close::Done).await?)
        }
    }));
    others.await?;
    let last = current(store, &job).await?;
    assert_eq!((last.open_tasks, last.tally), (0, written.tally));
    Ok(())
}

/// Its caller saw an error and sends it again, or stops.
pub async fn a_step_that_landed_unanswered_is_not_repeated(store: &impl TaskStore) -> Held {
    let job = running(store, 1).await?;
    let (patient, observation) = (kind("Patient")?, kind("Observation")?);
    let mut lease = lease(store, &job, 2, T0).await?;
    let steps: [fn(&headrace_core::job::task::Lease, [headrace_core::output::file::OutputKind; 2]) -> Record; 4] = [
        |_, _| Record::Heartbeat,
        |_, [patient, _]| Record::Claim(patient),
        |lease, [_, observation]| Record::Page(page(lease, &[observation], 33)),
        |_, [_, observation]| Record::Claim(observation),
    ];
    for step in steps {
        let record = step(&lease, [patient, observation]);
        let mut unanswered = lease.clone();
        store.record(&mut unanswered, record.clone(), after(60)).await?;
        store.record(&mut lease, record.clone(), after(60)).await?;
        assert_eq!(lease, unanswered, "{record:?}");
    }
    assert_eq!(lease.claim, Some(OutputFileName { kind: observation, number: 1 }));
    let parts: Vec<OutputFileName> = store.parts(&job.id).await?.iter().map(|part| part.name).collect();
    assert_eq!(parts, [OutputFileName { kind: patient, number: 1 }]);
    assert_eq!(store.tails(&job.id, 0..=0).await?.len(), 1);
    // A second claim of a kind would have left a hole.
    let written = page(&lease, &[], 34);
    store.record(&mut lease, Record::Page(written), after(60)).await?;
    store.record(&mut lease, Record::Claim(patient), after(60)).await?;
    assert_eq!(lease.claim, Some(OutputFileName { kind: patient, number: 2 }));
    Ok(())
}

/// The finish hands out, waits, and is called again; each round has its own tails.
pub async fn rounds_of_gathering_come_back_to_the_finish(store: &impl TaskStore) -> Held {
    let job = running(store, 1).await?;
    let patient = kind("Patient")?;
    let mut read = lease(store, &job, 2, T0).await?;
    let written = page(&read, &[patient], 10);
    store.record(&mut read, Record::Page(written.clone()), after(60)).await?;
    store.close_task(&read, Close::Done).await?;

    for round in 1..=2 {
        let mut finish = lease(store, &job, 1, after(u64::from(round))).await?;
        let first = round * ROUND_TASKS;
        let gather = |n| (first + n, Work::Gather(written.tails.clone()));
        store.record(&mut finish, Record::Tasks(vec![gather(0), gather(1)]), after(60)).await?;
        assert_eq!(is_refused(store, &job, first, after(9)).await?, LeaseAnswer::NotNow, "its round has not begun");
        let regrouped = store.close_task(&finish, Close::Regroup(regroup(2, round))).await?;
        assert_eq!((regrouped.round, regrouped.open_tasks), (round, 2));
        if let Ok(again) = store.close_task(&finish, Close::Regroup(regroup(2, round))).await {
            assert_eq!(again, regrouped);
        }
        assert_eq!(current(store, &job).await?, regrouped);
        assert_eq!(is_refused(store, &job, 1, after(9)).await?, LeaseAnswer::NotNow);
        for number in [first, first + 1] {
            let mut gather = lease(store, &job, number, T0).await?;
            assert_eq!(gather.work, Work::Gather(written.tails.clone()));
            let joined = Page { tally: Tally::default(), ..page(&gather, &[patient], 20) };
            store.record(&mut gather, Record::Page(joined), after(60)).await?;
            store.close_task(&gather, Close::Done).await?;
        }
        assert_eq!(is_refused(store, &job, first, after(1_000)).await?, LeaseAnswer::Gone);
        assert_eq!(store.tails(&job.id, round..=round).await?.len(), 2);
    }
    assert_eq!(store.tails(&job.id, 0..=0).await?, written.tails);
    let finish = lease(store, &job, 1, after(9)).await?;
    assert_eq!((finish.attempt, finish.tries, finish.job.round), (3, 1, 2));
    let done = store.close_task(&finish, Close::Finished(after(10))).await?;
    assert_eq!((done.tally, done.ended_at), (written.tally, Some(after(10))));
    Ok(())
}

/// By kind, task and step: the order in which they are joined.
pub async fn tails_are_listed_by_round_in_order(store: &impl TaskStore) -> Held {
    let job = running(store, 12).await?;
    let kinds = ["Patient", "Account", "error", "Observation"].map(kind);
    let mut expected = Vec::new();
    for number in [13, 2, 7] {
        let mut lease = lease(store, &job, number, T0).await?;
        for offset in 1..=11 {
            let mut tails = Vec::new();
            for kind in &kinds {
                let kind = *kind.as_ref().map_err(ToString::to_string)?;
                let name = FragmentName { kind, task: number, attempt: lease.attempt, step: lease.step };
                tails.push(Tail { name, content: content(offset) });
            }
            expected.extend(tails.iter().copied());
            let written = Page { part: None, tails, cursor: Cursor { item: 0, offset }, tally: Tally::default() };
            store.record(&mut lease, Record::Page(written), after(60)).await?;
        }
    }
    expected.sort_by_key(|tail| tail.name);
    assert_eq!(store.tails(&job.id, 0..=0).await?, expected);
    assert!(store.tails(&job.id, 1..=1).await?.is_empty());
    assert!(store.tails(&job.id, 2..=2).await?.is_empty());
    Ok(())
}
