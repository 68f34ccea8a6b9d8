//! HTTP responses, and the one place that converts errors to responses.

use std::error::Error;

use headrace_core::job::ExportError;
use headrace_core::vocab::error::{SourceError, StoreError};
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use lambda_http::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};

use crate::accept::prefers_plain_json;
use crate::request::request_id;

/// The media type of OperationOutcomes.
pub const FHIR_JSON: &str = "application/fhir+json";

/// `Retry-After` of a temporary failure, in seconds.
const RETRY_AFTER_FAILURE: &str = "5";

/// `Retry-After` of a reached quota, in seconds: exports end after seconds or hours.
const RETRY_AFTER_QUOTA: &str = "60";

/// A response under construction.
#[derive(Clone, Debug)]
pub struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: Body,
}

impl Reply {
    /// Creates a response without a body.
    pub fn empty(status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), headers: Vec::new(), body: Body::Empty }
    }

    /// Creates a response with JSON text of this media type.
    pub fn json(status: u16, media_type: &str, body: String) -> Self {
        Self { body: Body::Text(body), ..Self::empty(status) }.with_header(CONTENT_TYPE, media_type)
    }

    /// Creates a response with bytes of this media type.
    pub fn bytes(status: u16, media_type: &str, body: Vec<u8>) -> Self {
        Self { body: Body::Binary(body), ..Self::empty(status) }.with_header(CONTENT_TYPE, media_type)
    }

    /// Creates a response with an OperationOutcome.
    pub fn outcome(status: u16, outcome: &OperationOutcome) -> Self {
        Self::json(status, FHIR_JSON, outcome.to_string())
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Names the media type of an OperationOutcome as the client asks for it: a client that accepts only `application/json` gets that.
    #[must_use]
    pub fn for_client(self, headers: &HeaderMap) -> Self {
        if prefers_plain_json(headers) { self.with_header(CONTENT_TYPE, "application/json") } else { self }
    }

    /// Converts to the HTTP response, with headers against misuse by browsers.
    ///
    /// No response may be cached: it holds patient data, or it changes. None is a web page: a browser must not render it, load
    /// anything for it or send its URL as a referrer.
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
                Err(_) => tracing::error!(header = %name, "a response header with an invalid value was left out"),
            }
        }
        response
    }
}

/// Tells browsers to use only https for this host (RFC 6797). For responses that are sent by https.
pub fn add_strict_transport_security(headers: &mut HeaderMap) {
    headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
}

