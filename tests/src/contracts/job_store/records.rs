//! Updates of leased tasks.

use std::ops::RangeInclusive;

use futures_util::future::try_join_all;
use headrace_core::job::file::{Fragment, FragmentName, FragmentPart, OutputFile, OutputFileName, OutputKind};
use headrace_core::job::file_list::{FileListPart, ListedFile};
use headrace_core::job::task::{Checkpoint, Cursor, LeaseOutcome, Release, TaskCompletion, TaskUpdate, Work};
use headrace_core::job::{Counters, ROUND_TASKS};
use headrace_core::ports::{
    FRAGMENTS_PER_CHECKPOINT, FragmentSelection, OUTPUT_FILES_PER_CHECKPOINT, PROMOTIONS_PER_CHECKPOINT, TaskStore,
};
use headrace_core::vocab::error::StoreError;
use headrace_fhir::definitions::ResourceType;

use super::{
    T0, after, all_fragments, assert_stale, checkpoint, exported_fragments, kind, lease, lease_refusal, next_round, plan_result, read_work,
    record_job, reload, running_job, sample_job, sample_summary,
};
use crate::contracts::{BoxError, CaseResult};

/// Checks that a checkpoint records output file, fragments, cursor and counters, and that a stale one records none of them.
pub async fn p5_files_and_cursor_are_recorded_together_or_not_at_all(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    let (patient, observation) = (kind("Patient")?, kind("Observation")?);
    let mut first = lease(store, &job, 2, T0).await?;
    store.update_task(&mut first, TaskUpdate::ReserveFiles(vec![patient]), after(60)).await?;
    let written = checkpoint(&first, &[observation, kind("error")?], 500);
    store.update_task(&mut first, TaskUpdate::Checkpoint(written.clone()), after(60)).await?;
    assert_eq!((first.cursor, first.counters, &first.reserved_files), (written.cursor, written.counters, &Vec::new()));
    assert_eq!(store.output_files(&job).await?, written.output_files);
    let fragments = all_fragments(store, &job).await?;
    assert_eq!(fragments, written.fragments);

    store.update_task(&mut first, TaskUpdate::ReserveFiles(vec![patient]), after(60)).await?;
    let second = lease(store, &job, 2, after(60)).await?;
    assert_eq!((second.cursor, second.counters), (written.cursor, written.counters));
    assert_eq!(second.reserved_files, [OutputFileName { kind: patient, number: 2 }]);
    let late = checkpoint(&first, &[observation], 900);
    assert_stale("a stale checkpoint", store.update_task(&mut first, TaskUpdate::Checkpoint(late), after(60)).await)?;
    assert_eq!(store.output_files(&job).await?, written.output_files);
    assert_eq!(all_fragments(store, &job).await?, fragments);
    let third = lease(store, &job, 2, after(120)).await?;
    assert_eq!((third.cursor, third.counters), (written.cursor, written.counters));
    Ok(())
}

