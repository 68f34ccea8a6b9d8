//! Rounds of tasks: the finalize task may start further rounds before it completes the job.

use crate::job::ExportError;
use crate::job::task::{Lease, NextRound, TaskCompletion, TaskUpdate, Work};
use crate::job::{Phase, ROUND_TASKS, ReadMode};
use crate::ports::{AllPorts, TASK_BYTES_PER_UPDATE, TASKS_PER_UPDATE, TaskStore as _};
use crate::vocab::ids::TaskId;

use super::settings::WorkerSettings;
use super::task_end::{TaskEnd, complete_task_and_announce};

/// The tasks of a new round, at least one.
pub(super) struct RoundPlan {
    pub(super) works: Vec<Work>,
    pub(super) phase: Phase,
    /// The first round whose fragments are still to be merged after this one.
    pub(super) first_unmerged_round: u32,
    /// True if the round exports everything again, so that nothing that was counted before counts.
    pub(super) resets_counters: bool,
}

/// Starts a new round: records its tasks and announces them. The leased finalize task runs again after it.
pub(super) async fn start_round(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    plan: RoundPlan,
) -> Result<TaskEnd, ExportError> {
    let first = (lease.job.round + 1) * ROUND_TASKS;
    let tasks: Vec<(u32, Work)> = (first..).zip(plan.works).collect();
    let ids: Vec<_> = tasks.iter().map(|(task, _)| TaskId { job: lease.job.id.clone(), task: *task }).collect();
    record_tasks(ports, lease, settings, tasks).await?;
    let next = NextRound {
        tasks: u32::try_from(ids.len()).unwrap_or(u32::MAX),
        phase: plan.phase,
        first_unmerged_round: plan.first_unmerged_round,
        resets_counters: plan.resets_counters,
    };
    complete_task_and_announce(ports, lease, TaskCompletion::NextRound(next), &ids).await
}

/// Adds tasks to the job, in as many updates as their number and size require.
pub(super) async fn record_tasks(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    tasks: Vec<(u32, Work)>,
) -> Result<(), ExportError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (task, work) in tasks {
        let size = serde_json::to_vec(&work).map_or(0, |json| json.len());
        if batch.len() >= TASKS_PER_UPDATE || (bytes + size > TASK_BYTES_PER_UPDATE && !batch.is_empty()) {
            let until = ports.now() + settings.lease.duration;
            ports.jobs().update_task(lease, TaskUpdate::AddTasks(std::mem::take(&mut batch)), until).await?;
            bytes = 0;
        }
        bytes += size;
        batch.push((task, work));
    }
    if batch.is_empty() {
        return Ok(());
    }
    let until = ports.now() + settings.lease.duration;
    Ok(ports.jobs().update_task(lease, TaskUpdate::AddTasks(batch), until).await?)
}

/// Returns true if the job's output files were discarded once, so that later ones must overwrite files of the same name.
///
/// Files of the first reading may exist under the names: they were left there, or a worker that outlived its lease has written one
/// since. Such a worker never overwrites, so it cannot replace a file of the second reading.
pub(super) async fn output_files_were_discarded(ports: &impl AllPorts, lease: &Lease) -> Result<bool, ExportError> {
    if lease.job.planned.is_none_or(|planned| planned.read_mode != ReadMode::Optimistic) {
        return Ok(false);
    }
    // A reread is at most the third round: it follows the rounds that resolve versions and links.
    for round in 1..=lease.job.first_unmerged_round.min(3) {
        let first = TaskId { job: lease.task.job.clone(), task: round * ROUND_TASKS };
        match ports.jobs().task_work(&first).await? {
            Some(Work::Reread(reread)) => return Ok(!reread.additions_only),
            Some(Work::Plan(_) | Work::Read(_) | Work::Resolve(_) | Work::GroupByPatient(_) | Work::Merge(_) | Work::Finalize) | None => {}
        }
    }
    Ok(false)
}
