//! The door: who comes in, what they may do, and what is recorded of those who are turned away.

mod bearer;
mod external;
mod iam;
mod smart;
mod token_keys;
mod tried;

use std::net::IpAddr;

use headrace_core::access::{Agent, Origin, Principal, Reach, Scopes, Who};
use headrace_core::audit::{AuditEntry, Deed, Verdict};
use headrace_core::ports::{AccessStore, AuditTrail, Clock};
use headrace_core::request::Refusal;
use headrace_core::vocab::error::{ExportError, StoreError};
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::http::header::{HeaderValue, WWW_AUTHENTICATE};
use lambda_http::http::{HeaderMap, Response};
use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt as _};

use self::tried::tell_what_was_tried;
use crate::base;
use crate::config::{AccessControl, SmartTerms};
use crate::reply::refuse;
use crate::request::request_id;
use crate::system::random_name;

use bearer::{Invalid, bearer, challenge, required};
use external::{External, Unjudged};
use token_keys::TokenKeys;

pub use smart::{ACCESS_TOKEN_TYPE, Claims};

/// The door of one function, for the life of the process.
pub struct Door<J, C> {
    store: J,
    clock: C,
    rule: Rule<C>,
}

/// Who may come in, with what it takes to find out.
enum Rule<C> {
    Smart(SmartTerms, TokenKeys),
    AwsIam,
    External(Box<External<C>>),
    None,
}

impl<J, C: Clock + Clone> Door<J, C> {
    /// A door under this rule.
    pub fn new(store: J, clock: C, access: AccessControl) -> Self {
        let rule = match access {
            AccessControl::Smart(terms) => Rule::Smart(terms, TokenKeys::default()),
            AccessControl::AwsIam => Rule::AwsIam,
            AccessControl::External(terms) => Rule::External(Box::new(External::new(terms, clock.clone()))),
            AccessControl::None => Rule::None,
        };
        Self { store, clock, rule }
    }
}

impl<J: AccessStore + AuditTrail, C: Clock> Door<J, C> {
    /// How access tokens of our own are understood; `None` if there are none.
    pub fn smart(&self) -> Option<&SmartTerms> {
        match &self.rule {
            Rule::Smart(terms, _) => Some(terms),
            Rule::AwsIam | Rule::External(_) | Rule::None => None,
        }
    }

    /// Who sent the request, and what they may do; a refusal with 401 if that does not show.
    pub async fn admit(&self, request: &Request) -> Result<Principal, ExportError> {
        let (caller, reach) = match &self.rule {
            Rule::None => {
                let caller = Caller(Caller::LOCAL.to_owned());
                return Ok(Principal { caller, is_authenticated: false, reach: Reach::default(), origin: origin(request) });
            }
            Rule::AwsIam => {
                let caller = iam::caller(request)?;
                let reach = self.reach(&caller, Scopes::Everything).await?;
                (caller, reach)
            }
            Rule::Smart(terms, keys) => {
                let token = self.token(request)?;
                let base = base::own(request, terms.base.as_deref())?;
                let checked = smart::check(token, &base, (keys, &self.store), (terms.version, self.clock.now())).await?;
                let (caller, scopes) = checked.map_err(|invalid| not_valid(request, &invalid))?;
                let reach = self.reach(&caller, scopes).await?;
                // A client that was removed has its tokens still.
                if reach.client.is_none() {
                    return Err(not_valid(request, &Invalid::Unregistered).into());
                }
                (caller, reach)
            }
            Rule::External(external) => {
                let checked = external.check(self.token(request)?, self.clock.now()).await;
                let (caller, scopes) = checked.map_err(|unjudged| match unjudged {
                    Unjudged::Invalid(invalid) => ExportError::from(not_valid(request, &invalid)),
                    Unjudged::NoKeys(error) => StoreError::NotApplied { what: "the identity provider", cause: error.into() }.into(),
                })?;
                let reach = self.reach(&caller, scopes).await?;
                (caller, reach)
            }
        };
        Ok(Principal { caller, is_authenticated: true, reach, origin: origin(request) })
    }

