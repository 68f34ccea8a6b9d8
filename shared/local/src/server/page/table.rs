//! Schedules and events on the page: the requests that manage a job table.
//!
//! They are no part of the Bulk Data API, and exist for two pages: that of a server without access control, where each program on the
//! machine may do what exports can do, and that of `headrace ui` with the operator's own access to a job table. Each needs the header that only the
//! page sends.

mod events;
mod schedule_body;
mod schedules;

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, map_response};
use axum::response::Response;
use axum::routing::{get, post};
use headrace_aws::DynamoJobStore;
use headrace_core::job::ExportError;
use headrace_core::request::{ExportPolicy, RequestError};
use headrace_core::vocab::outcome::IssueCode;
use headrace_edge::reply::{Reply, error_reply};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::server::gateway_request::into_axum_response;
use crate::server::page::headers::add_page_headers;
use crate::server::page::is_from_page;
use crate::server::request_body::{BodyLimits, RequestBodies};
use crate::stores::directory::DirectoryOutputStore;

/// Largest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 256 << 10;

/// The job table that the page manages, and the rules for it.
pub(crate) struct PageTable {
    /// The job table.
    pub(crate) store: DynamoJobStore,
    /// The server's rules for kick-offs. `None` if another process has them: it checks the rest when a run starts.
    pub(crate) policy: Option<ExportPolicy>,
    /// The destinations with the anonymization configurations. `None` if another process has the rules for them.
    pub(crate) output: Option<DirectoryOutputStore>,
    /// True if access control is on, so that a schedule needs a client.
    pub(crate) requires_client: bool,
    /// True if the server sends events. `None` if another process knows it.
    pub(crate) sends_events: Option<bool>,
}

/// Returns the routes of the job table below a prefix, which is empty or begins with a slash.
pub(crate) fn table_routes<S: Clone + Send + Sync + 'static>(prefix: &str, table: PageTable) -> Router<S> {
    let path = |path: &str| format!("{prefix}/ui/{path}");
    let routes = Router::new()
        .route(&path("schedules"), get(schedules::list).post(schedules::add))
        .route(&path("schedules/{name}"), get(schedules::show).put(schedules::change).delete(schedules::remove))
        .route(&path("schedules/{name}/{action}"), post(schedules::act))
        .route(&path("events"), get(events::list))
        .route(&path("events/replay"), post(events::replay));
    routes.layer(from_fn(require_page)).layer(map_response(add_page_headers)).with_state(Arc::new(table))
}

/// Rejects a request that the page has not sent. This is a middleware.
async fn require_page(request: Request, next: Next) -> Response {
    if is_from_page(request.headers()) {
        return next.run(request).await;
    }
    let text = "only the page itself may send this request; in a terminal, use `headrace schedules` and `headrace events`";
    respond(Err(RequestError::new(403, IssueCode::Forbidden, "X-Headrace-Page", text).into()))
}

/// Converts the result of a request to its response.
fn respond(result: Result<Reply, ExportError>) -> Response {
    let reply = result.unwrap_or_else(|error| {
        if let ExportError::Store(error) = &error {
            tracing::error!(error = error as &dyn Error, "a request of the page failed");
        }
        error_reply(&error)
    });
    into_axum_response(reply.into_response())
}

/// Creates a response with JSON.
fn json_reply(status: u16, value: &Value) -> Reply {
    Reply::json(status, "application/json", value.to_string())
}

/// Reads the JSON body of a request.
async fn read_json<T: DeserializeOwned>(request: Request) -> Result<T, ExportError> {
    let body = RequestBodies::new(BodyLimits::default()).receive_beginning(request, MAX_BODY_BYTES).await?;
    if body.as_ref().len() > MAX_BODY_BYTES {
        let text = format!("the request body is longer than {MAX_BODY_BYTES} bytes");
        return Err(RequestError::new(413, IssueCode::TooCostly, "body", text).into());
    }
    let invalid = |error: serde_json::Error| {
        RequestError::new(400, IssueCode::Structure, "body", format!("the request body is not what the page sends: {error}"))
    };
    Ok(serde_json::from_slice(body.as_ref()).map_err(invalid)?)
}
