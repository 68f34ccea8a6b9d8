//! Tasks that give a part of their slices or fragments to a new task.

use std::ops::Range;

use headrace_core::access::Agent;
use headrace_core::job::file::FragmentPart;
use headrace_core::job::task::{LeaseOutcome, Slice, TaskCompletion, TaskSplit, TaskUpdate, Work};
use headrace_core::job::{FailureKind, FailureReason, JobEvent, ROUND_TASKS};
use headrace_core::ports::TaskStore;
use headrace_core::vocab::error::StoreError;

use super::{T0, after, all_fragments, checkpoint, kind, lease, lease_refusal, next_round, read_work, reload, running_job, task};
use crate::contracts::CaseResult;

/// Offset at which the slice of [`read_work`] is cut.
const CUT: u64 = 1 << 39;

/// Returns a split of the slice of [`read_work`] at [`CUT`].
fn split_of(n: u32) -> TaskSplit {
    let slices = read_work(n).into_slices();
    let kept = slices.iter().map(|slice| Slice { end: CUT, ..slice.clone() }).collect();
    let given = slices.iter().map(|slice| Slice { start: CUT, ..slice.clone() }).collect();
    TaskSplit { kept: Work::Read(kept), given: Work::Read(given) }
}

/// Checks that a split changes the work of both tasks, and that an attempt whose lease has ended splits nothing.
pub async fn a_task_is_split_only_under_its_lease(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 2).await?;
    let mut first = lease(store, &job, 2, T0).await?;
    let mut outdated = first.clone();
    let TaskSplit { kept, given } = split_of(2);
    let new_task = store.split_task(&mut first, split_of(2), after(70)).await?;
    assert_eq!(new_task, Some(task(&job, 4)));
    assert_eq!((&first.work, first.until, first.fencing_token), (&kept, after(70), outdated.fencing_token + 1));
    assert_eq!(store.task_work(&task(&job, 2)).await?, Some(kept.clone()));
    assert_eq!(store.task_work(&task(&job, 4)).await?, Some(given.clone()));
    let stored = reload(store, &job).await?;
    assert_eq!((stored.open_tasks, stored.read_tasks(), stored.planned), (3, 3, job.planned));
    let late = store.split_task(&mut outdated, split_of(2), after(70)).await;
    assert!(matches!(late, Err(StoreError::Stale)), "{late:?}");
    assert_eq!(reload(store, &job).await?, stored);
    store.update_task(&mut first, TaskUpdate::Heartbeat, after(80)).await?;
    // The next attempt keeps what the first one has kept, and both tasks can be split again.
    let mut second = lease(store, &job, 2, after(80)).await?;
    assert_eq!(second.work, kept);
    let mut other = lease(store, &job, 4, T0).await?;
    assert_eq!(other.work, given);
    assert_eq!(
        store.split_task(&mut other, TaskSplit { kept: given.clone(), given: given.clone() }, after(60)).await?,
        Some(task(&job, 5))
    );
    assert_eq!(store.split_task(&mut second, split_of(2), after(99)).await?, Some(task(&job, 6)));
    assert_eq!(reload(store, &job).await?.open_tasks, 5);
    let reason = FailureReason { kind: FailureKind::Misconfigured, text: "wrong".to_owned() };
    store.end_job(&job.id, JobEvent::Failed, Some(reason), &Agent::service(), after(9)).await?;
    let late = store.split_task(&mut second, split_of(2), after(99)).await;
    assert!(matches!(late, Err(StoreError::Stale)), "{late:?}");
    Ok(())
}

/// Checks that a round ends after both parts of a task that was split in it, also if its tasks are counted in several items.
pub async fn the_finalize_task_waits_for_both_parts_of_a_split_task(store: &impl TaskStore) -> CaseResult {
    const TASKS: u32 = 40;
    let job = running_job(store, TASKS).await?;
    for number in 3..2 + TASKS {
        let read = lease(store, &job, number, T0).await?;
        store.complete_task(&read, TaskCompletion::Done).await?;
    }
    let mut last = lease(store, &job, 2, T0).await?;
    let new_task = store.split_task(&mut last, split_of(2), after(60)).await?.ok_or("the task was not split")?;
    assert_ne!(store.complete_task(&last, TaskCompletion::Done).await?.open_tasks, 0);
    assert_eq!(reload(store, &job).await?.open_tasks, 1);
    assert_eq!(lease_refusal(store, &job, 1, T0).await?, LeaseOutcome::Unavailable);
    let new = lease(store, &job, new_task.task, T0).await?;
    assert_eq!(store.complete_task(&new, TaskCompletion::Done).await?.open_tasks, 0);
    lease(store, &job, 1, T0).await?;
    Ok(())
}

