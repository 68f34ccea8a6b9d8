//! The `token` function: `POST [base]/token`.

use headrace_aws::Clients;
use headrace_edge::auth::Authenticator;
use headrace_edge::config::{Environment, TokenConfig};
use headrace_edge::jwks::{JwksCache, UrlPolicy};
use headrace_edge::system::SystemClock;
use headrace_edge::{gateway, telemetry};
use lambda_http::{Error, Request};
use token::handler::TokenHandler;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = TokenConfig::read(&Environment)?;
    telemetry::init("token", &config.common);
    let aws = Clients::connect().await;
    let (jobs, signer) = (aws.jobs(&config.common.table), aws.signer(&config.signing_key));
    let authenticator = Authenticator::new(jobs.clone(), SystemClock, config.access);
    let token = &TokenHandler::new(authenticator, (jobs, signer), JwksCache::new(UrlPolicy::Clients, SystemClock), SystemClock);
    gateway::run(|request: Request| token.handle(request)).await
}
