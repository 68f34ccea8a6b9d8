//! Access tokens for `headrace export`: as SMART Backend Services gives them out, a new one whenever the old one ends.

use std::time::{Duration, Instant};

use headrace_core::ports::Clock as _;
use headrace_edge::system::SystemClock;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::client::client_key::{ClientKey, KeyError};

/// How long a token is taken to last if the server does not say.
const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// A token is renewed this long before its end, or at half of its time if that is shorter: requests take a moment.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_secs(30);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server did not answer.
    #[error("{0} did not answer as HTTP should")]
    Http(&'static str, #[source] reqwest::Error),
    /// It does not say where tokens are given out.
    #[error("{url} does not say where tokens are given out ({problem}); name the token URL with --token-url")]
    NotDiscovered {
        /// Where it was looked up.
        url: Url,
        /// What was there.
        problem: String,
    },
    /// Anybody on the way could read what goes there.
    #[error("the token URL `{0}` does not begin with https://; only a server that is itself reached by http:// may have such a one")]
    InsecureTokenUrl(Url),
    /// It gave none.
    #[error("the token request was answered with {status}: {said}")]
    Rejected {
        /// The HTTP status.
        status: StatusCode,
        /// The OAuth error and its description.
        said: String,
    },
    /// Its answer is no token.
    #[error("the token URL's answer is no access token (RFC 6749, section 5.1)")]
    InvalidTokenResponse,
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Who logs in.
pub struct LoginSettings {
    /// Its `client_id`.
    pub client_id: String,
    /// Its private key.
    pub key: ClientKey,
    /// What it asks for; `None` is everything that the server has for it.
    pub scope: Option<String>,
    /// Where tokens are given out; `None` looks it up.
    pub token_url: Option<Url>,
}

/// Tokens of one server.
pub(crate) struct TokenCache {
    login: LoginSettings,
    base: Url,
    state: Mutex<CacheState>,
}

#[derive(Default)]
struct CacheState {
    endpoint: Option<TokenEndpoint>,
    token: Option<AccessToken>,
}

#[derive(Clone)]
struct TokenEndpoint {
    url: Url,
    scope: String,
}

#[derive(Clone)]
struct AccessToken {
    text: String,
    fresh_until: Instant,
}

#[derive(Deserialize)]
struct SmartConfiguration {
    token_endpoint: String,
    #[serde(default)]
    capabilities: Vec<String>,
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct OAuthError {
    error: String,
    error_description: Option<String>,
}

impl TokenCache {
    pub(crate) fn new(login: LoginSettings, base: Url) -> Self {
        Self { login, base, state: Mutex::default() }
    }

    /// A token that is good for a while. `stale` is one that the server has refused: another is fetched, once for all that
    /// wait for it.
    pub(crate) async fn token(&self, http: &Client, stale: Option<&str>) -> Result<String, LoginError> {
        let mut state = self.state.lock().await;
        let fresh = state.token.as_ref().filter(|token| token.fresh_until > Instant::now() && Some(token.text.as_str()) != stale);
        if let Some(token) = fresh {
            return Ok(token.text.clone());
        }
        let endpoint = match &state.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => state.endpoint.insert(self.discover(http).await?).clone(),
        };
        let token = self.request(http, &endpoint).await?;
        let text = token.text.clone();
        state.token = Some(token);
        Ok(text)
    }

    async fn discover(&self, http: &Client) -> Result<TokenEndpoint, LoginError> {
        let scope = |has_second: bool| {
            let default = if has_second { "system/*.rs" } else { "system/*.read" };
            self.login.scope.clone().unwrap_or_else(|| default.to_owned())
        };
        if let Some(url) = &self.login.token_url {
            return Ok(TokenEndpoint { url: self.secure(url.clone())?, scope: scope(true) });
        }
        let mut url = self.base.clone();
        url.set_path(&format!("{}/.well-known/smart-configuration", url.path().trim_end_matches('/')));
        let answer = http.get(url.clone()).header(ACCEPT, "application/json").send().await;
        let answer = answer.map_err(|error| LoginError::Http("the SMART configuration", error.without_url()))?;
        let undiscovered = |problem: String| LoginError::NotDiscovered { url: url.clone(), problem };
        if answer.status() != StatusCode::OK {
            return Err(undiscovered(answer.status().to_string()));
        }
        let body = answer.bytes().await.map_err(|error| LoginError::Http("the SMART configuration", error.without_url()))?;
        let found: SmartConfiguration = serde_json::from_slice(&body).map_err(|_| undiscovered("no token_endpoint".to_owned()))?;
        let token_url = Url::parse(&found.token_endpoint).map_err(|_| undiscovered("its token_endpoint is no URL".to_owned()))?;
        // Who tells nothing of versions may know the first alone.
        let has_second = found.capabilities.iter().any(|capability| capability == "permission-v2");
        Ok(TokenEndpoint { url: self.secure(token_url)?, scope: scope(has_second) })
    }

    fn secure(&self, url: Url) -> Result<Url, LoginError> {
        if url.scheme() == "https" || (url.scheme() == "http" && self.base.scheme() == "http") {
            Ok(url)
        } else {
            Err(LoginError::InsecureTokenUrl(url))
        }
    }

    async fn request(&self, http: &Client, endpoint: &TokenEndpoint) -> Result<AccessToken, LoginError> {
        let assertion = self.login.key.assertion(&self.login.client_id, endpoint.url.as_str(), SystemClock.now())?;
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", &endpoint.scope),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
        ];
        let form: Vec<String> =
            form.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))).collect();
        let asked = Instant::now();
        let request = http.post(endpoint.url.clone()).header(ACCEPT, "application/json");
        let answer = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.join("&")).send().await;
        let answer = answer.map_err(|error| LoginError::Http("the token URL", error.without_url()))?;
        if answer.status() != StatusCode::OK {
            return Err(refused(answer).await);
        }
        let body = answer.bytes().await.map_err(|error| LoginError::Http("the token URL", error.without_url()))?;
        // Without the reader's words, which would show the answer: it may hold half a token.
        let granted: TokenResponse = serde_json::from_slice(&body).map_err(|_| LoginError::InvalidTokenResponse)?;
        let lifetime = granted.expires_in.map_or(DEFAULT_TOKEN_LIFETIME, Duration::from_secs);
        Ok(AccessToken { text: granted.access_token, fresh_until: asked + lifetime.saturating_sub(RENEW_BEFORE_EXPIRY.min(lifetime / 2)) })
    }
}

async fn refused(answer: Response) -> LoginError {
    let status = answer.status();
    let body = answer.bytes().await.unwrap_or_default();
    let said = match serde_json::from_slice(&body) {
        Ok(OAuthError { error, error_description: Some(description) }) => format!("{error}: {description}"),
        Ok(OAuthError { error, error_description: None }) => error,
        Err(_) => "the server gave no reason".to_owned(),
    };
    LoginError::Rejected { status, said }
}
