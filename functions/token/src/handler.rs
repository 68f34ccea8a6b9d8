//! Handles token requests.

use headrace_core::access::{Client, GrantedScopes, Permissions, Principal, Scopes};
use headrace_core::audit::{AuditAction, AuditRecord};
use headrace_core::job::ExportError;
use headrace_core::ports::{AccessStore, AuditTrail, Clock, TokenSigner};
use headrace_edge::auth::{Authenticator, origin};
use headrace_edge::base_url;
use headrace_edge::config::SmartSettings;
use headrace_edge::form::Form;
use headrace_edge::jwks::JwksCache;
use headrace_edge::reply::{Reply, error_response};
use headrace_edge::request::request_id;
use lambda_http::http::Response;
use lambda_http::http::header::{AUTHORIZATION, HeaderValue, PRAGMA};
use lambda_http::{Body, Request};
use serde_json::json;

use crate::assertion::AssertionVerifier;
use crate::error::TokenError;
use crate::issuer::{LIFETIME, TokenIssuer, TokenSubject};

/// The path below the FHIR base URL.
pub const ROUTE: &str = "/token";

/// The only supported type of client assertions.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The handler that issues access tokens. It lives as long as the process.
pub struct TokenHandler<J, S, C> {
    authenticator: Authenticator<J, C>,
    store: J,
    issuer: TokenIssuer<S>,
    client_keys: JwksCache<C>,
    clock: C,
}

/// An access token and its scopes.
struct IssuedToken {
    token: String,
    scope: String,
}

impl<J: AccessStore + AuditTrail, S: TokenSigner, C: Clock> TokenHandler<J, S, C> {
    /// Creates the handler. `client_keys` fetches the key sets of clients.
    pub fn new(authenticator: Authenticator<J, C>, (store, signer): (J, S), client_keys: JwksCache<C>, clock: C) -> Self {
        Self { authenticator, store, issuer: TokenIssuer::new(signer), client_keys, clock }
    }

