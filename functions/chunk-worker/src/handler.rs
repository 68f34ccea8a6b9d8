//! From the SQS event to attempts at tasks and back.

use std::error::Error as _;
use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use headrace_core::flow::work::run_task::{TaskEnd, WorkerSettings, run_task};
use headrace_core::job::{JobState, ReasonKind};
use headrace_core::ports::{Clock, OutputStore, Ports, ResourceSource, TaskQueue, TaskStore};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::ExportError;
use headrace_core::vocab::ids::TaskId;
use headrace_edge::sqs::{Verdict, failures, task, verdict};
use headrace_edge::telemetry::{Metric, count};
use lambda_runtime::Error;

/// How long before its end a process hands its task on: enough to write and record one file.
pub const HAND_ON: Duration = Duration::from_secs(60);

/// What a worker needs, for the life of the process.
pub struct ChunkWorker<J, Q, S, P, C> {
    ports: Ports<J, Q, S, P, C>,
    terms: WorkerSettings,
}

impl<J, Q, S, P, C> ChunkWorker<J, Q, S, P, C>
where
    J: TaskStore,
    Q: TaskQueue,
    S: ResourceSource,
    P: OutputStore,
    C: Clock,
{
    /// With these ports.
    pub fn new(ports: Ports<J, Q, S, P, C>, terms: WorkerSettings) -> Self {
        Self { ports, terms }
    }

    /// Works off the event's messages, one in practice; `stop_at` is when the process will be stopped.
    ///
    /// Fails if a message has no id: SQS could not be told which one to deliver again.
    pub async fn handle(&self, event: SqsEvent, stop_at: Millis) -> Result<SqsBatchResponse, Error> {
        let mut again = Vec::new();
        for message in event.records {
            let id = message.message_id.clone().ok_or("a message without an id")?;
            if self.work_off(&message, stop_at).await == Verdict::Retry {
                again.push(id);
            }
        }
        Ok(failures(again))
    }

    async fn work_off(&self, message: &SqsMessage, stop_at: Millis) -> Verdict {
        match task(message) {
            Ok(task) => self.attempt(&task, stop_at).await,
            Err(unreadable) => {
                tracing::error!(message.id = message.message_id, "a message names no task and is put aside");
                match self.ports.queue.park(message.body.as_deref().unwrap_or_default()).await {
                    Ok(()) => unreadable,
                    // SQS puts it aside itself after some deliveries.
                    Err(_) => Verdict::Retry,
                }
            }
        }
    }

    async fn attempt(&self, task: &TaskId, stop_at: Millis) -> Verdict {
        let began = self.ports.clock.now();
        // Boxed: the future of a whole attempt is too large for the stack of whoever polls it.
        let end = Box::pin(run_task(&self.ports, task, &self.terms, stop_at)).await;
        report(task, &end, self.ports.clock.now().since(began));
        verdict(&end)
    }
}

/// One line per attempt, and what it counted.
fn report(task: &TaskId, end: &Result<TaskEnd, ExportError>, took: Duration) {
    let (job_id, task_id, duration_ms) = (&task.job, task.task, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    match end {
        Ok(TaskEnd::Closed(lease, job)) => {
            let (work, tally) = (lease.work.as_str(), lease.tally);
            tracing::info!(job.id = %job_id, task.id = task_id, attempt = lease.attempt, work, size_bytes = tally.source_bytes, resources = tally.resources, refused = tally.refused, duration_ms, "closed");
            let completed = u64::from(job.state == JobState::Complete);
            count(&[
                (Metric::TasksClosed, 1),
                (Metric::JobsCompleted, completed),
                (Metric::Resources, tally.resources),
                (Metric::Bytes, tally.source_bytes),
                (Metric::LinesRefused, tally.refused),
            ]);
        }
        Ok(TaskEnd::Yielded(lease)) => {
            tracing::info!(job.id = %job_id, task.id = task_id, attempt = lease.attempt, size_bytes = lease.tally.source_bytes, duration_ms, "handed on in time");
        }
        Ok(TaskEnd::NotNow) => tracing::debug!(job.id = %job_id, task.id = task_id, "not now"),
        Ok(TaskEnd::Gone) => tracing::info!(job.id = %job_id, task.id = task_id, duration_ms, "nothing left to do"),
        Ok(TaskEnd::Retried(fault)) => tracing::warn!(job.id = %job_id, task.id = task_id, duration_ms, fault, "announced again"),
        Ok(TaskEnd::Failed(reason)) => {
            tracing::error!(job.id = %job_id, task.id = task_id, duration_ms, reason = reason.text, "the job failed");
            let parked = u64::from(reason.kind == ReasonKind::Exhausted);
            count(&[(Metric::JobsFailed, 1), (Metric::TasksParked, parked)]);
        }
        Err(error) => {
            tracing::error!(job.id = %job_id, task.id = task_id, duration_ms, error = %error, cause = error.source(), "an attempt could not be recorded");
        }
    }
}
