//! Who may ask a server on one machine: what its operator said, where it listens, and who is registered.

use std::net::SocketAddr;
use std::path::Path;

use headrace_core::ports::{AccessStore as _, Clock as _};
use headrace_core::vocab::error::StoreError;
use headrace_edge::config::{ConfigError, ExternalTerms, read_secure_url};
use headrace_edge::system::SystemClock;

use crate::cli::{AccessMode, Serve, present};
use crate::server::service::ServerAccess;
use crate::server::state::{KEYS_FOLDER, StateFolder, StateError};
use crate::stores::signer::{FileSigner, KeyFileError};

/// Why it is not settled who may ask.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Anyone could export.
    #[error(
        "{0} can be reached by others and there is no access control: register a client with `headrace clients add`, \
         listen on 127.0.0.1, or add --let-anyone-on-the-network-export"
    )]
    Unauthenticated(SocketAddr),
    /// Tokens and records would cross the network in plain text.
    #[error(
        "{0} can be reached by others, and this server speaks no TLS: listen on 127.0.0.1 behind a proxy on this machine \
         that does, or, if the proxy is elsewhere, add --a-proxy-in-front-speaks-tls"
    )]
    NoTls(SocketAddr),
    /// Tokens would be for whatever a client calls this server.
    #[error("{0} can be reached by others, and tokens say which server they are for: name the base that clients use with --base-url")]
    NoBaseUrl(SocketAddr),
    /// What only `external` needs is missing.
    #[error("--access external needs --{0}")]
    MissingOption(&'static str),
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state folder.
    #[error(transparent)]
    StateFolder(#[from] StateError),
    /// The registrations cannot be read.
    #[error("the registrations cannot be read")]
    Store(#[from] StoreError),
    /// The key that signs tokens.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

/// Who may ask a server that listens on `address`.
pub(crate) async fn resolve_access(order: &Serve, address: SocketAddr) -> Result<ServerAccess, AccessError> {
    let options = &order.access;
    let mode = match options.access {
        Some(mode) => mode,
        None if has_clients(&order.state).await? => AccessMode::Smart,
        None => AccessMode::None,
    };
    let is_reached_by_others = !address.ip().is_loopback();
    match mode {
        AccessMode::None if is_reached_by_others && !order.allow_unauthenticated => Err(AccessError::Unauthenticated(address)),
        AccessMode::None => Ok(ServerAccess::None),
        AccessMode::Smart | AccessMode::External if is_reached_by_others && !order.behind_tls_proxy => {
            Err(AccessError::NoTls(address))
        }
        AccessMode::Smart if is_reached_by_others && order.terms.base_url.is_none() => Err(AccessError::NoBaseUrl(address)),
        AccessMode::Smart => Ok(ServerAccess::Smart(FileSigner::open_or_create(&order.state.join(KEYS_FOLDER), SystemClock.now())?)),
        AccessMode::External => Ok(ServerAccess::External(ExternalTerms {
            issuer: required(&options.issuer, "issuer")?.to_owned(),
            audience: required(&options.audience, "audience")?.to_owned(),
            jwks_url: read_secure_url("HEADRACE_JWKS_URL", required(&options.jwks_url, "jwks-url")?)?,
            scope_claim: options.scope_claim.clone(),
            token_url: present(&options.token_url).map(|url| read_secure_url("HEADRACE_TOKEN_URL", url)).transpose()?,
            version: order.terms.terms()?.policy.version,
        })),
    }
}

/// What `external` cannot do without. An empty variable is none.
fn required<'a>(given: &'a Option<String>, option: &'static str) -> Result<&'a str, AccessError> {
    present(given).ok_or(AccessError::MissingOption(option))
}

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
    use headrace_edge::config::read_version;

    use super::*;
    use crate::cli::{Cli, Command};

    /// A folder for a state, which need not be there.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn state(&self) -> std::path::PathBuf {
            self.0.path().join("state")
        }

        async fn register(&self) {
            let scopes = Scopes::of_text("system/*.rs", read_version("4.0.1").unwrap()).0;
            let client = Client::new(Caller("lab".to_owned()), ClientKeys::Elsewhere, scopes, Millis(1));
            assert!(StateFolder::open(&self.state()).await.unwrap().jobs.put_client(&client, None).await.unwrap());
        }

        async fn settled(&self, arguments: &[&str]) -> Result<ServerAccess, AccessError> {
            let state = self.state();
            let line = ["headrace", "serve", "lake", "--state", state.to_str().unwrap()];
            let Command::Serve(order) = Cli::try_parse_from(line.iter().chain(arguments)).unwrap().command else { panic!("not serve") };
            resolve_access(&order, SocketAddr::new(order.listen, order.port)).await
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
    async fn a_server_is_open_to_this_machine_until_a_client_is_registered() {
        let place = Place::new();
        for address in ["127.0.0.1", "127.0.0.2", "::1"] {
            assert!(matches!(place.settled(&["--listen", address]).await, Ok(ServerAccess::None)), "{address}");
        }
        assert!(!place.state().exists(), "a look at who is registered makes no state");
        place.register().await;
        assert!(matches!(place.settled(&[]).await, Ok(ServerAccess::Smart(_))));
        assert!(matches!(place.settled(&["--access=none"]).await, Ok(ServerAccess::None)));
    }

    #[tokio::test]
    async fn nobody_else_reaches_a_server_without_access_control_by_mistake() {
        let place = Place::new();
        for address in ["0.0.0.0", "::", "192.168.7.1"] {
            for arguments in [&["--listen", address][..], &["--listen", address, "--a-proxy-in-front-speaks-tls"]] {
                let refused = place.settled(arguments).await.unwrap_err();
                let said = refused.to_string();
                assert!(matches!(refused, AccessError::Unauthenticated(_)), "{said}");
                assert!(said.contains("headrace clients add") && said.contains("--let-anyone-on-the-network-export"), "{said}");
            }
            let asked_for = place.settled(&["--listen", address, "--let-anyone-on-the-network-export"]).await;
            assert!(matches!(asked_for, Ok(ServerAccess::None)), "{asked_for:?}");
        }
    }

    #[tokio::test]
    async fn tokens_cross_a_network_only_behind_tls_and_are_for_a_base_that_is_named() {
        let place = Place::new();
        place.register().await;
        let (listen, tls, base) = ("--listen=0.0.0.0", "--a-proxy-in-front-speaks-tls", "--base-url=https://fhir.example.org/r4");
        // The flag for servers without access control is none for tokens.
        for arguments in [&[listen][..], &[listen, base], &[listen, "--let-anyone-on-the-network-export"]] {
            let refused = place.settled(arguments).await.unwrap_err();
            assert!(matches!(refused, AccessError::NoTls(_)) && refused.to_string().contains(tls), "{refused}");
        }
        let refused = place.settled(&[listen, tls]).await.unwrap_err();
        assert!(matches!(refused, AccessError::NoBaseUrl(_)) && refused.to_string().contains("--base-url"), "{refused}");
        assert!(!place.state().join(KEYS_FOLDER).exists(), "no key before it is settled that it is needed");
        assert!(matches!(place.settled(&[listen, tls, base]).await, Ok(ServerAccess::Smart(_))));
        let refused = place.settled(&[&EXTERNAL[..], &[listen]].concat()).await.unwrap_err();
        assert!(matches!(refused, AccessError::NoTls(_)), "{refused}");
        assert!(matches!(place.settled(&[&EXTERNAL[..], &[listen, tls]].concat()).await, Ok(ServerAccess::External(_))));
    }

    #[tokio::test]
    async fn what_an_identity_provider_must_be_known_by_is_asked_for() {
        let place = Place::new();
        for missing in ["issuer", "audience", "jwks-url"] {
            for emptied in [None, Some(format!("--{missing}="))] {
                let given = EXTERNAL.iter().filter(|argument| !argument.starts_with(&format!("--{missing}="))).copied();
                let arguments: Vec<&str> = given.chain(emptied.as_deref()).collect();
                let refused = place.settled(&arguments).await.unwrap_err();
                assert!(matches!(refused, AccessError::MissingOption(option) if option == missing), "{missing}: {refused}");
                assert!(refused.to_string().contains(&format!("--{missing}")), "{refused}");
            }
        }
        let plain = [&EXTERNAL[..3], &["--jwks-url=http://login.example/realm/jwks"]].concat();
        assert!(matches!(place.settled(&plain).await, Err(AccessError::Config(_))), "keys that anybody on the way could replace");
        let Ok(ServerAccess::External(terms)) = place.settled(&EXTERNAL).await else { panic!("refused") };
        assert_eq!((terms.issuer.as_str(), terms.audience.as_str()), ("https://login.example/realm", "https://fhir.example.org/r4"));
        assert!(!place.state().exists(), "tokens of others need no key of ours");
    }
}
