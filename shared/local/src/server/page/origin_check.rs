//! Rejects requests that a page of another site makes a browser send. A server without access control, and one that logs in for its
//! page, do what any request says, so a browser that visits another site must not be able to send one.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::reply::Reply;
use http::header::{HOST, HeaderName, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method};
use reqwest::Url;

use crate::server::gateway_request::into_axum_response;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// A header that only the page sends. A page of another site cannot add it without asking the server first, and the server does not
/// agree.
const PAGE_HEADER: HeaderName = HeaderName::from_static("x-headrace-page");

/// The origin of a server.
#[derive(Clone, Debug)]
pub(crate) struct OwnOrigin {
    /// Origin of the configured base URL.
    configured: Option<String>,
    /// Path of the page. A link on another site may lead to it.
    page: String,
}

impl OwnOrigin {
    /// Creates the origin of a server.
    ///
    /// * `base`: the configured base URL.
    /// * `page`: the path of the page.
    pub(crate) fn new(base: Option<&str>, page: String) -> Self {
        let configured = base.and_then(|base| Url::parse(base).ok()).map(|base| base.origin().ascii_serialization());
        Self { configured, page }
    }

    /// Returns true if a browser sent the request for a page of another site.
    fn is_foreign(&self, method: &Method, path: &str, headers: &HeaderMap, host: &str) -> bool {
        let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let is_own = |origin: &str| {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) || self.configured.as_deref() == Some(origin)
        };
        let is_other_site = text(&SEC_FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none"));
        // A link leads to the page itself, in a window of its own and not in a frame.
        let is_visit = *method == Method::GET
            && path == self.page
            && text(&SEC_FETCH_MODE) == Some("navigate")
            && text(&SEC_FETCH_DEST) == Some("document");
        text(&ORIGIN).is_some_and(|origin| !is_own(origin)) || is_other_site && !is_visit
    }
}

/// Rejects a request from a page of another site with 403. This is a middleware.
pub(crate) async fn reject_other_origins(State(own): State<OwnOrigin>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(Authority::as_str).or(host).unwrap_or_default();
    if !own.is_foreign(request.method(), request.uri().path(), headers, host) {
        return next.run(request).await;
    }
    let text = "a page of another site made the browser send this request, and this server accepts only those of its own page; if a proxy \
                forwards requests under another name, set --base-url to the URL with that name";
    into_axum_response(Reply::outcome(403, &OperationOutcome::error(IssueCode::Forbidden, text)).into_response())
}

/// Returns true if the page itself sent the request.
pub(crate) fn is_from_page(headers: &HeaderMap) -> bool {
    headers.contains_key(PAGE_HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns true if a GET request for the path with these headers is rejected.
    fn is_foreign(path: &str, headers: &[(&str, &str)]) -> bool {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
        OwnOrigin::new(Some("https://fhir.example.org/r4"), "/".to_owned()).is_foreign(&Method::GET, path, &headers, "127.0.0.1:8080")
    }

    #[test]
    fn programs_and_the_own_page_are_accepted() {
        for headers in [
            &[][..],
            &[("origin", "http://127.0.0.1:8080")],
            &[("origin", "https://fhir.example.org")],
            &[("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:8080")],
            &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
        ] {
            assert!(!is_foreign("/fhir/metadata", headers), "{headers:?}");
        }
        let visit = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert!(!is_foreign("/", &visit), "a link to the page");
    }

    #[test]
    fn pages_of_other_sites_are_rejected() {
        for headers in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "http://127.0.0.1:9999")],
            &[("origin", "http://127.0.0.1:8080.evil.example")],
            &[("origin", "null")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:8080")],
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
        ] {
            assert!(is_foreign("/fhir/metadata", headers), "{headers:?}");
        }
        assert!(
            is_foreign("/", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")]),
            "a frame"
        );
    }
}
