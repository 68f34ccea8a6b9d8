//! Login of `headrace export` at a fake authorization server.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use headrace_local::client::bulk::{BulkClient, ClientError};
use headrace_local::client::login::ClientCredential;
use headrace_local::client::login::{LoginError, LoginSettings};
use headrace_local::stores::client_key::{GeneratedKey, KeyAlgorithm, read_client_key};
use headrace_tests::flows::{Result, run};
use reqwest::Url;
use serde_json::json;
use tokio::net::TcpListener;

/// Fake FHIR and authorization server that records its requests.
#[derive(Clone, Default)]
struct FakeServer {
    /// SMART configuration document.
    configuration: String,
    /// Lifetime of its tokens, in seconds.
    expires_in: u64,
    /// Number of requests with a valid token that it rejects first.
    rejected_requests: usize,
    received: Arc<Mutex<ReceivedRequests>>,
}

/// Requests that the fake server received.
#[derive(Default)]
struct ReceivedRequests {
    /// Bodies of the token requests.
    forms: Vec<String>,
    /// `Authorization` headers of the kick-offs.
    tokens: Vec<String>,
}

impl FakeServer {
    /// Returns the received requests.
    fn received(&self) -> std::sync::MutexGuard<'_, ReceivedRequests> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the server with these SMART capabilities and returns its base URL.
    async fn start(mut self, capabilities: &[&str]) -> Result<(Self, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}/fhir", listener.local_addr()?);
        self.configuration = json!({ "token_endpoint": format!("{base}/auth/token"), "capabilities": capabilities }).to_string();
        let app = Router::new()
            .route("/fhir/.well-known/smart-configuration", get(|State(server): State<Self>| async move { server.configuration.clone() }))
            .route("/fhir/auth/token", post(token))
            .route("/fhir/$export", get(export))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok((self, base))
    }
}

/// Handles a token request.
async fn token(State(server): State<FakeServer>, body: String) -> String {
    let mut received = server.received();
    received.forms.push(body);
    json!({ "access_token": format!("t-{}", received.forms.len()), "token_type": "bearer", "expires_in": server.expires_in }).to_string()
}

/// Handles a kick-off.
async fn export(State(server): State<FakeServer>, headers: HeaderMap) -> (StatusCode, [(&'static str, &'static str); 1]) {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut received = server.received();
    received.tokens.push(authorization);
    let status = if received.tokens.len() <= server.rejected_requests { StatusCode::UNAUTHORIZED } else { StatusCode::ACCEPTED };
    (status, [("content-location", "http://127.0.0.1/status")])
}

/// Returns login settings with a new key.
fn login(folder: &tempfile::TempDir) -> Result<LoginSettings> {
    let path = folder.path().join("private.jwk");
    std::fs::write(&path, GeneratedKey::new(KeyAlgorithm::Es384)?.private.to_string())?;
    Ok(LoginSettings {
        client_id: "a lab & more".to_owned(),
        credential: ClientCredential::Key(read_client_key(&path, None)?),
        scope: None,
        token_url: None,
    })
}

/// Kicks off a system export.
async fn kick_off(client: &BulkClient, base: &str) -> std::result::Result<Url, ClientError> {
    client.kick_off(base, "$export", &[], false).await
}

/// Returns the decoded value of a form parameter.
fn parameter(form: &str, name: &str) -> Option<String> {
    let url = Url::parse(&format!("http://h/?{form}")).ok()?;
    url.query_pairs().find(|(parameter_name, _)| parameter_name == name).map(|(_, value)| value.into_owned())
}

// Holds: SEC-A5, SEC-A11, SEC-A12
#[test]
fn a_token_is_requested_as_the_standard_requires_and_used_until_it_expires() -> Result<()> {
    run(async || {
        let folder = tempfile::tempdir()?;
        for (capabilities, scope) in [(&["permission-v1", "permission-v2"][..], "system/*.rs"), (&[], "system/*.read")] {
            let (server, base) = FakeServer { expires_in: 300, ..FakeServer::default() }.start(capabilities).await?;
            let client = BulkClient::with_login(login(&folder)?, &base, None)?;
            for _ in 0..3 {
                kick_off(&client, &base).await?;
            }
            let received = server.received();
            assert_eq!(received.tokens, ["Bearer t-1"; 3]);
            let [form] = received.forms.as_slice() else { return Err("more than one token".into()) };
            assert_eq!(parameter(form, "grant_type").as_deref(), Some("client_credentials"));
            assert_eq!(parameter(form, "scope").as_deref(), Some(scope));
            let assertion_type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            assert_eq!(parameter(form, "client_assertion_type").as_deref(), Some(assertion_type));
            assert_eq!(parameter(form, "client_assertion").ok_or("no assertion")?.split('.').count(), 3);
        }
        Ok(())
    })
}

// Holds: SEC-A13
#[test]
fn an_expiring_token_is_replaced_in_advance_and_a_rejected_token_only_once() -> Result<()> {
    run(async || {
        let folder = tempfile::tempdir()?;
        let (server, base) = FakeServer::default().start(&[]).await?;
        let client = BulkClient::with_login(login(&folder)?, &base, None)?;
        kick_off(&client, &base).await?;
        kick_off(&client, &base).await?;
        assert_eq!(server.received().tokens, ["Bearer t-1", "Bearer t-2"], "a token that has expired is replaced");
        let assertions: Vec<_> = server.received().forms.iter().filter_map(|form| parameter(form, "client_assertion")).collect();
        assert!(matches!(assertions.as_slice(), [first, second] if first != second), "each token request has a new assertion");

        let (server, base) = FakeServer { expires_in: 300, rejected_requests: 1, ..FakeServer::default() }.start(&[]).await?;
        let client = BulkClient::with_login(login(&folder)?, &base, None)?;
        kick_off(&client, &base).await?;
        assert_eq!(server.received().tokens, ["Bearer t-1", "Bearer t-2"], "a rejected token is replaced");

        let (server, base) = FakeServer { expires_in: 300, rejected_requests: 100, ..FakeServer::default() }.start(&[]).await?;
        let client = BulkClient::with_login(login(&folder)?, &base, None)?;
        let rejected = kick_off(&client, &base).await;
        assert!(matches!(rejected, Err(ClientError::Rejected { status: StatusCode::UNAUTHORIZED, .. })), "{rejected:?}");
        assert_eq!(server.received().tokens.len(), 2, "the second rejection is final");
        Ok(())
    })
}

#[test]
fn a_failed_login_is_reported_with_its_reason() -> Result<()> {
    run(async || {
        let folder = tempfile::tempdir()?;
        let (_, base) = FakeServer::default().start(&[]).await?;
        let elsewhere = base.replace("/fhir", "/other");
        let client = BulkClient::with_login(login(&folder)?, &elsewhere, None)?;
        let undiscovered = kick_off(&client, &elsewhere).await.map(|_| ()).unwrap_err().to_string();
        assert!(undiscovered.contains("404") && undiscovered.contains("--token-url"), "{undiscovered}");
        let insecure = LoginSettings { token_url: Some(Url::parse("http://h.example/token")?), ..login(&folder)? };
        let client = BulkClient::with_login(insecure, "https://h.example/fhir", None)?;
        let insecure = kick_off(&client, "https://h.example/fhir").await;
        assert!(matches!(insecure, Err(ClientError::Login(LoginError::InsecureTokenUrl(_)))), "{insecure:?}");
        Ok(())
    })
}
