//! Responses that reject a request: their reason, and whether another attempt can succeed.

use std::time::Duration;

use headrace_core::vocab::byte_order_mark::without_byte_order_mark;
use headrace_core::vocab::clock::Millis;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::body::read_bounded;
use crate::error::{Persistence, status_persistence};
use crate::limits::ClientLimits;
use crate::retry_after::retry_after;
use crate::secrets::SentSecrets;
use crate::text::{excerpt, shorten};

/// The code `transient` of IssueType and its children, without `exception`, which servers also give to exports that have failed.
pub const TRANSIENT_CODES: [&str; 6] = ["transient", "lock-error", "no-store", "timeout", "incomplete", "throttled"];

/// A response that rejects a request.
#[derive(Debug)]
pub struct Rejection {
    /// The HTTP status.
    pub status: StatusCode,
    /// Reason that the server gave.
    pub text: String,
    /// Issue codes of its OperationOutcome; empty without one.
    codes: Vec<String>,
    /// The pause that the server demands.
    pub retry_after: Option<Duration>,
}

/// The members of an OperationOutcome, an OAuth error and a problem (RFC 9457) that say why a request was rejected. A member that is not a text
/// must not hide the others.
#[derive(Default, Deserialize)]
struct Reason {
    #[serde(default)]
    issue: Vec<Issue>,
    #[serde(default, deserialize_with = "any_text")]
    title: Option<String>,
    #[serde(default, deserialize_with = "any_text")]
    detail: Option<String>,
    #[serde(default, deserialize_with = "any_text")]
    error: Option<String>,
    #[serde(default, deserialize_with = "any_text")]
    error_description: Option<String>,
    #[serde(default, deserialize_with = "any_text")]
    message: Option<String>,
}

/// An issue of an OperationOutcome.
#[derive(Deserialize)]
struct Issue {
    #[serde(default, deserialize_with = "any_text")]
    code: Option<String>,
    #[serde(default, deserialize_with = "any_text")]
    diagnostics: Option<String>,
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default, deserialize_with = "any_text")]
    text: Option<String>,
}

/// A resource, of which only the type is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypedResource {
    resource_type: String,
}

/// Deserializes a text. Returns `None` for any other value.
fn any_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(Some(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Ok(None),
    }
}

impl Rejection {
    /// Reads the reason of a rejection, without the secrets of the request. A body that cannot be read gives no reason.
    pub async fn read(response: Response, limits: &ClientLimits, now: Millis) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let (retry_after, secrets) = (retry_after(&headers, now), SentSecrets::from_response(&response));
        let body = read_bounded(response, limits.idle, limits.message_bytes).await.unwrap_or_default();
        Self::from_body(status, &headers, &body, retry_after, &secrets)
    }

    /// Reads the reason of an answer with any status, without the secrets of the request. `None` if the body is not an OperationOutcome.
    pub async fn read_outcome(response: Response, limits: &ClientLimits, now: Millis) -> Option<Self> {
        let status = response.status();
        let (retry_after, secrets) = (retry_after(response.headers(), now), SentSecrets::from_response(&response));
        let body = read_bounded(response, limits.idle, limits.message_bytes).await.unwrap_or_default();
        Self::from_outcome(status, &body, retry_after, &secrets)
    }

    /// Returns the rejection in a body of an answer with any status, if it is an OperationOutcome. Some servers answer 200 and one.
    pub fn from_outcome(status: StatusCode, body: &[u8], retry_after: Option<Duration>, secrets: &SentSecrets) -> Option<Self> {
        let resource: TypedResource = serde_json::from_slice(without_byte_order_mark(body)).ok()?;
        let is_outcome = resource.resource_type == "OperationOutcome";
        is_outcome.then(|| Self::from_body(status, &HeaderMap::new(), body, retry_after, secrets))
    }

    /// Builds a rejection from the parts of a response.
    fn from_body(status: StatusCode, headers: &HeaderMap, body: &[u8], retry_after: Option<Duration>, secrets: &SentSecrets) -> Self {
        let body = without_byte_order_mark(body);
        let reason: Reason = serde_json::from_slice(body).unwrap_or_default();
        let codes = reason.issue.iter().filter_map(|issue| issue.code.clone()).collect();
        // A text that was cut could end within a secret.
        let text = match reason.text() {
            Some(text) => excerpt(&secrets.mask(&text)),
            None => describe_body(headers, body, secrets),
        };
        Self { status, text, codes, retry_after }
    }

    /// Returns how long further attempts are made.
    pub fn persistence(&self) -> Persistence {
        let by_status = status_persistence(self.status);
        let is_final_by_meaning = matches!(self.status.as_u16(), 401 | 403 | 404 | 410);
        if is_final_by_meaning || self.codes.is_empty() {
            return by_status;
        }
        let has = |codes: &[&str]| self.codes.iter().any(|code| codes.contains(&code.as_str()));
        match by_status {
            Persistence::Transient => by_status,
            Persistence::Doubtful { .. } | Persistence::Final if has(&TRANSIENT_CODES) => Persistence::Transient,
            Persistence::Doubtful { .. } if has(&["exception"]) => by_status,
            Persistence::Doubtful { .. } | Persistence::Final => Persistence::Final,
        }
    }
}

