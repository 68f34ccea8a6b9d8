//! The base URL of a server without `--base-url`: from the address that it listens on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use headrace_edge::base_url::{TrustedBaseUrl, is_host};
use http::header::HOST;
use http::uri::Authority;

use crate::server::http::BASE_PATH;

/// Returns the base URL of a server that listens on `address`.
pub fn base_url(address: SocketAddr) -> String {
    format!("http://{address}{BASE_PATH}")
}

/// Returns the base URL for a request with this header `Host`.
///
/// On a loopback address it is that address and port, or `localhost` with that port: a program that listens on another port must
/// not be able to use here what a client has sent to it. Other addresses are not known by the names under which clients reach
/// them, so there the base URL has the name of the request; `smart` demands `--base-url` there, because tokens contain it.
fn own_base_url(address: SocketAddr, host: &str) -> Option<String> {
    if !address.ip().is_loopback() {
        return is_host(host).then(|| format!("http://{host}{BASE_PATH}"));
    }
    Some(if is_localhost(address, host) { format!("http://{}{BASE_PATH}", host.to_ascii_lowercase()) } else { base_url(address) })
}

/// Returns true if the host is `localhost` with the port of the address, and the address is one that this name stands for.
fn is_localhost(address: SocketAddr, host: &str) -> bool {
    let is_named = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(&address.ip());
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    is_named && name.eq_ignore_ascii_case("localhost") && port == address.port().to_string()
}

/// Adds the server's base URL to a request. This is a middleware.
pub(crate) async fn add_own_base_url(State(address): State<SocketAddr>, mut request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(Authority::as_str).or(host).unwrap_or_default();
    if let Some(base) = own_base_url(address, host) {
        request.extensions_mut().insert(TrustedBaseUrl(base));
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_url_of_a_loopback_server_has_its_own_address_and_port() {
        let own = |address: &str, host| own_base_url(address.parse().unwrap(), host).unwrap();
        for host in
            ["127.0.0.1:8080", "localhost", "localhost:9999", "localhost:08081", "127.0.0.2:8080", "evil.example", "", "localhost:8080 "]
        {
            assert_eq!(own("127.0.0.1:8080", host), "http://127.0.0.1:8080/fhir", "{host}");
        }
        for host in ["localhost:8080", "LocalHost:8080"] {
            assert_eq!(own("127.0.0.1:8080", host), "http://localhost:8080/fhir", "{host}");
            assert_eq!(own("[::1]:8080", host), "http://localhost:8080/fhir", "{host}");
            assert_eq!(own("127.0.0.2:8080", host), "http://127.0.0.2:8080/fhir", "the name stands for another address");
        }
        assert_eq!(own("127.0.0.1:80", "localhost"), "http://localhost/fhir");
        assert_eq!(own("[::1]:8080", "[::1]:8080"), "http://[::1]:8080/fhir");
    }

    #[test]
    fn the_base_url_of_a_network_server_has_the_name_of_the_request() {
        let own = |host| own_base_url("0.0.0.0:8080".parse().unwrap(), host);
        assert_eq!(own("fhir.example.org:8080").as_deref(), Some("http://fhir.example.org:8080/fhir"));
        assert_eq!(own("<script>"), None);
        assert_eq!(own(""), None);
    }
}
