//! Authenticates requests, determines what their senders may do, and records rejected requests for the audit trail.

mod bearer;
mod external;
mod iam;
mod rejected_request;
mod smart;
mod token_keys;
mod unknown_callers;
mod verified_signatures;

use std::net::IpAddr;

use headrace_core::access::{Agent, Client, Origin, Permissions, Principal, Scopes};
use headrace_core::audit::{AuditAction, AuditOutcome, AuditRecord};
use headrace_core::job::ExportError;
use headrace_core::ports::{AccessStore, AuditTrail, Clock};
use headrace_core::request::RequestError;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use lambda_http::http::{HeaderMap, Response};
use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt as _};

use self::bearer::{InvalidToken, TokenIssuer, bearer_token, challenge, missing_token};
use self::external::{ExternalTokenError, ExternalVerifier};
use self::rejected_request::describe_rejected_request;
use self::token_keys::TokenKeyCache;
use self::unknown_callers::UnknownCallers;
use self::verified_signatures::VerifiedSignatures;
use crate::base_url::base_url;
use crate::config::{AccessControl, SmartSettings};
use crate::reply::error_response;
use crate::request::request_id;
use crate::system::random_id;

pub use smart::{ACCESS_TOKEN_TYPE, AccessTokenClaims};

/// The authenticator of the requests of one function. It lives as long as the process.
pub struct Authenticator<J, C> {
    store: J,
    clock: C,
    mode: Mode<C>,
    unknown_callers: UnknownCallers,
}

/// The access mode, with the state that it needs.
enum Mode<C> {
    Smart(SmartSettings, TokenKeyCache, VerifiedSignatures),
    AwsIam,
    External(Box<ExternalVerifier<C>>),
    None,
}

impl<J, C: Clock + Clone> Authenticator<J, C> {
    /// Creates an authenticator for this access mode.
    pub fn new(store: J, clock: C, access: AccessControl) -> Self {
        let mode = match access {
            AccessControl::Smart(settings) => Mode::Smart(settings, TokenKeyCache::default(), VerifiedSignatures::default()),
            AccessControl::AwsIam => Mode::AwsIam,
            AccessControl::External(settings) => Mode::External(Box::new(ExternalVerifier::new(settings, clock.clone()))),
            AccessControl::None => Mode::None,
        };
        Self { store, clock, mode, unknown_callers: UnknownCallers::default() }
    }
}

impl<J: AccessStore + AuditTrail, C: Clock> Authenticator<J, C> {
    /// Returns the settings for access tokens that this service issues. `None` in other access modes.
    pub fn smart_settings(&self) -> Option<&SmartSettings> {
        match &self.mode {
            Mode::Smart(settings, ..) => Some(settings),
            Mode::AwsIam | Mode::External(_) | Mode::None => None,
        }
    }

    /// Authenticates a request. Returns its sender and their permissions, or an error with status 401.
    pub async fn authenticate(&self, request: &Request) -> Result<Principal, ExportError> {
        let (caller, permissions) = match &self.mode {
            Mode::None => {
                let caller = Caller(Caller::LOCAL.to_owned());
                return Ok(Principal { caller, is_authenticated: false, permissions: Permissions::default(), origin: origin(request) });
            }
            // API Gateway has verified the signature. IAM has no scopes: the client's registration alone limits the caller.
            Mode::AwsIam => {
                let caller = iam::verified_caller(request)?;
                let permissions = self.external_permissions(&caller, Scopes::Everything).await?;
                (caller, permissions)
            }
            Mode::Smart(settings, keys, signatures) => {
                let token = self.token(request, TokenIssuer::ThisServer)?;
                let base = base_url(request, settings.base.as_deref())?;
                let verified = smart::verify(token, &base, (keys, signatures, &self.store), (settings.version, self.clock.now())).await?;
                let (caller, scopes, binding) = verified.map_err(|invalid| reject_token(request, &invalid))?;
                let permissions = limited_permissions(scopes, self.store.client(&caller).await?)?;
                // A signature stays valid when the client is removed, is registered again, or gets other keys.
                let is_current = permissions.client.as_ref().is_some_and(|client| client.token_binding() == binding);
                if !is_current {
                    return Err(reject_token(request, &InvalidToken::EndedRegistration).into());
                }
                (caller, permissions)
            }
            Mode::External(verifier) => {
                let verified = verifier.verify(self.token(request, TokenIssuer::IdentityProvider)?, self.clock.now()).await;
                let (caller, scopes) = verified.map_err(|error| match error {
                    ExternalTokenError::Invalid(invalid) => ExportError::from(reject_token(request, &invalid)),
                    ExternalTokenError::KeysUnavailable(error) => {
                        StoreError::NotApplied { store: "the identity provider", cause: error.into() }.into()
                    }
                })?;
                let permissions = self.external_permissions(&caller, scopes).await?;
                (caller, permissions)
            }
        };
        Ok(Principal { caller, is_authenticated: true, permissions, origin: origin(request) })
    }

