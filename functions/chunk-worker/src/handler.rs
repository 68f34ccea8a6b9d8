//! Handles SQS events: runs the tasks that the messages name. An event without messages comes from a worker that starts others: it runs
//! the tasks of the queue until the queue is empty.

use std::error::Error as _;
use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use headrace_core::flow::work::run_task::run_task;
use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::flow::work::task_end::TaskEnd;
use headrace_core::job::ExportError;
use headrace_core::job::{FailureKind, JobState, PriceTable, Usage};
use headrace_core::ports::{
    Clock, JobSecretEncryptor, LakeFeed, NoFeed, OutputStore, Ports, ReceivedMessage, ResourceSource, TaskQueue, TaskReceiver, TaskStore,
};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::TaskId;
use headrace_edge::sqs::{MessageOutcome, message_outcome, parse_task_id, redelivery_response};
use headrace_edge::telemetry::{Metric, record_metrics};
use lambda_runtime::{Context, Error, LambdaEvent, run, service_fn};

/// The time before Lambda's timeout at which a task yields: enough to write and record one file.
pub const YIELD_BEFORE_TIMEOUT: Duration = Duration::from_secs(60);

/// The time before a task has to yield at which a worker receives no further task. A task that starts later would yield soon, and repeat
/// the start of its work.
const LAST_START: Duration = Duration::from_secs(300);

/// Returns the time at which the tasks of an invocation must yield.
pub fn yield_time(context: &Context) -> Result<Millis, Error> {
    let reserve = u64::try_from(YIELD_BEFORE_TIMEOUT.as_millis())?;
    Ok(Millis(context.deadline.saturating_sub(reserve)))
}

/// The handler that runs tasks. It lives as long as the process.
pub struct ChunkWorkerHandler<J, Q, S, P, C, F = NoFeed> {
    ports: Ports<J, Q, S, P, C, F>,
    settings: WorkerSettings,
}

impl<J, Q, S, P, C, F> ChunkWorkerHandler<J, Q, S, P, C, F>
where
    J: TaskStore + JobSecretEncryptor,
    Q: TaskQueue,
    S: ResourceSource,
    P: OutputStore,
    C: Clock,
    F: LakeFeed,
{
    /// Creates the handler.
    pub fn new(ports: Ports<J, Q, S, P, C, F>, settings: WorkerSettings) -> Self {
        Self { ports, settings }
    }

    /// Handles the events of the Lambda runtime until the process is stopped. Tasks yield before the timeout of their invocation. An event
    /// without messages is answered when `queue` is empty.
    pub async fn serve(&self, queue: &impl TaskReceiver) -> Result<(), Error> {
        run(service_fn(|event: LambdaEvent<SqsEvent>| async move {
            let stop_at = yield_time(&event.context)?;
            if event.payload.records.is_empty() {
                self.run_waiting_tasks(queue, stop_at).await?;
            }
            self.handle(event.payload, stop_at).await
        }))
        .await
    }

    /// Runs tasks of the queue, one after the other, until it is empty or too little time is left before `stop_at`.
    pub async fn run_waiting_tasks(&self, queue: &impl TaskReceiver, stop_at: Millis) -> Result<(), Error> {
        while self.ports.clock.now() + LAST_START < stop_at {
            let Some(message) = queue.receive().await? else { return Ok(()) };
            let ReceivedMessage { id, body, .. } = &message;
            match self.handle_message(id, body, stop_at).await {
                MessageOutcome::Acknowledge => queue.delete(&message).await?,
                MessageOutcome::Redeliver => queue.release(&message).await?,
            }
        }
        Ok(())
    }

    /// Handles the messages of an event, in practice one. Tasks yield at `stop_at`.
    ///
    /// Fails if a message has no id: the response could not tell SQS to deliver it again.
    pub async fn handle(&self, event: SqsEvent, stop_at: Millis) -> Result<SqsBatchResponse, Error> {
        let mut redelivered = Vec::new();
        for message in event.records {
            let id = message.message_id.clone().ok_or("a message without an id")?;
            if self.handle_message(&id, message.body.as_deref().unwrap_or_default(), stop_at).await == MessageOutcome::Redeliver {
                redelivered.push(id);
            }
        }
        Ok(redelivery_response(redelivered))
    }

    /// Runs the task that the body of a message names. Parks a message that names no task.
    async fn handle_message(&self, id: &str, body: &str, stop_at: Millis) -> MessageOutcome {
        if let Some(task) = parse_task_id(body) {
            return self.attempt(&task, stop_at).await;
        }
        // Redelivery would not help: the message goes to the dead-letter queue now instead of after five deliveries.
        tracing::error!(message.id = id, "a message names no task: it is moved to the dead-letter queue");
        match self.ports.queue.park(body).await {
            Ok(()) => MessageOutcome::Acknowledge,
            // SQS moves it to the dead-letter queue itself after five deliveries.
            Err(_) => MessageOutcome::Redeliver,
        }
    }

    /// Makes one attempt at a task and logs it. Returns what SQS does with the message.
    async fn attempt(&self, task: &TaskId, stop_at: Millis) -> MessageOutcome {
        let started_at = self.ports.clock.now();
        // Boxed: the future of an attempt is too large for the stack.
        let end = Box::pin(run_task(&self.ports, task, &self.settings, stop_at)).await;
        log_attempt(task, &end, self.ports.clock.now().since(started_at));
        message_outcome(&end)
    }
}

