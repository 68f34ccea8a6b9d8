//! The `status` function: `GET [base]/_operations/export/[job]` and `GET [base]/_operations/export`.

use headrace_aws::Clients;
use headrace_edge::auth::Authenticator;
use headrace_edge::config::{Environment, StatusConfig};
use headrace_edge::system::SystemClock;
use headrace_edge::{gateway, telemetry};
use lambda_http::{Error, Request};
use status::handler::StatusHandler;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = StatusConfig::read(&Environment)?;
    telemetry::init("status", &config.common);
    let aws = Clients::connect().await;
    let jobs = aws.jobs(&config.common.table);
    let authenticator = Authenticator::new(jobs.clone(), SystemClock, config.access);
    let exports = &StatusHandler::new(authenticator, jobs, SystemClock, config.base);
    gateway::run(|request: Request| exports.handle(request)).await
}