/// Sends FHIR JSON as `application/json` to a client whose `request` accepts that and no other media type of FHIR JSON.
pub fn use_accepted_json(request: &HeaderMap, response: &mut HeaderMap) {
    if response.get(CONTENT_TYPE).is_some_and(|media_type| media_type == FHIR_JSON) && prefers_plain_json(request) {
        response.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
}

/// Creates the response to a request whose handler panicked. The log has the place.
pub fn fault_response() -> Response<Body> {
    let text = "a fault of this server prevents the answer: tell its operator the time of the request";
    Reply::outcome(500, &OperationOutcome::error(IssueCode::Exception, text)).into_response()
}

/// Creates the response to an error and logs the error with its cause. No other place logs it.
pub fn error_response(request: &Request, error: &ExportError) -> Response<Body> {
    let reply = error_reply(error).for_client(request.headers());
    let (id, status) = (request_id(request), reply.status.as_u16());
    match error {
        // Without the text, which may repeat what the client sent.
        ExportError::Rejected(error) => tracing::info!(status, request.id = id, code = ?error.code, "the request was rejected"),
        ExportError::Remarked(remarked) => {
            let remarks: Vec<&str> = remarked.remarks.iter().map(String::as_str).collect();
            tracing::info!(status, request.id = id, remarks = remarks.join(","), "the request was rejected: its configuration has remarks");
        }
        ExportError::QuotaReached(quota) => tracing::info!(status, request.id = id, ?quota, "the request was rejected: a quota is reached"),
        ExportError::NotFound(what) => tracing::info!(status, request.id = id, what, "the requested resource was not found"),
        ExportError::Store(_) | ExportError::Source(_) | ExportError::NotDeidentified(_) => {
            tracing::error!(status, request.id = id, error = error as &dyn Error, "the request failed");
        }
    }
    reply.into_response()
}

/// Creates the response to an error: status, issue code and public text. It never shows the cause.
pub fn error_reply(error: &ExportError) -> Reply {
    let with_text = |status, code| Reply::outcome(status, &OperationOutcome::error(code, error.to_string()));
    let temporary = |text: &str| {
        Reply::outcome(503, &OperationOutcome::error(IssueCode::Transient, text)).with_header(RETRY_AFTER, RETRY_AFTER_FAILURE)
    };
    match error {
        // Only a kick-off rejects methods.
        ExportError::Rejected(error) if error.status == 405 => Reply::outcome(405, &error.outcome()).with_header(ALLOW, "GET, POST"),
        ExportError::Rejected(error) if error.status == 503 => {
            Reply::outcome(503, &error.outcome()).with_header(RETRY_AFTER, RETRY_AFTER_FAILURE)
        }
        ExportError::Rejected(error) => Reply::outcome(error.status, &error.outcome()),
        ExportError::Remarked(_) => with_text(400, IssueCode::Invalid),
        ExportError::QuotaReached(_) => with_text(429, IssueCode::Throttled).with_header(RETRY_AFTER, RETRY_AFTER_QUOTA),
        ExportError::NotFound(_) => with_text(404, IssueCode::NotFound),
        ExportError::Store(StoreError::Misconfigured { .. }) | ExportError::Source(SourceError::Misconfigured { .. }) => {
            with_text(500, IssueCode::Exception)
        }
        ExportError::Store(StoreError::OutOfSpace { .. }) => with_text(507, IssueCode::NoStore),
        ExportError::Store(StoreError::Unreadable { .. }) => with_text(500, IssueCode::Exception),
        ExportError::NotDeidentified(_) => with_text(500, IssueCode::Processing),
        ExportError::Source(SourceError::Changed { .. }) => with_text(500, IssueCode::Conflict),
        ExportError::Source(SourceError::Unreadable { .. } | SourceError::Archived { .. }) => with_text(500, IssueCode::Exception),
        ExportError::Store(StoreError::NotApplied { store, .. } | StoreError::Unknown { store, .. }) => {
            temporary(&format!("{store} could not be reached; try again"))
        }
        ExportError::Store(StoreError::Overloaded { store, .. }) => temporary(&format!("{store} is overloaded; try again")),
        ExportError::Source(SourceError::Overloaded(_)) => temporary("the lake is overloaded; try again"),
        ExportError::Source(SourceError::OriginUnavailable(_)) => temporary("the FHIR server could not be reached; try again"),
        ExportError::Source(SourceError::OriginBusy { .. }) => temporary("the FHIR server is busy; try again"),
        ExportError::Store(StoreError::Stale) => temporary("another request changed the same export at the same time; try again"),
        ExportError::Source(SourceError::Unavailable(_)) => temporary("the lake could not be reached; try again"),
    }
}

#[cfg(test)]
mod tests {
    use headrace_core::job::Quota;
    use headrace_core::request::RequestError;
    use headrace_core::vocab::clock::Millis;

    use super::*;

    const CANARY: &str = "CANARY-7f3a";

    fn every_error() -> Vec<ExportError> {
        let cause = || CANARY.into();
        vec![
            RequestError::new(400, IssueCode::Value, "_type", "no").into(),
            ExportError::QuotaReached(Quota::PerCaller(3)),
            ExportError::QuotaReached(Quota::Global(40)),
            ExportError::NotFound("this export"),
            StoreError::NotApplied { store: "the job table", cause: cause() }.into(),
            StoreError::Overloaded { store: "the job table", cause: cause() }.into(),
            StoreError::Unknown { store: "the job table", cause: cause() }.into(),
            StoreError::Stale.into(),
            StoreError::Misconfigured { remedy: "HEADRACE_TABLE is wrong".into(), cause: cause() }.into(),
            StoreError::OutOfSpace { place: "the state folder".into(), cause: cause() }.into(),
            StoreError::Unreadable { store: "the job table", detail: "the attribute x".into() }.into(),
            SourceError::Changed { object: "Patient.ndjson".into() }.into(),
            SourceError::Unreadable { object: "Patient.ndjson.gz".into(), detail: "it ends too early" }.into(),
            SourceError::Misconfigured { remedy: "HEADRACE_SOURCE_BUCKET is wrong".into(), cause: cause() }.into(),
            SourceError::Archived { object: "Patient.ndjson".into(), storage_class: "GLACIER".into() }.into(),
            SourceError::Overloaded(cause()).into(),
            SourceError::Unavailable(cause()).into(),
            SourceError::OriginUnavailable(cause()).into(),
            SourceError::OriginBusy { until: Millis(0) }.into(),
        ]
    }

    #[test]
    fn no_response_shows_a_cause() {
        for error in every_error() {
            let reply = error_reply(&error);
            assert!(!format!("{reply:?}").contains(CANARY), "{error:?}");
            assert!(reply.status.is_client_error() || reply.status.is_server_error());
        }
    }

    #[test]
    fn a_client_that_accepts_only_plain_json_gets_that() {
        for (accept, media_type) in [
            ("application/json", "application/json"),
            ("Application/JSON; charset=utf-8, text/html", "application/json"),
            ("application/fhir+json", FHIR_JSON),
            ("application/json, application/fhir+json;q=0.5", FHIR_JSON),
            ("application/json, */*;q=0.1", FHIR_JSON),
            ("text/html", FHIR_JSON),
        ] {
            let mut request = Request::default();
            request.headers_mut().insert("accept", HeaderValue::from_static(accept));
            let response = error_response(&request, &ExportError::NotFound("this export"));
            assert_eq!((response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()), (404, media_type), "{accept}");
        }
    }

    #[test]
    fn a_reached_quota_is_429_and_names_the_limit_and_a_remedy() {
        for (quota, words) in [
            (Quota::PerCaller(3), ["3 of your exports", "HEADRACE_MAX_EXPORTS_PER_CLIENT", "DELETE"]),
            (Quota::Global(40), ["40 exports", "HEADRACE_MAX_CONCURRENT_EXPORTS", "try again later"]),
        ] {
            let reply = error_reply(&ExportError::QuotaReached(quota)).into_response();
            assert_eq!(reply.status(), 429);
            assert_eq!(reply.headers()["retry-after"], "60");
            let Body::Text(text) = reply.body() else { panic!("an OperationOutcome") };
            assert!(text.contains("\"throttled\"") && words.iter().all(|word| text.contains(word)), "{text}");
        }
    }

    #[test]
    fn p9_an_unreachable_store_is_503_with_retry_after() {
        let reply = error_reply(&StoreError::Unknown { store: "the job table", cause: "".into() }.into()).into_response();
        assert_eq!(reply.status(), 503);
        assert_eq!(reply.headers()["retry-after"], "5");
        assert!(matches!(reply.body(), Body::Text(text) if text.contains("\"transient\"")));
    }
}
