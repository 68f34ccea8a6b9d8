//! Handles reads and searches of groups.

use headrace_core::access::Permissions;
use headrace_core::audit::AuditAction;
use headrace_core::flow::client::groups::{GroupSearch, VisibleGroups, read_group, search_groups};
use headrace_core::flow::resolve_patients::PatientResolutionSettings;
use headrace_core::job::ExportError;
use headrace_core::ports::{AccessStore, AuditTrail, Clock, ResourceSource};
use headrace_core::request::RequestError;
use headrace_core::vocab::outcome::IssueCode;
use headrace_edge::auth::Authenticator;
use headrace_edge::reply::{FHIR_JSON, Reply};
use headrace_edge::{base_url, percent};
use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::instant::Instant;
use lambda_http::http::Response;
use lambda_http::{Body, Request, RequestExt as _};

use crate::bundle::searchset;

/// The handler that reads and searches groups. It lives as long as the process.
pub struct GroupsHandler<J, S, C> {
    authenticator: Authenticator<J, C>,
    reader: Reader<S, C>,
}

/// The reader of groups in the lake.
struct Reader<S, C> {
    source: S,
    clock: C,
    base: Option<String>,
    version: FhirVersion,
}

impl<J: AccessStore + AuditTrail, S: ResourceSource, C: Clock> GroupsHandler<J, S, C> {
    /// Creates the handler. `base` is the FHIR base URL; `None` derives it from each request.
    pub fn new(authenticator: Authenticator<J, C>, source: S, clock: C, base: Option<String>, version: FhirVersion) -> Self {
        Self { authenticator, reader: Reader { source, clock, base, version } }
    }

    /// Reads or searches groups and records it in the audit trail. Answers with the result, or with the error.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let principal = match self.authenticator.authenticate(&request).await {
            Ok(principal) => principal,
            Err(error) => return self.authenticator.error_response(&request, AuditAction::Groups, None, &error).await,
        };
        let answer = match self.reader.answer(&request, &principal.permissions).await {
            Ok(reply) => {
                self.authenticator.record(AuditAction::Groups, &principal, |record| record.group = group_id(&request)).await.map(|()| reply)
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok(reply) => reply.into_response(),
            Err(error) => self.authenticator.error_response(&request, AuditAction::Groups, Some(&principal), &error).await,
        }
    }
}

/// Splits the parameter `page` from a query: the id after which the page starts. Returns it, and the rest of the query.
fn split_page(query: &str) -> Result<(Option<String>, String), RequestError> {
    let (pages, filters): (Vec<&str>, Vec<&str>) = query.split('&').partition(|pair| pair.starts_with("page="));
    let invalid = || RequestError::new(400, IssueCode::Value, "page", "page does not come from a link of this server");
    let page = pages.last().and_then(|pair| pair.strip_prefix("page="));
    let after = page.map(|id| percent::decode(id.as_bytes()).ok_or_else(invalid)).transpose()?;
    Ok((after, filters.join("&")))
}

/// Returns the id of the group that the path names. `None` for a search.
fn group_id(request: &Request) -> Option<String> {
    request.path_parameters_ref().and_then(|parameters| parameters.first("id")).map(str::to_owned)
}

impl<S: ResourceSource, C: Clock> Reader<S, C> {
    /// Reads the group that the path names, or searches the groups that the caller may see.
    async fn answer(&self, request: &Request, permissions: &Permissions) -> Result<Reply, ExportError> {
        let (resolution_settings, now) = (PatientResolutionSettings::default(), Instant::from_millis(self.clock.now().0));
        let visible = VisibleGroups::from_permissions(permissions, self.version, now)?;
        if let Some(id) = group_id(request) {
            return Ok(Reply::json(200, FHIR_JSON, read_group(&self.source, &self.clock, resolution_settings, &visible, &id).await?));
        }
        let query = request.uri().query().unwrap_or_default();
        let (after, filters) = split_page(query)?;
        let search = GroupSearch::parse(&filters, after, self.version, now)?;
        let base = base_url::base_url(request, self.base.as_deref())?;
        let page = search_groups(&self.source, &self.clock, resolution_settings, &visible, &search).await?;
        Ok(Reply::json(200, FHIR_JSON, searchset(&base, query, &page)))
    }
}

#[cfg(test)]
mod tests;
