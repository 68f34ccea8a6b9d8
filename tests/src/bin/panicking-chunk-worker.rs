//! The `chunk-worker` function over a lake whose reads panic. The deployment test shows with it what a panic does to an export.

use std::ops::Range;

use chunk_worker::handler::ChunkWorkerHandler;
use headrace_aws::{Clients, Workload};
use headrace_core::job::task::Pin;
use headrace_core::ports::{ByteStream, MetadataObject, NoFeed, ObjectPage, Ports, ResourceSource};
use headrace_core::vocab::error::SourceError;
use headrace_edge::config::{Environment, WorkerConfig};
use headrace_edge::system::SystemClock;
use headrace_edge::telemetry;
use lambda_runtime::Error;

/// A lake that is listed like the real one. Reading one of its objects panics with a message that no log may contain.
struct PanickingLake<S>(S);

impl<S: ResourceSource> ResourceSource for PanickingLake<S> {
    async fn check(&self) -> Result<(), SourceError> {
        self.0.check().await
    }

    async fn list(&self, after: Option<&str>) -> Result<ObjectPage, SourceError> {
        self.0.list(after).await
    }

    #[expect(clippy::panic, reason = "the fault that this program is for")]
    fn read(&self, pin: &Pin, _: Range<u64>) -> ByteStream {
        panic!("message of a panic about {}", pin.object)
    }

    async fn read_metadata(&self, object: &str) -> Result<Option<MetadataObject>, SourceError> {
        self.0.read_metadata(object).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = WorkerConfig::read(&Environment)?;
    telemetry::init("chunk-worker", &config.common);
    let aws = Clients::connect_for(Workload::Tasks { lease: config.worker.lease.duration }).await;
    let queue = aws.queue(&config.queue_url).with_dead_letters(&config.dead_letter_queue_url);
    let receiver = queue.clone();
    let ports = Ports {
        jobs: aws.jobs_with_encryptor(&config.common.table, config.job_secret_key.as_deref()),
        queue,
        source: PanickingLake(aws.lake(&config.source.name, &config.source.prefix)),
        output: aws.output(&config.destination.name, &config.destination.prefix),
        clock: SystemClock,
        feed: NoFeed,
    };
    ChunkWorkerHandler::new(ports, config.worker).serve(&receiver).await
}