/// Checks that each of two tasks that are split at the same moment gets a new task of its own or none, and keeps its lease.
pub async fn of_two_tasks_that_split_at_once_one_changes_nothing(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 2).await?;
    let (mut first, mut second) = (lease(store, &job, 2, T0).await?, lease(store, &job, 3, T0).await?);
    let (one, other) =
        tokio::join!(store.split_task(&mut first, split_of(2), after(60)), store.split_task(&mut second, split_of(3), after(60)));
    let (one, other) = (one?, other?);
    assert_ne!(one, other);
    let new_tasks = [&one, &other].into_iter().flatten().count();
    assert_eq!(reload(store, &job).await?.open_tasks as usize, 2 + new_tasks);
    for lease in [&mut first, &mut second] {
        store.update_task(lease, TaskUpdate::Heartbeat, after(70)).await?;
    }
    Ok(())
}

/// Checks that a merge task is split like a read task: its new task belongs to its round alone, and the finalize task waits for it.
pub async fn a_task_that_merges_is_split_within_its_round(store: &impl TaskStore) -> CaseResult {
    const FIRST: u32 = ROUND_TASKS;
    let job = running_job(store, 1).await?;
    let mut read = lease(store, &job, 2, T0).await?;
    let written = checkpoint(&read, &[kind("Patient")?], 10);
    store.update_task(&mut read, TaskUpdate::Checkpoint(written), after(60)).await?;
    store.complete_task(&read, TaskCompletion::Done).await?;
    let whole: Vec<_> = all_fragments(store, &job).await?.into_iter().map(FragmentPart::whole).collect();
    let part = |range: Range<u64>| Work::Merge(whole.iter().map(|whole| whole.with_range(range.clone())).collect());
    let mut finalize = lease(store, &job, 1, T0).await?;
    // A finalize task that died has left a third task.
    let tasks = (FIRST..FIRST + 3).map(|number| (number, Work::Merge(whole.clone()))).collect();
    store.update_task(&mut finalize, TaskUpdate::AddTasks(tasks), after(60)).await?;
    store.complete_task(&finalize, TaskCompletion::NextRound(next_round(2, 1))).await?;
    assert_eq!(lease_refusal(store, &job, FIRST + 2, T0).await?, LeaseOutcome::Unavailable);

    let mut merge = lease(store, &job, FIRST, T0).await?;
    let split = TaskSplit { kept: part(0..500), given: part(500..1_010) };
    assert_eq!(store.split_task(&mut merge, split, after(70)).await?, Some(task(&job, FIRST + 2)));
    assert_eq!((&merge.work, store.task_work(&task(&job, FIRST)).await?), (&part(0..500), Some(part(0..500))));
    let stored = reload(store, &job).await?;
    assert_eq!((stored.open_tasks, stored.tasks_of_round(), stored.initial_tasks_of_round(), stored.read_tasks()), (3, 3, 2, 1));
    store.complete_task(&merge, TaskCompletion::Done).await?;
    let mut new = lease(store, &job, FIRST + 2, T0).await?;
    assert_eq!(new.work, part(500..1_010));
    let split = TaskSplit { kept: part(500..700), given: part(700..1_010) };
    assert_eq!(store.split_task(&mut new, split, after(70)).await?, Some(task(&job, FIRST + 3)));
    for number in [FIRST + 1, FIRST + 3] {
        let merge = lease(store, &job, number, T0).await?;
        assert_ne!(store.complete_task(&merge, TaskCompletion::Done).await?.open_tasks, 0);
        assert_eq!(lease_refusal(store, &job, 1, T0).await?, LeaseOutcome::Unavailable);
    }
    assert_eq!(store.complete_task(&new, TaskCompletion::Done).await?.open_tasks, 0);

    // The next round begins with its own tasks.
    let mut finalize = lease(store, &job, 1, T0).await?;
    store.update_task(&mut finalize, TaskUpdate::AddTasks(vec![(2 * FIRST, Work::Merge(whole.clone()))]), after(60)).await?;
    store.complete_task(&finalize, TaskCompletion::NextRound(next_round(1, 2))).await?;
    let stored = reload(store, &job).await?;
    assert_eq!((stored.open_tasks, stored.tasks_of_round(), stored.read_tasks()), (1, 1, 1));
    Ok(())
}
