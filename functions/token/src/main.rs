//! The `token` function: `POST [base]/token`.

use headrace_aws::Clients;
use headrace_edge::config::{Environment, TokenConfig};
use headrace_edge::door::Door;
use headrace_edge::jwks::{JwksSource, Trust};
use headrace_edge::system::SystemClock;
use headrace_edge::{gateway, telemetry};
use lambda_http::{Error, Request};
use token::handler::Token;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = TokenConfig::read(&Environment)?;
    telemetry::start("token", &config.common);
    let aws = Clients::connect().await;
    let (jobs, signer) = (aws.jobs(&config.common.table), aws.signer(&config.signing_key));
    let door = Door::new(jobs.clone(), SystemClock, config.access);
    let token = &Token::new(door, (jobs, signer), JwksSource::new(Trust::Clients, SystemClock), SystemClock);
    gateway::run(|request: Request| token.handle(request)).await
}
