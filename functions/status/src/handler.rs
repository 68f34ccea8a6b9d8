//! Handles status requests and lists of exports.

use headrace_core::access::Principal;
use headrace_core::audit::AuditAction;
use headrace_core::flow::client::status::{Polled, Status, status};
use headrace_core::job::ExportError;
use headrace_core::job::FailureKind;
use headrace_core::ports::{AccessStore, AuditTrail, Clock, JobStore};
use headrace_core::request::RequestError;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::auth::Authenticator;
use headrace_edge::reply::Reply;
use headrace_edge::request;
use lambda_http::http::header::{EXPIRES, HeaderName, RETRY_AFTER};
use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request, RequestExt as _};

use crate::list::ListHandler;

const X_PROGRESS: HeaderName = HeaderName::from_static("x-progress");
const X_EXPORT_STATUS: HeaderName = HeaderName::from_static("x-export-status");

/// The handler that reports the status of one export, or lists all exports of a client. It lives as long as the process.
pub struct StatusHandler<J, C> {
    authenticator: Authenticator<J, C>,
    poll: PollHandler<J, C>,
    list: ListHandler<J, C>,
}

impl<J: JobStore + AccessStore + AuditTrail + Clone, C: Clock + Clone> StatusHandler<J, C> {
    /// Creates the handler. `base` is the FHIR base URL; `None` derives it from each request.
    pub fn new(authenticator: Authenticator<J, C>, jobs: J, clock: C, base: Option<String>) -> Self {
        Self { authenticator, poll: PollHandler::new(jobs.clone(), clock.clone()), list: ListHandler::new(jobs, clock, base) }
    }

    /// Responds to a request for the status of the export that the path names, or for the list of the client's exports.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let is_poll = request.path_parameters_ref().is_some_and(|parameters| parameters.first("job").is_some());
        let action = if is_poll { AuditAction::Poll } else { AuditAction::List };
        let principal = match self.authenticator.authenticate(&request).await {
            Ok(principal) => principal,
            Err(error) => return self.authenticator.error_response(&request, action, None, &error).await,
        };
        let answer = if is_poll { self.poll.answer(&request, &principal).await } else { self.list.answer(&request, &principal).await };
        match answer {
            Ok(reply) => reply.into_response(),
            Err(error) => self.authenticator.error_response(&request, action, Some(&principal), &error).await,
        }
    }
}

/// The handler that reports the status of one export.
pub struct PollHandler<J, C> {
    jobs: J,
    clock: C,
}

impl<J: JobStore, C: Clock> PollHandler<J, C> {
    /// Creates the handler.
    pub fn new(jobs: J, clock: C) -> Self {
        Self { jobs, clock }
    }

    /// Responds to a status request with the export's progress, manifest or failure. The header `Accept` is ignored: a 406 would hide the
    /// export's status.
    pub async fn answer(&self, request: &Request, principal: &Principal) -> Result<Reply, ExportError> {
        let id = request::job_id(request)?;
        let page = manifest_page(request)?;
        let polled = status(&self.jobs, &self.clock, (&id, page), principal).await?;
        status_reply(polled)
    }
}

/// Converts a status to a response. With `separate-export-status` the response has status 200, and a header has the status
/// of the export (Bulk Data Access, "Bulk Data Status Request").
fn status_reply(Polled { status, is_separate }: Polled) -> Result<Reply, ExportError> {
    let code = |code: u16| if is_separate { 200 } else { code };
    let (reply, export_status) = match status {
        Status::InProgress { progress, retry_after } => {
            let reply =
                Reply::empty(code(202)).with_header(X_PROGRESS, progress).with_header(RETRY_AFTER, retry_after.as_secs().to_string());
            (reply, StatusCode::ACCEPTED)
        }
        Status::Complete { manifest, expires } => {
            let json = manifest.json().map_err(|error| StoreError::NotApplied { store: "the manifest", cause: error.into() })?;
            (Reply::json(200, "application/json", json).with_header(EXPIRES, expires.http_date()), StatusCode::OK)
        }
        Status::Failed(reason) => {
            let failed = failure_status(reason.kind);
            (Reply::outcome(code(failed.as_u16()), &OperationOutcome::error(reason.kind.code(), reason.text)), failed)
        }
    };
    Ok(if is_separate { reply.with_header(X_EXPORT_STATUS, export_status.to_string()) } else { reply })
}

/// Returns the HTTP status of a failed export. 4XX means that the same request would fail again. Never 404: the export exists.
fn failure_status(kind: FailureKind) -> StatusCode {
    match kind {
        FailureKind::NotFound | FailureKind::NotDeidentified => StatusCode::BAD_REQUEST,
        FailureKind::NotSupported => StatusCode::UNPROCESSABLE_ENTITY,
        FailureKind::SourceChanged
        | FailureKind::SourceUnreadable
        | FailureKind::OutOfSpace
        | FailureKind::Misconfigured
        | FailureKind::Exhausted
        | FailureKind::Deadline
        | FailureKind::TooLarge => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Reads the manifest's page number, `?page=2`. Other parameters are ignored: proxies and clients add their own to the URL.
fn manifest_page(request: &Request) -> Result<usize, RequestError> {
    let parameter = request::parameters(request)?.into_iter().find(|(name, _)| name == "page");
    let Some((_, text)) = parameter else { return Ok(1) };
    let remedy = "page is the number of a page of the manifest, from 1: follow the manifest's own links";
    text.parse().ok().filter(|page| *page > 0).ok_or_else(|| RequestError::new(400, IssueCode::Value, "page", remedy))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headrace_core::job::FailureReason;

    use super::*;

    fn replies(status: Status) -> [Response<Body>; 2] {
        [false, true].map(|is_separate| status_reply(Polled { status: status.clone(), is_separate }).unwrap().into_response())
    }

    #[test]
    fn a_separate_export_status_is_in_a_header_and_the_response_itself_is_200() {
        let running = Status::InProgress { progress: "1 % done".into(), retry_after: Duration::from_secs(3) };
        let failed = |kind| Status::Failed(FailureReason { kind, text: "this or that".into() });
        for (status, code, header) in [
            (running, 202, "202 Accepted"),
            (failed(FailureKind::Deadline), 500, "500 Internal Server Error"),
            (failed(FailureKind::NotDeidentified), 400, "400 Bad Request"),
            (failed(FailureKind::NotSupported), 422, "422 Unprocessable Entity"),
        ] {
            let [plain, separate] = replies(status);
            assert_eq!((plain.status().as_u16(), plain.headers().get(X_EXPORT_STATUS)), (code, None));
            assert_eq!(separate.status(), 200);
            assert_eq!(separate.headers()[X_EXPORT_STATUS], header);
            // Headers and bodies are the same apart from that.
            let mut headers = separate.headers().clone();
            headers.remove(X_EXPORT_STATUS);
            assert_eq!(plain.headers(), &headers);
            assert_eq!(plain.body(), separate.body());
        }
    }

    #[test]
    fn only_a_positive_number_is_a_page() {
        let page_of =
            |query: &str| manifest_page(&lambda_http::http::Request::builder().uri(format!("/x{query}")).body(Body::Empty).unwrap());
        assert_eq!(["", "?page=1", "?_=7&page=12"].map(|query| page_of(query).unwrap()), [1, 1, 12]);
        for query in ["?page=", "?page=0", "?page=-1", "?page=two", "?page=99999999999999999999999"] {
            assert_eq!(page_of(query).unwrap_err().status, 400, "{query}");
        }
    }
}
