//! The `reaper` function: runs once a minute.

use headrace_aws::Clients;
use headrace_core::flow::upkeep::seal::SealSettings;
use headrace_core::ports::{NoFeed, Ports};
use headrace_edge::config::{Environment, ReaperConfig};
use headrace_edge::event_targets::EventTargets;
use headrace_edge::jwks::UrlPolicy;
use headrace_edge::system::{SystemClock, random_job_id};
use headrace_edge::telemetry;
use headrace_edge::webhook::WebhookClient;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use reaper::events::{EventDeliverer, decrypt_webhook};
use reaper::handler::ReaperHandler;
use reaper::schedules::{ScheduleRunner, random_job};
use reaper::sync::SyncStarter;
use reaper::watermark::WatermarkMonitor;
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = ReaperConfig::read(&Environment)?;
    telemetry::init("reaper", &config.common);
    let makes_events = config.makes_events();
    let aws = Clients::connect().await;
    let output = aws.output(&config.destination.name, &config.destination.prefix).with_client_buckets(config.client_buckets);
    let audit = aws.audit_files(&config.audit.name, &config.audit.prefix);
    let jobs = aws.jobs_with_encryptor(&config.common.table, config.job_secret_key.as_deref()).with_events(makes_events);
    let webhook = match config.webhook {
        Some(webhook) => Some(decrypt_webhook(&jobs, webhook).await?),
        None => None,
    };
    let targets = EventTargets::new(webhook, WebhookClient::new(UrlPolicy::Clients));
    let targets = targets.with_event_bus(config.event_bus.as_deref().map(|bus| aws.event_bus(bus)));
    let events = &EventDeliverer::new(jobs.clone(), targets, SystemClock);
    let queue = aws.queue(&config.queue_url);
    let queue = match &config.sync {
        Some(sync) => queue.with_syncs(&sync.queue_url),
        None => queue,
    };
    let lake = aws.lake(&config.source.name, &config.source.prefix);
    let ports =
        Ports { jobs: jobs.clone(), queue: queue.clone(), source: lake.clone(), output: output.clone(), clock: SystemClock, feed: NoFeed };
    let sync_ports = Ports { jobs: jobs.clone(), queue: queue.clone(), source: lake.clone(), output: (), clock: SystemClock, feed: NoFeed };
    let syncs = &SyncStarter::new(sync_ports, config.sync.map(|sync| sync.schedule), random_job_id);
    let quotas = config.export.quotas;
    let schedules = &ScheduleRunner::new(ports, config.export, random_job);
    let reaper = &ReaperHandler::new((jobs, queue), (output, audit), SystemClock, quotas, SealSettings::default());
    let monitor = &WatermarkMonitor::new(lake, SystemClock, config.watermark);
    // Nothing reads the response. The log reports what was done.
    let run_once = async |_: LambdaEvent<Value>| {
        monitor.record_age().await;
        // Schedules come last: ended exports have freed their slots by then. A failure of one part does not stop the other.
        let reaped = reaper.handle().await;
        // A deployment always has access control.
        let fired = Box::pin(schedules.run(true)).await;
        let synced = Box::pin(syncs.run()).await;
        Box::pin(events.run()).await?;
        fired?;
        synced?;
        reaped.map(|_| ())
    };
    Box::pin(run(service_fn(run_once))).await
}
