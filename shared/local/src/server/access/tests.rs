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
async fn a_server_behind_a_proxy_is_never_open_by_default() {
    let folder = TestFolder::new();
    let access = folder.resolve(&["--behind-tls-proxy"]).await;
    assert!(matches!(access, Ok(ServerAccess::Smart(_))), "{access:?}");
}

#[tokio::test]
async fn an_option_without_effect_in_the_mode_of_the_server_is_an_error_that_names_it() {
    let folder = TestFolder::new();
    for option in [EXTERNAL[1], EXTERNAL[2], EXTERNAL[3], EXTERNAL[4], "--scope-claim=scp"] {
        for mode in [&[][..], &["--access=smart"], &["--access=none"], &["--listen=0.0.0.0"]] {
            let error = folder.resolve(&[mode, &[option]].concat()).await.unwrap_err().to_string();
            let name = option.split('=').next().unwrap();
            assert!(error.starts_with(&format!("{name} (HEADRACE_")) && error.contains("--access external"), "{mode:?} {option}: {error}");
        }
    }
    for arguments in [&["--allow-unauthenticated"][..], &["--allow-unauthenticated", "--access=smart"]] {
        let error = folder.resolve(arguments).await.unwrap_err().to_string();
        assert!(error.starts_with("--allow-unauthenticated would have no effect") && error.contains("--access none"), "{error}");
    }
    let error = folder.resolve(&["--behind-tls-proxy", "--access=none"]).await.unwrap_err().to_string();
    assert!(error.starts_with("--behind-tls-proxy would have no effect"), "{error}");
    assert!(!folder.state().exists(), "nothing was written");
    let emptied = folder.resolve(&["--issuer=", "--scope-claim="]).await;
    assert!(matches!(emptied, Ok(ServerAccess::OpenByDefault)), "an empty variable counts as unset: {emptied:?}");
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
    for arguments in [&[listen, tls][..], &[listen, tls, "--base-url="]] {
        let error = folder.resolve(arguments).await.unwrap_err();
        assert!(matches!(error, AccessError::NoBaseUrl(_)) && error.to_string().contains("--base-url"), "{error}");
    }
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
    assert_eq!(settings.scope_claim, SCOPE_CLAIM);
    assert!(!folder.state().join(KEYS_FOLDER).exists(), "external tokens need no signing key");
}
