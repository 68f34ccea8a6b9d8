//! The `metadata` function: `GET [base]/metadata` and `GET [base]/OperationDefinition`.

use headrace_edge::config::{Environment, MetadataConfig};
use headrace_edge::system::SystemClock;
use headrace_edge::telemetry;
use lambda_http::{Error, Request, run, service_fn};
use metadata::handler::Metadata;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = MetadataConfig::read(&Environment)?;
    telemetry::start("metadata", &config.logging);
    let metadata = &Metadata::new(&SystemClock, config.offer);
    run(service_fn(|request: Request| async { Ok::<_, Error>(metadata.handle(request).await) })).await
}
