//! The format of responses: the media type of JSON and the content coding that the client accepts. It applies to every response,
//! rejections included.

use async_compression::tokio::bufread::GzipEncoder;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::accept::{AcceptedCodings, ContentCoding};
use headrace_edge::reply::{Reply, use_accepted_json};
use http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, VARY};
use http::{HeaderMap, HeaderValue, Method};
use tokio::io::AsyncReadExt as _;

use crate::server::gateway_request::into_axum_response;

/// Maximum size of a response that is compressed as a whole. Exported files are compressed as streams, and have no limit.
const MAX_COMPRESSED_BYTES: usize = 256 << 20;

/// Formats the response to a request. Rejects one whose client excludes every content coding, before anything is done. This is a middleware.
pub(crate) async fn format_response(request: Request, next: Next) -> Response {
    let (method, wanted) = (request.method().clone(), wanted_headers(request.headers()));
    let codings = AcceptedCodings::from_headers(&wanted);
    let mut response = if codings.preferred().is_some() { next.run(request).await } else { not_acceptable() };
    use_accepted_json(&wanted, response.headers_mut());
    add_vary(response.headers_mut());
    if !response.headers().contains_key(CACHE_CONTROL) {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if !codings.accepts_identity() && codings.preferred() == Some(ContentCoding::Gzip) {
        response = compress(&method, response).await;
    }
    response
}

/// Returns the headers of a request that its response depends on.
fn wanted_headers(headers: &HeaderMap) -> HeaderMap {
    let values = |name: HeaderName| headers.get_all(&name).iter().map(move |value| (name.clone(), value.clone())).collect::<Vec<_>>();
    HeaderMap::from_iter([ACCEPT, ACCEPT_ENCODING].into_iter().flat_map(values))
}

/// Creates the response to a client that accepts no content coding. It has none, because the client must be able to read it.
fn not_acceptable() -> Response {
    let text = "the header Accept-Encoding excludes every coding of this server: accept `gzip` or `identity`";
    into_axum_response(Reply::outcome(406, &OperationOutcome::error(IssueCode::NotSupported, text)).into_response())
}

/// Names the headers of a request that the response depends on.
fn add_vary(headers: &mut HeaderMap) {
    if headers.contains_key(CONTENT_TYPE) {
        headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    }
}

/// Compresses the body of a response that has no content coding.
async fn compress(method: &Method, response: Response) -> Response {
    if response.headers().contains_key(CONTENT_ENCODING) || !response.headers().contains_key(CONTENT_TYPE) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    if method == Method::HEAD {
        return Response::from_parts(head, body);
    }
    let mut compressed = Vec::new();
    let bytes = axum::body::to_bytes(body, MAX_COMPRESSED_BYTES).await;
    match bytes {
        Ok(bytes) if GzipEncoder::new(&*bytes).read_to_end(&mut compressed).await.is_ok() => {
            Response::from_parts(head, Body::from(compressed))
        }
        Ok(_) | Err(_) => into_axum_response(headrace_edge::reply::fault_response()),
    }
}
