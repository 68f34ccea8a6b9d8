//! The `groups` function: `GET [base]/Group/[id]` and `GET [base]/Group?…`.

use groups::handler::GroupsHandler;
use headrace_aws::Clients;
use headrace_edge::auth::Authenticator;
use headrace_edge::config::{Environment, GroupsConfig};
use headrace_edge::system::SystemClock;
use headrace_edge::{gateway, telemetry};
use lambda_http::{Error, Request};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = GroupsConfig::read(&Environment)?;
    telemetry::init("groups", &config.common);
    let aws = Clients::connect().await;
    let source = aws.lake(&config.source.name, &config.source.prefix);
    let authenticator = Authenticator::new(aws.jobs(&config.common.table), SystemClock, config.access);
    let groups = &GroupsHandler::new(authenticator, source, SystemClock, config.base, config.version);
    gateway::run(|request: Request| groups.handle(request)).await
}
