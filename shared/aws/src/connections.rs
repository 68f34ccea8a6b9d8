//! The HTTP connections of the SDKs: which go through a proxy, and which need TLS.

use std::net::IpAddr;
use std::time::Duration;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, ConnectorBuilder, tls};
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;

/// The longest time that a connection stays open without a call. Lambda freezes a process between two events. Meanwhile the other side
/// may close the connection, and a call over it would get no answer.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the HTTPS client of the SDKs: rustls with AWS-LC, and the proxies of the environment.
///
/// * Requests to this machine and to its local link, where credentials come from, use no proxy, whatever the environment says.
/// * Other requests use TLS. An endpoint in the environment cannot switch it off.
///
/// The SDKs have such a client behind a feature of each. Here it is compiled only for processes that call AWS.
pub(crate) fn https_client() -> SharedHttpClient {
    let (direct, proxied) = (client(ProxyConfig::disabled), client(ProxyConfig::from_env));
    http_client_fn(move |settings, components| {
        let (direct, proxied) = (direct.http_connector(settings, components), proxied.http_connector(settings, components));
        SharedHttpConnector::new(ConnectionsByHost { direct, proxied })
    })
}

/// Returns a client with these proxies.
fn client(proxies: fn() -> ProxyConfig) -> SharedHttpClient {
    Builder::new().pool_idle_timeout(POOL_IDLE_TIMEOUT).build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default().tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.set_proxy_config(Some(proxies()));
        connector.build()
    })
}

/// Connections with and without a proxy. The host of a request decides which are used.
#[derive(Debug)]
struct ConnectionsByHost {
    direct: SharedHttpConnector,
    proxied: SharedHttpConnector,
}

impl HttpConnector for ConnectionsByHost {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match route(request.uri()) {
            Route::Direct => self.direct.call(request),
            Route::Proxied => self.proxied.call(request),
            Route::Refused => HttpConnectorFuture::ready(Err(ConnectorError::user(
                "an endpoint of AWS outside this machine must begin with https://; check AWS_ENDPOINT_URL and the AWS configuration".into(),
            ))),
        }
    }
}

/// The connection that a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// Without a proxy.
    Direct,
    /// Through the proxy of the environment, if there is one.
    Proxied,
    /// Not sent.
    Refused,
}

/// Returns the connection that a request with this URL uses.
fn route(url: &str) -> Route {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    if is_local(host) {
        Route::Direct
    } else if scheme.eq_ignore_ascii_case("https") {
        Route::Proxied
    } else {
        Route::Refused
    }
}

/// Returns true for this machine and for the addresses of the local link, where AWS hands out credentials.
fn is_local(host: &str) -> bool {
    /// The instance metadata service by IPv6, and the credentials of EKS, which are on a unique local address.
    const METADATA: [&str; 2] = ["fd00:ec2::254", "fd00:ec2::23"];
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unicast_link_local() || METADATA.contains(&address.to_string().as_str())
        }
        Err(_) => host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_an_sdk_leaves_this_machine_by_tls_only_and_stays_on_it_without_a_proxy() {
        for (url, expected) in [
            ("https://dynamodb.eu-central-1.amazonaws.com/", Route::Proxied),
            ("https://bucket.s3.amazonaws.com/key?x=127.0.0.1", Route::Proxied),
            ("https://127.0.0.1.example.org/", Route::Proxied),
            ("https://localhost@example.org/", Route::Proxied),
            ("http://dynamodb.eu-central-1.amazonaws.com/", Route::Refused),
            ("http://10.0.0.7:8000/", Route::Refused),
            ("example.org", Route::Refused),
            ("http://127.0.0.1:4566/", Route::Direct),
            ("https://localhost:4566/", Route::Direct),
            ("http://bucket.localhost:4566/", Route::Direct),
            ("http://[::1]:8000/", Route::Direct),
            ("http://169.254.169.254/latest/meta-data/iam", Route::Direct),
            ("http://169.254.170.2/v2/credentials", Route::Direct),
            ("http://[fd00:ec2::254]/latest", Route::Direct),
            ("http://[fe80::1]/", Route::Direct),
        ] {
            assert_eq!(route(url), expected, "{url}");
        }
    }
}
