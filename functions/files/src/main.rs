//! The `files` function: `GET [base]/_operations/files/[job]/[name]`.

use files::handler::FilesHandler;
use headrace_aws::Clients;
use headrace_edge::auth::Authenticator;
use headrace_edge::config::{Environment, OutputConfig};
use headrace_edge::system::SystemClock;
use headrace_edge::{gateway, telemetry};
use lambda_http::{Error, Request};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = OutputConfig::read(&Environment)?;
    telemetry::init("files", &config.common);
    let aws = Clients::connect().await;
    let output = aws.output(&config.destination.name, &config.destination.prefix);
    let jobs = aws.jobs(&config.common.table);
    let authenticator = Authenticator::new(jobs.clone(), SystemClock, config.access);
    let files = &FilesHandler::new(authenticator, jobs, output, SystemClock);
    gateway::run(|request: Request| files.handle(request)).await
}