    /// Returns the access token of a request. Exactly one `Authorization` header is accepted.
    fn token<'a>(&self, request: &'a Request, issuer: TokenIssuer) -> Result<&'a str, RequestError> {
        let token = bearer_token(request.headers()).ok_or_else(|| missing_token(issuer))?;
        let is_single = request.headers().get_all(AUTHORIZATION).iter().count() == 1;
        let text = std::str::from_utf8(token).ok().filter(|_| is_single);
        text.ok_or_else(|| reject_token(request, &InvalidToken::NotSingleText))
    }

    /// Returns the permissions of a caller that another system has authenticated. The registration of unregistered callers limits a caller that
    /// has none of its own.
    async fn external_permissions(&self, caller: &Caller, scopes: Scopes) -> Result<Permissions, ExportError> {
        let client = match self.store.client(caller).await? {
            Some(client) => Some(client),
            None => self.store.client(&Caller(Caller::UNREGISTERED.to_owned())).await?,
        };
        Ok(limited_permissions(scopes, client)?)
    }

    /// Creates the response to an error. Records a rejected request (4XX) with its principal, if that is known.
    pub async fn error_response(
        &self,
        request: &Request,
        action: AuditAction,
        principal: Option<&Principal>,
        error: &ExportError,
    ) -> Response<Body> {
        let mut response = error_response(request, error);
        let status = response.status().as_u16();
        self.record_rejection(request, action, principal, status, |record| describe_rejected_request(record, request, error)).await;
        self.add_challenge(request, status, response.headers_mut());
        response
    }

    /// Records that a request was rejected with this status. Statuses other than 4XX are not recorded. Requests of unknown callers are
    /// counted, and recorded once in a minute: anybody can send them.
    ///
    /// A failure to record is only logged: the response discloses nothing.
    pub async fn record_rejection(
        &self,
        request: &Request,
        action: AuditAction,
        principal: Option<&Principal>,
        status: u16,
        fill_details: impl FnOnce(&mut AuditRecord),
    ) {
        if !(400..500).contains(&status) {
            return;
        }
        let recorded = match principal {
            Some(principal) => self.add_rejection(action, principal, status, fill_details).await,
            None => self.add_unknown_callers(request, action, status, fill_details).await,
        };
        if let Err(error) = recorded {
            tracing::error!(error = &error as &dyn std::error::Error, "a rejected request was not recorded in the audit trail");
        }
    }

    /// Adds the record of a rejected request of a known caller.
    async fn add_rejection(
        &self,
        action: AuditAction,
        principal: &Principal,
        status: u16,
        fill_details: impl FnOnce(&mut AuditRecord),
    ) -> Result<(), StoreError> {
        let mut record = self.new_record(action, principal.agent(), AuditOutcome::Rejected(status))?;
        fill_details(&mut record);
        self.store.add_record(&record).await
    }

    /// Counts a rejected request of an unknown caller. Adds a record of those that were counted if it is time for one.
    async fn add_unknown_callers(
        &self,
        request: &Request,
        action: AuditAction,
        status: u16,
        fill_details: impl FnOnce(&mut AuditRecord),
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Some(requests) = self.unknown_callers.count(now) else { return Ok(()) };
        let added = async {
            let mut record = AuditRecord::from_unknown_callers(&random_id()?, now, action, origin(request), (status, requests));
            fill_details(&mut record);
            self.store.add_record(&record).await
        };
        added.await.inspect_err(|_| self.unknown_callers.add_again(requests))
    }

    /// Adds the header `WWW-Authenticate` to a rejection of a missing or invalid token (RFC 6750, section 3).
    fn add_challenge(&self, request: &Request, status: u16, headers: &mut HeaderMap) {
        let challenge = match &self.mode {
            Mode::Smart(..) | Mode::External(_) => challenge(request, status),
            Mode::AwsIam | Mode::None => None,
        };
        if let Some(challenge) = challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
    }

    /// Records a disclosure. Call it before the data is sent: data whose disclosure cannot be recorded must not be sent.
    pub async fn record(
        &self,
        action: AuditAction,
        principal: &Principal,
        fill_details: impl FnOnce(&mut AuditRecord),
    ) -> Result<(), ExportError> {
        let mut record = self.new_record(action, principal.agent(), AuditOutcome::Succeeded)?;
        fill_details(&mut record);
        Ok(self.store.add_record(&record).await?)
    }

    /// Creates an audit record with a random id and the current time.
    fn new_record(&self, action: AuditAction, agent: Agent, outcome: AuditOutcome) -> Result<AuditRecord, StoreError> {
        Ok(AuditRecord::new(random_id()?, self.clock.now(), action, agent, outcome))
    }
}

/// Returns the permissions of a caller: the scopes of the credential, limited to those of the registration if there is one.
///
/// The registration is read at every request, so that disabling a client takes effect at its next request.
fn limited_permissions(scopes: Scopes, client: Option<Client>) -> Result<Permissions, RequestError> {
    let Some(client) = client else { return Ok(Permissions { scopes, ..Permissions::default() }) };
    if client.is_disabled {
        let text = "this client is disabled: ask the operator of this server to enable it";
        return Err(RequestError::new(401, IssueCode::Login, "Authorization", text));
    }
    Ok(Permissions { scopes: scopes.intersection(&client.scopes), client: Some(client), ..Permissions::default() })
}

/// Logs why a token is invalid. Returns the error for the client, which says less.
fn reject_token(request: &Request, invalid: &InvalidToken) -> RequestError {
    tracing::info!(request.id = request_id(request), reason = %invalid, "an access token was rejected");
    invalid.request_error()
}

/// The IP address of the connection's remote end, as an extension of the request. Set where no gateway is in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// Returns the network origin of a request, as the gateway or the connection reports it. No header can change it.
pub fn origin(request: &Request) -> Origin {
    let address = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.clone(),
        Some(_) | None => request.extensions().get::<PeerAddress>().map(|PeerAddress(address)| address.to_string()),
    };
    Origin { address, request_id: request_id(request), schedule: None }
}
