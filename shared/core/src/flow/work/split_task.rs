//! Splits a read task that is among the last of its round, so that idle workers take over a part of it.

use std::time::Duration;

use crate::job::task::{Lease, TaskSplit};
use crate::job::{ExportError, Job};
use crate::metering::count;
use crate::ports::{AllPorts, TaskQueue as _, TaskStore as _};

/// The number by which the size of an output file is divided to get the smallest part of a task that is worth a task of its own, as stored:
/// of a compressed lake, it fills about two files.
pub(super) const FILE_PART_WORTH_A_TASK: u64 = 4;

/// The number by which the tasks of a round are divided to get the number of its last ones.
const LAST_TASKS: u32 = 8;

/// Returns true if at most an eighth of the tasks of the round are open. So a round of fewer tasks is never nearly over: on one machine, all
/// of them run at the same time.
pub(super) fn is_nearly_over(job: &Job) -> bool {
    job.open_tasks <= job.tasks_of_round() / LAST_TASKS
}

/// Records the split of a leased task, and then announces the new task (rule P1). Returns false if another task is split at the same moment.
pub(super) async fn split_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    lease_duration: Duration,
    split: TaskSplit,
) -> Result<bool, ExportError> {
    let until = lease.end_after_update(ports.now(), lease_duration);
    let Some(new_task) = ports.jobs().split_task(lease, split, until).await? else { return Ok(false) };
    tracing::info!(job.id = %new_task.job, task.id = lease.task.task, new_task.id = new_task.task, "a slow task was split: a new task reads some of its slices");
    count(|usage| usage.messages += 1);
    ports.queue().announce(&[new_task], Duration::ZERO).await?;
    Ok(true)
}
