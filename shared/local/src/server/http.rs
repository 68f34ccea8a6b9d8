//! The HTTP routes of the server. Each request is converted to a `lambda_http` request, as by API Gateway, so that the handlers of
//! the Lambda functions can answer it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, RawPathParams, Request, State};
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodRouter, any, get, post};
use headrace_core::job::ExportError;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::form::MAX_FORM_BYTES;
use headrace_edge::reply::{Reply, add_strict_transport_security, error_reply, error_response};
use http::header::ALLOW;
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;

use crate::server::file_response::{Downloads, send_file};
use crate::server::gateway_request::{into_axum_response, split_gateway_request, to_gateway_request};
use crate::server::host::{AllowedHosts, reject_unknown_host};
use crate::server::listen;
use crate::server::open_by_default::reject_if_no_longer_open;
use crate::server::own_address::add_own_base_url;
use crate::server::page::{self, OwnOrigin, PageContext, add_download_headers, reject_other_origins};
use crate::server::request_body::RequestBodies;
use crate::server::request_head::check_head;
use crate::server::response_format::format_response;
use crate::server::service::Service;

pub use crate::server::listen::ConnectionLimits;
pub use crate::server::own_address::base_url;
pub use crate::server::request_body::BodyLimits;

/// Path of the FHIR base URL.
pub const BASE_PATH: &str = "/fhir";

/// Path of the SMART configuration. It is served relative to the base URL and at the root of the host, where some clients look.
pub const DISCOVERY_PATH: &str = "/.well-known/smart-configuration";

/// The limits of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerLimits {
    /// Limits of connections.
    pub connections: ConnectionLimits,
    /// Limits of request bodies.
    pub bodies: BodyLimits,
}

/// The state of the routes.
#[derive(Clone)]
struct ServerState {
    service: Arc<Service>,
    bodies: RequestBodies,
    downloads: Downloads,
}

impl FromRef<ServerState> for Arc<Service> {
    fn from_ref(state: &ServerState) -> Self {
        state.service.clone()
    }
}

/// Returns 404 with an OperationOutcome for an unknown path.
async fn not_found(_: Request) -> Response {
    into_axum_response(error_reply(&ExportError::NotFound("this path")).into_response())
}

/// Creates the response 405 for a path that supports only these methods.
fn method_not_allowed(methods: &'static str) -> Response {
    let text = format!("this path does not support this method: it supports {methods}");
    let reply = Reply::outcome(405, &OperationOutcome::error(IssueCode::NotSupported, text)).with_header(ALLOW, methods);
    into_axum_response(reply.into_response())
}

/// Returns a route that answers 405 to every other method.
fn allow(route: MethodRouter<ServerState>, methods: &'static str) -> MethodRouter<ServerState> {
    route.fallback(async move |_: Request| method_not_allowed(methods))
}

/// Converts a request. HEAD becomes GET: the server sends the headers of its response, without the body.
fn to_get_request(parameters: RawPathParams, mut request: Request) -> lambda_http::Request {
    *request.method_mut() = Method::GET;
    to_gateway_request(parameters, request)
}

