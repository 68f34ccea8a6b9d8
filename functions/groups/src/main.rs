//! The `groups` function: `GET [base]/Group/[id]` and `GET [base]/Group?…`.

use groups::handler::Groups;
use headrace_aws::Clients;
use headrace_edge::config::{Environment, GroupsConfig};
use headrace_edge::system::SystemClock;
use headrace_edge::{gateway, telemetry};
use lambda_http::{Error, Request};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = GroupsConfig::read(&Environment)?;
    telemetry::start("groups", &config.logging);
    let source = Clients::connect().await.lake(&config.source.name, &config.source.prefix);
    let groups = &Groups::new(source, SystemClock, config.base, config.version);
    gateway::run(|request: Request| groups.handle(request)).await
}
