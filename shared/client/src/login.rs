//! Access tokens by SMART Backend Services and by OAuth client credentials. A token is cached until shortly before it expires.

use std::time::{Duration, Instant};

use headrace_core::ports::Clock as _;
use headrace_edge::system::SystemClock;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::body::read_bounded;
use crate::client_key::{ClientKey, SigningError};
use crate::error::{ClientError, RequestFailure, shown_url};
use crate::limits::ClientLimits;
use crate::origin::{UrlRules, is_confidential};
use crate::retry_after::retry_after;
use crate::secrets::SentSecrets;
use crate::session::basic_value;
use crate::text::shorten;
use crate::transport::{Call, Transport};

/// Lifetime of a token if the server does not state one.
const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// Time before its expiry at which a token is renewed, or half of its lifetime if that is shorter. Requests take time.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_secs(30);

/// Longest time for which a token is used, whatever lifetime the server states.
const LONGEST_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Longest access token, in bytes. Servers reject longer header fields.
const MAX_TOKEN_BYTES: usize = 64 << 10;

/// Name of the token request in messages.
const TOKEN_REQUEST: &str = "the token request";

/// Reason why there is no access token.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The request got no complete HTTP response.
    #[error(transparent)]
    Http(#[from] RequestFailure),
    /// The token endpoint cannot be discovered.
    #[error("{url} does not contain the token endpoint ({problem}); set it with --token-url")]
    NotDiscovered {
        /// URL of the SMART configuration, as messages show it.
        url: String,
        /// Problem with the configuration.
        problem: String,
        /// HTTP status, if that is the problem.
        status: Option<StatusCode>,
        /// The pause that the server demands.
        retry_after: Option<Duration>,
    },
    /// The token endpoint would be used without TLS.
    #[error("the token URL `{}` does not begin with https://; http:// is only allowed on this machine", shown_url(.0))]
    InsecureTokenUrl(Url),
    /// The server rejected the token request.
    #[error("the token request was rejected with {status}: {detail}")]
    Rejected {
        /// HTTP status.
        status: StatusCode,
        /// OAuth error and its description.
        detail: String,
        /// The pause that the server demands.
        retry_after: Option<Duration>,
    },
    /// The token cannot be sent.
    #[error("the token has characters that an HTTP header field cannot have")]
    UnusableToken,
    /// The token is of a type that this client does not use.
    #[error("the token response has the token_type `{0}`; only `bearer` is supported")]
    TokenType(String),
    /// The token response is invalid.
    #[error("the token response does not contain an access token (RFC 6749, section 5.1)")]
    InvalidTokenResponse,
    /// The key cannot sign.
    #[error(transparent)]
    Key(#[from] SigningError),
}

/// Settings of a SMART Backend Services client.
pub struct LoginSettings {
    /// The registered `client_id`.
    pub client_id: String,
    /// The private key or the secret.
    pub credential: ClientCredential,
    /// The scopes to request; `None` requests all that the server grants to the client.
    pub scope: Option<String>,
    /// The token endpoint; `None` discovers it from the server's SMART configuration.
    pub token_url: Option<Url>,
}

/// The credential of a client at the token endpoint.
pub enum ClientCredential {
    /// A private key, which signs an assertion (SMART Backend Services).
    Key(ClientKey),
    /// A secret, which is sent by HTTP Basic authentication (RFC 6749, section 2.3.1).
    Secret(String),
}

/// The cached token endpoint and access token of one server.
pub struct TokenCache {
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
    /// `None` requests what the server grants by default.
    scope: Option<String>,
}

/// An access token, and the time at which it is renewed.
#[derive(Clone)]
struct AccessToken {
    text: String,
    lifetime: Duration,
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
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Value,
}

/// An error response of the token endpoint (RFC 6749, section 5.2).
#[derive(Deserialize)]
struct OAuthError {
    error: String,
    error_description: Option<String>,
}

impl TokenCache {
    /// Creates an empty cache for the server with this base URL.
    pub fn new(login: LoginSettings, base: Url) -> Self {
        Self { login, base, state: Mutex::default() }
    }

    /// Returns a valid access token from the cache or the server. `rejected` is a token that the server no longer accepts and
    /// must be replaced. Concurrent callers share one token request.
    pub async fn token(&self, http: &Transport, limits: &ClientLimits, rejected: Option<&str>) -> Result<String, LoginError> {
        let mut state = self.state.lock().await;
        let cached = state.token.as_ref().filter(|token| token.renew_at > Instant::now() && Some(token.text.as_str()) != rejected);
        if let Some(token) = cached {
            return Ok(token.text.clone());
        }
        let endpoint = match &state.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => state.endpoint.insert(self.discover(http, limits).await?).clone(),
        };
        let token = self.request_token(http, limits, &endpoint).await?;
        let text = token.text.clone();
        state.token = Some(token);
        Ok(text)
    }

    /// Requests a new access token. Returns it with its lifetime.
    pub async fn new_token(&self, http: &Transport, limits: &ClientLimits) -> Result<(String, Duration), LoginError> {
        let endpoint = self.discover(http, limits).await?;
        let token = self.request_token(http, limits, &endpoint).await?;
        Ok((token.text, token.lifetime))
    }

    /// Returns the configured token endpoint, or discovers it from the SMART configuration of the server.
    async fn discover(&self, http: &Transport, limits: &ClientLimits) -> Result<TokenEndpoint, LoginError> {
        if let Some(url) = &self.login.token_url {
            return Ok(TokenEndpoint { url: require_secure(url.clone())?, scope: self.scope(true) });
        }
        let mut url = self.base.clone();
        url.set_path(&format!("{}/.well-known/smart-configuration", url.path().trim_end_matches('/')));
        let not_discovered =
            |problem: String, status| LoginError::NotDiscovered { url: shown_url(&url), problem, status, retry_after: None };
        let rules = UrlRules::new(self.base.as_str(), &[], true).map_err(|error| not_discovered(error.to_string(), None))?;
        let call = Call::new("the request for the SMART configuration", Method::GET).header(ACCEPT, "application/json");
        let response = http.send_anonymously(&call, &url, &rules).await.map_err(|error| {
            if let ClientError::Http(failure) = error { LoginError::Http(failure) } else { not_discovered(error.to_string(), None) }
        })?;
        if response.status() != StatusCode::OK {
            let (status, retry_after) = (response.status(), retry_after(response.headers(), SystemClock.now()));
            return Err(LoginError::NotDiscovered { url: shown_url(&url), problem: status.to_string(), status: Some(status), retry_after });
        }
        let body = read_body(call.name, &url, response, limits).await?;
        let configuration: SmartConfiguration =
            serde_json::from_slice(&body).map_err(|_| not_discovered("no token_endpoint".to_owned(), None))?;
        let token_url =
            Url::parse(&configuration.token_endpoint).map_err(|_| not_discovered("its token_endpoint is not a URL".to_owned(), None))?;
        let token_url = require_secure(token_url)?;
        rules.check(&token_url).map_err(|error| not_discovered(error.to_string(), None))?;
        // A server that does not declare SMART v2 scopes may only support v1 scopes.
        let supports_smart_v2 = configuration.capabilities.iter().any(|capability| capability == "permission-v2");
        Ok(TokenEndpoint { url: token_url, scope: self.scope(supports_smart_v2) })
    }

    /// Returns the scopes to request.
    fn scope(&self, supports_smart_v2: bool) -> Option<String> {
        let default = match &self.login.credential {
            ClientCredential::Key(_) if supports_smart_v2 => Some("system/*.rs"),
            ClientCredential::Key(_) => Some("system/*.read"),
            // Other servers than those of SMART have scopes of their own.
            ClientCredential::Secret(_) => None,
        };
        self.login.scope.clone().or_else(|| default.map(str::to_owned))
    }

    /// Requests an access token with a newly signed client assertion.
    async fn request_token(&self, http: &Transport, limits: &ClientLimits, endpoint: &TokenEndpoint) -> Result<AccessToken, LoginError> {
        let encode = |value: &str| utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
        let mut call = Call::new(TOKEN_REQUEST, Method::POST).header(ACCEPT, "application/json");
        let mut form = vec!["grant_type=client_credentials".to_owned()];
        form.extend(endpoint.scope.as_deref().map(|scope| format!("scope={}", encode(scope))));
        match &self.login.credential {
            ClientCredential::Key(key) => {
                let assertion = key.assertion(&self.login.client_id, endpoint.url.as_str(), SystemClock.now())?;
                form.push(format!("client_assertion_type={}", encode("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")));
                form.push(format!("client_assertion={}", encode(&assertion)));
            }
            ClientCredential::Secret(secret) => {
                let pair = format!("{}:{}", encode(&self.login.client_id), encode(secret));
                call.headers.insert(AUTHORIZATION, basic_value(&pair)?);
            }
        }
        let requested_at = Instant::now();
        let call = Call { body: Some(form.join("&")), ..call.header(CONTENT_TYPE, "application/x-www-form-urlencoded") };
        let response = http.send(&call, &endpoint.url, None).await;
        let response = response.map_err(|cause| RequestFailure::new(TOKEN_REQUEST, &endpoint.url, cause))?;
        let (status, secrets) = (response.status(), SentSecrets::from_response(&response));
        let pause = retry_after(response.headers(), SystemClock.now());
        let body = read_body(TOKEN_REQUEST, &endpoint.url, response, limits).await?;
        if status != StatusCode::OK {
            return Err(rejection(status, &body, &secrets, pause));
        }
        // The parse error is dropped, because it quotes the response, which may contain a token.
        let body: TokenResponse = serde_json::from_slice(&body).map_err(|_| LoginError::InvalidTokenResponse)?;
        body.into_token(requested_at)
    }
}

