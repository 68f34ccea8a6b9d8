//! The `cancel` function: `DELETE [base]/_operations/export/[job]`.

use cancel::handler::CancelHandler;
use headrace_aws::Clients;
use headrace_edge::auth::Authenticator;
use headrace_edge::config::{Environment, OutputConfig};
use headrace_edge::system::SystemClock;
use headrace_edge::{gateway, telemetry};
use lambda_http::{Error, Request};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = OutputConfig::read(&Environment)?;
    telemetry::init("cancel", &config.common);
    let aws = Clients::connect().await;
    let output = aws.output(&config.destination.name, &config.destination.prefix);
    let jobs = aws.jobs(&config.common.table).with_events(config.events);
    let authenticator = Authenticator::new(jobs.clone(), SystemClock, config.access);
    let cancel = &CancelHandler::new(authenticator, jobs, output, SystemClock);
    gateway::run(|request: Request| cancel.handle(request)).await
}
