//! The `kickoff` function: `GET` or `POST [base]/$export`.

use headrace_aws::Clients;
use headrace_edge::auth::Authenticator;
use headrace_edge::config::{Environment, KickoffConfig};
use headrace_edge::system::{SystemClock, random_job_id};
use headrace_edge::{gateway, telemetry};
use kickoff::handler::KickoffHandler;
use lambda_http::{Error, Request};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = KickoffConfig::read(&Environment)?;
    telemetry::init("kickoff", &config.common);
    let aws = Clients::connect().await;
    let jobs = aws.jobs_with_encryptor(&config.common.table, config.job_secret_key.as_deref()).with_events(config.events);
    let queue = aws.queue(&config.queue_url);
    let source = aws.lake(&config.source.name, &config.source.prefix);
    let output = aws.output(&config.destination.name, &config.destination.prefix).with_client_buckets(config.client_buckets);
    let authenticator = Authenticator::new(jobs.clone(), SystemClock, config.access);
    let kickoff = KickoffHandler::new(authenticator, (jobs, queue), (source, output), SystemClock, config.export, random_job_id);
    let kickoff = &kickoff.with_estimates(config.estimate);
    gateway::run(|request: Request| kickoff.handle(request)).await
}
