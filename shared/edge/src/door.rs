//! The door: who comes in, what they may do, and what is recorded of those who are turned away.

mod iam;

use headrace_core::access::{Agent, Origin, Reach, Scopes, Visitor, Who};
use headrace_core::audit::{AuditEntry, Deed, Verdict};
use headrace_core::error::ExportError;
use headrace_core::ids::Caller;
use headrace_core::outcome::IssueCode;
use headrace_core::ports::{AccessStore, AuditTrail, Clock};
use headrace_core::request::Refusal;
use lambda_http::http::Response;
use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt as _};

use crate::config::AccessControl;
use crate::reply::refuse;
use crate::request::request_id;
use crate::system::random_name;

/// The door of one function, for the life of the process.
pub struct Door<J, C> {
    store: J,
    clock: C,
    access: AccessControl,
}

impl<J: AccessStore + AuditTrail, C: Clock> Door<J, C> {
    /// A door under this rule.
    pub fn new(store: J, clock: C, access: AccessControl) -> Self {
        Self { store, clock, access }
    }

    /// Who sent the request, and what they may do; a refusal with 401 if that does not show.
    pub async fn admit(&self, request: &Request) -> Result<Visitor, ExportError> {
        let origin = origin(request);
        match &self.access {
            AccessControl::None => {
                let caller = Caller(Caller::LOCAL.to_owned());
                Ok(Visitor { caller, is_authenticated: false, reach: Reach::default(), origin })
            }
            AccessControl::AwsIam => {
                let caller = iam::caller(request)?;
                let reach = self.reach(&caller, Scopes::Everything).await?;
                Ok(Visitor { caller, is_authenticated: true, reach, origin })
            }
        }
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
    pub async fn refuse(&self, request: &Request, deed: Deed, visitor: Option<&Visitor>, error: &ExportError) -> Response<Body> {
        let response = refuse(request, error);
        if response.status().is_client_error() {
            let unknown = || Agent { who: Who::Unknown, origin: origin(request) };
            let agent = visitor.map_or_else(unknown, Visitor::agent);
            let noted = match self.entry(deed, agent, Verdict::Refused(response.status().as_u16())) {
                Ok(entry) => self.store.note(&entry).await,
                Err(error) => Err(error),
            };
            // The answer stays the same: nothing was given away.
            if let Err(error) = noted {
                tracing::error!(error = &error as &dyn std::error::Error, "a refusal was not recorded for the audit trail");
            }
        }
        response
    }

    /// Records what is given away, before it is: what cannot be recorded is not given.
    pub async fn note(&self, deed: Deed, visitor: &Visitor, about: impl FnOnce(&mut AuditEntry)) -> Result<(), ExportError> {
        let mut entry = self.entry(deed, visitor.agent(), Verdict::Done)?;
        about(&mut entry);
        Ok(self.store.note(&entry).await?)
    }

    fn entry(&self, deed: Deed, agent: Agent, verdict: Verdict) -> Result<AuditEntry, headrace_core::error::StoreError> {
        Ok(AuditEntry { id: random_name()?, at: self.clock.now(), deed, agent, verdict, job: None, owner: None, file: None })
    }
}

/// From where a request came: what the gateway saw, which no header can change.
fn origin(request: &Request) -> Origin {
    let address = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.clone(),
        Some(_) | None => None,
    };
    Origin { address, request_id: request_id(request) }
}
