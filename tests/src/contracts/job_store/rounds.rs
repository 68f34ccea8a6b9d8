//! Rounds after the first one, and rounds that start over.

use headrace_core::access::Agent;
use headrace_core::job::file::OutputFileName;
use headrace_core::job::task::{
    Lease, LeaseOutcome, NextRound, PlanInput, Release, RereadTask, ResolveRange, ResolveStage, TaskCompletion, TaskUpdate, Work,
};
use headrace_core::job::{Counters, FailureKind, FailureReason, Job, JobEvent, Phase, ROUND_TASKS, RecordConditions, Usage};
use headrace_core::ports::TaskStore;
use headrace_core::vocab::ids::TaskId;

use super::{
    T0, after, checkpoint, exported_fragments, kind, lease, lease_refusal, plan_result, read_work, record_job, reload, running_job,
    sample_job,
};
use crate::contracts::{BoxError, CaseResult};

/// Returns the work of a task that resolves versions.
fn resolve_work() -> Work {
    Work::Resolve(ResolveRange { stage: ResolveStage::Versions, range: 0, ranges: 1, merged: None })
}

/// Completes a read task with one checkpoint and returns the recorded counters.
async fn complete_read_task(store: &impl TaskStore, job: &Job, number: u32, offset: u64) -> Result<Counters, BoxError> {
    // An earlier attempt may have crashed, so its lease must have expired.
    let mut lease = lease(store, job, number, after(60)).await?;
    let written = checkpoint(&lease, &[kind("Patient")?], offset);
    store.update_task(&mut lease, TaskUpdate::Checkpoint(written.clone()), after(120)).await?;
    store.complete_task(&lease, TaskCompletion::Done).await?;
    Ok(written.counters)
}

/// Checks that tasks of a new round are leased with the round's phase and counters.
pub async fn a_round_runs_the_work_of_its_phase_and_may_reset_the_counters(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    assert_eq!((job.phase, job.first_unmerged_round), (Phase::Read, 0));
    let counted = complete_read_task(store, &job, 2, 10).await?;
    let rounds = [
        (resolve_work(), NextRound { tasks: 1, phase: Phase::ResolveVersions, first_unmerged_round: 0, starts_over: false }, counted),
        (
            Work::Reread(RereadTask { task: 2, additions_only: false, merge_task: None }),
            NextRound { tasks: 1, phase: Phase::Reread, first_unmerged_round: 2, starts_over: true },
            // The changes that arrived late are counted while versions are resolved, before the lake is read again. What was used, was used.
            Counters { notices: counted.notices, usage: counted.usage, ..Counters::default() },
        ),
    ];
    for (round, (work, next_round, counters)) in (1..).zip(rounds) {
        let mut finalize = lease(store, &job, 1, T0).await?;
        let number = round * ROUND_TASKS;
        store.update_task(&mut finalize, TaskUpdate::AddTasks(vec![(number, work.clone())]), after(60)).await?;
        let begun = store.complete_task(&finalize, TaskCompletion::NextRound(next_round)).await?;
        assert_eq!((begun.round, begun.round_tasks, begun.open_tasks), (round, 1, 1));
        assert_eq!(
            (begun.phase, begun.first_unmerged_round, begun.counters),
            (next_round.phase, next_round.first_unmerged_round, counters)
        );
        assert_eq!(reload(store, &job).await?, begun);
        assert_eq!(lease_refusal(store, &job, number + 1, T0).await?, LeaseOutcome::Obsolete);
        let task = lease(store, &job, number, T0).await?;
        assert_eq!((&task.work, &task.job), (&work, &begun));
        if round == 1 {
            let done = store.complete_task(&task, TaskCompletion::Done).await?;
            assert_eq!((done.open_tasks, done.counters), (0, counted));
        }
    }
    // The lake is read and counted again.
    let again = complete_read_task(store, &job, 2 * ROUND_TASKS, 77).await?;
    let job = reload(store, &job).await?;
    let counters = Counters { notices: counted.notices.plus(again.notices), usage: counted.usage.plus(again.usage), ..again };
    assert_eq!((job.counters, job.open_tasks), (counters, 0));
    let counts = (exported_fragments(store, &job, 2..=2).await?.len(), exported_fragments(store, &job, 0..=2).await?.len());
    assert_eq!(counts, (1, 2));
    Ok(())
}