/// Checks that concurrent tasks get numbers of their own, from 1 on, although they do not wait for each other.
pub async fn file_numbers_are_never_given_twice(store: &impl TaskStore) -> CaseResult {
    const LEASES: u32 = 16;
    let job = running_job(store, LEASES).await?;
    let (patient, observation) = (kind("Patient")?, kind("Observation")?);
    let reservations = (2..2 + LEASES).map(|number| {
        let job = &job;
        async move {
            let mut lease = lease(store, job, number, T0).await?;
            let mut reserved = Vec::new();
            for _ in 0..2 {
                store.update_task(&mut lease, TaskUpdate::ReserveFiles(vec![patient]), after(60)).await?;
                reserved.extend(lease.reserved_files.iter().copied());
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
    assert_eq!(store.output_files(&job).await?.iter().map(|file| file.name).collect::<Vec<_>>(), expected);
    let mut other = lease(store, &job, 2, after(60)).await?;
    store.update_task(&mut other, TaskUpdate::ReserveFiles(vec![observation]), after(120)).await?;
    assert_eq!(other.reserved_files, [OutputFileName { kind: observation, number: 1 }]);
    Ok(())
}

/// Checks that the next attempt writes the file under the number that the failed attempt reserved.
pub async fn a_reserved_file_number_survives_its_attempt(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 2).await?;
    let patient = kind("Patient")?;
    let mut dead = lease(store, &job, 2, T0).await?;
    store.update_task(&mut dead, TaskUpdate::ReserveFiles(vec![patient]), after(60)).await?;
    let mut other = lease(store, &job, 3, T0).await?;
    store.update_task(&mut other, TaskUpdate::ReserveFiles(vec![patient]), after(60)).await?;
    let mut next = lease(store, &job, 2, after(60)).await?;
    assert_eq!(next.reserved_files, [OutputFileName { kind: patient, number: 1 }]);
    // The same after a released lease.
    store.update_task(&mut next, TaskUpdate::Release(Release::Fault("it did not answer".into())), after(61)).await?;
    let mut last = lease(store, &job, 2, after(61)).await?;
    assert_eq!(last.reserved_files, next.reserved_files);
    let written = checkpoint(&last, &[], 1);
    store.update_task(&mut last, TaskUpdate::Checkpoint(written), after(121)).await?;
    assert_eq!(lease(store, &job, 2, after(121)).await?.reserved_files, []);
    assert_eq!(store.output_files(&job).await?.len(), 1);
    Ok(())
}

/// Checks that a task reserves several files before it records them, that the next attempt has their names in order, and that the names of
/// files that a checkpoint leaves out stay reserved.
pub async fn several_files_are_reserved_and_recorded_together(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    let (patient, observation) = (kind("Patient")?, kind("Observation")?);
    let mut dead = lease(store, &job, 2, T0).await?;
    for kind in [patient, observation, patient] {
        store.update_task(&mut dead, TaskUpdate::ReserveFiles(vec![kind]), after(60)).await?;
    }
    let name = |kind, number| OutputFileName { kind, number };
    let names = [name(patient, 1), name(observation, 1), name(patient, 2)];
    assert_eq!(dead.reserved_files, names);
    let mut next = lease(store, &job, 2, after(60)).await?;
    assert_eq!(next.reserved_files, names);
    assert!(store.output_files(&job).await?.is_empty());
    let mut two = checkpoint(&next, &[observation], 5);
    two.output_files.truncate(2);
    store.update_task(&mut next, TaskUpdate::Checkpoint(two), after(120)).await?;
    assert_eq!(next.reserved_files, [name(patient, 2)]);
    let mut last = lease(store, &job, 2, after(120)).await?;
    assert_eq!(last.reserved_files, next.reserved_files);
    let written = checkpoint(&last, &[], 9);
    store.update_task(&mut last, TaskUpdate::Checkpoint(written), after(180)).await?;
    assert_eq!(last.reserved_files, []);
    let recorded: Vec<_> = store.output_files(&job).await?.iter().map(|file| file.name).collect();
    assert_eq!(recorded, [name(observation, 1), name(patient, 1), name(patient, 2)]);
    // A transaction has at most 100 items.
    for number in 1..=OUTPUT_FILES_PER_CHECKPOINT {
        let kind = if number % 2 == 0 { patient } else { observation };
        store.update_task(&mut last, TaskUpdate::ReserveFiles(vec![kind]), after(180)).await?;
    }
    let fragments: Vec<_> = ResourceType::all().map(OutputKind::Output).take(FRAGMENTS_PER_CHECKPOINT).collect();
    let largest = checkpoint(&last, &fragments, 10);
    store.update_task(&mut last, TaskUpdate::Checkpoint(largest), after(180)).await?;
    assert_eq!(store.output_files(&job).await?.len(), 3 + OUTPUT_FILES_PER_CHECKPOINT);
    assert_eq!(all_fragments(store, &job).await?.len(), 1 + FRAGMENTS_PER_CHECKPOINT);
    Ok(())
}

/// Checks that one update reserves a name of each kind, that a repeated call and the next attempt have the same names, and that one
/// checkpoint records them all.
pub async fn names_of_several_kinds_are_reserved_in_one_update(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 2).await?;
    let patient = kind("Patient")?;
    let mut other = lease(store, &job, 3, T0).await?;
    store.update_task(&mut other, TaskUpdate::ReserveFiles(vec![patient]), after(60)).await?;
    // The order is not that of the names.
    let others = ResourceType::all().map(OutputKind::Output).filter(|kind| *kind != patient).take(PROMOTIONS_PER_CHECKPOINT - 1);
    let kinds: Vec<OutputKind> = std::iter::once(patient).chain(others).collect();
    let expected: Vec<_> = kinds.iter().map(|kind| OutputFileName { kind: *kind, number: if *kind == patient { 2 } else { 1 } }).collect();
    let mut dead = lease(store, &job, 2, T0).await?;
    let mut unanswered = dead.clone();
    store.update_task(&mut unanswered, TaskUpdate::ReserveFiles(kinds.clone()), after(60)).await?;
    assert_eq!(unanswered.reserved_files, expected);
    store.update_task(&mut dead, TaskUpdate::ReserveFiles(kinds), after(60)).await?;
    assert_eq!(dead, unanswered);
    assert_eq!(store.output_files(&job).await?, []);
    let mut next = lease(store, &job, 2, after(60)).await?;
    assert_eq!(next.reserved_files, expected);
    let written = checkpoint(&next, &[], 1);
    store.update_task(&mut next, TaskUpdate::Checkpoint(written.clone()), after(120)).await?;
    assert_eq!(next.reserved_files, []);
    let recorded = store.output_files(&job).await?;
    assert_eq!(recorded.len(), PROMOTIONS_PER_CHECKPOINT);
    assert!(written.output_files.iter().all(|file| recorded.contains(file)), "{recorded:?}");
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
        |_, [patient, _]| TaskUpdate::ReserveFiles(vec![patient]),
        |lease, [_, observation]| TaskUpdate::Checkpoint(checkpoint(lease, &[observation], 33)),
        |_, [_, observation]| TaskUpdate::ReserveFiles(vec![observation]),
    ];
    for step in steps {
        let record = step(&lease, [patient, observation]);
        let mut unanswered = lease.clone();
        store.update_task(&mut unanswered, record.clone(), after(60)).await?;
        store.update_task(&mut lease, record.clone(), after(60)).await?;
        assert_eq!(lease, unanswered, "{record:?}");
    }
    assert_eq!(lease.reserved_files, [OutputFileName { kind: observation, number: 1 }]);
    let output_files: Vec<OutputFileName> = store.output_files(&job).await?.iter().map(|file| file.name).collect();
    assert_eq!(output_files, [OutputFileName { kind: patient, number: 1 }]);
    assert_eq!(all_fragments(store, &job).await?.len(), 1);
    // The repeated reservation has left out a number, but the task keeps the one that it has recorded.
    let written = checkpoint(&lease, &[], 34);
    store.update_task(&mut lease, TaskUpdate::Checkpoint(written), after(60)).await?;
    store.update_task(&mut lease, TaskUpdate::ReserveFiles(vec![patient]), after(60)).await?;
    assert_eq!(lease.reserved_files, [OutputFileName { kind: patient, number: 3 }]);
    Ok(())
}

/// Checks that a recorded file gets another number, that a repeated call changes nothing more, and that no number is taken twice.
pub async fn a_file_is_renumbered_once_and_only_under_the_lease(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    let patient = kind("Patient")?;
    let mut read = lease(store, &job, 2, T0).await?;
    let mut files = Vec::new();
    for offset in 1..=3 {
        store.update_task(&mut read, TaskUpdate::ReserveFiles(vec![patient]), after(60)).await?;
        let written = checkpoint(&read, &[], offset);
        files.extend(written.output_files.iter().copied());
        store.update_task(&mut read, TaskUpdate::Checkpoint(written), after(60)).await?;
    }
    store.complete_task(&read, TaskCompletion::Done).await?;
    let last = *files.last().ok_or("no file")?;
    let mut late = lease(store, &job, 1, T0).await?;
    let mut finalize = lease(store, &job, 1, after(60)).await?;
    let renumber = |number| TaskUpdate::Renumber { file: last, number };
    assert_stale("a change under an outdated lease", store.update_task(&mut late, renumber(17), after(90)).await)?;
    assert_stale("a number that a file has", store.update_task(&mut finalize.clone(), renumber(2), after(120)).await)?;
    assert_eq!(store.output_files(&job).await?, files);
    let mut unanswered = finalize.clone();
    store.update_task(&mut unanswered, renumber(17), after(120)).await?;
    store.update_task(&mut finalize, renumber(17), after(120)).await?;
    assert_eq!(finalize, unanswered);
    let renumbered = OutputFile { name: OutputFileName { kind: patient, number: 17 }, ..last };
    assert_eq!(store.output_files(&job).await?, [files.get(..2).unwrap_or_default(), &[renumbered]].concat());
    assert_eq!(store.output_file(&job, renumbered.name).await?, Some(renumbered));
    assert_eq!(store.output_file(&job, last.name).await?, None);
    Ok(())
}

/// Checks that the parts of a file list are read back by number, also after a repeated call.
pub async fn a_list_of_files_is_read_back_in_parts(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 0).await?;
    let file = |number| OutputFile { name: OutputFileName { kind: OutputKind::Error, number }, summary: sample_summary(u64::from(number)) };
    let part = |number| FileListPart { number, files: (1..=number).map(|number| ListedFile::from(&file(number))).collect() };
    let mut finalize = lease(store, &job, 1, T0).await?;
    assert!(store.file_list(&job, 0..=u32::MAX).await?.is_empty());
    for number in [0, 1, 2, 11, 2] {
        store.update_task(&mut finalize, TaskUpdate::ListFiles(part(number)), after(60)).await?;
    }
    assert_eq!(store.file_list(&job, 0..=u32::MAX).await?, [0, 1, 2, 11].map(part));
    assert_eq!(store.file_list(&job, 2..=3).await?, [part(2)]);
    assert_eq!(store.file_list(&job, 3..=10).await?, []);
    Ok(())
}

