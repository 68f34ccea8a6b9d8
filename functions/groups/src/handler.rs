//! From the request to the lake's groups and back.

use headrace_core::access::Reach;
use headrace_core::audit::Deed;
use headrace_core::flow::client::groups::{GroupSearch, VisibleGroups, read_group, search_groups};
use headrace_core::flow::look_up::LookUpTerms;
use headrace_core::ports::{AccessStore, AuditTrail, Clock, ResourceSource};
use headrace_core::vocab::error::ExportError;
use headrace_edge::base;
use headrace_edge::door::Door;
use headrace_edge::reply::{FHIR_JSON, Reply};
use headrace_fhir::{FhirVersion, Instant};
use lambda_http::http::Response;
use lambda_http::{Body, Request, RequestExt as _};

use crate::bundle::searchset;

/// The type's path below the base.
const ROUTE: &str = "/Group";

/// What the function needs, for the life of the process.
pub struct Groups<J, S, C> {
    door: Door<J, C>,
    reader: Reader<S, C>,
}

/// What a look at groups needs.
struct Reader<S, C> {
    source: S,
    clock: C,
    base: Option<String>,
    version: FhirVersion,
}

impl<J: AccessStore + AuditTrail, S: ResourceSource, C: Clock> Groups<J, S, C> {
    /// Behind this door, with these ports; `base` is the FHIR base, if it is not to be taken from each request.
    pub fn new(door: Door<J, C>, source: S, clock: C, base: Option<String>, version: FhirVersion) -> Self {
        Self { door, reader: Reader { source, clock, base, version } }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let visitor = match self.door.admit(&request).await {
            Ok(visitor) => visitor,
            Err(error) => return self.door.refuse(&request, Deed::Groups, None, &error).await,
        };
        let answer = match self.reader.answer(&request, &visitor.reach).await {
            Ok(reply) => self.door.note(Deed::Groups, &visitor, |entry| entry.group = read_id(&request)).await.map(|()| reply),
            Err(error) => Err(error),
        };
        match answer {
            Ok(reply) => reply.into_response(),
            Err(error) => self.door.refuse(&request, Deed::Groups, Some(&visitor), &error).await,
        }
    }
}

/// The id of the one group that is asked for.
fn read_id(request: &Request) -> Option<String> {
    request.path_parameters_ref().and_then(|parameters| parameters.first("id")).map(str::to_owned)
}

impl<S: ResourceSource, C: Clock> Reader<S, C> {
    async fn answer(&self, request: &Request, reach: &Reach) -> Result<Reply, ExportError> {
        let (terms, now) = (LookUpTerms::default(), Instant::from_millis(self.clock.now().0));
        let visible = VisibleGroups::of(reach, self.version, now)?;
        if let Some(id) = read_id(request) {
            return Ok(Reply::json(200, FHIR_JSON, read_group(&self.source, &self.clock, terms, &visible, &id).await?));
        }
        let query = request.uri().query().unwrap_or_default();
        let search = GroupSearch::read(query, self.version, now)?;
        let base = base::base(request, ROUTE, self.base.as_deref())?;
        let page = search_groups(&self.source, &self.clock, terms, &visible, &search).await?;
        Ok(Reply::json(200, FHIR_JSON, searchset(&base, query, &page)))
    }
}

#[cfg(test)]
mod tests;
