//! The `chunk-worker` function: one task per SQS message.

use aws_lambda_events::event::sqs::SqsEvent;
use chunk_worker::handler::{ChunkWorker, HAND_ON};
use headrace_aws::Clients;
use headrace_core::ports::Ports;
use headrace_core::vocab::clock::Millis;
use headrace_edge::config::{Environment, WorkerConfig};
use headrace_edge::system::SystemClock;
use headrace_edge::telemetry;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = WorkerConfig::read(&Environment)?;
    telemetry::start("chunk-worker", &config.common);
    let aws = Clients::connect().await;
    let ports = Ports {
        jobs: aws.jobs_with_secrets(&config.common.table, config.secrets_key.as_deref()),
        queue: aws.queue(&config.queue_url).with_dead_letters(&config.dlq_url),
        source: aws.lake(&config.source.name, &config.source.prefix),
        parts: aws.parts(&config.destination.name, &config.destination.prefix),
        clock: SystemClock,
    };
    let worker = &ChunkWorker::new(ports, config.terms);
    run(service_fn(|event: LambdaEvent<SqsEvent>| async move {
        let ends_at = Millis(event.context.deadline);
        worker.handle(event.payload, Millis(ends_at.0.saturating_sub(u64::try_from(HAND_ON.as_millis())?))).await
    }))
    .await
}
