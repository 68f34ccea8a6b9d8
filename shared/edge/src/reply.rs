//! HTTP out, and the one place where an error becomes an answer.

use std::error::Error;

use headrace_core::vocab::error::{ExportError, SourceError, StoreError};
use headrace_core::vocab::outcome::{IssueCode, Outcome};
use lambda_http::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};

use crate::request::request_id;

/// The media type of OperationOutcomes.
pub const FHIR_JSON: &str = "application/fhir+json";

/// When to ask again after a failure that passes, in seconds.
const ASK_AGAIN: &str = "5";

/// When to ask again after a limit was met, in seconds: exports end after seconds or hours.
const ROOM_LATER: &str = "60";

/// An answer in the making.
#[derive(Clone, Debug)]
pub struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: Body,
}

impl Reply {
    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), headers: Vec::new(), body: Body::Empty }
    }

    /// An answer with JSON text of this media type.
    pub fn json(status: u16, media_type: &str, body: String) -> Self {
        Self { body: Body::Text(body), ..Self::empty(status) }.with(CONTENT_TYPE, media_type)
    }

    /// An answer with bytes of this media type.
    pub fn bytes(status: u16, media_type: &str, body: Vec<u8>) -> Self {
        Self { body: Body::Binary(body), ..Self::empty(status) }.with(CONTENT_TYPE, media_type)
    }

    /// An OperationOutcome.
    pub fn outcome(status: u16, outcome: &Outcome) -> Self {
        Self::json(status, FHIR_JSON, outcome.to_string())
    }

    /// With this header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// As the runtime takes it. Nothing that this service answers may be cached: it is a patient's, or it changes. Nothing
    /// is a page: whatever a browser takes it for, it shows nothing, loads nothing and tells nobody where it was.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        for (name, value) in self.headers {
            match HeaderValue::try_from(value) {
                Ok(value) => drop(headers.insert(name, value)),
                Err(_) => tracing::error!(header = %name, "a header's value was not printable and is left out"),
            }
        }
        response
    }
}

/// Has browsers come by https alone from now on (RFC 6797): for answers that went by it.
pub fn only_by_https(headers: &mut HeaderMap) {
    headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
}

/// The answer to an error: status, issue code, public text. The cause goes to the log, once, here.
pub fn refuse(request: &Request, error: &ExportError) -> Response<Body> {
    let reply = outcome(error);
    let (id, status) = (request_id(request), reply.status.as_u16());
    match error {
        // Its text repeats what the client sent.
        ExportError::Refused(refusal) => tracing::info!(status, request.id = id, code = ?refusal.code, "the request was refused"),
        ExportError::TooMany(limit) => tracing::info!(status, request.id = id, ?limit, "the request was refused for want of room"),
        ExportError::NotFound(what) => tracing::info!(status, request.id = id, what, "the request was for something unknown"),
        ExportError::Store(_) | ExportError::Source(_) | ExportError::NotDeidentified(_) => {
            tracing::error!(status, request.id = id, error = error as &dyn Error, "the request failed");
        }
    }
    reply.into_response()
}

/// How each error is answered. No variant shows its cause.
pub fn outcome(error: &ExportError) -> Reply {
    let say = |status, code| Reply::outcome(status, &Outcome::error(code, error.to_string()));
    let passing = |text: &str| Reply::outcome(503, &Outcome::error(IssueCode::Transient, text)).with(RETRY_AFTER, ASK_AGAIN);
    match error {
        // The one method that is refused is another than GET and POST at a kick-off.
        ExportError::Refused(refusal) if refusal.status == 405 => Reply::outcome(405, &refusal.outcome()).with(ALLOW, "GET, POST"),
        ExportError::Refused(refusal) => Reply::outcome(refusal.status, &refusal.outcome()),
        ExportError::TooMany(_) => say(429, IssueCode::Throttled).with(RETRY_AFTER, ROOM_LATER),
        ExportError::NotFound(_) => say(404, IssueCode::NotFound),
        ExportError::Store(StoreError::Misconfigured { .. }) | ExportError::Source(SourceError::Misconfigured { .. }) => {
            say(500, IssueCode::Exception)
        }
        ExportError::Store(StoreError::Unreadable { .. }) => say(500, IssueCode::Exception),
        ExportError::NotDeidentified(_) => say(500, IssueCode::Processing),
        ExportError::Source(SourceError::Changed { .. }) => say(500, IssueCode::Conflict),
        ExportError::Source(SourceError::Unreadable { .. }) => say(500, IssueCode::Exception),
        ExportError::Store(StoreError::NotApplied { what, .. } | StoreError::Unknown { what, .. }) => {
            passing(&format!("{what} could not be reached; try again"))
        }
        ExportError::Store(StoreError::Stale) => passing("somebody else changed the same export at this moment; try again"),
        ExportError::Source(SourceError::Unavailable(_)) => passing("the lake could not be reached; try again"),
    }
}

#[cfg(test)]
mod tests {
    use headrace_core::job::Limit;
    use headrace_core::request::Refusal;

    use super::*;

    const CANARY: &str = "CANARY-7f3a";

    fn every_error() -> Vec<ExportError> {
        let cause = || CANARY.into();
        vec![
            Refusal::of(400, IssueCode::Value, "_type", "no").into(),
            ExportError::TooMany(Limit::PerCaller(3)),
            ExportError::TooMany(Limit::Global(40)),
            ExportError::NotFound("this export"),
            StoreError::NotApplied { what: "the job table", cause: cause() }.into(),
            StoreError::Unknown { what: "the job table", cause: cause() }.into(),
            StoreError::Stale.into(),
            StoreError::Misconfigured { remedy: "HEADRACE_TABLE is wrong".into(), cause: cause() }.into(),
            StoreError::Unreadable { what: "the job table", detail: "the attribute x".into() }.into(),
            SourceError::Changed { object: "Patient.ndjson".into() }.into(),
            SourceError::Unreadable { object: "Patient.ndjson.gz".into(), detail: "it ends too early" }.into(),
            SourceError::Misconfigured { remedy: "HEADRACE_SOURCE_BUCKET is wrong".into(), cause: cause() }.into(),
            SourceError::Unavailable(cause()).into(),
        ]
    }

    #[test]
    fn no_answer_shows_a_cause() {
        for error in every_error() {
            let reply = outcome(&error);
            assert!(!format!("{reply:?}").contains(CANARY), "{error:?}");
            assert!(reply.status.is_client_error() || reply.status.is_server_error());
        }
    }

    #[test]
    fn a_limit_that_is_met_is_429_and_names_itself_and_what_to_do() {
        for (limit, words) in [
            (Limit::PerCaller(3), ["3 of your exports", "HEADRACE_JOBS_PER_CALLER", "DELETE"]),
            (Limit::Global(40), ["40 exports", "HEADRACE_JOBS", "try again later"]),
        ] {
            let reply = outcome(&ExportError::TooMany(limit)).into_response();
            assert_eq!(reply.status(), 429);
            assert_eq!(reply.headers()["retry-after"], "60");
            let Body::Text(text) = reply.body() else { panic!("an OperationOutcome") };
            assert!(text.contains("\"throttled\"") && words.iter().all(|word| text.contains(word)), "{text}");
        }
    }

    #[test]
    fn p9_failing_to_look_is_503_and_says_when_to_ask_again() {
        let reply = outcome(&StoreError::Unknown { what: "the job table", cause: "".into() }.into()).into_response();
        assert_eq!(reply.status(), 503);
        assert_eq!(reply.headers()["retry-after"], "5");
        assert!(matches!(reply.body(), Body::Text(text) if text.contains("\"transient\"")));
    }
}