/// The log target of the line about a failed job. A program that tells its user the reason itself leaves the line out.
pub const JOB_FAILED_TARGET: &str = "chunk_worker::failed_jobs";

/// Records the metrics of what a task has used on AWS, in all its attempts.
fn record_usage(used: Usage) {
    if !used.is_on_aws() {
        return;
    }
    let Ok(prices) = PriceTable::us_east_1() else { return };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "prices are not negative, and a cast to an integer saturates"
    )]
    let micro_usd = (prices.costs(used).total() * 1e6).round() as u64;
    let objects = used.gets + used.puts + used.copies + used.lists + used.deletes;
    record_metrics(&[
        (Metric::ListPriceMicroUsd, micro_usd),
        (Metric::TableUnits, used.half_read_units / 2 + used.write_units),
        (Metric::ObjectRequests, objects),
    ]);
}

/// Logs an attempt in one line and records its metrics.
fn log_attempt(task: &TaskId, end: &Result<TaskEnd, ExportError>, duration: Duration) {
    let (job_id, task_id, duration_ms) = (&task.job, task.task, u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    match end {
        Ok(TaskEnd::Completed(lease, job)) => {
            let (work, counters) = (lease.work.as_str(), lease.counters);
            tracing::info!(job.id = %job_id, task.id = task_id, attempt = lease.attempt, work, size_bytes = counters.source_bytes, resources = counters.resources, lines_rejected = counters.lines_rejected, duration_ms, "task completed");
            let completed = u64::from(job.state == JobState::Complete);
            // A synchronization counts resources there, for its progress.
            let source_bytes = if job.is_sync() { 0 } else { counters.source_bytes };
            record_metrics(&[
                (Metric::TasksCompleted, 1),
                (Metric::JobsCompleted, completed),
                (Metric::ResourcesExported, counters.resources),
                (Metric::SourceBytesRead, source_bytes),
                (Metric::LinesRejected, counters.lines_rejected),
            ]);
            record_usage(counters.usage);
        }
        Ok(TaskEnd::Yielded(lease)) => {
            tracing::info!(job.id = %job_id, task.id = task_id, attempt = lease.attempt, size_bytes = lease.counters.source_bytes, duration_ms, "task yielded before the timeout");
        }
        Ok(TaskEnd::Unavailable) => {
            tracing::debug!(job.id = %job_id, task.id = task_id, "task not started: another worker has its lease, or it starts later")
        }
        Ok(TaskEnd::Obsolete) => {
            tracing::info!(job.id = %job_id, task.id = task_id, duration_ms, "task skipped: it was completed before, its job has ended, or the lease was lost")
        }
        Ok(TaskEnd::Retried(fault)) => {
            tracing::warn!(job.id = %job_id, task.id = task_id, duration_ms, fault, "task failed and is announced again")
        }
        Ok(TaskEnd::Paused(until)) => {
            tracing::info!(job.id = %job_id, task.id = task_id, duration_ms, until = %until, "task paused, because the FHIR server is busy")
        }
        Ok(TaskEnd::JobFailed(reason)) => {
            tracing::error!(target: JOB_FAILED_TARGET, { job.id = %job_id, task.id = task_id, duration_ms, reason = reason.text }, "the job failed");
            let parked = u64::from(reason.kind == FailureKind::Exhausted);
            record_metrics(&[(Metric::JobsFailed, 1), (Metric::TasksParked, parked)]);
        }
        Err(error) => {
            tracing::error!(job.id = %job_id, task.id = task_id, duration_ms, error = %error, cause = error.source(), "an attempt could not be recorded");
        }
    }
}
