//! The HTTP routes of the server. Each request is converted to a `lambda_http` request, as by API Gateway, so that the handlers of
//! the Lambda functions can answer it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body as HttpBody;
use axum::extract::{RawPathParams, Request, State};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodRouter, any, get, post};
use files::handler::{LocalFile, NDJSON};
use headrace_core::job::ExportError;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::reply::{Reply, add_strict_transport_security, error_reply};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use lambda_http::{Body, RequestExt as _};
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tower_http::compression::CompressionLayer;
use tower_http::services::ServeFile;

use crate::server::host::{AllowedHosts, reject_unknown_host};
use crate::server::listen;
use crate::server::open_by_default::reject_if_no_longer_open;
use crate::server::own_address::add_own_base_url;
use crate::server::service::Service;

pub use crate::server::own_address::base_url;

/// Path of the FHIR base URL.
pub const BASE_PATH: &str = "/fhir";

/// Path of the SMART configuration. It is served relative to the base URL and at the root of the host, where some clients look.
pub const DISCOVERY_PATH: &str = "/.well-known/smart-configuration";

/// Maximum size of a request body, in bytes. Lambda accepts 6 MB; base64 may take a quarter of that.
const MAX_BODY_BYTES: usize = 5_000_000;

/// Time limit for receiving a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns 404 with an OperationOutcome for an unknown path.
async fn not_found(_: Request) -> Response {
    into_axum_response(error_reply(&ExportError::NotFound("this path")).into_response())
}

/// Returns 405 with an OperationOutcome for a method that the path does not support.
async fn method_not_allowed(_: Request) -> Response {
    let text = "this path does not support this method";
    into_axum_response(Reply::outcome(405, &OperationOutcome::error(IssueCode::NotSupported, text)).into_response())
}

/// Returns the route of the metadata handler.
fn metadata() -> MethodRouter<Arc<Service>> {
    get(|State(service): State<Arc<Service>>, parameters, request| async move {
        into_axum_response(service.metadata.handle(to_gateway_request(parameters, request)).await)
    })
    .fallback(method_not_allowed)
}

/// Replaces the answer of a running export if the job table cannot be written: nothing can be recorded then, not even that the export
/// has failed, so it would stay 202 for ever.
fn fail_if_table_is_faulty(service: &Service, response: Response) -> Response {
    match service.table_fault() {
        Some(fault) if response.status() == StatusCode::ACCEPTED => {
            let outcome = OperationOutcome::error(IssueCode::NoStore, fault.text());
            into_axum_response(Reply::outcome(507, &outcome).into_response())
        }
        Some(_) | None => response,
    }
}

/// Returns the routes below the base URL, the same as those of API Gateway in `template.yaml`. Each GET route also answers HEAD.
fn routes() -> Router<Arc<Service>> {
    let kick_off = || -> MethodRouter<Arc<Service>> {
        get(|State(service): State<Arc<Service>>, parameters, request| async move {
            into_axum_response(service.kickoff.handle(to_gateway_request(parameters, request)).await)
        })
        .post(|State(service): State<Arc<Service>>, parameters, request| async move {
            match to_gateway_request_with_body(parameters, request).await {
                Ok(request) => into_axum_response(service.kickoff.handle(request).await),
                Err(response) => response,
            }
        })
        .fallback(method_not_allowed)
    };
    let exports = || -> MethodRouter<Arc<Service>> {
        get(|State(service): State<Arc<Service>>, parameters, request| async move {
            let response = into_axum_response(service.exports.handle(to_gateway_request(parameters, request)).await);
            fail_if_table_is_faulty(&service, response)
        })
    };
    let cancel = |State(service): State<Arc<Service>>, parameters, request| async move {
        into_axum_response(service.cancel.handle(to_gateway_request(parameters, request)).await)
    };
    let groups = || -> MethodRouter<Arc<Service>> {
        get(|State(service): State<Arc<Service>>, parameters, request| async move {
            into_axum_response(service.groups.handle(to_gateway_request(parameters, request)).await)
        })
        .fallback(method_not_allowed)
    };
    let files = get(|State(service): State<Arc<Service>>, parameters, request: Request| async move {
        let (parts, _) = request.into_parts();
        // The handler and the file service each consume a request.
        let handler_request = Request::from_parts(parts.clone(), HttpBody::empty());
        let response = service.files.handle(to_gateway_request(parameters, handler_request)).await;
        stream_file(response, Request::from_parts(parts, HttpBody::empty())).await
    })
    .fallback(method_not_allowed)
    .layer(CompressionLayer::new().gzip(true));
    let token = post(|State(service): State<Arc<Service>>, parameters, request| async move {
        let Some(token) = &service.token else {
            return into_axum_response(error_reply(&ExportError::NotFound("a token endpoint")).into_response());
        };
        match to_gateway_request_with_body(parameters, request).await {
            Ok(request) => into_axum_response(token.handle(request).await),
            Err(response) => response,
        }
    })
    .fallback(method_not_allowed);
    Router::new()
        .route("/token", token)
        .route("/metadata", metadata())
        .route("/OperationDefinition", metadata())
        .route("/OperationDefinition/{id}", metadata())
        .route(DISCOVERY_PATH, metadata())
        .route("/{operation}", kick_off())
        .route("/Patient/{operation}", kick_off())
        .route("/Patient/{id}/{operation}", kick_off())
        .route("/Group/{id}/{operation}", kick_off())
        .route("/Group", groups())
        .route("/Group/{id}", groups())
        .route("/_operations/export", exports().fallback(method_not_allowed))
        .route("/_operations/export/{job}", exports().delete(cancel).fallback(method_not_allowed))
        .route("/_operations/files/{job}/{name}", files)
}

