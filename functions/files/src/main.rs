//! The `files` function: `GET [base]/_operations/files/[job]/[name]`.

use files::handler::Files;
use headrace_aws::Clients;
use headrace_edge::config::{Environment, PartsConfig};
use headrace_edge::door::Door;
use headrace_edge::system::SystemClock;
use headrace_edge::{gateway, telemetry};
use lambda_http::{Error, Request};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = PartsConfig::read(&Environment)?;
    telemetry::start("files", &config.common);
    let aws = Clients::connect().await;
    let parts = aws.parts(&config.destination.name, &config.destination.prefix);
    let jobs = aws.jobs(&config.common.table);
    let door = Door::new(jobs.clone(), SystemClock, config.access);
    let files = &Files::new(door, jobs, parts, SystemClock);
    gateway::run(|request: Request| files.handle(request)).await
}
