//! The `status` function: `GET [base]/_operations/export/[job]` and `GET [base]/_operations/export`.

use headrace_aws::Clients;
use headrace_edge::config::{Environment, StatusConfig};
use headrace_edge::door::Door;
use headrace_edge::system::SystemClock;
use headrace_edge::{gateway, telemetry};
use lambda_http::{Error, Request};
use status::handler::Exports;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = StatusConfig::read(&Environment)?;
    telemetry::start("status", &config.common);
    let aws = Clients::connect().await;
    let jobs = aws.jobs(&config.common.table);
    let door = Door::new(jobs.clone(), SystemClock, config.access);
    let exports = &Exports::new(door, jobs, SystemClock, config.base);
    gateway::run(|request: Request| exports.handle(request)).await
}