/// Serves requests until the process is stopped.
pub async fn serve(service: Arc<Service>, listener: TcpListener) -> std::io::Result<()> {
    let is_behind_tls = service.base.as_deref().is_some_and(|base| base.starts_with("https://"));
    let address = listener.local_addr()?;
    let hosts = AllowedHosts::new(address, service.base.as_deref(), service.requires_authentication);
    let open_by_default = service.open_by_default.clone();
    let app = Router::new().nest(BASE_PATH, routes()).route(DISCOVERY_PATH, metadata()).fallback(any(not_found)).with_state(service);
    let app = app.layer(from_fn_with_state(address, add_own_base_url));
    let app = match open_by_default {
        Some(state) => app.layer(from_fn_with_state(state, reject_if_no_longer_open)),
        None => app,
    };
    let app = app.layer(from_fn_with_state(hosts, reject_unknown_host));
    let app = if is_behind_tls { app.layer(map_response(add_https_headers)) } else { app };
    listen::serve(app, listener, listen::DEFAULT_LIMITS).await
}

/// Adds the headers that require HTTPS to a response.
async fn add_https_headers(mut response: Response) -> Response {
    add_strict_transport_security(response.headers_mut());
    response
}

/// Converts a request without its body, for routes that ignore the body.
fn to_gateway_request(parameters: RawPathParams, request: Request) -> lambda_http::Request {
    build_gateway_request(&parameters, request.into_parts().0, Body::Empty)
}

/// Converts a request with its body. Returns an error response if the body is too long, incomplete or too slow.
async fn to_gateway_request_with_body(parameters: RawPathParams, request: Request) -> Result<lambda_http::Request, Response> {
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY_BYTES));
    let bytes = match read.await {
        Ok(Ok(bytes)) => Vec::from(bytes),
        Err(_) => {
            let text = "the request body did not arrive within a minute: send the request again";
            return Err(into_axum_response(Reply::outcome(408, &OperationOutcome::error(IssueCode::Timeout, text)).into_response()));
        }
        Ok(Err(error)) => {
            let is_too_long = error.into_inner().is::<http_body_util::LengthLimitError>();
            let (status, code, text) = if is_too_long {
                (413, IssueCode::TooCostly, "the request body is longer than 5 MB: split the request into several exports")
            } else {
                (400, IssueCode::Invalid, "the request body is incomplete: send the request again")
            };
            return Err(into_axum_response(Reply::outcome(status, &OperationOutcome::error(code, text)).into_response()));
        }
    };
    // As from API Gateway: text stays text, other bodies arrive in base64 and are decoded by `lambda_http`.
    let body = match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() => Body::Empty,
        Ok(text) => Body::Text(text),
        Err(error) => Body::Binary(error.into_bytes()),
    };
    Ok(build_gateway_request(&parameters, parts, body))
}

/// Builds a `lambda_http` request with path parameters and raw path.
fn build_gateway_request(parameters: &RawPathParams, parts: http::request::Parts, body: Body) -> lambda_http::Request {
    let parameters: HashMap<String, String> = parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let path = parts.extensions.get::<axum::extract::OriginalUri>().map_or_else(|| parts.uri.path(), |uri| uri.path());
    // As from API Gateway: the path is decoded.
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
    lambda_http::Request::from_parts(parts, body).with_path_parameters(parameters).with_raw_http_path(path)
}

/// Converts the response of a handler.
pub(crate) fn into_axum_response(response: http::Response<Body>) -> Response {
    response.map(|body| match body {
        Body::Empty => HttpBody::empty(),
        Body::Text(text) => HttpBody::from(text),
        Body::Binary(bytes) => HttpBody::from(bytes),
        // `Body` is non-exhaustive; later versions may add variants.
        _ => HttpBody::empty(),
    })
}

/// Streams the file that the handler has authorized, whole or in ranges. Returns other responses of the handler unchanged.
async fn stream_file(response: http::Response<Body>, request: Request) -> Response {
    let Some(LocalFile(path)) = response.extensions().get().cloned() else { return into_axum_response(response) };
    let (head, _) = response.into_parts();
    let mut served = match ServeFile::new(path).oneshot(request).await {
        Ok(served) => served.map(HttpBody::new),
        Err(never) => match never {},
    };
    for (name, value) in &head.headers {
        served.headers_mut().insert(name, value.clone());
    }
    if matches!(served.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        served.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    }
    served
}