/// Returns the route of the metadata handler.
fn metadata() -> MethodRouter<ServerState> {
    let route = get(|State(service): State<Arc<Service>>, parameters, request| async move {
        into_axum_response(service.metadata.handle(to_get_request(parameters, request)).await)
    });
    allow(route, "GET, HEAD")
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

/// Returns the route of kick-offs. It does not support HEAD, because a GET here starts an export.
fn kick_off() -> MethodRouter<ServerState> {
    // Not `get` and `post`: they would add a header `Allow` to the 404 of a path that is not a kick-off.
    any(async |State(state): State<ServerState>, parameters: RawPathParams, request: Request| match *request.method() {
        _ if is_encoded_twice(request.uri().path()) => not_found(request).await,
        Method::GET => into_axum_response(Box::pin(state.service.kickoff.handle(to_gateway_request(parameters, request))).await),
        Method::POST => Box::pin(receive_kick_off(&state, parameters, request)).await,
        _ if request.uri().path().ends_with("/$export") || request.uri().path().ends_with("/%24export") => method_not_allowed("GET, POST"),
        _ => not_found(request).await,
    })
}

/// Returns true if the last segment of a path still has an escaped `$` after it is decoded. The handlers take that for an operation, because
/// some gateways do not decode it, but a path is decoded once.
fn is_encoded_twice(path: &str) -> bool {
    let segment = path.rsplit('/').next().unwrap_or_default();
    percent_decode_str(segment).decode_utf8_lossy().starts_with("%24")
}

/// Handles a kick-off by POST.
async fn receive_kick_off(state: &ServerState, parameters: RawPathParams, request: Request) -> Response {
    let (head, request) = split_gateway_request(parameters, request);
    // The body counts as in flight until the export is accepted.
    let mut received = None;
    let body = async {
        let received = received.insert(state.bodies.receive(request).await?);
        Ok(std::mem::take(&mut received.body))
    };
    into_axum_response(Box::pin(state.service.kickoff.handle_with_body(head, body)).await)
}

/// Returns the route of one export: its status, and its cancellation.
fn export() -> MethodRouter<ServerState> {
    let status = |State(service): State<Arc<Service>>, parameters, request| async move {
        let response = into_axum_response(Box::pin(service.exports.handle(to_get_request(parameters, request))).await);
        fail_if_table_is_faulty(&service, response)
    };
    let cancel = |State(service): State<Arc<Service>>, parameters, request| async move {
        into_axum_response(service.cancel.handle(to_gateway_request(parameters, request)).await)
    };
    allow(get(status).delete(cancel), "GET, HEAD, DELETE")
}

/// Returns the route of the list of exports.
fn exports() -> MethodRouter<ServerState> {
    let list = |State(service): State<Arc<Service>>, parameters, request| async move {
        into_axum_response(Box::pin(service.exports.handle(to_get_request(parameters, request))).await)
    };
    allow(get(list), "GET, HEAD")
}

/// Returns the route of the groups handler.
fn groups() -> MethodRouter<ServerState> {
    let read = |State(service): State<Arc<Service>>, parameters, request| async move {
        into_axum_response(service.groups.handle(to_get_request(parameters, request)).await)
    };
    allow(get(read), "GET, HEAD")
}

/// Returns the route of exported files.
fn files() -> MethodRouter<ServerState> {
    let download = |State(state): State<ServerState>, parameters, request: Request| async move {
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let response = state.service.files.handle(to_gateway_request(parameters, request)).await;
        let mut response = send_file(&state.downloads, response, &method, &headers).await;
        if response.status().is_success() {
            add_download_headers(response.headers_mut(), &name);
        }
        response
    };
    allow(get(download), "GET, HEAD")
}

/// Returns the route of the token endpoint. Without one, the path does not exist.
fn token(service: &Service) -> MethodRouter<ServerState> {
    if service.token.is_none() {
        return any(not_found);
    }
    let issue = async |State(state): State<ServerState>, parameters: RawPathParams, request: Request| {
        let (mut head, request) = split_gateway_request(parameters, request);
        let body = match state.bodies.receive_beginning(request, MAX_FORM_BYTES).await {
            Ok(body) => body,
            Err(error) => return into_axum_response(error_response(&head, &error)),
        };
        *head.body_mut() = body;
        match &state.service.token {
            Some(token) => into_axum_response(token.handle(head).await),
            None => into_axum_response(error_response(&head, &ExportError::NotFound("a token endpoint"))),
        }
    };
    allow(post(issue), "POST")
}

/// Returns the routes below the base URL, the same as those of API Gateway in `template.yaml`. Each GET route but those of kick-offs also
/// answers HEAD.
fn routes(service: &Service) -> Router<ServerState> {
    Router::new()
        .route("/token", token(service))
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
        .route("/_operations/export", exports())
        .route("/_operations/export/{job}", export())
        .route("/_operations/files/{job}/{name}", files())
}

/// Serves requests until the future is dropped.
pub async fn serve(service: Arc<Service>, listener: TcpListener) -> std::io::Result<()> {
    serve_within(service, listener, ServerLimits::default()).await
}

/// Serves requests within these limits until the future is dropped.
pub async fn serve_within(service: Arc<Service>, listener: TcpListener, limits: ServerLimits) -> std::io::Result<()> {
    let is_behind_tls = service.base.as_deref().is_some_and(|base| base.starts_with("https://"));
    let address = listener.local_addr()?;
    let hosts = AllowedHosts::new(address, service.base.as_deref(), service.requires_authentication);
    let open_by_default = service.open_by_default.clone();
    let requires_authentication = service.requires_authentication;
    let own_origin = OwnOrigin::new(service.base.as_deref(), "/".to_owned());
    let app = Router::new().nest(BASE_PATH, routes(&service)).route(DISCOVERY_PATH, metadata()).fallback(any(not_found));
    let app = app.merge(page::routes("", &page_context(&service, address)));
    let app = match service.page_table() {
        Some(table) => app.merge(page::table_routes("", table)),
        None => app,
    };
    let app = app.with_state(ServerState { service, bodies: RequestBodies::new(limits.bodies), downloads: Downloads::default() });
    let app = app.layer(from_fn_with_state(address, add_own_base_url));
    let app = match open_by_default {
        Some(state) => app.layer(from_fn_with_state(state, reject_if_no_longer_open)),
        None => app,
    };
    // A server with access control does nothing without a token, which no other site has.
    let app = if requires_authentication { app } else { app.layer(from_fn_with_state(own_origin, reject_other_origins)) };
    let app = app.layer(from_fn_with_state(hosts, reject_unknown_host));
    let app = app.layer(from_fn_with_state(limits.connections.max_head_bytes, check_head)).layer(from_fn(format_response));
    let app = if is_behind_tls { app.layer(map_response(add_https_headers)) } else { app };
    listen::serve(app, listener, limits.connections).await
}

/// Describes the server for its page.
fn page_context(service: &Service, address: SocketAddr) -> PageContext {
    let server = service.base.clone().unwrap_or_else(|| base_url(address));
    let needs_token = service.requires_authentication;
    PageContext { api: "fhir/", server, client: None, needs_token, manages_schedules: !needs_token }
}

/// Adds the headers that require HTTPS to a response.
async fn add_https_headers(mut response: Response) -> Response {
    add_strict_transport_security(response.headers_mut());
    response
}
