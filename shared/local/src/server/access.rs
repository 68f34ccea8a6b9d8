//! Selects the access control of a server on one machine, from its options, its address and the registered clients.

use std::net::{IpAddr, SocketAddr};

use headrace_core::ports::Clock as _;
use headrace_core::vocab::setting::Setting;
use headrace_edge::config::{IdentityProviderSettings, parse_https_url};
use headrace_edge::system::SystemClock;
use reqwest::Url;

use crate::cli::{AccessMode, OptionError, ServeArgs, non_empty, parse_option};
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
/// programs on this machine whose state folder never had access control: see [`is_for_this_machine`].
///
/// An address that the network can reach requires an explicit flag: `--allow-unauthenticated` without access control, and
/// `--behind-tls-proxy` with it.
pub(crate) async fn resolve_access(args: &ServeArgs, address: SocketAddr) -> Result<ServerAccess, AccessError> {
    let options = &args.access;
    let mode = match options.access {
        Some(mode) => mode,
        None if is_for_this_machine(address, args.service.base_url.as_deref()) && !had_access_control(&args.state).await? => {
            return Ok(ServerAccess::OpenByDefault);
        }
        None => AccessMode::Smart,
    };
    let is_reachable_from_network = !address.ip().is_loopback();
    if mode != AccessMode::None {
        warn_of_plain_base_url(args.service.base_url.as_deref());
    }
    match mode {
        AccessMode::None if is_reachable_from_network && !args.allow_unauthenticated => Err(AccessError::Unauthenticated(address)),
        AccessMode::None => Ok(ServerAccess::None),
        AccessMode::Smart | AccessMode::External if is_reachable_from_network && !args.behind_tls_proxy => Err(AccessError::NoTls(address)),
        AccessMode::Smart if is_reachable_from_network && args.service.base_url.is_none() => Err(AccessError::NoBaseUrl(address)),
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

/// Returns the settings of `external` from the options.
fn identity_provider(args: &ServeArgs) -> Result<IdentityProviderSettings, AccessError> {
    let options = &args.access;
    Ok(IdentityProviderSettings {
        issuer: required(&options.issuer, "issuer")?.to_owned(),
        audience: required(&options.audience, "audience")?.to_owned(),
        jwks_url: parse_https_url(Setting::JwksUrl, required(&options.jwks_url, "jwks-url")?).map_err(OptionError::from)?,
        scope_claim: options.scope_claim.clone(),
        token_url: parse_option(&options.token_url, |url| parse_https_url(Setting::TokenUrl, url))?,
        version: args.service.settings()?.policy.version,
    })
}

/// Returns true if only programs on this machine are meant to reach the server: it listens on a loopback address, and its base URL,
/// if it is set, is one.
fn is_for_this_machine(address: SocketAddr, base: Option<&str>) -> bool {
    address.ip().is_loopback() && base.filter(|base| !base.is_empty()).is_none_or(is_loopback_url)
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
mod tests {
    use clap::Parser as _;
    use headrace_core::access::{Client, ClientKeys, Scopes};
    use headrace_core::ports::AccessStore as _;
    use headrace_core::vocab::clock::Millis;
    use headrace_core::vocab::ids::Caller;
    use headrace_edge::config::parse_fhir_version;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::server::state::{JOBS_FILE, StateFolder};

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
    async fn a_loopback_server_is_open_by_default_until_a_client_is_registered() {
        let folder = TestFolder::new();
        for arguments in [
            &["--listen=127.0.0.1"][..],
            &["--listen=127.0.0.2"],
            &["--listen=::1"],
            &["--base-url=http://localhost:8080/fhir"],
            &["--base-url=http://127.0.0.1:8080/fhir"],
            &["--base-url=http://[::1]:8080/fhir"],
            &["--base-url="],
        ] {
            assert!(matches!(folder.resolve(arguments).await, Ok(ServerAccess::OpenByDefault)), "{arguments:?}");
        }
        assert!(!folder.state().exists(), "looking for access control creates no state");
        drop(StateFolder::open(&folder.state()).await.unwrap());
        std::fs::create_dir_all(folder.state().join(KEYS_FOLDER)).unwrap();
        std::fs::write(folder.state().join(KEYS_FOLDER).join("secrets.key"), "").unwrap();
        assert!(matches!(folder.resolve(&[]).await, Ok(ServerAccess::OpenByDefault)), "the state of an open server");
        folder.register_client().await;
        assert!(matches!(folder.resolve(&[]).await, Ok(ServerAccess::Smart(_))));
        assert!(matches!(folder.resolve(&["--access=none"]).await, Ok(ServerAccess::None)));
    }

    #[tokio::test]
    async fn a_base_url_beyond_this_machine_is_never_open_by_default() {
        for base in
            ["https://fhir.example.org/r4", "http://10.0.0.1/fhir", "http://localhost.example.org/", "http://127.0.0.1.example.org/", "x"]
        {
            let folder = TestFolder::new();
            let access = folder.resolve(&["--base-url", base]).await;
            assert!(matches!(access, Ok(ServerAccess::Smart(_))), "{base}: {access:?}");
            let said = folder.resolve(&["--base-url", base, "--access=none"]).await;
            assert!(matches!(said, Ok(ServerAccess::None)), "{base}: {said:?}");
        }
    }

    #[tokio::test]
    async fn a_state_folder_that_ever_had_access_control_is_never_open_by_default() {
        // Each trace alone: what is left if the others are lost.
        type Trace = fn(&std::path::Path) -> std::io::Result<()>;
        let traces: [(&str, Trace); 6] = [
            ("the record", |state| std::fs::write(state.join("access-control"), "")),
            ("a broken link in place of the record", |state| std::os::unix::fs::symlink("nowhere", state.join("access-control"))),
            ("a key of access tokens", |state| {
                std::fs::create_dir(state.join(KEYS_FOLDER))?;
                std::fs::write(state.join(KEYS_FOLDER).join("1.jwk"), "")
            }),
            ("audit records without a job table", |state| {
                std::fs::remove_file(state.join(JOBS_FILE))?;
                std::fs::create_dir(state.join("audit"))
            }),
            ("exported files without a job table", |state| {
                std::fs::remove_file(state.join(JOBS_FILE))?;
                std::fs::create_dir_all(state.join("files/2026-job"))
            }),
            ("the log of a job table that is lost", |state| std::fs::rename(state.join(JOBS_FILE), state.join("jobs.db-wal"))),
        ];
        for (name, leave_trace) in traces {
            let folder = TestFolder::new();
            drop(StateFolder::open(&folder.state()).await.unwrap());
            leave_trace(&folder.state()).unwrap();
            let had = had_access_control(&folder.state()).await;
            assert!(matches!(had, Ok(true)), "{name}: {had:?}");
        }
        // A folder that cannot be read stops the start.
        let folder = TestFolder::new();
        std::fs::create_dir(folder.state()).unwrap();
        std::fs::write(folder.state().join(KEYS_FOLDER), "").unwrap();
        assert!(folder.resolve(&[]).await.is_err());
    }

    #[tokio::test]
    async fn access_control_that_was_once_chosen_stays_without_the_option() {
        for arguments in [&["--access=smart"][..], &EXTERNAL] {
            let folder = TestFolder::new();
            assert!(folder.resolve(arguments).await.is_ok());
            let access = folder.resolve(&[]).await;
            assert!(matches!(access, Ok(ServerAccess::Smart(_))), "{arguments:?}: {access:?}");
        }
    }

    #[tokio::test]
    async fn a_network_address_without_access_control_requires_both_options() {
        let folder = TestFolder::new();
        for address in ["0.0.0.0", "::", "192.168.7.1"] {
            for arguments in [&["--access=none"][..], &["--access=none", "--behind-tls-proxy"]] {
                let error = folder.resolve(&[&["--listen", address], arguments].concat()).await.unwrap_err();
                let message = error.to_string();
                assert!(matches!(error, AccessError::Unauthenticated(_)), "{message}");
                assert!(message.contains("leave out --access none") && message.contains("--allow-unauthenticated"), "{message}");
            }
            for arguments in [&["--listen", address][..], &["--listen", address, "--allow-unauthenticated"]] {
                let error = folder.resolve(arguments).await.unwrap_err();
                assert!(matches!(error, AccessError::NoTls(_)), "nobody said --access none: {error}");
                assert!(error.to_string().contains("--access none --allow-unauthenticated"), "{error}");
            }
            let allowed = folder.resolve(&["--listen", address, "--access=none", "--allow-unauthenticated"]).await;
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
        assert!(matches!(folder.resolve(&plain).await, Err(AccessError::Option(_))), "keys without TLS could be replaced on the network");
        let Ok(ServerAccess::External(settings)) = folder.resolve(&EXTERNAL).await else { panic!("rejected") };
        assert_eq!((settings.issuer.as_str(), settings.audience.as_str()), ("https://login.example/realm", "https://fhir.example.org/r4"));
        assert!(!folder.state().join(KEYS_FOLDER).exists(), "external tokens need no signing key");
    }
}
