//! Updates of leased tasks.

use futures_util::future::try_join_all;
use headrace_core::job::file::{Fragment, FragmentName, OutputFileName};
use headrace_core::job::task::{Checkpoint, Cursor, LeaseOutcome, Release, TaskCompletion, TaskUpdate, Work};
use headrace_core::job::{Counters, ROUND_TASKS};
use headrace_core::ports::TaskStore;
use headrace_core::vocab::error::StoreError;

use super::{T0, after, assert_stale, checkpoint, kind, lease, lease_refusal, next_round, reload, running_job, sample_summary};
use crate::contracts::{BoxError, CaseResult};

/// Checks that a checkpoint records output file, fragments, cursor and counters, and that a stale one records none of them.
pub async fn p5_files_and_cursor_are_recorded_together_or_not_at_all(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    let (patient, observation) = (kind("Patient")?, kind("Observation")?);
    let mut first = lease(store, &job, 2, T0).await?;
    store.update_task(&mut first, TaskUpdate::ReserveFile(patient), after(60)).await?;
    let written = checkpoint(&first, &[observation, kind("error")?], 500);
    store.update_task(&mut first, TaskUpdate::Checkpoint(written.clone()), after(60)).await?;
    assert_eq!((first.cursor, first.counters, first.reserved_file), (written.cursor, written.counters, None));
    assert_eq!(store.output_files(&job.id).await?, Vec::from_iter(written.output_file));
    let fragments = store.fragments(&job.id, 0..=0).await?;
    assert_eq!(fragments, written.fragments);

    store.update_task(&mut first, TaskUpdate::ReserveFile(patient), after(60)).await?;
    let second = lease(store, &job, 2, after(60)).await?;
    assert_eq!((second.cursor, second.counters), (written.cursor, written.counters));
    assert_eq!(second.reserved_file, Some(OutputFileName { kind: patient, number: 2 }));
    let late = checkpoint(&first, &[observation], 900);
    assert_stale("a stale checkpoint", store.update_task(&mut first, TaskUpdate::Checkpoint(late), after(60)).await)?;
    assert_eq!(store.output_files(&job.id).await?, Vec::from_iter(written.output_file));
    assert_eq!(store.fragments(&job.id, 0..=0).await?, fragments);
    let third = lease(store, &job, 2, after(120)).await?;
    assert_eq!((third.cursor, third.counters), (written.cursor, written.counters));
    Ok(())
}

/// Checks that file numbers of each kind start at 1 and have no gaps.
pub async fn file_numbers_have_no_gaps_under_concurrent_reservations(store: &impl TaskStore) -> CaseResult {
    const LEASES: u32 = 16;
    let job = running_job(store, LEASES).await?;
    let (patient, observation) = (kind("Patient")?, kind("Observation")?);
    let reservations = (2..2 + LEASES).map(|number| {
        let job = &job;
        async move {
            let mut lease = lease(store, job, number, T0).await?;
            let mut reserved = Vec::new();
            for _ in 0..2 {
                store.update_task(&mut lease, TaskUpdate::ReserveFile(patient), after(60)).await?;
                reserved.extend(lease.reserved_file);
                let written = checkpoint(&lease, &[], 1);
                store.update_task(&mut lease, TaskUpdate::Checkpoint(written), after(60)).await?;
            }
            Ok::<_, BoxError>(reserved)
        }
    });
    let mut reserved: Vec<OutputFileName> = try_join_all(reservations).await?.into_iter().flatten().collect();
    reserved.sort_unstable();
    let expected: Vec<OutputFileName> = (1..=2 * LEASES).map(|number| OutputFileName { kind: patient, number }).collect();
    assert_eq!(reserved, expected);
    assert_eq!(store.output_files(&job.id).await?.iter().map(|file| file.name).collect::<Vec<_>>(), expected);
    let mut other = lease(store, &job, 2, after(60)).await?;
    store.update_task(&mut other, TaskUpdate::ReserveFile(observation), after(120)).await?;
    assert_eq!(other.reserved_file, Some(OutputFileName { kind: observation, number: 1 }));
    Ok(())
}

