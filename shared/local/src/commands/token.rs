//! `headrace token`: prints an access token.

use crate::cli::TokenArgs;
use crate::client::bulk::{ClientError, ClientLimits};
use crate::client::credential::read_login;
use crate::client::error::human_duration;
use crate::client::login::{LoginError, TokenCache};
use crate::client::origin::{UnsafeUrl, UrlRules};
use crate::client::progress::print_line;
use crate::client::transport::Transport;
use crate::stores::client_key::KeyError;
use crate::terminal::print_result;

/// Failure of `headrace token`.
#[derive(Debug, thiserror::Error)]
pub enum TokenCommandError {
    /// No client is named.
    #[error("a token is issued to a registered client: give --client-id and --client-key")]
    NoClient,
    /// The client's key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The base URL is not used.
    #[error(transparent)]
    Url(#[from] UnsafeUrl),
    /// The connections cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server issued no token.
    #[error(transparent)]
    Login(#[from] LoginError),
}

/// Runs `headrace token`. Prints the token to standard output, and its lifetime to standard error.
pub async fn run_token(args: &TokenArgs) -> Result<(), TokenCommandError> {
    let login = read_login(&args.key)?.ok_or(TokenCommandError::NoClient)?;
    let rules = UrlRules::new(&args.url, &[], true)?;
    let limits = ClientLimits::default();
    let transport = Transport::start(&limits)?;
    let (token, lifetime) = TokenCache::new(login, rules.base().clone()).new_token(&transport, &limits).await?;
    print_result(&format!("{token}\n"));
    print_line(&format!("valid for {}", human_duration(lifetime)));
    Ok(())
}
