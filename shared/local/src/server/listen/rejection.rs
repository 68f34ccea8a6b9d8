//! Responses without a request: for heads that cannot be parsed or do not arrive, and for connections beyond the limits.

use std::time::{Duration, UNIX_EPOCH};

use headrace_core::ports::Clock as _;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::reply::Reply;
use headrace_edge::system::SystemClock;
use http::header::RETRY_AFTER;
use lambda_http::Body;

/// The reason for a response without a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The head is not HTTP/1.1.
    Malformed,
    /// The first line of the head is too long.
    TargetTooLong,
    /// The head is too long or has too many fields.
    HeadTooLong,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The peer speaks HTTP/2.
    Version,
    /// All connections are in use.
    Overloaded,
}

impl Rejection {
    /// Returns the response to a head that hyper could not parse. `None` if the connection failed for another reason.
    pub(super) fn from_error(error: &hyper::Error, has_first_line: bool) -> Option<Self> {
        if error.is_parse_too_large() {
            return Some(if has_first_line { Self::HeadTooLong } else { Self::TargetTooLong });
        }
        let is_http2 = error.to_string().contains("version");
        error.is_parse().then_some(if is_http2 { Self::Version } else { Self::Malformed })
    }

    /// Returns status, issue code and text.
    fn parts(self) -> (u16, IssueCode, &'static str) {
        match self {
            Self::Malformed => (400, IssueCode::Invalid, "this is not a request of HTTP/1.1: check its first line and its headers"),
            Self::TargetTooLong => {
                (414, IssueCode::TooCostly, "the URL is too long: send the parameters of an export with POST, in a Parameters resource")
            }
            Self::HeadTooLong => {
                (431, IssueCode::TooCostly, "the headers are too long or too many: shorten them, or send parameters with POST")
            }
            Self::HeadTimeout => (408, IssueCode::Timeout, "the headers of the request did not arrive in time: send the request again"),
            Self::Version => (505, IssueCode::NotSupported, "this server speaks HTTP/1.1 only"),
            Self::Overloaded => (503, IssueCode::Throttled, "all connections of this server are in use: try again later"),
        }
    }

    /// Returns the bytes of the response. The connection ends after it.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let (status, code, text) = self.parts();
        let mut reply = Reply::outcome(status, &OperationOutcome::error(code, text));
        if self == Self::Overloaded {
            reply = reply.with_header(RETRY_AFTER, "5");
        }
        let (head, body) = reply.into_response().into_parts();
        let body = match body {
            Body::Text(text) => text.into_bytes(),
            Body::Binary(bytes) => bytes,
            Body::Empty | _ => Vec::new(),
        };
        let mut bytes = format!("HTTP/1.1 {status} {}\r\n", head.status.canonical_reason().unwrap_or_default()).into_bytes();
        for (name, value) in &head.headers {
            bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(SystemClock.now().0));
        bytes.extend(format!("content-length: {}\r\nconnection: close\r\ndate: {date}\r\n\r\n", body.len()).into_bytes());
        bytes.extend(body);
        bytes
    }
}
