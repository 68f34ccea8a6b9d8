//! Checks the Host header, against DNS rebinding: a web page in a browser on this machine can let its own host name resolve to
//! a loopback address, and then read the responses of a server there. A server that only this machine can reach therefore
//! accepts only host names of this machine.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::reply::Reply;
use http::header::HOST;
use http::uri::Authority;
use reqwest::Url;

use crate::server::gateway_request::into_axum_response;

/// The host names that a server accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AllowedHosts {
    /// Unrestricted: the server is bound to a public address, whose names are unknown, or it authenticates clients and knows its
    /// base URL.
    Any,
    /// Loopback names and addresses, and the host of the configured base URL.
    Loopback(Option<String>),
}

impl AllowedHosts {
    /// Returns the names for a server that listens on `address`.
    ///
    /// * `base`: the configured base URL.
    /// * `requires_authentication`: true if requests without a credential are rejected anyway.
    pub(crate) fn new(address: SocketAddr, base: Option<&str>, requires_authentication: bool) -> Self {
        let configured = base.and_then(|base| Url::parse(base).ok()?.host_str().map(str::to_owned));
        // Without a configured base URL, the audience of tokens comes from the Host header, so authentication alone is not enough.
        let is_safe = requires_authentication && configured.is_some();
        if address.ip().is_loopback() && !is_safe { Self::Loopback(configured) } else { Self::Any }
    }

    /// Returns true if the value of a Host header is accepted.
    fn allows(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Loopback(configured) => {
                let Some(host) = host.parse().ok().filter(|_| !host.contains('@')).map(|host: Authority| host.host().to_owned()) else {
                    return false;
                };
                let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
                let is_named = configured.as_ref().is_some_and(|configured| configured.eq_ignore_ascii_case(&host));
                is_named || host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.to_canonical().is_loopback())
            }
        }
    }
}

/// Rejects requests for other host names with 421. This is a middleware.
pub(crate) async fn reject_unknown_host(State(hosts): State<AllowedHosts>, request: Request, next: Next) -> Response {
    let mut headers = request.headers().get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let host = request.uri().authority().map(Authority::as_str).or_else(|| headers.next()).unwrap_or_default();
    // Several Host headers are invalid, but must not hide one that is not accepted.
    if headers.all(|other| hosts.allows(other)) && hosts.allows(host) {
        return next.run(request).await;
    }
    let text = "this server accepts only the host names localhost and loopback addresses; if a proxy forwards another host name, set --base-url to the URL with that name";
    into_axum_response(Reply::outcome(421, &OperationOutcome::error(IssueCode::Forbidden, text)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_and_the_configured_host_are_accepted() {
        let hosts = AllowedHosts::new(([127, 0, 0, 1], 8080).into(), Some("https://fhir.example.org/r4"), false);
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.8.9.1:80",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "fhir.example.org",
            "FHIR.example.org:443",
        ] {
            assert!(hosts.allows(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8080",
            "evil@localhost",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0:8080",
            "",
            "localhost/",
            "localhost, evil.example",
            "fhir.example.org.evil.example",
        ] {
            assert!(!hosts.allows(host), "{host}");
        }
        assert!(!AllowedHosts::new(([127, 0, 0, 1], 8080).into(), None, true).allows("fhir.example.org"));
    }

    #[test]
    fn a_server_with_authentication_and_a_base_url_accepts_any_host() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 8080));
        assert_eq!(AllowedHosts::new(loopback, Some("https://fhir.example.org/r4"), true), AllowedHosts::Any);
        assert_eq!(AllowedHosts::new(loopback, None, true), AllowedHosts::Loopback(None));
        assert_eq!(AllowedHosts::new(([0, 0, 0, 0], 8080).into(), None, false), AllowedHosts::Any);
    }
}
