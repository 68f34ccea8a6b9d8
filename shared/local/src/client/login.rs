//! Access tokens for `headrace export`, by SMART Backend Services. A token is cached until shortly before it expires.

use std::time::{Duration, Instant};

use headrace_core::ports::Clock as _;
use headrace_edge::system::SystemClock;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::stores::client_key::{ClientKey, KeyError};

/// Lifetime of a token if the server does not state one.
const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// Time before its expiry at which a token is renewed, or half of its lifetime if that is shorter. Requests take time.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_secs(30);

/// Reason why there is no access token.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The request failed without an HTTP response.
    #[error("{0}: the HTTP request failed")]
    Http(&'static str, #[source] reqwest::Error),
    /// The token endpoint cannot be discovered.
    #[error("{url} does not contain the token endpoint ({problem}); set it with --token-url")]
    NotDiscovered {
        /// URL of the SMART configuration.
        url: Url,
        /// Problem with the configuration.
        problem: String,
    },
    /// The token endpoint would be used without TLS.
    #[error("the token URL `{0}` does not begin with https://; http:// is only allowed if the server's base URL also begins with http://")]
    InsecureTokenUrl(Url),
    /// The server rejected the token request.
    #[error("the token request was rejected with {status}: {detail}")]
    Rejected {
        /// HTTP status.
        status: StatusCode,
        /// OAuth error and its description.
        detail: String,
    },
    /// The token response is invalid.
    #[error("the token response does not contain an access token (RFC 6749, section 5.1)")]
    InvalidTokenResponse,
    /// The key cannot sign.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Settings of a SMART Backend Services client.
pub struct LoginSettings {
    /// The registered `client_id`.
    pub client_id: String,
    /// The private key.
    pub key: ClientKey,
    /// The scopes to request; `None` requests all that the server grants to the client.
    pub scope: Option<String>,
    /// The token endpoint; `None` discovers it from the server's SMART configuration.
    pub token_url: Option<Url>,
}

/// The cached token endpoint and access token of one server.
pub(crate) struct TokenCache {
    login: LoginSettings,
    base: Url,
    state: Mutex<CacheState>,
}

/// The cached values; empty until the first request.
#[derive(Default)]
struct CacheState {
    endpoint: Option<TokenEndpoint>,
    token: Option<AccessToken>,
}

/// The token endpoint, and the scopes to request from it.
#[derive(Clone)]
struct TokenEndpoint {
    url: Url,
    scope: String,
}

/// An access token, and the time at which it is renewed.
#[derive(Clone)]
struct AccessToken {
    text: String,
    renew_at: Instant,
}

/// The members of a server's SMART configuration that are used here.
#[derive(Deserialize)]
struct SmartConfiguration {
    token_endpoint: String,
    #[serde(default)]
    capabilities: Vec<String>,
}

/// A successful token response (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    expires_in: Option<u64>,
}

/// An error response of the token endpoint (RFC 6749, section 5.2).
#[derive(Deserialize)]
struct OAuthError {
    error: String,
    error_description: Option<String>,
}

impl TokenCache {
    /// Creates an empty cache for the server with this base URL.
    pub(crate) fn new(login: LoginSettings, base: Url) -> Self {
        Self { login, base, state: Mutex::default() }
    }

