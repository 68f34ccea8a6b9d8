//! From the request to the export's state, or the list of exports, and back.

use headrace_core::access::Principal;
use headrace_core::audit::Deed;
use headrace_core::flow::client::status::{Polled, Status, status};
use headrace_core::job::ReasonKind;
use headrace_core::ports::{AccessStore, AuditTrail, Clock, JobStore};
use headrace_core::request::{Level, Refusal};
use headrace_core::vocab::error::{ExportError, StoreError};
use headrace_core::vocab::outcome::{IssueCode, Outcome};
use headrace_edge::door::Door;
use headrace_edge::reply::Reply;
use headrace_edge::request;
use lambda_http::http::header::{EXPIRES, HeaderName, RETRY_AFTER};
use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request, RequestExt as _};

use crate::list::List;

const X_PROGRESS: HeaderName = HeaderName::from_static("x-progress");
const X_EXPORT_STATUS: HeaderName = HeaderName::from_static("x-export-status");

/// Both routes of the function, for the life of the process.
pub struct Exports<J, C> {
    door: Door<J, C>,
    one: StatusOf<J, C>,
    all: List<J, C>,
}

impl<J: JobStore + AccessStore + AuditTrail + Clone, C: Clock + Clone> Exports<J, C> {
    /// Behind this door, with these ports; `base` is the FHIR base, if it is not to be taken from each request.
    pub fn new(door: Door<J, C>, jobs: J, clock: C, base: Option<String>) -> Self {
        Self { door, one: StatusOf::new(jobs.clone(), clock.clone()), all: List::new(jobs, clock, base) }
    }

    /// Answers one request: about the export that its path names, else about all of the caller's.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let is_about_one = request.path_parameters_ref().is_some_and(|named| named.first("job").is_some());
        let deed = if is_about_one { Deed::Poll } else { Deed::List };
        let visitor = match self.door.admit(&request).await {
            Ok(visitor) => visitor,
            Err(error) => return self.door.refuse(&request, deed, None, &error).await,
        };
        let answer = if is_about_one { self.one.answer(&request, &visitor).await } else { self.all.answer(&request, &visitor).await };
        match answer {
            Ok(reply) => reply.into_response(),
            Err(error) => self.door.refuse(&request, deed, Some(&visitor), &error).await,
        }
    }
}

/// What a poll needs, for the life of the process.
pub struct StatusOf<J, C> {
    jobs: J,
    clock: C,
}

impl<J: JobStore, C: Clock> StatusOf<J, C> {
    /// With these ports.
    pub fn new(jobs: J, clock: C) -> Self {
        Self { jobs, clock }
    }

    /// Answers one request. Never 406: whatever a client accepts, it wants to know.
    pub async fn answer(&self, request: &Request, visitor: &Principal) -> Result<Reply, ExportError> {
        let id = request::job_id(request)?;
        let page = page(request)?;
        let polled = status(&self.jobs, &self.clock, (&id, page), visitor).await?;
        say(polled)
    }
}

/// As HTTP says it. With `separate-export-status` the answer itself is 200, and a header says how the export stands
/// (Bulk Data Access, "Bulk Data Status Request").
fn say(Polled { status, is_separate }: Polled) -> Result<Reply, ExportError> {
    let code = |code: u16| if is_separate { 200 } else { code };
    let (reply, export_status) = match status {
        Status::InProgress { progress, retry_after } => {
            let reply = Reply::empty(code(202)).with(X_PROGRESS, progress).with(RETRY_AFTER, retry_after.as_secs().to_string());
            (reply, StatusCode::ACCEPTED)
        }
        Status::Complete { manifest, expires } => {
            let json = manifest.json().map_err(|error| StoreError::NotApplied { what: "the manifest", cause: error.into() })?;
            (Reply::json(200, "application/json", json).with(EXPIRES, expires.http_date()), StatusCode::OK)
        }
        Status::Failed(reason) => {
            let failed = failed(reason.kind);
            (Reply::outcome(code(failed.as_u16()), &Outcome::error(reason.kind.code(), reason.text)), failed)
        }
    };
    Ok(if is_separate { reply.with(X_EXPORT_STATUS, export_status.to_string()) } else { reply })
}

/// What a kick-off would have answered, had it known: a client that asks again for the same export fails again. The rest is
/// no fault of the client's. Never 404: the export is known.
fn failed(kind: ReasonKind) -> StatusCode {
    match kind {
        ReasonKind::NotFound | ReasonKind::NotDeidentified => StatusCode::BAD_REQUEST,
        ReasonKind::NotSupported => StatusCode::UNPROCESSABLE_ENTITY,
        ReasonKind::SourceChanged
        | ReasonKind::SourceUnreadable
        | ReasonKind::Misconfigured
        | ReasonKind::Exhausted
        | ReasonKind::Deadline
        | ReasonKind::TooLarge => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// `?page=2` of a manifest that comes in pages. Anything else in the query is not for this service: proxies and clients
/// add words of their own to the URL that they were given.
fn page(request: &Request) -> Result<usize, Refusal> {
    let asked = request::asked(request, Level::System)?.parameters.into_iter().find(|(name, _)| name == "page");
    let Some((_, text)) = asked else { return Ok(1) };
    let remedy = "page is the number of a page of the manifest, from 1: follow the manifest's own links";
    text.parse().ok().filter(|page| *page > 0).ok_or_else(|| Refusal::of(400, IssueCode::Value, "page", remedy))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headrace_core::job::Reason;

    use super::*;

    fn answers(status: Status) -> [Response<Body>; 2] {
        [false, true].map(|is_separate| say(Polled { status: status.clone(), is_separate }).unwrap().into_response())
    }

    #[test]
    fn a_separate_export_status_stands_in_a_header_and_the_poll_itself_is_fine() {
        let running = Status::InProgress { progress: "1 % done".into(), retry_after: Duration::from_secs(3) };
        let failed = |kind| Status::Failed(Reason { kind, text: "this or that".into() });
        for (status, code, header) in [
            (running, 202, "202 Accepted"),
            (failed(ReasonKind::Deadline), 500, "500 Internal Server Error"),
            (failed(ReasonKind::NotDeidentified), 400, "400 Bad Request"),
            (failed(ReasonKind::NotSupported), 422, "422 Unprocessable Entity"),
        ] {
            let [plain, separate] = answers(status);
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
    fn only_a_number_is_a_page() {
        let page_of = |query: &str| page(&lambda_http::http::Request::builder().uri(format!("/x{query}")).body(Body::Empty).unwrap());
        assert_eq!(["", "?page=1", "?_=7&page=12"].map(|query| page_of(query).unwrap()), [1, 1, 12]);
        for query in ["?page=", "?page=0", "?page=-1", "?page=two", "?page=99999999999999999999999"] {
            assert_eq!(page_of(query).unwrap_err().status, 400, "{query}");
        }
    }
}