/// Checks a round with enough tasks that their counts are in several items.
pub async fn a_round_of_many_tasks_is_counted_exactly(store: &impl TaskStore) -> CaseResult {
    const TASKS: u32 = 200;
    let job = sample_job(1)?;
    record_job(store, &job).await?;
    let mut plan = lease(store, &job, 0, T0).await?;
    store.update_task(&mut plan, TaskUpdate::AddTasks(vec![(1, Work::Finalize)]), after(60)).await?;
    for tasks in (2..2 + TASKS).collect::<Vec<_>>().chunks(40) {
        let tasks = tasks.iter().map(|task| (*task, read_work(*task))).collect();
        store.update_task(&mut plan, TaskUpdate::AddTasks(tasks), after(60)).await?;
    }
    store.complete_task(&plan, TaskCompletion::Planned(plan_result(TASKS))).await?;
    let mut expected = Counters::default();
    for number in (2..2 + TASKS).rev() {
        let mut read = lease(store, &job, number, T0).await?;
        let written = checkpoint(&read, &[], u64::from(number));
        expected = expected.plus(written.counters);
        store.update_task(&mut read, TaskUpdate::Checkpoint(written), after(60)).await?;
        let completed = store.complete_task(&read, TaskCompletion::Done).await?;
        assert_eq!(completed.open_tasks == 0, number == 2, "{number}: {}", completed.open_tasks);
        if number % 37 == 0 {
            let stored = reload(store, &job).await?;
            assert_eq!((stored.open_tasks, stored.counters), (number - 2, expected));
        }
    }
    let finalize = lease(store, &job, 1, T0).await?;
    assert_eq!((finalize.job.open_tasks, finalize.job.counters), (0, expected));
    let done = store.complete_task(&finalize, TaskCompletion::JobComplete(after(9))).await?;
    assert_eq!(done.counters, expected);
    Ok(())
}