    /// The token that the request was sent with.
    fn token<'a>(&self, request: &'a Request) -> Result<&'a str, Refusal> {
        let token = bearer(request.headers()).ok_or_else(required)?;
        let is_one = request.headers().get_all(lambda_http::http::header::AUTHORIZATION).iter().count() == 1;
        let text = std::str::from_utf8(token).ok().filter(|_| is_one);
        text.ok_or_else(|| not_valid(request, &Invalid::NotOne))
    }

    /// What a known caller may do whose credential allows to read `scopes`: no more than they are registered for, where
    /// they are. The registration is read at every request, so that a client that is shut out is out at its next one.
    async fn reach(&self, caller: &Caller, scopes: Scopes) -> Result<Reach, ExportError> {
        let Some(client) = self.store.client(caller).await? else { return Ok(Reach { scopes, client: None }) };
        if client.is_disabled {
            let text = "this client is registered and shut out: ask the operator of this server to let it in again";
            return Err(Refusal::of(401, IssueCode::Login, "Authorization", text).into());
        }
        Ok(Reach { scopes: scopes.and(&client.scopes), client: Some(client) })
    }

    /// The answer to an error. What was refused is recorded, with whoever `visitor` is.
    pub async fn refuse(&self, request: &Request, deed: Deed, visitor: Option<&Principal>, error: &ExportError) -> Response<Body> {
        let mut response = refuse(request, error);
        let status = response.status().as_u16();
        self.note_refusal(request, deed, visitor, status, |entry| tell_what_was_tried(entry, request, error)).await;
        self.add_challenge(request, status, response.headers_mut());
        response
    }

    /// Records that a request was refused with this status. The answer stays the same if that fails: nothing was given away.
    pub async fn note_refusal(
        &self,
        request: &Request,
        deed: Deed,
        visitor: Option<&Principal>,
        status: u16,
        about: impl FnOnce(&mut AuditEntry),
    ) {
        if !(400..500).contains(&status) {
            return;
        }
        let unknown = || Agent { who: Who::Unknown, origin: origin(request) };
        let agent = visitor.map_or_else(unknown, Principal::agent);
        let noted = match self.entry(deed, agent, Verdict::Refused(status)) {
            Ok(mut entry) => {
                about(&mut entry);
                self.store.note(&entry).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            tracing::error!(error = &error as &dyn std::error::Error, "a refusal was not recorded for the audit trail");
        }
    }

    /// Tells a client that comes with the wrong token, or none, what is asked for (RFC 6750, section 3).
    fn add_challenge(&self, request: &Request, status: u16, headers: &mut HeaderMap) {
        let challenge = match &self.rule {
            Rule::Smart(..) | Rule::External(_) => challenge(request, status),
            Rule::AwsIam | Rule::None => None,
        };
        if let Some(challenge) = challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
    }

    /// Records what is given away, before it is: what cannot be recorded is not given.
    pub async fn note(&self, deed: Deed, visitor: &Principal, about: impl FnOnce(&mut AuditEntry)) -> Result<(), ExportError> {
        let mut entry = self.entry(deed, visitor.agent(), Verdict::Done)?;
        about(&mut entry);
        Ok(self.store.note(&entry).await?)
    }

    fn entry(&self, deed: Deed, agent: Agent, verdict: Verdict) -> Result<AuditEntry, StoreError> {
        Ok(AuditEntry::new(random_name()?, self.clock.now(), deed, agent, verdict))
    }
}

/// A token that does not count. The log says why.
fn not_valid(request: &Request, invalid: &Invalid) -> Refusal {
    tracing::info!(request.id = request_id(request), reason = %invalid, "an access token was refused");
    invalid.refusal()
}

/// The other end of the connection, where no gateway stands in between: an extension of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// From where a request came: what the gateway saw, or the connection's other end. No header can change either.
pub fn origin(request: &Request) -> Origin {
    let address = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.clone(),
        Some(_) | None => request.extensions().get::<Peer>().map(|Peer(address)| address.to_string()),
    };
    Origin { address, request_id: request_id(request) }
}