    /// Returns a valid access token from the cache or the server. `rejected` is a token that the server no longer accepts and
    /// must be replaced. Concurrent callers share one token request.
    pub(crate) async fn token(&self, http: &Client, rejected: Option<&str>) -> Result<String, LoginError> {
        let mut state = self.state.lock().await;
        let cached = state.token.as_ref().filter(|token| token.renew_at > Instant::now() && Some(token.text.as_str()) != rejected);
        if let Some(token) = cached {
            return Ok(token.text.clone());
        }
        let endpoint = match &state.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => state.endpoint.insert(self.discover(http).await?).clone(),
        };
        let token = self.request_token(http, &endpoint).await?;
        let text = token.text.clone();
        state.token = Some(token);
        Ok(text)
    }

    /// Returns the configured token endpoint, or discovers it from the SMART configuration of the server.
    async fn discover(&self, http: &Client) -> Result<TokenEndpoint, LoginError> {
        let scope = |supports_smart_v2: bool| {
            let default = if supports_smart_v2 { "system/*.rs" } else { "system/*.read" };
            self.login.scope.clone().unwrap_or_else(|| default.to_owned())
        };
        if let Some(url) = &self.login.token_url {
            return Ok(TokenEndpoint { url: self.require_secure(url.clone())?, scope: scope(true) });
        }
        let mut url = self.base.clone();
        url.set_path(&format!("{}/.well-known/smart-configuration", url.path().trim_end_matches('/')));
        let response = http.get(url.clone()).header(ACCEPT, "application/json").send().await;
        let response = response.map_err(|error| LoginError::Http("the request for the SMART configuration", error.without_url()))?;
        let not_discovered = |problem: String| LoginError::NotDiscovered { url: url.clone(), problem };
        if response.status() != StatusCode::OK {
            return Err(not_discovered(response.status().to_string()));
        }
        let body =
            response.bytes().await.map_err(|error| LoginError::Http("the request for the SMART configuration", error.without_url()))?;
        let configuration: SmartConfiguration =
            serde_json::from_slice(&body).map_err(|_| not_discovered("no token_endpoint".to_owned()))?;
        let token_url =
            Url::parse(&configuration.token_endpoint).map_err(|_| not_discovered("its token_endpoint is not a URL".to_owned()))?;
        // A server that does not declare SMART v2 scopes may only support v1 scopes.
        let supports_smart_v2 = configuration.capabilities.iter().any(|capability| capability == "permission-v2");
        Ok(TokenEndpoint { url: self.require_secure(token_url)?, scope: scope(supports_smart_v2) })
    }

    /// Returns the token endpoint if its scheme is at least as secure as that of the base URL.
    fn require_secure(&self, url: Url) -> Result<Url, LoginError> {
        if url.scheme() == "https" || (url.scheme() == "http" && self.base.scheme() == "http") {
            Ok(url)
        } else {
            Err(LoginError::InsecureTokenUrl(url))
        }
    }

    /// Requests an access token with a newly signed client assertion.
    async fn request_token(&self, http: &Client, endpoint: &TokenEndpoint) -> Result<AccessToken, LoginError> {
        let assertion = self.login.key.assertion(&self.login.client_id, endpoint.url.as_str(), SystemClock.now())?;
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", &endpoint.scope),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
        ];
        let form: Vec<String> =
            form.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))).collect();
        let requested_at = Instant::now();
        let request = http.post(endpoint.url.clone()).header(ACCEPT, "application/json");
        let response = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.join("&")).send().await;
        let response = response.map_err(|error| LoginError::Http("the token request", error.without_url()))?;
        if response.status() != StatusCode::OK {
            return Err(rejection(response).await);
        }
        let body = response.bytes().await.map_err(|error| LoginError::Http("the token request", error.without_url()))?;
        // The parse error is dropped, because it quotes the response, which may contain a token.
        let body: TokenResponse = serde_json::from_slice(&body).map_err(|_| LoginError::InvalidTokenResponse)?;
        let lifetime = body.expires_in.map_or(DEFAULT_TOKEN_LIFETIME, Duration::from_secs);
        Ok(AccessToken { text: body.access_token, renew_at: requested_at + lifetime.saturating_sub(RENEW_BEFORE_EXPIRY.min(lifetime / 2)) })
    }
}

/// Builds the error for a rejected token request from the OAuth error in its response.
async fn rejection(response: Response) -> LoginError {
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    let detail = match serde_json::from_slice(&body) {
        Ok(OAuthError { error, error_description: Some(description) }) => format!("{error}: {description}"),
        Ok(OAuthError { error, error_description: None }) => error,
        Err(_) => "the server gave no reason".to_owned(),
    };
    LoginError::Rejected { status, detail }
}
