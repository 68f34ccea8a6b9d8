//! Who may ask a server on one machine: what its operator said, where it listens, and who is registered.

use std::net::SocketAddr;
use std::path::Path;

use headrace_core::error::StoreError;
use headrace_core::ports::{AccessStore as _, Clock as _};
use headrace_edge::config::{ConfigError, ExternalTerms, read_secure_url};
use headrace_edge::system::SystemClock;

use crate::cli::{AccessMode, Serve};
use crate::service::Access;
use crate::signer::{FileSigner, KeyFileError};
use crate::state::{KEYS, State, StateError};

/// Why it is not settled who may ask.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Anyone could export.
    #[error(
        "{0} can be reached by others and there is no access control: register a client with `headrace clients add`, \
         listen on 127.0.0.1, or add --let-anyone-on-the-network-export"
    )]
    Exposed(SocketAddr),
    /// Tokens and records would cross the network in plain text.
    #[error(
        "{0} can be reached by others, and this server speaks no TLS: listen on 127.0.0.1 behind a proxy on this machine \
         that does, or, if the proxy is elsewhere, add --a-proxy-in-front-speaks-tls"
    )]
    Plain(SocketAddr),
    /// Tokens would be for whatever a client calls this server.
    #[error("{0} can be reached by others, and tokens say which server they are for: name the base that clients use with --base-url")]
    Nameless(SocketAddr),
    /// What only `external` needs is missing.
    #[error("--access external needs --{0}")]
    Missing(&'static str),
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The registrations cannot be read.
    #[error("the registrations cannot be read")]
    Store(#[from] StoreError),
    /// The key that signs tokens.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

/// Who may ask a server that listens on `address`.
pub(crate) async fn access(order: &Serve, address: SocketAddr) -> Result<Access, AccessError> {
    let options = &order.access;
    let mode = match options.access {
        Some(mode) => mode,
        None if has_clients(&order.state).await? => AccessMode::Smart,
        None => AccessMode::None,
    };
    let is_reached_by_others = !address.ip().is_loopback();
    match mode {
        AccessMode::None if is_reached_by_others && !order.let_anyone_on_the_network_export => Err(AccessError::Exposed(address)),
        AccessMode::None => Ok(Access::None),
        AccessMode::Smart | AccessMode::External if is_reached_by_others && !order.a_proxy_in_front_speaks_tls => {
            Err(AccessError::Plain(address))
        }
        AccessMode::Smart if is_reached_by_others && order.terms.base_url.is_none() => Err(AccessError::Nameless(address)),
        AccessMode::Smart => Ok(Access::Smart(FileSigner::open_or_create(&order.state.join(KEYS), SystemClock.now())?)),
        AccessMode::External => Ok(Access::External(ExternalTerms {
            issuer: options.issuer.clone().ok_or(AccessError::Missing("issuer"))?,
            audience: options.audience.clone().ok_or(AccessError::Missing("audience"))?,
            jwks_url: read_secure_url("HEADRACE_JWKS_URL", options.jwks_url.as_deref().ok_or(AccessError::Missing("jwks-url"))?)?,
            scope_claim: options.scope_claim.clone(),
            token_url: options.token_url.as_deref().map(|url| read_secure_url("HEADRACE_TOKEN_URL", url)).transpose()?,
            version: order.terms.terms()?.policy.version,
        })),
    }
}

async fn has_clients(state: &Path) -> Result<bool, AccessError> {
    match State::open_existing(state).await {
        Ok(state) => Ok(!state.jobs.clients(None, 1).await?.clients.is_empty()),
        Err(StateError::Absent(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
