//! Selects the access control of a server on one machine, from its options, its address and the registered clients.

use std::net::{IpAddr, SocketAddr};

use headrace_core::ports::Clock as _;
use headrace_core::vocab::setting::Setting;
use headrace_edge::config::{IdentityProviderSettings, SCOPE_CLAIM, parse_https_url};
use headrace_edge::system::SystemClock;
use reqwest::Url;

use crate::cli::{AccessMode, AccessOptions, OptionError, ServeArgs, non_empty, parse_option};
use crate::server::service::ServerAccess;
use crate::server::state::{KEYS_FOLDER, StateError};
use crate::server::state_access::{had_access_control, record_access_control};
use crate::stores::signer::{FileSigner, KeyFileError};

/// Reason why a server cannot start with its access control options.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Anyone on the network could export.
    #[error(
        "{0} is reachable from the network, and --access none lets anyone on it export: leave out --access none and register \
         clients with `headrace clients add`, listen on 127.0.0.1, or add --allow-unauthenticated"
    )]
    Unauthenticated(SocketAddr),
    /// Tokens and records would cross the network in plain text.
    #[error(
        "{0} is reachable from the network, and this server does not speak TLS: listen on 127.0.0.1 behind a TLS proxy on this \
         machine, or add --behind-tls-proxy if the proxy is on another machine; to let anyone on the network export without a token, \
         say --access none --allow-unauthenticated"
    )]
    NoTls(SocketAddr),
    /// The audience of tokens would be chosen by the client.
    #[error("{0} is reachable from the network, and tokens contain the URL of their server: set the URL that clients use with --base-url")]
    NoBaseUrl(SocketAddr),
    /// Options have no effect in the mode of the server. Whoever gives one expects a server that is not open.
    #[error("{options} would have no effect: {reason}")]
    NoEffect {
        /// The options.
        options: String,
        /// The reason, and what to do.
        reason: &'static str,
    },
    /// An option that `external` requires is missing.
    #[error("--access external requires --{0}")]
    MissingOption(&'static str),
    /// The value of an option is invalid.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The state folder cannot be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// The key that signs tokens cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

/// Returns the access control of a server that listens on `address`. Without `--access`, it is `smart`, except on a server for
/// programs on this machine whose state folder never had access control: see [`is_for_this_machine`]. An option that has no effect
/// in the mode is an error.
///
/// An address that the network can reach requires an explicit flag: `--allow-unauthenticated` without access control, and
/// `--behind-tls-proxy` with it.
pub(crate) async fn resolve_access(args: &ServeArgs, address: SocketAddr) -> Result<ServerAccess, AccessError> {
    check_options_for_external(&args.access)?;
    let mode = match args.access.access {
        Some(mode) => mode,
        None if is_for_this_machine(args, address) && !had_access_control(&args.state).await? => {
            return if args.allow_unauthenticated { Err(unused_permission()) } else { Ok(ServerAccess::OpenByDefault) };
        }
        None => AccessMode::Smart,
    };
    let is_reachable_from_network = !address.ip().is_loopback();
    if mode != AccessMode::None {
        warn_of_plain_base_url(args.service.base_url.as_deref());
    }
    match mode {
        AccessMode::None if is_reachable_from_network && !args.allow_unauthenticated => Err(AccessError::Unauthenticated(address)),
        AccessMode::None if args.behind_tls_proxy => Err(unused_proxy()),
        AccessMode::None => Ok(ServerAccess::None),
        AccessMode::Smart | AccessMode::External if is_reachable_from_network && !args.behind_tls_proxy => Err(AccessError::NoTls(address)),
        AccessMode::Smart | AccessMode::External if args.allow_unauthenticated => Err(unused_permission()),
        AccessMode::Smart if is_reachable_from_network && non_empty(&args.service.base_url).is_none() => {
            Err(AccessError::NoBaseUrl(address))
        }
        AccessMode::Smart => {
            record_access_control(&args.state)?;
            Ok(ServerAccess::Smart(FileSigner::open_or_create(&args.state.join(KEYS_FOLDER), SystemClock.now())?))
        }
        AccessMode::External => {
            let settings = identity_provider(args)?;
            record_access_control(&args.state)?;
            Ok(ServerAccess::External(settings))
        }
    }
}

/// Fails for options of the identity provider in another mode.
fn check_options_for_external(options: &AccessOptions) -> Result<(), AccessError> {
    let given = options.given_for_external();
    if given.is_empty() || options.access == Some(AccessMode::External) {
        return Ok(());
    }
    let reason =
        "tokens of an identity provider are accepted with --access external only: add it, or leave these options and variables out";
    Err(AccessError::NoEffect { options: given.join(", "), reason })
}

/// Returns the error for `--allow-unauthenticated` without `--access none`.
fn unused_permission() -> AccessError {
    let reason = "it lets anyone on the network export from a server with --access none only: add that, or leave it out";
    AccessError::NoEffect { options: "--allow-unauthenticated".to_owned(), reason }
}

/// Returns the error for `--behind-tls-proxy` with `--access none`.
fn unused_proxy() -> AccessError {
    let reason = "with --access none, anyone who can reach the server or its proxy can export: leave out --access none, or this option";
    AccessError::NoEffect { options: "--behind-tls-proxy".to_owned(), reason }
}

/// Returns the settings of `external` from the options.
fn identity_provider(args: &ServeArgs) -> Result<IdentityProviderSettings, AccessError> {
    let options = &args.access;
    Ok(IdentityProviderSettings {
        issuer: required(&options.issuer, "issuer")?.to_owned(),
        audience: required(&options.audience, "audience")?.to_owned(),
        jwks_url: parse_https_url(Setting::JwksUrl, required(&options.jwks_url, "jwks-url")?).map_err(OptionError::from)?,
        scope_claim: non_empty(&options.scope_claim).unwrap_or(SCOPE_CLAIM).to_owned(),
        token_url: parse_option(&options.token_url, |url| parse_https_url(Setting::TokenUrl, url))?,
        version: args.service.settings()?.policy.version,
    })
}

/// Returns true if only programs on this machine are meant to reach the server: it listens on a loopback address, no proxy is said to be in
/// front, and its base URL, if it is set, is a loopback address.
fn is_for_this_machine(args: &ServeArgs, address: SocketAddr) -> bool {
    // A proxy may add no header that distinguishes its requests from those of this machine.
    address.ip().is_loopback() && !args.behind_tls_proxy && non_empty(&args.service.base_url).is_none_or(is_loopback_url)
}

/// Returns true if the host of a URL is this machine.
fn is_loopback_url(url: &str) -> bool {
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

/// Warns of a base URL by which clients send their tokens over the network without TLS.
fn warn_of_plain_base_url(base: Option<&str>) {
    let is_plain = |base: &&str| base.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://")) && !is_loopback_url(base);
    if let Some(base) = base.filter(is_plain) {
        tracing::warn!(
            "--base-url is {base}: tokens and resources cross the network in plain text. SMART demands TLS: set the https:// URL of the proxy"
        );
    }
}

/// Returns the value of an option that `external` requires. An empty environment variable counts as missing.
fn required<'a>(value: &'a Option<String>, option: &'static str) -> Result<&'a str, AccessError> {
    non_empty(value).ok_or(AccessError::MissingOption(option))
}

#[cfg(test)]
mod tests;
