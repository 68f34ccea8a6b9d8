//! The page for people at a browser: its files, which are part of the program, and the rules for browsers that show them.
//!
//! `headrace serve` has the page at its root, and `headrace ui` serves it for any server. The page has no build step, and loads
//! nothing from other hosts. `docs/security.md` says what it may do, and why.

mod assets;
mod context;
mod filter_check;
mod headers;
mod origin_check;
mod table;

use axum::Router;
use axum::extract::{RawPathParams, RawQuery};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::reply::Reply;

use crate::server::gateway_request::into_axum_response;

pub(crate) use self::context::PageContext;
pub(crate) use self::headers::add_download_headers;
pub(crate) use self::origin_check::{OwnOrigin, is_from_page, reject_other_origins};
pub(crate) use self::table::{PageTable, table_routes};

/// Returns the routes of the page below a prefix, which is empty or begins with a slash.
///
/// * `context`: what the page must know of its server.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(prefix: &str, context: &PageContext) -> Router<S> {
    let description = Reply::json(200, "application/json", context.to_json());
    let routes = Router::new()
        .route(&format!("{prefix}/"), get(async || assets::index()))
        .route(&format!("{prefix}/ui/context"), get(async move || into_axum_response(description.clone().into_response())))
        .route(&format!("{prefix}/ui/filter"), get(check_filter))
        .route(&format!("{prefix}/ui/{{name}}"), get(asset));
    routes.layer(map_response(headers::add_page_headers))
}

/// Checks a search query.
async fn check_filter(RawQuery(query): RawQuery) -> Response {
    into_axum_response(filter_check::answer(query.as_deref().unwrap_or_default()).into_response())
}

/// Returns a file of the page.
async fn asset(parameters: RawPathParams) -> Response {
    let name = parameters.iter().find(|(name, _)| *name == "name").map(|(_, value)| value);
    name.and_then(assets::find).unwrap_or_else(|| {
        let outcome = OperationOutcome::error(IssueCode::NotFound, "the page has no such file");
        into_axum_response(Reply::outcome(404, &outcome).into_response())
    })
}
