//! From the token request to the token and back.

use headrace_core::access::{Client, Granted, Principal, Reach, Scopes};
use headrace_core::audit::{AuditEntry, Deed};
use headrace_core::ports::{AccessStore, AuditTrail, Clock, TokenSigner};
use headrace_core::vocab::error::ExportError;
use headrace_edge::base;
use headrace_edge::config::SmartTerms;
use headrace_edge::door::{Door, origin};
use headrace_edge::form::Form;
use headrace_edge::jwks::JwksSource;
use headrace_edge::reply::{Reply, refuse};
use headrace_edge::request::request_id;
use lambda_http::http::Response;
use lambda_http::http::header::PRAGMA;
use lambda_http::{Body, Request};
use serde_json::json;

use crate::assertion::Checks;
use crate::issue::{Grant, Issuer, LIFETIME};
use crate::refusal::Refused;

/// The endpoint's path below the base.
pub const ROUTE: &str = "/token";

/// The one type of assertion that is taken.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What the token endpoint needs, for the life of the process.
pub struct Token<J, S, C> {
    door: Door<J, C>,
    store: J,
    issuer: Issuer<S>,
    keys: JwksSource<C>,
    clock: C,
}

/// What goes out.
struct Issued {
    token: String,
    scope: String,
}

impl<J: AccessStore + AuditTrail, S: TokenSigner, C: Clock> Token<J, S, C> {
    /// For whoever comes through this door; `keys` are where clients have theirs.
    pub fn new(door: Door<J, C>, (store, signer): (J, S), keys: JwksSource<C>, clock: C) -> Self {
        Self { door, store, issuer: Issuer::new(signer), keys, clock }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let Some(terms) = self.door.smart() else { return refuse(&request, &ExportError::NotFound("a token endpoint")) };
        let mut client = None;
        match self.issue(&request, terms, &mut client).await {
            Ok(Issued { token, scope }) => {
                tracing::info!(request.id = request_id(&request), "an access token was given out");
                let body = json!({ "access_token": token, "token_type": "bearer", "expires_in": LIFETIME.as_secs(), "scope": scope });
                Reply::json(200, "application/json", body.to_string()).with(PRAGMA, "no-cache").into_response()
            }
            Err(refused) => {
                tell(&request, &refused);
                let visitor = client.map(|client| visitor(&request, client));
                let about = |entry: &mut AuditEntry| entry.issue = Some(refused.issue());
                self.door.note_refusal(&request, Deed::Token, visitor.as_ref(), refused.status(), about).await;
                refused.reply().into_response()
            }
        }
    }

    /// The token. `shown` becomes the client as soon as it is known which one that is.
    async fn issue(&self, request: &Request, terms: &SmartTerms, shown: &mut Option<Client>) -> Result<Issued, Refused> {
        let form = Form::read(request).map_err(Refused::Form)?;
        match form.get("grant_type") {
            Some("client_credentials") => {}
            Some(_) => return Err(Refused::GrantType),
            None => return Err(Refused::Request("grant_type is missing: set it to client_credentials")),
        }
        if form.get("client_assertion_type") != Some(ASSERTION_TYPE) {
            return Err(Refused::Request("client_assertion_type is not urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
        }
        let missing = "client_assertion is missing: sign a JWT with a key that is registered";
        let assertion = form.get("client_assertion").ok_or(Refused::Request(missing))?;
        let base = base::own(request, terms.base.as_deref())
            .map_err(|_| Refused::Request("this server does not know its own address: its operator must set HEADRACE_BASE_URL"))?;
        let (now, token_url) = (self.clock.now(), format!("{base}{ROUTE}"));
        let checks = Checks { store: &self.store, keys: &self.keys, now, token_url: &token_url };
        let assertion = checks.check(assertion, form.get("client_id")).await?;
        let client = shown.insert(assertion.client.clone());
        let none = "nothing of what scope asks for may be granted: ask for system scopes that read and that the client is registered for";
        let granted = Scopes::granted(form.get("scope").unwrap_or_default(), &client.scopes, terms.version).ok_or(Refused::Scope(none))?;
        let Granted { text: scope, .. } = granted;
        let grant = Grant { client: &client.id, scope: &scope, base: &base };
        let long = "the scopes are too many for one token: ask for fewer, or for system/*.rs";
        let token = self.issuer.token(&self.store, &grant, now).await?.ok_or(Refused::Scope(long))?;
        assertion.remember(&self.store).await?;
        self.door.note(Deed::Token, &visitor(request, client.clone()), |_| ()).await.map_err(unavailable)?;
        Ok(Issued { token, scope })
    }
}

fn visitor(request: &Request, client: Client) -> Principal {
    let reach = Reach { scopes: client.scopes.clone(), client: Some(client.clone()) };
    Principal { caller: client.id, is_authenticated: true, reach, origin: origin(request) }
}

/// What cannot be recorded for auditors is not given.
fn unavailable(error: ExportError) -> Refused {
    let cause = match error {
        ExportError::Store(error) => return Refused::Unavailable(error),
        ExportError::Refused(_)
        | ExportError::TooMany(_)
        | ExportError::NotFound(_)
        | ExportError::NotDeidentified(_)
        | ExportError::Source(_) => error.into(),
    };
    Refused::Unavailable(headrace_core::vocab::error::StoreError::NotApplied { what: "the audit trail", cause })
}

/// Tells the log why there is no token: which check failed, and nothing that was sent.
fn tell(request: &Request, refused: &Refused) {
    let (id, error) = (request_id(request), refused.error());
    match refused {
        Refused::Form(bad) => tracing::info!(request.id = id, error, reason = %bad, "no access token was given out"),
        Refused::Request(reason) | Refused::Scope(reason) => {
            tracing::info!(request.id = id, error, reason, "no access token was given out")
        }
        Refused::GrantType => tracing::info!(request.id = id, error, "no access token was given out"),
        Refused::Client { reason, .. } => tracing::info!(request.id = id, error, reason, "no access token was given out"),
        Refused::Unavailable(cause) => {
            tracing::error!(request.id = id, error, cause = cause as &dyn std::error::Error, "no access token could be given out");
        }
    }
}
