//! Limits of a server that has no access control only because nobody asked for it: it serves programs on this machine, until
//! access control is set up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::reply::Reply;
use http::HeaderMap;

use crate::server::gateway_request::into_axum_response;
use crate::server::state::ACCESS_CONTROL_FILE;

/// Headers that proxies add. A request with one of them may come from another machine.
const PROXY_HEADERS: [&str; 8] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-forwarded-server", "x-real-ip"];

/// Rejects a request that came through a proxy, and every request once a client has been registered. This is a middleware.
pub(crate) async fn reject_if_no_longer_open(State(state): State<Arc<PathBuf>>, request: Request, next: Next) -> Response {
    if is_from_proxy(request.headers()) {
        let text = "this server has no access control and serves programs on its own machine, but a proxy sent this request: start it \
                    with --base-url and register a client, or start it with --access none";
        return reject(403, IssueCode::Forbidden, text);
    }
    if is_no_longer_open(&state).await {
        let text = "access control was set up after this server was started: restart it, so that it issues access tokens";
        return reject(401, IssueCode::Login, text);
    }
    next.run(request).await
}

/// Returns true if access control was set up in the state folder since the server was started.
pub(crate) async fn is_no_longer_open(state: &Path) -> bool {
    // Not `try_exists` alone: a file that cannot be looked at must not keep the server open.
    tokio::fs::try_exists(state.join(ACCESS_CONTROL_FILE)).await.unwrap_or(true)
}

/// Returns true if a proxy has added a header.
fn is_from_proxy(headers: &HeaderMap) -> bool {
    PROXY_HEADERS.iter().any(|name| headers.contains_key(*name))
}

/// Creates the response to a rejected request.
fn reject(status: u16, code: IssueCode, text: &str) -> Response {
    into_axum_response(Reply::outcome(status, &OperationOutcome::error(code, text)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_security_lists_the_headers_of_proxies() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md")).unwrap().to_lowercase();
        let row = page.lines().find(|line| line.starts_with("| `forwarded`, ")).unwrap();
        let listed: Vec<&str> = row.split('|').nth(1).unwrap().split(',').map(|name| name.trim().trim_matches('`')).collect();
        assert_eq!(listed, PROXY_HEADERS);
    }
}
