//! Which names this server answers to. A page of somebody else's that a browser on this machine shows can let its own name
//! lead to this machine (DNS rebinding), and would then read whatever answers: so a server that only this machine reaches
//! answers to names of this machine only.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use headrace_core::vocab::outcome::{IssueCode, Outcome};
use headrace_edge::reply::Reply;
use http::header::HOST;
use http::uri::Authority;
use reqwest::Url;

use crate::server::http::into_axum_response;

/// Which names are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AllowedHosts {
    /// All: others reach this server, and not by its name it knows them.
    Any,
    /// Those of this machine, and the one that the operator names.
    Loopback(Option<String>),
}

impl AllowedHosts {
    /// Those of a server that listens on `address`.
    ///
    /// * `base`: the base that the operator says it has.
    /// * `requires_authentication`: whether a page without a credential gets nothing anyway.
    pub(crate) fn new(address: SocketAddr, base: Option<&str>, requires_authentication: bool) -> Self {
        let named = base.and_then(|base| Url::parse(base).ok()?.host_str().map(str::to_owned));
        // What tokens are for is taken from the name unless the base is said, so it must be a safe one even then.
        let is_safe = requires_authentication && named.is_some();
        if address.ip().is_loopback() && !is_safe { Self::Loopback(named) } else { Self::Any }
    }

    fn allows(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Loopback(named) => {
                let Some(host) = host.parse().ok().filter(|_| !host.contains('@')).map(|host: Authority| host.host().to_owned()) else {
                    return false;
                };
                let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
                let is_named = named.as_ref().is_some_and(|named| named.eq_ignore_ascii_case(&host));
                is_named || host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.to_canonical().is_loopback())
            }
        }
    }
}

/// Lets through what is for this server.
pub(crate) async fn reject_unknown_host(State(hosts): State<AllowedHosts>, request: Request, next: Next) -> Response {
    let mut named = request.headers().get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let host = request.uri().authority().map(Authority::as_str).or_else(|| named.next()).unwrap_or_default();
    if named.all(|other| hosts.allows(other)) && hosts.allows(host) {
        return next.run(request).await;
    }
    let text = "this server answers to localhost and to addresses of this machine only; if a proxy in front passes on another name, set --base-url to the base with that name";
    into_axum_response(Reply::outcome(421, &Outcome::error(IssueCode::Forbidden, text)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_and_the_operators_own_are_answered() {
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
    fn a_server_that_knows_its_callers_and_its_base_answers_whatever_a_proxy_calls_it() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 8080));
        assert_eq!(AllowedHosts::new(loopback, Some("https://fhir.example.org/r4"), true), AllowedHosts::Any);
        assert_eq!(AllowedHosts::new(loopback, None, true), AllowedHosts::Loopback(None));
        assert_eq!(AllowedHosts::new(([0, 0, 0, 0], 8080).into(), None, false), AllowedHosts::Any);
    }
}
