//! Selects the access control of a server on one machine, from its options, its address and the registered clients.

use std::net::SocketAddr;
use std::path::Path;

use headrace_core::ports::{AccessStore as _, Clock as _};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::setting::Setting;
use headrace_edge::config::{ConfigError, IdentityProviderSettings, parse_https_url};
use headrace_edge::system::SystemClock;

use crate::cli::{AccessMode, ServeArgs, non_empty};
use crate::server::service::ServerAccess;
use crate::server::state::{KEYS_FOLDER, StateError, StateFolder};
use crate::stores::signer::{FileSigner, KeyFileError};

/// Reason why a server cannot start with its access control options.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Anyone on the network could export.
    #[error(
        "{0} is reachable from the network without access control: register a client with `headrace clients add`, \
         listen on 127.0.0.1, or add --allow-unauthenticated"
    )]
    Unauthenticated(SocketAddr),
    /// Tokens and records would cross the network in plain text.
    #[error(
        "{0} is reachable from the network, and this server does not speak TLS: listen on 127.0.0.1 behind a TLS proxy on this \
         machine, or add --behind-tls-proxy if the proxy is on another machine"
    )]
    NoTls(SocketAddr),
    /// The audience of tokens would be chosen by the client.
    #[error("{0} is reachable from the network, and tokens contain the URL of their server: set the URL that clients use with --base-url")]
    NoBaseUrl(SocketAddr),
    /// An option that `external` requires is missing.
    #[error("--access external requires --{0}")]
    MissingOption(&'static str),
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state folder cannot be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// The registrations cannot be read.
    #[error("the registrations cannot be read")]
    Store(#[from] StoreError),
    /// The key that signs tokens cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

/// Returns the access control of a server that listens on `address`. Without `--access`, it is `smart` if a client is
/// registered, else `none`.
///
/// An address that the network can reach requires an explicit flag: `--allow-unauthenticated` without access control, and
/// `--behind-tls-proxy` with it.
pub(crate) async fn resolve_access(args: &ServeArgs, address: SocketAddr) -> Result<ServerAccess, AccessError> {
    let options = &args.access;
    let mode = match options.access {
        Some(mode) => mode,
        None if has_clients(&args.state).await? => AccessMode::Smart,
        None => AccessMode::None,
    };
    let is_reachable_from_network = !address.ip().is_loopback();
    match mode {
        AccessMode::None if is_reachable_from_network && !args.allow_unauthenticated => Err(AccessError::Unauthenticated(address)),
        AccessMode::None => Ok(ServerAccess::None),
        AccessMode::Smart | AccessMode::External if is_reachable_from_network && !args.behind_tls_proxy => Err(AccessError::NoTls(address)),
        AccessMode::Smart if is_reachable_from_network && args.service.base_url.is_none() => Err(AccessError::NoBaseUrl(address)),
        AccessMode::Smart => Ok(ServerAccess::Smart(FileSigner::open_or_create(&args.state.join(KEYS_FOLDER), SystemClock.now())?)),
        AccessMode::External => Ok(ServerAccess::External(IdentityProviderSettings {
            issuer: required(&options.issuer, "issuer")?.to_owned(),
            audience: required(&options.audience, "audience")?.to_owned(),
            jwks_url: parse_https_url(Setting::JwksUrl, required(&options.jwks_url, "jwks-url")?)?,
            scope_claim: options.scope_claim.clone(),
            token_url: non_empty(&options.token_url).map(|url| parse_https_url(Setting::TokenUrl, url)).transpose()?,
            version: args.service.settings()?.policy.version,
        })),
    }
}

/// Returns the value of an option that `external` requires. An empty environment variable counts as missing.
fn required<'a>(value: &'a Option<String>, option: &'static str) -> Result<&'a str, AccessError> {
    non_empty(value).ok_or(AccessError::MissingOption(option))
}

/// Returns true if the state folder exists and contains a client registration.
async fn has_clients(state: &Path) -> Result<bool, AccessError> {
    match StateFolder::open_existing(state).await {
        Ok(state) => Ok(!state.jobs.clients(None, 1).await?.clients.is_empty()),
        Err(StateError::NotFound(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use headrace_core::access::{Client, ClientKeys, Scopes};
    use headrace_core::vocab::clock::Millis;
    use headrace_core::vocab::ids::Caller;
    use headrace_edge::config::parse_fhir_version;

    use super::*;
    use crate::cli::{Cli, Command};

    /// A temporary folder, in which a state folder can be created.
    struct TestFolder(tempfile::TempDir);

    impl TestFolder {
        /// Creates a temporary folder without a state folder.
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        /// Returns the path of the state folder, which may not exist.
        fn state(&self) -> std::path::PathBuf {
            self.0.path().join("state")
        }

        /// Registers a client, and creates the state folder.
        async fn register_client(&self) {
            let scopes = Scopes::parse("system/*.rs", parse_fhir_version("4.0.1").unwrap()).0;
            let client = Client::new(Caller("lab".to_owned()), ClientKeys::External, scopes, Millis(1));
            assert!(StateFolder::open(&self.state()).await.unwrap().jobs.put_client(&client, None).await.unwrap());
        }

        /// Returns the access control of `headrace serve` with these arguments, or the error.
        async fn resolve(&self, arguments: &[&str]) -> Result<ServerAccess, AccessError> {
            let state = self.state();
            let line = ["headrace", "serve", "lake", "--state", state.to_str().unwrap()];
            let Command::Serve(args) = Cli::try_parse_from(line.iter().chain(arguments)).unwrap().command else { panic!("not serve") };
            resolve_access(&args, SocketAddr::new(args.listen, args.port)).await
        }
    }

    const EXTERNAL: [&str; 5] = [
        "--access=external",
        "--issuer=https://login.example/realm",
        "--audience=https://fhir.example.org/r4",
        "--jwks-url=https://login.example/realm/jwks",
        "--token-url=https://login.example/realm/token",
    ];

    #[tokio::test]
    async fn a_loopback_server_has_no_access_control_until_a_client_is_registered() {
        let folder = TestFolder::new();
        for address in ["127.0.0.1", "127.0.0.2", "::1"] {
            assert!(matches!(folder.resolve(&["--listen", address]).await, Ok(ServerAccess::None)), "{address}");
        }
        assert!(!folder.state().exists(), "looking for clients creates no state");
        folder.register_client().await;
        assert!(matches!(folder.resolve(&[]).await, Ok(ServerAccess::Smart(_))));
        assert!(matches!(folder.resolve(&["--access=none"]).await, Ok(ServerAccess::None)));
    }

    #[tokio::test]
    async fn a_network_address_without_access_control_requires_the_flag() {
        let folder = TestFolder::new();
        for address in ["0.0.0.0", "::", "192.168.7.1"] {
            for arguments in [&["--listen", address][..], &["--listen", address, "--behind-tls-proxy"]] {
                let error = folder.resolve(arguments).await.unwrap_err();
                let message = error.to_string();
                assert!(matches!(error, AccessError::Unauthenticated(_)), "{message}");
                assert!(message.contains("headrace clients add") && message.contains("--allow-unauthenticated"), "{message}");
            }
            let allowed = folder.resolve(&["--listen", address, "--allow-unauthenticated"]).await;
            assert!(matches!(allowed, Ok(ServerAccess::None)), "{allowed:?}");
        }
    }

    #[tokio::test]
    async fn a_network_address_with_tokens_requires_a_tls_proxy_and_a_base_url() {
        let folder = TestFolder::new();
        folder.register_client().await;
        let (listen, tls, base) = ("--listen=0.0.0.0", "--behind-tls-proxy", "--base-url=https://fhir.example.org/r4");
        // The flag for servers without access control does not allow tokens without TLS.
        for arguments in [&[listen][..], &[listen, base], &[listen, "--allow-unauthenticated"]] {
            let error = folder.resolve(arguments).await.unwrap_err();
            assert!(matches!(error, AccessError::NoTls(_)) && error.to_string().contains(tls), "{error}");
        }
        let error = folder.resolve(&[listen, tls]).await.unwrap_err();
        assert!(matches!(error, AccessError::NoBaseUrl(_)) && error.to_string().contains("--base-url"), "{error}");
        assert!(!folder.state().join(KEYS_FOLDER).exists(), "no key is generated before the options are valid");
        assert!(matches!(folder.resolve(&[listen, tls, base]).await, Ok(ServerAccess::Smart(_))));
        let error = folder.resolve(&[&EXTERNAL[..], &[listen]].concat()).await.unwrap_err();
        assert!(matches!(error, AccessError::NoTls(_)), "{error}");
        assert!(matches!(folder.resolve(&[&EXTERNAL[..], &[listen, tls]].concat()).await, Ok(ServerAccess::External(_))));
    }

    #[tokio::test]
    async fn external_access_requires_issuer_audience_and_keys() {
        let folder = TestFolder::new();
        for missing in ["issuer", "audience", "jwks-url"] {
            for emptied in [None, Some(format!("--{missing}="))] {
                let others = EXTERNAL.iter().filter(|argument| !argument.starts_with(&format!("--{missing}="))).copied();
                let arguments: Vec<&str> = others.chain(emptied.as_deref()).collect();
                let error = folder.resolve(&arguments).await.unwrap_err();
                assert!(matches!(error, AccessError::MissingOption(option) if option == missing), "{missing}: {error}");
                assert!(error.to_string().contains(&format!("--{missing}")), "{error}");
            }
        }
        let plain = [&EXTERNAL[..3], &["--jwks-url=http://login.example/realm/jwks"]].concat();
        assert!(matches!(folder.resolve(&plain).await, Err(AccessError::Config(_))), "keys without TLS could be replaced on the network");
        let Ok(ServerAccess::External(settings)) = folder.resolve(&EXTERNAL).await else { panic!("rejected") };
        assert_eq!((settings.issuer.as_str(), settings.audience.as_str()), ("https://login.example/realm", "https://fhir.example.org/r4"));
        assert!(!folder.state().exists(), "external tokens need no signing key");
    }
}