/// Checks that a selection lists its fragments and no others.
pub async fn fragments_are_selected_by_kind_task_and_bucket(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 20).await?;
    let kinds = ["Patient", "error", "version-records", "links", "bucket-00", "bucket-09", "bucket-10", "bucket-63"];
    let kinds = kinds.into_iter().map(kind).collect::<Result<Vec<_>, _>>()?;
    let mut all = Vec::new();
    for number in [2, 3, 11, 21] {
        let mut read = lease(store, &job, number, T0).await?;
        let written = checkpoint(&read, &kinds, u64::from(number));
        all.extend(written.fragments.iter().copied());
        store.update_task(&mut read, TaskUpdate::Checkpoint(written), after(60)).await?;
    }
    all.sort_unstable_by_key(|fragment| fragment.name);
    let buckets = [0..64, 0..1, 9..10, 9..11, 10..64, 1..9].map(FragmentSelection::Buckets);
    let of_tasks = [2..4, 3..21, 21..22, 0..u32::MAX].map(|tasks| FragmentSelection::KindOfTasks(OutputKind::VersionRecords, tasks));
    let of_kind = kinds.iter().copied().skip(2).map(FragmentSelection::Kind);
    let mut sizes = Vec::new();
    for selection in of_kind.chain(buckets).chain(of_tasks).chain([FragmentSelection::Exported]) {
        let expected: Vec<_> = all.iter().filter(|fragment| selection.contains(fragment.name)).copied().collect();
        assert_eq!(store.fragments(&job.id, 0..=3, &selection).await?, expected, "{selection:?}");
        assert!(store.fragments(&job.id, 1..=3, &selection).await?.is_empty());
        assert!(store.fragments(&job.id, RangeInclusive::new(1, 0), &selection).await?.is_empty());
        sizes.push(expected.len());
    }
    assert_eq!(sizes, [4, 4, 4, 4, 4, 4, 16, 4, 4, 8, 8, 0, 2, 2, 1, 4, 8]);
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
    let work = Work::Merge(written.fragments.iter().copied().map(FragmentPart::whole).collect());

    for round in 1..=2 {
        let mut finalize = lease(store, &job, 1, after(u64::from(round))).await?;
        let first = round * ROUND_TASKS;
        let merge = |n| (first + n, work.clone());
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
            assert_eq!(merge.work, work);
            let merged = Checkpoint { counters: Counters::default(), ..checkpoint(&merge, &[patient], 20) };
            store.update_task(&mut merge, TaskUpdate::Checkpoint(merged), after(60)).await?;
            store.complete_task(&merge, TaskCompletion::Done).await?;
        }
        assert_eq!(lease_refusal(store, &job, first, after(1_000)).await?, LeaseOutcome::Obsolete);
        assert_eq!(exported_fragments(store, &job, round..=round).await?.len(), 2);
    }
    assert_eq!(exported_fragments(store, &job, 0..=0).await?, written.fragments);
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
            let written =
                Checkpoint { output_files: Vec::new(), fragments, cursor: Cursor { item: 0, offset }, counters: Counters::default() };
            store.update_task(&mut lease, TaskUpdate::Checkpoint(written), after(60)).await?;
        }
    }
    expected.sort_by_key(|tail| tail.name);
    assert_eq!(all_fragments(store, &job).await?, expected);
    assert!(exported_fragments(store, &job, 1..=1).await?.is_empty());
    assert!(exported_fragments(store, &job, 2..=2).await?.is_empty());
    Ok(())
}
