//! How `headrace export` logs in, at a server that does what servers in the field do.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use headrace_local::client::bulk::{BulkClient, ClientError};
use headrace_local::client::client_key::{ClientKey, Generated, KeyKind};
use headrace_local::client::login::{Login, LoginError};
use headrace_tests::flows::{Result, run};
use reqwest::Url;
use serde_json::json;
use tokio::net::TcpListener;

/// A server that tells who came with what.
#[derive(Clone, Default)]
struct Field {
    /// What its SMART configuration says.
    configuration: String,
    /// How long its tokens last.
    expires_in: u64,
    /// How many requests it refuses although their tokens are good.
    refuses: usize,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    forms: Vec<String>,
    tokens: Vec<String>,
}

impl Field {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(mut self, capabilities: &[&str]) -> Result<(Self, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}/fhir", listener.local_addr()?);
        self.configuration = json!({ "token_endpoint": format!("{base}/auth/token"), "capabilities": capabilities }).to_string();
        let app = Router::new()
            .route("/fhir/.well-known/smart-configuration", get(|State(field): State<Self>| async move { field.configuration.clone() }))
            .route("/fhir/auth/token", post(token))
            .route("/fhir/$export", get(export))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok((self, base))
    }
}

async fn token(State(field): State<Field>, body: String) -> String {
    let mut seen = field.seen();
    seen.forms.push(body);
    json!({ "access_token": format!("t-{}", seen.forms.len()), "token_type": "bearer", "expires_in": field.expires_in }).to_string()
}

async fn export(State(field): State<Field>, headers: HeaderMap) -> (StatusCode, [(&'static str, &'static str); 1]) {
    let shown = headers.get("authorization").and_then(|shown| shown.to_str().ok()).unwrap_or_default().to_owned();
    let mut seen = field.seen();
    seen.tokens.push(shown);
    let status = if seen.tokens.len() <= field.refuses { StatusCode::UNAUTHORIZED } else { StatusCode::ACCEPTED };
    (status, [("content-location", "http://127.0.0.1/status")])
}

fn login(folder: &tempfile::TempDir) -> Result<Login> {
    let path = folder.path().join("private.jwk");
    std::fs::write(&path, Generated::new(KeyKind::Es384)?.private.to_string())?;
    Ok(Login { client_id: "a lab & more".to_owned(), key: ClientKey::read(&path, None)?, scope: None, token_url: None })
}

async fn kick_off(client: &BulkClient, base: &str) -> std::result::Result<Url, ClientError> {
    client.kick_off(base, "$export", &[], false).await
}

fn parameter(form: &str, name: &str) -> Option<String> {
    let url = Url::parse(&format!("http://h/?{form}")).ok()?;
    url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

// Holds: SEC-A5, SEC-A11, SEC-A12
#[test]
fn a_token_is_asked_for_as_the_standard_says_and_used_as_long_as_it_lasts() -> Result<()> {
    run(async || {
        let folder = tempfile::tempdir()?;
        for (capabilities, scope) in [(&["permission-v1", "permission-v2"][..], "system/*.rs"), (&[], "system/*.read")] {
            let (field, base) = Field { expires_in: 300, ..Field::default() }.start(capabilities).await?;
            let client = BulkClient::logging_in(login(&folder)?, &base, None)?;
            for _ in 0..3 {
                kick_off(&client, &base).await?;
            }
            let seen = field.seen();
            assert_eq!(seen.tokens, ["Bearer t-1"; 3]);
            let [form] = seen.forms.as_slice() else { return Err("more than one token".into()) };
            assert_eq!(parameter(form, "grant_type").as_deref(), Some("client_credentials"));
            assert_eq!(parameter(form, "scope").as_deref(), Some(scope));
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            assert_eq!(parameter(form, "client_assertion_type").as_deref(), Some(kind));
            assert_eq!(parameter(form, "client_assertion").ok_or("no assertion")?.split('.').count(), 3);
        }
        Ok(())
    })
}

// Holds: SEC-A13
#[test]
fn a_token_that_ends_is_replaced_before_and_one_that_is_refused_is_replaced_once() -> Result<()> {
    run(async || {
        let folder = tempfile::tempdir()?;
        let (field, base) = Field::default().start(&[]).await?;
        let client = BulkClient::logging_in(login(&folder)?, &base, None)?;
        kick_off(&client, &base).await?;
        kick_off(&client, &base).await?;
        assert_eq!(field.seen().tokens, ["Bearer t-1", "Bearer t-2"], "tokens that last no time");
        let assertions: Vec<_> = field.seen().forms.iter().filter_map(|form| parameter(form, "client_assertion")).collect();
        assert!(matches!(assertions.as_slice(), [first, second] if first != second), "an assertion counts once");

        let (field, base) = Field { expires_in: 300, refuses: 1, ..Field::default() }.start(&[]).await?;
        let client = BulkClient::logging_in(login(&folder)?, &base, None)?;
        kick_off(&client, &base).await?;
        assert_eq!(field.seen().tokens, ["Bearer t-1", "Bearer t-2"], "a token that ended before its time");

        let (field, base) = Field { expires_in: 300, refuses: 100, ..Field::default() }.start(&[]).await?;
        let client = BulkClient::logging_in(login(&folder)?, &base, None)?;
        let refused = kick_off(&client, &base).await;
        assert!(matches!(refused, Err(ClientError::Refused { status: StatusCode::UNAUTHORIZED, .. })), "{refused:?}");
        assert_eq!(field.seen().tokens.len(), 2, "no end of tokens would not help");
        Ok(())
    })
}

#[test]
fn where_no_token_is_had_the_reason_is_said() -> Result<()> {
    run(async || {
        let folder = tempfile::tempdir()?;
        let (_, base) = Field::default().start(&[]).await?;
        let elsewhere = base.replace("/fhir", "/other");
        let client = BulkClient::logging_in(login(&folder)?, &elsewhere, None)?;
        let undiscovered = kick_off(&client, &elsewhere).await.map(|_| ()).unwrap_err().to_string();
        assert!(undiscovered.contains("404") && undiscovered.contains("--token-url"), "{undiscovered}");
        let insecure = Login { token_url: Some(Url::parse("http://h.example/token")?), ..login(&folder)? };
        let client = BulkClient::logging_in(insecure, "https://h.example/fhir", None)?;
        let insecure = kick_off(&client, "https://h.example/fhir").await;
        assert!(matches!(insecure, Err(ClientError::Login(LoginError::Insecure(_)))), "{insecure:?}");
        Ok(())
    })
}
