//! The `chunk-worker` function: runs the task of an SQS message, or tasks of the queue until it is empty.

use chunk_worker::handler::ChunkWorkerHandler;
use headrace_aws::{Clients, Workload};
use headrace_core::ports::{NoFeed, Ports};
use headrace_edge::config::{Environment, WorkerConfig};
use headrace_edge::system::SystemClock;
use headrace_edge::telemetry;
use lambda_runtime::Error;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = WorkerConfig::read(&Environment)?;
    telemetry::init("chunk-worker", &config.common);
    let aws = Clients::connect_for(Workload::Tasks { lease: config.worker.lease.duration }).await;
    let queue = aws.queue(&config.queue_url).with_dead_letters(&config.dead_letter_queue_url);
    let receiver = queue.clone();
    let ports = Ports {
        jobs: aws.jobs_with_encryptor(&config.common.table, config.job_secret_key.as_deref()).with_events(config.events),
        queue: match &config.started_workers {
            Some((function, count)) => queue.with_worker_starter(aws.worker_starter(function, *count)),
            None => queue,
        },
        source: aws.lake(&config.source.name, &config.source.prefix),
        output: aws.output(&config.destination.name, &config.destination.prefix),
        clock: SystemClock,
        feed: NoFeed,
    };
    ChunkWorkerHandler::new(ports, config.worker).serve(&receiver).await
}
