//! Splits a task that reads or merges and is among the last of its round, so that idle workers take over a part of it.

use std::time::Duration;

use crate::job::split::split_work;
use crate::job::task::{Cursor, Lease, TaskSplit, Work};
use crate::job::{ExportError, Job};
use crate::metering::count;
use crate::ports::{AllPorts, TaskQueue as _, TaskStore as _};

/// The number by which the size of an output file is divided to get the smallest part of a task that is worth a task of its own, as stored:
/// of a compressed lake, it fills about two files. Of fragments, a slow worker reads and writes it for four seconds.
const FILE_PART_WORTH_A_TASK: u64 = 4;

/// The number by which the interval of read tasks is divided to get that of merge tasks, which usually end in a third of the time.
const MERGE_INTERVAL_DIVISOR: u32 = 2;

/// The number by which the tasks of a round are divided to get the number of its last ones.
const LAST_TASKS: u32 = 8;

/// Returns the time after which a task looks whether it should be split, from that of read tasks.
pub(super) fn split_interval(work: &Work, of_reads: Duration) -> Duration {
    if matches!(work, Work::Merge(_)) { of_reads / MERGE_INTERVAL_DIVISOR } else { of_reads }
}

/// Splits the work of a leased task at a place behind the cursor, if both parts are worth a task.
pub(super) fn split_of(lease: &Lease, cursor: Cursor) -> Option<TaskSplit> {
    split_work(&lease.work, cursor, lease.job.settings.file_bytes / FILE_PART_WORTH_A_TASK)
}

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
    tracing::info!(job.id = %new_task.job, task.id = lease.task.task, new_task.id = new_task.task, "a slow task was split: a new task has a part of its work");
    count(|usage| usage.messages += 1);
    ports.queue().announce(&[new_task], Duration::ZERO).await?;
    Ok(true)
}
