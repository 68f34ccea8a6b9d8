//! The door: who comes in, what they may do, and what is recorded of those who are turned away.

mod iam;
mod tried;

use std::net::IpAddr;

use headrace_core::access::{Agent, Origin, Reach, Visitor, Who};
use headrace_core::audit::{AuditEntry, Deed, Verdict};
use headrace_core::error::ExportError;
use headrace_core::ids::Caller;
use headrace_core::ports::{AccessStore, AuditTrail, Clock};
use lambda_http::http::Response;
use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt as _};

use self::tried::tell_what_was_tried;
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
                Ok(Visitor { caller, is_authenticated: true, reach: Reach::default(), origin })
            }
        }
    }

    /// The answer to an error. What was refused is recorded, with whoever `visitor` is.
    pub async fn refuse(&self, request: &Request, deed: Deed, visitor: Option<&Visitor>, error: &ExportError) -> Response<Body> {
        let response = refuse(request, error);
        if response.status().is_client_error() {
            let unknown = || Agent { who: Who::Unknown, origin: origin(request) };
            let agent = visitor.map_or_else(unknown, Visitor::agent);
            let noted = match self.entry(deed, agent, Verdict::Refused(response.status().as_u16())) {
                Ok(mut entry) => {
                    tell_what_was_tried(&mut entry, request, error);
                    self.store.note(&entry).await
                }
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
        Ok(AuditEntry::new(random_name()?, self.clock.now(), deed, agent, verdict))
    }
}

/// The other end of the connection, where no gateway stands in between: an extension of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// From where a request came: what the gateway saw, or the connection's other end. No header can change either.
fn origin(request: &Request) -> Origin {
    let address = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.clone(),
        Some(_) | None => request.extensions().get::<Peer>().map(|Peer(address)| address.to_string()),
    };
    Origin { address, request_id: request_id(request) }
}
