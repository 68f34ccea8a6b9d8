//! Checks the head of each request against the rules of HTTP that no route depends on.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::reply::Reply;
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Method, Version};
use percent_encoding::percent_decode_str;

use crate::server::gateway_request::into_axum_response;

/// Maximum length of a request target, in bytes: a query of 16 KiB, and the path.
const MAX_TARGET_BYTES: usize = 17 << 10;

/// The methods of HTTP. A method of this list that a path does not support is 405, another one 501 (RFC 9110, section 9.1).
const METHODS: [Method; 9] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::CONNECT, Method::OPTIONS, Method::TRACE, Method::PATCH];

/// Rejects a request whose head is too long, or whose method or Host header is invalid. This is a middleware. `max_head_bytes` is the
/// maximum size of the head.
pub(crate) async fn check_head(State(max_head_bytes): State<usize>, request: Request, next: Next) -> Response {
    match violation(&request, max_head_bytes) {
        Some((status, code, text)) => {
            let mut response = into_axum_response(Reply::outcome(status, &OperationOutcome::error(code, text)).into_response());
            // The size of what follows is unknown or cannot be trusted.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
        None => next.run(request).await,
    }
}

/// Returns the status, code and text for a violated rule.
fn violation(request: &Request, max_head_bytes: usize) -> Option<(u16, IssueCode, &'static str)> {
    let target = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if target > MAX_TARGET_BYTES {
        let text = "the URL is longer than 17 KiB: send the parameters of an export with POST, in a Parameters resource";
        return Some((414, IssueCode::TooCostly, text));
    }
    if head_bytes(request, target) > max_head_bytes {
        let text = "the request line and the headers are too long: shorten the headers, or POST the parameters of an export";
        return Some((431, IssueCode::TooCostly, text));
    }
    if !METHODS.contains(request.method()) {
        return Some((501, IssueCode::NotSupported, "this server does not know this method: use GET, HEAD, POST or DELETE"));
    }
    if percent_decode_str(request.uri().path()).decode_utf8().is_err() {
        return Some((400, IssueCode::Invalid, "the path of the URL is not percent-encoded UTF-8"));
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Some((400, IssueCode::Invalid, "a request of HTTP/1.1 has exactly one header Host: send the host name of the URL"));
    }
    None
}

/// Returns the size of a head. hyper only rejects a head that fills its buffer before it ends, so one of up to twice the limit could pass if
/// its end arrives with the last read.
fn head_bytes(request: &Request, target_bytes: usize) -> usize {
    // Four more bytes per field: the colon, a space and the line end.
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    request.method().as_str().len() + target_bytes + " HTTP/1.1 \r\n\r\n".len() + fields.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn the_rejection_of_a_long_head_says_what_to_do() {
        let app = Router::new().route("/", get(|| async { "here" })).layer(from_fn_with_state(100, check_head));
        let rest = "GET / HTTP/1.1\r\nhost: h\r\nx: \r\n\r\n".len();
        for (x, status) in [(100 - rest, 200), (100 - rest + 1, 431)] {
            let request = Request::builder().uri("/").header("host", "h").header("x", "x".repeat(x)).body(Body::empty()).unwrap();
            let reply = app.clone().oneshot(request).await.unwrap();
            assert_eq!(reply.status(), status, "{x}");
            if status == 431 {
                assert_eq!(reply.headers()[CONNECTION], "close");
                let body = axum::body::to_bytes(reply.into_body(), 1000).await.unwrap();
                let body = String::from_utf8(body.to_vec()).unwrap();
                assert!(body.contains("\"OperationOutcome\"") && body.contains("POST"), "{body}");
            }
        }
    }
}
