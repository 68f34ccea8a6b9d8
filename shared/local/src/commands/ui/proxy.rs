//! Sends the requests of the page to the server, with the credential of the program, and passes the responses on.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::accept::{AcceptedCodings, ContentCoding};
use headrace_edge::reply::Reply;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, HeaderName,
    LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue};
use reqwest::Url;

use super::target::Target;
use crate::client::bulk::BulkClient;
use crate::client::transport::Call;
use crate::server::gateway_request::into_axum_response;
use crate::server::page::{add_download_headers, is_from_page};
use crate::terminal::error_chain;

/// Headers of the page's request that the server gets. Cookies, credentials and addresses stay here.
const REQUEST_HEADERS: [HeaderName; 3] = [ACCEPT, RANGE, HeaderName::from_static("prefer")];

/// Headers of the server's response that the page gets.
const RESPONSE_HEADERS: [HeaderName; 11] = [
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_TYPE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    RETRY_AFTER,
    HeaderName::from_static("x-export-status"),
    HeaderName::from_static("x-progress"),
];

/// Name of a request of the page in messages.
const PAGE_REQUEST: &str = "the request";

/// The server behind the page, and the client that logs in.
pub(super) struct Proxy {
    client: BulkClient,
    base: Url,
}

impl Proxy {
    /// Creates the proxy of the server with this base URL.
    pub(super) fn new(client: BulkClient, base: Url) -> Self {
        Self { client, base }
    }

    /// Sends a request and passes the response on.
    async fn send(&self, target: &Target, method: http::Method, headers: &HeaderMap) -> Response {
        let mut call = Call::new(PAGE_REQUEST, method);
        for name in &REQUEST_HEADERS {
            if let Some(value) = headers.get(name) {
                call.headers.insert(name.clone(), value.clone());
            }
        }
        let coding = match AcceptedCodings::from_headers(headers).preferred() {
            // A range counts the bytes of the file as it is.
            Some(ContentCoding::Gzip) if !headers.contains_key(RANGE) => "gzip",
            Some(_) | None => "identity",
        };
        call.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding));
        match self.client.session.send(&call, &target.url).await {
            Ok(response) => pass_on(response, target.file.as_deref()),
            Err(error) => {
                let text = error_chain(&error);
                into_axum_response(Reply::outcome(502, &OperationOutcome::error(IssueCode::Transient, text)).into_response())
            }
        }
    }
}

/// Forwards a request of the page. Only the download of a file may come from a link, all others from the page's own code.
pub(super) async fn forward(State(proxy): State<Arc<Proxy>>, RawQuery(query): RawQuery, request: Request) -> Response {
    // The path as it was sent: a decoded one could have other segments.
    let path = request.uri().path().split_once("/api/").map_or("", |(_, path)| path);
    let Some(target) = Target::new(&proxy.base, request.method(), path, query.as_deref()) else {
        return reject(404, IssueCode::NotFound, "the page sends no such request");
    };
    if target.file.is_none() && !is_from_page(request.headers()) {
        return reject(403, IssueCode::Forbidden, "only the page itself may send this request");
    }
    proxy.send(&target, request.method().clone(), request.headers()).await
}

/// Creates the response to a rejected request.
fn reject(status: u16, code: IssueCode, text: &str) -> Response {
    into_axum_response(Reply::outcome(status, &OperationOutcome::error(code, text)).into_response())
}

/// Passes a response on, with the headers that the page needs. A browser gets its body as data, regardless of its media type.
fn pass_on(response: reqwest::Response, file: Option<&str>) -> Response {
    let status = response.status();
    let headers = response.headers().clone();
    let mut passed = Response::new(Body::from_stream(response.bytes_stream()));
    *passed.status_mut() = status;
    let is_file = file.filter(|_| status.is_success());
    add_download_headers(passed.headers_mut(), is_file.unwrap_or("answer.json"));
    for name in &RESPONSE_HEADERS {
        if let Some(value) = headers.get(name) {
            passed.headers_mut().insert(name.clone(), value.clone());
        }
    }
    passed
}