/// Checks that the next attempt writes the file under the number that the failed attempt reserved.
pub async fn a_reserved_file_number_survives_its_attempt(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 2).await?;
    let patient = kind("Patient")?;
    let mut dead = lease(store, &job, 2, T0).await?;
    store.update_task(&mut dead, TaskUpdate::ReserveFile(patient), after(60)).await?;
    let mut other = lease(store, &job, 3, T0).await?;
    store.update_task(&mut other, TaskUpdate::ReserveFile(patient), after(60)).await?;
    let mut next = lease(store, &job, 2, after(60)).await?;
    assert_eq!(next.reserved_file, Some(OutputFileName { kind: patient, number: 1 }));
    // The same after a released lease.
    store.update_task(&mut next, TaskUpdate::Release(Release::Fault("it did not answer".into())), after(61)).await?;
    let mut last = lease(store, &job, 2, after(61)).await?;
    assert_eq!(last.reserved_file, next.reserved_file);
    let written = checkpoint(&last, &[], 1);
    store.update_task(&mut last, TaskUpdate::Checkpoint(written), after(121)).await?;
    assert_eq!(lease(store, &job, 2, after(121)).await?.reserved_file, None);
    assert_eq!(store.output_files(&job.id).await?.len(), 1);
    Ok(())
}

/// Checks that a repeated completion is not counted again.
pub async fn p6_a_task_is_counted_once(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 3).await?;
    let mut read = lease(store, &job, 2, T0).await?;
    let written = checkpoint(&read, &[], 40);
    store.update_task(&mut read, TaskUpdate::Checkpoint(written.clone()), after(60)).await?;
    let closed = store.complete_task(&read, TaskCompletion::Done).await?;
    assert_eq!((closed.open_tasks, closed.counters), (2, written.counters));
    for _ in 0..3 {
        match store.complete_task(&read, TaskCompletion::Done).await {
            // Recognised as a repeated call after a lost response.
            Ok(again) => assert_eq!(again, closed),
            Err(StoreError::Stale) => {}
            Err(error) => return Err(error.into()),
        }
        assert_eq!(reload(store, &job).await?, closed);
    }
    let others = try_join_all([3, 4].map(|number| {
        let job = &job;
        async move {
            let lease = lease(store, job, number, T0).await?;
            Ok::<_, BoxError>(store.complete_task(&lease, TaskCompletion::Done).await?)
        }
    }));
    others.await?;
    let last = reload(store, &job).await?;
    assert_eq!((last.open_tasks, last.counters), (0, written.counters));
    Ok(())
}

/// Checks that a caller can repeat an update after an error.
pub async fn an_update_whose_response_was_lost_is_not_applied_twice(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    let (patient, observation) = (kind("Patient")?, kind("Observation")?);
    let mut lease = lease(store, &job, 2, T0).await?;
    let steps: [fn(&headrace_core::job::task::Lease, [headrace_core::job::file::OutputKind; 2]) -> TaskUpdate; 4] = [
        |_, _| TaskUpdate::Heartbeat,
        |_, [patient, _]| TaskUpdate::ReserveFile(patient),
        |lease, [_, observation]| TaskUpdate::Checkpoint(checkpoint(lease, &[observation], 33)),
        |_, [_, observation]| TaskUpdate::ReserveFile(observation),
    ];
    for step in steps {
        let record = step(&lease, [patient, observation]);
        let mut unanswered = lease.clone();
        store.update_task(&mut unanswered, record.clone(), after(60)).await?;
        store.update_task(&mut lease, record.clone(), after(60)).await?;
        assert_eq!(lease, unanswered, "{record:?}");
    }
    assert_eq!(lease.reserved_file, Some(OutputFileName { kind: observation, number: 1 }));
    let output_files: Vec<OutputFileName> = store.output_files(&job.id).await?.iter().map(|file| file.name).collect();
    assert_eq!(output_files, [OutputFileName { kind: patient, number: 1 }]);
    assert_eq!(store.fragments(&job.id, 0..=0).await?.len(), 1);
    // A second reservation would have left a gap in the numbers.
    let written = checkpoint(&lease, &[], 34);
    store.update_task(&mut lease, TaskUpdate::Checkpoint(written), after(60)).await?;
    store.update_task(&mut lease, TaskUpdate::ReserveFile(patient), after(60)).await?;
    assert_eq!(lease.reserved_file, Some(OutputFileName { kind: patient, number: 2 }));
    Ok(())
}

