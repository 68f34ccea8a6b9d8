//! The `groups` function: `GET [base]/Group/[id]` and `GET [base]/Group?…`.

use groups::handler::Groups;
use headrace_aws::Clients;
use headrace_edge::config::{Environment, GroupsConfig};
use headrace_edge::door::Door;
use headrace_edge::system::SystemClock;
use headrace_edge::{gateway, telemetry};
use lambda_http::{Error, Request};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = GroupsConfig::read(&Environment)?;
    telemetry::start("groups", &config.common);
    let aws = Clients::connect().await;
    let source = aws.lake(&config.source.name, &config.source.prefix);
    let door = Door::new(aws.jobs(&config.common.table), SystemClock, config.access);
    let groups = &Groups::new(door, source, SystemClock, config.base, config.version);
    gateway::run(|request: Request| groups.handle(request)).await
}
