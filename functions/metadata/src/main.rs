//! The `metadata` function: `GET [base]/metadata` and `GET [base]/OperationDefinition`.

use headrace_edge::config::{Environment, MetadataConfig};
use headrace_edge::system::SystemClock;
use headrace_edge::{gateway, telemetry};
use lambda_http::{Error, Request};
use metadata::handler::MetadataHandler;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = MetadataConfig::read(&Environment)?;
    telemetry::init("metadata", &config.logging);
    let metadata = &MetadataHandler::new(&SystemClock, config.capabilities);
    gateway::run(|request: Request| metadata.handle(request)).await
}
