//! The `sync-worker` function: runs the task of an SQS message.

use headrace_aws::{Clients, Workload};
use headrace_client::signing::RequestSigner;
use headrace_core::ports::{Feed, Ports};
use headrace_edge::config::{Environment, SyncWorkerConfig};
use headrace_edge::system::SystemClock;
use headrace_edge::telemetry;
use lambda_runtime::Error;
use sync_worker::handler::SyncWorkerHandler;
use sync_worker::origin::DeployedOrigin;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = SyncWorkerConfig::read(&Environment)?;
    telemetry::init("sync-worker", &config.common);
    let aws = Clients::connect_for(Workload::Tasks { lease: config.worker.lease.duration }).await;
    let read_secret = config.origin.secret.as_deref().map(|id| {
        let secret = aws.secret(id);
        move || {
            let secret = secret.clone();
            async move { secret.read().await }
        }
    });
    let signer = config.origin.signing_region.as_deref().map(|region| aws.request_signer(Some(region), "healthlake")).transpose()?;
    let signer = signer.map(|signer| RequestSigner::new(signer.into_fn()));
    let (bucket, prefix) = (&config.source.name, &config.source.prefix);
    let ports = Ports {
        jobs: aws.jobs(&config.common.table),
        queue: aws.queue(&config.queue_url).with_dead_letters(&config.dead_letter_queue_url),
        source: aws.lake(bucket, prefix),
        output: aws.output(&config.destination.name, &config.destination.prefix),
        clock: SystemClock,
        feed: Feed { origin: DeployedOrigin::new(config.origin, read_secret).with_signer(signer), lake: aws.lake_writer(bucket, prefix) },
    };
    SyncWorkerHandler::new(ports, aws.lake(bucket, prefix), config.worker).serve().await
}