impl Reason {
    /// Returns the reason as one text.
    fn text(self) -> Option<String> {
        let texts: Vec<String> = self
            .issue
            .into_iter()
            .filter_map(|issue| issue.diagnostics.or_else(|| issue.details.and_then(|details| details.text)).or(issue.code))
            .collect();
        if !texts.is_empty() {
            return Some(texts.join("; "));
        }
        let pairs = [(self.title, self.detail), (self.error, self.error_description)];
        let text = pairs.into_iter().find_map(|pair| match pair {
            (Some(title), Some(detail)) => Some(format!("{title}: {detail}")),
            (Some(text), None) | (None, Some(text)) => Some(text),
            (None, None) => None,
        });
        text.or(self.message)
    }
}

/// Returns true for an answer that only demands a pause: the server has done nothing.
pub fn is_busy(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// Describes a body without a reason in JSON. A page of a proxy is not repeated.
fn describe_body(headers: &HeaderMap, body: &[u8], secrets: &SentSecrets) -> String {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    if content_type.starts_with("text/plain") && !body.is_empty() {
        return shorten(&secrets.mask(&String::from_utf8_lossy(body)), 500);
    }
    if content_type.starts_with("text/html") {
        return "the answer is an HTML page, not an OperationOutcome".to_owned();
    }
    "the server gave no reason".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a rejection with a JSON body.
    fn rejection(status: u16, body: &str) -> Rejection {
        Rejection::from_body(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes(), None, &SentSecrets::default())
    }

    #[test]
    fn the_reason_is_read_from_every_kind_of_error_document() {
        for (body, text) in [
            (r#"{"resourceType":"OperationOutcome","issue":[{"code":"x","diagnostics":"a"},{"details":{"text":"b"}}]}"#, "a; b"),
            (r#"{"issue":[{"severity":"error","code":"processing"}]}"#, "processing"),
            (r#"{"type":"about:blank","title":"Out of credit","detail":"30 are needed"}"#, "Out of credit: 30 are needed"),
            (r#"{"error":"invalid_token","error_description":"expired"}"#, "invalid_token: expired"),
            (r#"{"message":"Forbidden"}"#, "Forbidden"),
            (r#"{"error":{"code":403},"message":"Forbidden"}"#, "Forbidden"),
            (r#"{"issue":[{"code":"x","diagnostics":7}]}"#, "x"),
            ("\u{feff}{\"message\":\"Forbidden\"}", "Forbidden"),
            (r#"{"issue":[{"diagnostics":"\u001b]0;owned\u0007"}]}"#, "\\u{1b}]0;owned\\u{7}"),
            ("<html>", "the server gave no reason"),
            ("", "the server gave no reason"),
        ] {
            assert_eq!(rejection(500, body).text, text, "{body}");
        }
    }

    #[test]
    fn an_outcome_is_a_rejection_whatever_the_status_is() {
        let from = |body: &str| Rejection::from_outcome(StatusCode::OK, body.as_bytes(), None, &SentSecrets::default());
        let failed =
            from("\u{feff}{\"resourceType\":\"OperationOutcome\",\"issue\":[{\"code\":\"processing\",\"diagnostics\":\"for good\"}]}")
                .unwrap();
        assert_eq!((failed.text.as_str(), failed.persistence()), ("for good", Persistence::Final));
        let busy = from(r#"{"resourceType":"OperationOutcome","issue":[{"code":"throttled"}]}"#).unwrap();
        assert_eq!(busy.persistence(), Persistence::Transient);
        for other in ["", "[]", "{}", r#"{"resourceType":"Parameters"}"#, r#"{"transactionTime":"2026-01-01T00:00:00Z"}"#] {
            assert!(from(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_failure_of_the_poll_is_distinguished_from_a_failure_of_the_export() {
        let outcome = |code: &str| format!(r#"{{"issue":[{{"code":"{code}"}}]}}"#);
        let doubtful = Persistence::Doubtful { attempts: 5 };
        for (status, code, expected) in [
            (500, "transient", Persistence::Transient),
            (500, "throttled", Persistence::Transient),
            (500, "exception", doubtful),
            (500, "processing", Persistence::Final),
            (500, "", doubtful),
            (502, "", Persistence::Transient),
            (503, "", Persistence::Transient),
            (504, "processing", Persistence::Transient),
            (429, "", Persistence::Transient),
            (501, "", Persistence::Final),
            (400, "transient", Persistence::Transient),
            (400, "invalid", Persistence::Final),
            (404, "transient", Persistence::Final),
            (410, "", Persistence::Final),
        ] {
            let body = if code.is_empty() { String::new() } else { outcome(code) };
            assert_eq!(rejection(status, &body).persistence(), expected, "{status} {code}");
        }
    }
}
