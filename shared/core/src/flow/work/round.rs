//! Rounds of tasks: the finalize task may start further rounds before it completes the job.

use crate::job::ExportError;
use crate::job::task::{Lease, NextRound, TaskCompletion, TaskUpdate, Work};
use crate::job::{Job, Phase, ROUND_TASKS, ReadMode};
use crate::ports::{AllPorts, TASK_BYTES_PER_UPDATE, TASKS_PER_UPDATE};
use crate::vocab::ids::TaskId;

use super::heartbeat::update_leased_task;
use super::settings::WorkerSettings;
use super::task_end::{TaskEnd, complete_task_and_announce};

/// The tasks of a new round, at least one.
pub(super) struct RoundPlan {
    pub(super) works: Vec<Work>,
    pub(super) phase: Phase,
    /// The first round whose fragments are still to be merged after this one.
    pub(super) first_unmerged_round: u32,
    /// True if the round exports everything again, so that nothing that was counted before counts.
    pub(super) starts_over: bool,
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
        starts_over: plan.starts_over,
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
            update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::AddTasks(std::mem::take(&mut batch))).await?;
            bytes = 0;
        }
        bytes += size;
        batch.push((task, work));
    }
    if batch.is_empty() {
        return Ok(());
    }
    update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::AddTasks(batch)).await
}

/// Returns true if output files must overwrite files of the same name, because the export has started over.
///
/// Files of the first reading may exist under the names: they were left there, or a worker that outlived its lease has written one
/// since. Such a worker never overwrites, so it cannot replace a file of the second reading.
pub(super) fn overwrites_files(job: &Job) -> bool {
    job.files_since_round > 0 && job.planned.is_some_and(|planned| planned.read_mode == ReadMode::Optimistic)
}