impl TokenResponse {
    /// Returns the token, and when it is renewed.
    fn into_token(self, requested_at: Instant) -> Result<AccessToken, LoginError> {
        if let Some(token_type) = self.token_type.filter(|token_type| !token_type.eq_ignore_ascii_case("bearer")) {
            return Err(LoginError::TokenType(shorten(&token_type, 50)));
        }
        if !is_bearer_token(&self.access_token) {
            return Err(LoginError::InvalidTokenResponse);
        }
        let lifetime = lifetime(&self.expires_in);
        let renew_at = requested_at + lifetime.saturating_sub(RENEW_BEFORE_EXPIRY.min(lifetime / 2));
        Ok(AccessToken { text: self.access_token, lifetime, renew_at })
    }
}

/// Returns the lifetime that `expires_in` states, as a number or a number in a string, within bounds.
fn lifetime(expires_in: &Value) -> Duration {
    let seconds = match expires_in {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let seconds = seconds.filter(|seconds| seconds.is_finite());
    seconds.map_or(DEFAULT_TOKEN_LIFETIME, |seconds| Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_TOKEN_LIFETIME.as_secs_f64())))
}

/// Returns true if a text can be sent as a bearer token: visible ASCII of a bounded length.
pub fn is_bearer_token(text: &str) -> bool {
    (1..=MAX_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Returns the token endpoint if requests to it are confidential.
fn require_secure(url: Url) -> Result<Url, LoginError> {
    if is_confidential(&url) { Ok(url) } else { Err(LoginError::InsecureTokenUrl(url)) }
}

/// Reads the body of a response within the limits of the client.
async fn read_body(request: &'static str, url: &Url, response: Response, limits: &ClientLimits) -> Result<Vec<u8>, LoginError> {
    let body = read_bounded(response, limits.idle, limits.message_bytes).await;
    body.map_err(|cause| RequestFailure::new(request, url, cause).into())
}

/// Builds the error for a rejected token request from the OAuth error in its response.
fn rejection(status: StatusCode, body: &[u8], secrets: &SentSecrets, retry_after: Option<Duration>) -> LoginError {
    let detail = match serde_json::from_slice(body) {
        Ok(OAuthError { error, error_description: Some(description) }) => format!("{error}: {description}"),
        Ok(OAuthError { error, error_description: None }) => error,
        Err(_) => "the server gave no reason".to_owned(),
    };
    LoginError::Rejected { status, detail: shorten(&secrets.mask(&detail), 500), retry_after }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lifetime_of_any_size_and_spelling_is_within_bounds() {
        for (expires_in, seconds) in [
            (json!(300), 300.0),
            (json!("300"), 300.0),
            (json!(299.5), 299.5),
            (json!(u64::MAX), 86_400.0),
            (json!(1e300), 86_400.0),
            (json!(0), 0.0),
            (json!(-1), 0.0),
            (json!(null), 300.0),
            (json!("soon"), 300.0),
            (json!("NaN"), 300.0),
            (json!([1]), 300.0),
        ] {
            assert_eq!(lifetime(&expires_in), Duration::from_secs_f64(seconds), "{expires_in}");
        }
    }

    #[test]
    fn a_token_url_is_shown_without_a_password() {
        let error = require_secure("http://me:secret@auth.example/token?key=secret".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("http://auth.example/token") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_text_that_cannot_be_a_header_field_is_not_a_token() {
        for (text, expected) in [("abc.DEF-_~+/=", true), ("", false), ("a b", false), ("a\r\nx: y", false), ("ä", false)] {
            assert_eq!(is_bearer_token(text), expected, "{text:?}");
        }
        assert!(!is_bearer_token(&"a".repeat(MAX_TOKEN_BYTES + 1)));
    }
}
