//! The `reaper` function: runs once a minute.

use headrace_aws::Clients;
use headrace_core::flow::upkeep::seal::SealSettings;
use headrace_edge::config::{Environment, ReaperConfig};
use headrace_edge::system::SystemClock;
use headrace_edge::telemetry;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use reaper::handler::ReaperHandler;
use reaper::watermark::WatermarkMonitor;
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = ReaperConfig::read(&Environment)?;
    telemetry::init("reaper", &config.common);
    let aws = Clients::connect().await;
    let output = aws.output(&config.destination.name, &config.destination.prefix);
    let audit = aws.audit_files(&config.audit.name, &config.audit.prefix);
    let (jobs, queue) = (aws.jobs(&config.common.table), aws.queue(&config.queue_url));
    let reaper = &ReaperHandler::new((jobs, queue), (output, audit), SystemClock, config.quotas, SealSettings::default());
    let lake = aws.lake(&config.source.name, &config.source.prefix);
    let monitor = &WatermarkMonitor::new(lake, SystemClock, config.watermark);
    // Nothing reads the response. The log reports what was done.
    let run_once = async |_: LambdaEvent<Value>| {
        monitor.record_age().await;
        reaper.handle().await.map(|_| ())
    };
    Box::pin(run(service_fn(run_once))).await
}