/// Checks that the finalize task can start several merge rounds, each with its own fragments.
pub async fn the_finalize_task_runs_again_after_each_merge_round(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    let patient = kind("Patient")?;
    let mut read = lease(store, &job, 2, T0).await?;
    let written = checkpoint(&read, &[patient], 10);
    store.update_task(&mut read, TaskUpdate::Checkpoint(written.clone()), after(60)).await?;
    store.complete_task(&read, TaskCompletion::Done).await?;

    for round in 1..=2 {
        let mut finalize = lease(store, &job, 1, after(u64::from(round))).await?;
        let first = round * ROUND_TASKS;
        let merge = |n| (first + n, Work::Merge(written.fragments.clone()));
        store.update_task(&mut finalize, TaskUpdate::AddTasks(vec![merge(0), merge(1)]), after(60)).await?;
        assert_eq!(lease_refusal(store, &job, first, after(9)).await?, LeaseOutcome::Unavailable, "its round has not started");
        let new_round = store.complete_task(&finalize, TaskCompletion::NextRound(next_round(2, round))).await?;
        assert_eq!((new_round.round, new_round.open_tasks), (round, 2));
        if let Ok(again) = store.complete_task(&finalize, TaskCompletion::NextRound(next_round(2, round))).await {
            assert_eq!(again, new_round);
        }
        assert_eq!(reload(store, &job).await?, new_round);
        assert_eq!(lease_refusal(store, &job, 1, after(9)).await?, LeaseOutcome::Unavailable);
        for number in [first, first + 1] {
            let mut merge = lease(store, &job, number, T0).await?;
            assert_eq!(merge.work, Work::Merge(written.fragments.clone()));
            let merged = Checkpoint { counters: Counters::default(), ..checkpoint(&merge, &[patient], 20) };
            store.update_task(&mut merge, TaskUpdate::Checkpoint(merged), after(60)).await?;
            store.complete_task(&merge, TaskCompletion::Done).await?;
        }
        assert_eq!(lease_refusal(store, &job, first, after(1_000)).await?, LeaseOutcome::Obsolete);
        assert_eq!(store.fragments(&job.id, round..=round).await?.len(), 2);
    }
    assert_eq!(store.fragments(&job.id, 0..=0).await?, written.fragments);
    let finalize = lease(store, &job, 1, after(9)).await?;
    assert_eq!((finalize.attempt, finalize.attempts_since_progress, finalize.job.round), (3, 1, 2));
    let done = store.complete_task(&finalize, TaskCompletion::JobComplete(after(10))).await?;
    assert_eq!((done.counters, done.ended_at), (written.counters, Some(after(10))));
    Ok(())
}

/// Checks the order of fragments: by kind, task and fencing token. They are merged in this order.
pub async fn fragments_are_listed_by_round_in_order(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 12).await?;
    let kinds = ["Patient", "Account", "error", "Observation"].map(kind);
    let mut expected = Vec::new();
    for number in [13, 2, 7] {
        let mut lease = lease(store, &job, number, T0).await?;
        for offset in 1..=11 {
            let mut fragments = Vec::new();
            for kind in &kinds {
                let kind = *kind.as_ref().map_err(ToString::to_string)?;
                let name = FragmentName { kind, task: number, attempt: lease.attempt, fencing_token: lease.fencing_token };
                fragments.push(Fragment { name, summary: sample_summary(offset) });
            }
            expected.extend(fragments.iter().copied());
            let written = Checkpoint { output_file: None, fragments, cursor: Cursor { item: 0, offset }, counters: Counters::default() };
            store.update_task(&mut lease, TaskUpdate::Checkpoint(written), after(60)).await?;
        }
    }
    expected.sort_by_key(|tail| tail.name);
    assert_eq!(store.fragments(&job.id, 0..=0).await?, expected);
    assert!(store.fragments(&job.id, 1..=1).await?.is_empty());
    assert!(store.fragments(&job.id, 2..=2).await?.is_empty());
    Ok(())
}
