//! Handles SQS events: runs the tasks of synchronizations that the messages name, and reports how synchronizations end.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use chunk_worker::handler::{ChunkWorkerHandler, yield_time};
use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::lake::sync_report::{SYNC_REPORT_OBJECT, SyncReport};
use headrace_core::ports::{Clock, JobSecretEncryptor, LakeFeed, OutputStore, Ports, ResourceSource, TaskQueue, TaskStore};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{JobId, TaskId};
use headrace_edge::sqs::parse_task_id;
use headrace_edge::telemetry::{Metric, record_metrics};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};

/// Worker that runs tasks of synchronizations. It lives as long as the process.
pub struct SyncWorkerHandler<J, Q, S, P, C, F> {
    worker: ChunkWorkerHandler<J, Q, S, P, C, F>,
    lake: S,
}

impl<J, Q, S, P, C, F> SyncWorkerHandler<J, Q, S, P, C, F>
where
    J: TaskStore + JobSecretEncryptor,
    Q: TaskQueue,
    S: ResourceSource,
    P: OutputStore,
    C: Clock,
    F: LakeFeed,
{
    /// Creates the handler. It reads reports from `lake`.
    pub fn new(ports: Ports<J, Q, S, P, C, F>, lake: S, settings: WorkerSettings) -> Self {
        Self { worker: ChunkWorkerHandler::new(ports, settings), lake }
    }

    /// Handles the events of the Lambda runtime until the process is stopped. Tasks yield before the timeout of their invocation.
    pub async fn serve(&self) -> Result<(), Error> {
        run(service_fn(|event: LambdaEvent<SqsEvent>| async move { self.handle(event.payload, yield_time(&event.context)?).await })).await
    }

    /// Handles the messages of an event, in practice one. Tasks yield at `stop_at`.
    pub async fn handle(&self, event: SqsEvent, stop_at: Millis) -> Result<SqsBatchResponse, Error> {
        let tasks = event.records.iter().filter_map(|message| parse_task_id(message.body.as_deref().unwrap_or_default()));
        let finalized: Vec<JobId> = tasks.filter(|task| *task == TaskId::finalize(&task.job)).map(|task| task.job).collect();
        let response = Box::pin(self.worker.handle(event, stop_at)).await?;
        for job in finalized {
            self.report_end(&job).await;
        }
        Ok(response)
    }

    /// Logs the end of a synchronization, and records it as a metric. Does nothing if the finalize task has only started a further round.
    async fn report_end(&self, job: &JobId) {
        let report = match self.lake.read_metadata(SYNC_REPORT_OBJECT).await {
            Ok(Some(object)) => serde_json::from_slice::<SyncReport>(&object.bytes).ok(),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(job.id = %job, error = &error as &dyn std::error::Error, "the report of a synchronization cannot be read");
                None
            }
        };
        let Some(report) = report.filter(|report| report.job == job.as_str()) else { return };
        if report.is_complete {
            let resources: u64 = report.types.iter().map(|one| one.resources).sum();
            let deletions: u64 = report.types.iter().filter_map(|one| one.deletions).sum();
            tracing::info!(job.id = %job, resources, deletions, complete_up_to = report.complete_up_to, "the lake was synchronized");
            record_metrics(&[(Metric::SyncsCompleted, 1)]);
            return;
        }
        for one in report.types.iter().filter(|one| !one.faults.is_empty()) {
            let faults = one.faults.join("; ");
            tracing::error!(job.id = %job, kind = %one.resource_type, faults, further = one.further_faults, "a type was not synchronized, and the lake is as before");
        }
        record_metrics(&[(Metric::SyncsIncomplete, 1)]);
    }
}