/// Checks that a job has the usage of its plan, of the tasks of each round, of attempts that were released, and of every run of its finalize
/// task, each once.
pub async fn the_usage_of_every_task_is_counted_once(store: &impl TaskStore) -> CaseResult {
    let used = |attempts| Usage { attempts, worker_ms: 1_000 * attempts, write_units: attempts, ..Usage::default() };
    let job = sample_job(3)?;
    record_job(store, &job).await?;
    let mut plan = lease(store, &job, 0, T0).await?;
    store.update_task(&mut plan, TaskUpdate::AddTasks(vec![(1, Work::Finalize), (2, read_work(2))]), after(60)).await?;
    plan.counters.usage = used(1);
    let planned = store.complete_task(&plan, TaskCompletion::Planned(plan_result(1))).await?;
    assert_eq!(planned.counters.usage, used(1));
    let mut read = lease(store, &job, 2, T0).await?;
    read.counters.usage = used(10);
    store.update_task(&mut read, TaskUpdate::Release(Release::Yield), T0).await?;
    let mut read = lease(store, &job, 2, T0).await?;
    assert_eq!(read.counters.usage, used(10), "the next attempt continues");
    read.counters.usage = used(30);
    store.complete_task(&read, TaskCompletion::Done).await?;
    assert_eq!(reload(store, &job).await?.counters.usage, used(31));
    let mut finalize = lease(store, &job, 1, T0).await?;
    store.update_task(&mut finalize, TaskUpdate::AddTasks(vec![(ROUND_TASKS, resolve_work())]), after(60)).await?;
    finalize.counters.usage = used(100);
    let next = NextRound { tasks: 1, phase: Phase::ResolveVersions, first_unmerged_round: 0, starts_over: true };
    assert_eq!(store.complete_task(&finalize, TaskCompletion::NextRound(next)).await?.counters.usage, used(131));
    let mut resolve = lease(store, &job, ROUND_TASKS, T0).await?;
    resolve.counters.usage = used(200);
    store.complete_task(&resolve, TaskCompletion::Done).await?;
    let mut finalize = lease(store, &job, 1, T0).await?;
    assert_eq!((finalize.counters.usage, finalize.job.counters.usage), (Usage::default(), used(331)), "its first run is counted");
    finalize.counters.usage = used(1_000);
    let done = store.complete_task(&finalize, TaskCompletion::JobComplete(after(9))).await?;
    assert_eq!((done.counters.usage, reload(store, &job).await?.counters.usage), (used(1_331), used(1_331)));
    Ok(())
}

/// Checks that a failed job has the usage of the round in which it failed.
pub async fn a_failed_job_keeps_the_usage_of_its_last_round(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 2).await?;
    let counted = complete_read_task(store, &job, 2, 10).await?;
    let reason = FailureReason { kind: FailureKind::Misconfigured, text: "wrong".to_owned() };
    store.end_job(&job.id, JobEvent::Failed, Some(reason), &Agent::service(), after(9)).await?;
    assert_eq!(reload(store, &job).await?.counters.usage, counted.usage);
    Ok(())
}

/// Checks the work of open, closed, unknown and plan tasks.
pub async fn the_work_of_a_task_can_be_read_after_it_closed(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 2).await?;
    complete_read_task(store, &job, 2, 10).await?;
    for number in [2, 3] {
        assert_eq!(store.task_work(&TaskId { job: job.id.clone(), task: number }).await?, Some(read_work(number)));
    }
    assert_eq!(store.task_work(&TaskId { job: job.id.clone(), task: 4 }).await?, None);
    let job_with_patients = sample_job(2)?;
    let plan = PlanInput { patients: vec!["p-1".into(), "p-2".into()], ..PlanInput::default() };
    store.record_job(&job_with_patients, &plan, &RecordConditions::default(), &Agent::service()).await?;
    assert_eq!(store.task_work(&TaskId::plan(&job_with_patients.id)).await?, Some(Work::Plan(plan)));
    Ok(())
}

/// Reserves and records `count` output files of a kind, each in a checkpoint of its own.
async fn write_output_files(store: &impl TaskStore, lease: &mut Lease, kind_name: &str, count: u64) -> CaseResult {
    for offset in 1..=count {
        store.update_task(lease, TaskUpdate::ReserveFiles(vec![kind(kind_name)?]), after(60)).await?;
        let written = checkpoint(lease, &[], lease.cursor.offset + offset);
        store.update_task(lease, TaskUpdate::Checkpoint(written), after(60)).await?;
    }
    Ok(())
}

/// Checks that a round that starts over discards written files and reserved numbers, and leaves the files of the job before it to its
/// readers.
pub async fn a_round_that_starts_over_discards_all_output_files_and_numbers(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 2).await?;
    for (number, kind_name, count) in [(2, "Patient", 7), (3, "Observation", 4)] {
        let mut read = lease(store, &job, number, T0).await?;
        write_output_files(store, &mut read, kind_name, count).await?;
        if number == 3 {
            store.update_task(&mut read, TaskUpdate::ReserveFiles(vec![kind("Patient")?]), after(60)).await?;
        }
        store.complete_task(&read, TaskCompletion::Done).await?;
    }
    assert_eq!(store.output_files(&job).await?.len(), 11);
    let mut finalize = lease(store, &job, 1, T0).await?;
    let reread = Work::Reread(RereadTask { task: 2, additions_only: false, merge_task: None });
    store.update_task(&mut finalize, TaskUpdate::AddTasks(vec![(ROUND_TASKS, reread)]), after(60)).await?;
    let next = NextRound { tasks: 1, phase: Phase::Reread, first_unmerged_round: 1, starts_over: true };
    let again = store.complete_task(&finalize, TaskCompletion::NextRound(next)).await?;
    assert_eq!(again.files_since_round, 1);
    assert!(store.output_files(&again).await?.is_empty());
    assert_eq!(store.output_file(&again, OutputFileName { kind: kind("Patient")?, number: 1 }).await?, None);
    let mut read = lease(store, &job, ROUND_TASKS, T0).await?;
    write_output_files(store, &mut read, "Patient", 1).await?;
    let names: Vec<_> = store.output_files(&again).await?.iter().map(|file| file.name).collect();
    assert_eq!(names, [OutputFileName { kind: kind("Patient")?, number: 1 }]);
    Ok(())
}
