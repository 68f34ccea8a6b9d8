//! Rounds after the first one, and dropping the output files of a round.

use headrace_core::access::Agent;
use headrace_core::job::file::OutputFileName;
use headrace_core::job::task::{
    Lease, LeaseOutcome, NextRound, PlanInput, RereadTask, ResolveRange, ResolveStage, TaskCompletion, TaskUpdate, Work,
};
use headrace_core::job::{Counters, Job, JobEvent, Phase, ROUND_TASKS, RecordConditions};
use headrace_core::ports::TaskStore;
use headrace_core::vocab::ids::TaskId;

use super::{T0, after, assert_stale, checkpoint, kind, lease, lease_refusal, read_work, reload, running_job, sample_job};
use crate::contracts::{BoxError, CaseResult};

/// Returns the work of a task that resolves versions.
fn resolve_work() -> Work {
    Work::Resolve(ResolveRange { stage: ResolveStage::Versions, range: 0, ranges: 1 })
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
        (resolve_work(), NextRound { tasks: 1, phase: Phase::ResolveVersions, first_unmerged_round: 0, resets_counters: false }, counted),
        (
            Work::Reread(RereadTask { task: 2, additions_only: false }),
            NextRound { tasks: 1, phase: Phase::Reread, first_unmerged_round: 2, resets_counters: true },
            // The changes that arrived late are counted while versions are resolved, before the lake is read again.
            Counters { notices: counted.notices, ..Counters::default() },
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
    let counters = Counters { notices: counted.notices.plus(again.notices), ..again };
    assert_eq!((job.counters, job.open_tasks), (counters, 0));
    assert_eq!((store.fragments(&job.id, 2..=2).await?.len(), store.fragments(&job.id, 0..=2).await?.len()), (1, 2));
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
    let plan = PlanInput { patients: vec!["p-1".into(), "p-2".into()] };
    store.record_job(&job_with_patients, &plan, &RecordConditions::default(), &Agent::service()).await?;
    assert_eq!(store.task_work(&TaskId::plan(&job_with_patients.id)).await?, Some(Work::Plan(plan)));
    Ok(())
}

/// Reserves and records `count` output files of a kind, each in a checkpoint of its own.
async fn write_output_files(store: &impl TaskStore, lease: &mut Lease, kind_name: &str, count: u64) -> CaseResult {
    for offset in 1..=count {
        store.update_task(lease, TaskUpdate::ReserveFile(kind(kind_name)?), after(60)).await?;
        let written = checkpoint(lease, &[], lease.cursor.offset + offset);
        store.update_task(lease, TaskUpdate::Checkpoint(written), after(60)).await?;
    }
    Ok(())
}

/// Checks that more files than fit into one transaction are dropped, both written and reserved ones.
pub async fn dropping_all_output_files_frees_their_numbers(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 2).await?;
    for (number, kind_name, count) in [(2, "Patient", 70), (3, "Observation", 40)] {
        let mut read = lease(store, &job, number, T0).await?;
        write_output_files(store, &mut read, kind_name, count).await?;
        if number == 3 {
            store.update_task(&mut read, TaskUpdate::ReserveFile(kind("Patient")?), after(60)).await?;
        }
        store.complete_task(&read, TaskCompletion::Done).await?;
    }
    let mut finalize = lease(store, &job, 1, T0).await?;
    let dropped = store.discard_output_files(&mut finalize, after(90)).await?;
    let numbered = |name: &str, count: u32| (1..=count).map(|number| (name.to_owned(), number)).collect::<Vec<_>>();
    let mut dropped_names: Vec<_> = dropped.iter().map(|name| (name.kind.as_str().to_owned(), name.number)).collect();
    dropped_names.sort();
    assert_eq!(dropped_names, [numbered("Observation", 40), numbered("Patient", 71)].concat());
    assert!(store.output_files(&job.id).await?.is_empty());
    assert_eq!(finalize.until, after(90));
    // The lease is still valid, and numbering starts at 1 again.
    store.update_task(&mut finalize, TaskUpdate::ReserveFile(kind("Patient")?), after(91)).await?;
    assert_eq!(finalize.reserved_file, Some(OutputFileName { kind: kind("Patient")?, number: 1 }));
    Ok(())
}

/// Checks that output files stay if the lease is outdated or the job has ended.
pub async fn a_finalize_task_with_an_old_fencing_token_drops_no_output_files(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    let mut read = lease(store, &job, 2, T0).await?;
    write_output_files(store, &mut read, "Patient", 3).await?;
    store.complete_task(&read, TaskCompletion::Done).await?;
    let mut late = lease(store, &job, 1, T0).await?;
    let mut reload = lease(store, &job, 1, after(60)).await?;
    assert_stale("a drop with an outdated lease", store.discard_output_files(&mut late, after(200)).await)?;
    assert_eq!(store.output_files(&job.id).await?.len(), 3);
    store.end_job(&job.id, JobEvent::CancelRequested, None, &Agent::service(), after(61)).await?;
    assert_stale("a drop after the end of the job", store.discard_output_files(&mut reload, after(200)).await)?;
    assert_eq!(store.output_files(&job.id).await?.len(), 3);
    Ok(())
}