    /// Issues an access token for a client's assertion. Answers with the token, or with the error of OAuth 2.0.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let Some(settings) = self.authenticator.smart_settings() else {
            return error_response(&request, &ExportError::NotFound("a token endpoint"));
        };
        let mut client = None;
        match self.issue(&request, settings, &mut client).await {
            Ok(IssuedToken { token, scope }) => {
                tracing::info!(request.id = request_id(&request), "an access token was issued");
                let body = json!({ "access_token": token, "token_type": "bearer", "expires_in": LIFETIME.as_secs(), "scope": scope });
                Reply::json(200, "application/json", body.to_string()).with_header(PRAGMA, "no-cache").into_response()
            }
            Err(error) => {
                log_error(&request, &error);
                let principal = client.map(|client| principal(&request, client));
                let fill_details = |record: &mut AuditRecord| record.issue = Some(error.issue_code());
                self.authenticator.record_rejection(&request, AuditAction::Token, principal.as_ref(), error.status(), fill_details).await;
                error.reply().into_response()
            }
        }
    }

    /// Issues a token. Sets `authenticated` as soon as the client is known, for the audit record of a later error.
    async fn issue(
        &self,
        request: &Request,
        settings: &SmartSettings,
        authenticated: &mut Option<Client>,
    ) -> Result<IssuedToken, TokenError> {
        let form = Form::from_request(request).map_err(TokenError::InvalidForm)?;
        match form.get("grant_type") {
            Some("client_credentials") => {}
            Some(_) => return Err(TokenError::UnsupportedGrantType),
            None => return Err(TokenError::InvalidRequest("grant_type is missing: set it to client_credentials")),
        }
        if form.get("client_secret").is_some() || has_basic_credentials(request) {
            return Err(TokenError::invalid_client(
                "client secrets are not accepted; use private_key_jwt: sign a client_assertion with a key that is registered",
            ));
        }
        if form.get("client_assertion_type") != Some(ASSERTION_TYPE) {
            return Err(TokenError::InvalidRequest("client_assertion_type is not urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
        }
        let missing = "client_assertion is missing: sign a JWT with a key that is registered";
        let assertion = form.get("client_assertion").ok_or(TokenError::InvalidRequest(missing))?;
        let base = base_url::base_url(request, settings.base.as_deref()).map_err(|_| {
            TokenError::InvalidRequest("this server does not know its own address: its operator must set HEADRACE_BASE_URL")
        })?;
        let (now, token_url) = (self.clock.now(), format!("{base}{ROUTE}"));
        let verifier = AssertionVerifier { store: &self.store, client_keys: &self.client_keys, now, token_url: &token_url };
        let assertion = verifier.verify(assertion, form.get("client_id")).await?;
        let client = authenticated.insert(assertion.client.clone());
        let scope = form
            .get("scope")
            .ok_or(TokenError::InvalidScope("scope is missing: set it to the scopes that you ask for, such as system/*.rs"))?;
        let no_scope = "none of the requested scopes can be granted: ask for system scopes that read and that the client is registered for";
        let granted = Scopes::grant(scope, &client.scopes, settings.version).ok_or(TokenError::InvalidScope(no_scope))?;
        let GrantedScopes { text: scope, .. } = granted;
        let subject = TokenSubject { client: &client.id, registration: client.token_binding(), scope: &scope, base: &base };
        let too_long = "the scopes are too many for one token: ask for fewer, or for system/*.rs";
        let token = self.issuer.issue(&self.store, &subject, now).await?.ok_or(TokenError::InvalidScope(too_long))?;
        // Last, after every check that can fail: a client may retry with the same assertion after an error.
        assertion.mark_used(&self.store).await?;
        self.authenticator.record(AuditAction::Token, &principal(request, client.clone()), |_| ()).await.map_err(unavailable)?;
        Ok(IssuedToken { token, scope })
    }
}

/// Returns true if the request has a client secret in the header `Authorization` (RFC 6749, section 2.3.1).
fn has_basic_credentials(request: &Request) -> bool {
    let is_basic = |value: &HeaderValue| value.as_bytes().get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "));
    request.headers().get_all(AUTHORIZATION).iter().any(is_basic)
}

/// Returns the authenticated client as the principal of audit records.
fn principal(request: &Request, client: Client) -> Principal {
    let permissions = Permissions { scopes: client.scopes.clone(), client: Some(client.clone()), ..Permissions::default() };
    Principal { caller: client.id, is_authenticated: true, permissions, origin: origin(request) }
}

/// Converts a failure to record the token in the audit trail. No token is issued without a record.
fn unavailable(error: ExportError) -> TokenError {
    let cause = match error {
        ExportError::Store(error) => return TokenError::Unavailable(error),
        ExportError::Rejected(_)
        | ExportError::Remarked(_)
        | ExportError::QuotaReached(_)
        | ExportError::NotFound(_)
        | ExportError::NotDeidentified(_)
        | ExportError::Source(_) => error.into(),
    };
    TokenError::Unavailable(headrace_core::vocab::error::StoreError::NotApplied { store: "the audit trail", cause })
}

/// Logs why no token was issued, without anything that the client sent.
fn log_error(request: &Request, error: &TokenError) {
    let (id, code) = (request_id(request), error.oauth_code());
    match error {
        TokenError::InvalidForm(problem) => tracing::info!(request.id = id, code, reason = %problem, "no access token was issued"),
        TokenError::InvalidRequest(reason) | TokenError::InvalidScope(reason) => {
            tracing::info!(request.id = id, code, reason, "no access token was issued")
        }
        TokenError::UnsupportedGrantType => tracing::info!(request.id = id, code, "no access token was issued"),
        TokenError::InvalidClient { reason, .. } => tracing::info!(request.id = id, code, reason, "no access token was issued"),
        TokenError::Unavailable(cause) => {
            tracing::error!(request.id = id, code, cause = cause as &dyn std::error::Error, "no access token could be issued");
        }
    }
}
