//! The end of an attempt at a task.

use std::time::Duration;

use crate::job::ExportError;
use crate::job::task::{Lease, Release, TaskCompletion};
use crate::job::{FailureReason, Job, JobState};
use crate::metering::{count, used_until};
use crate::ports::{AllPorts, TaskQueue as _, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::ids::TaskId;

use super::heartbeat::release_task;
use super::settings::WorkerSettings;

/// The result of an attempt at a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// The task was completed. Holds its lease, and the job after the completion.
    Completed(Box<Lease>, Box<Job>),
    /// The process is about to be stopped. The task was announced again and continues from its cursor.
    Yielded(Box<Lease>),
    /// Another worker holds the lease, or the task cannot start yet.
    Unavailable,
    /// The task was already completed, its job has ended, or the lease was lost. Nothing was changed (rule P2).
    Obsolete,
    /// The attempt failed with this error, and the task was announced again.
    Retried(String),
    /// The FHIR server demands a pause. The task is available again at this time.
    Paused(Millis),
    /// The job has failed with this reason (rule P8).
    JobFailed(FailureReason),
}

/// Completes the leased task. If it was the last open task of its round, the finalize task is announced.
pub(super) async fn complete_task(ports: &impl AllPorts, lease: &Lease, completion: TaskCompletion) -> Result<TaskEnd, ExportError> {
    complete_task_and_announce(ports, lease, completion, &[]).await
}

/// Completes the leased task and then announces the tasks that it has recorded (rule P1).
///
/// If this was the last open task of its round, the finalize task is announced, too.
pub(super) async fn complete_task_and_announce(
    ports: &impl AllPorts,
    lease: &Lease,
    completion: TaskCompletion,
    tasks: &[TaskId],
) -> Result<TaskEnd, ExportError> {
    // Messages follow what they announce (rule P1), so they are counted before they are sent. The last of these tasks announces the finalize
    // task.
    let messages = if tasks.is_empty() { 0 } else { tasks.len() as u64 + 1 };
    count(|usage| usage.messages += messages);
    let mut lease = lease.clone();
    lease.counters.usage = used_until(ports.now());
    let job = ports.jobs().complete_task(&lease, completion).await?;
    if !tasks.is_empty() {
        ports.queue().announce(tasks, Duration::ZERO).await?;
    }
    if job.state == JobState::Running && job.open_tasks == 0 {
        ports.queue().announce(&[TaskId::finalize(&job.id)], Duration::ZERO).await?;
    }
    Ok(TaskEnd::Completed(Box::new(lease), Box::new(job)))
}

/// Releases the lease and announces the task again, because the process is about to be stopped (rule P7). The next attempt continues
/// from the cursor.
pub(super) async fn yield_task(ports: &impl AllPorts, lease: &mut Lease, settings: &WorkerSettings) -> Result<TaskEnd, ExportError> {
    let now = ports.now();
    let release = if settings.stop.is_set() { Release::Stop } else { Release::Yield };
    release_task(ports, lease, release, now).await?;
    ports.queue().announce(std::slice::from_ref(&lease.task), Duration::ZERO).await?;
    Ok(TaskEnd::Yielded(Box::new(lease.clone())))
}
