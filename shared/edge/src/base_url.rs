//! The FHIR base URL of a request: as the client used it, also behind proxies, or as only trusted sources report it.

use std::net::{Ipv4Addr, Ipv6Addr};

use headrace_core::request::RequestError;
use headrace_core::vocab::outcome::IssueCode;
use headrace_core::vocab::setting::Setting;
use lambda_http::http::HeaderMap;
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};

/// Returns the base URL that the client used, without a trailing slash. The request's path ends with `route`.
///
/// * The `configured` URL takes precedence. Otherwise `Forwarded` (RFC 7239), then `X-Forwarded-Host`, `-Proto` and
///   `-Prefix`, then the request's own host.
/// * The path before the route (a stage, a mapping) is part of the base URL.
pub fn request_base_url(request: &Request, route: &str, configured: Option<&str>) -> Result<String, RequestError> {
    if let Some(base) = configured {
        return Ok(base.to_owned());
    }
    let headers = request.headers();
    let gateway = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => Some(context),
        Some(_) | None => None,
    };
    let scheme = forwarded(headers, "proto")
        .or_else(|| first_value(headers, "x-forwarded-proto"))
        .filter(|scheme| scheme == "https" || scheme == "http")
        .unwrap_or_else(|| if gateway.is_some() { "https".to_owned() } else { "http".to_owned() });
    // Proxies take precedence over the connection: behind them, its host and scheme are internal.
    let host = forwarded(headers, "host")
        .or_else(|| first_value(headers, "x-forwarded-host"))
        .or_else(|| first_value(headers, "host"))
        .or_else(|| gateway.and_then(|context| context.domain_name.clone()))
        .filter(|host| is_host(host))
        .ok_or_else(|| RequestError::new(400, IssueCode::Invalid, "Host", "the host that the request names is not a host name"))?;
    let prefix = first_value(headers, "x-forwarded-prefix").filter(|prefix| is_path(prefix)).unwrap_or_default();
    let path = request.raw_http_path();
    let before_route = path.strip_suffix(route).filter(|path| is_path(path)).unwrap_or_default();
    Ok(format!("{scheme}://{host}{}{}", prefix.trim_end_matches('/'), before_route.trim_end_matches('/')))
}

/// The base URL of a local server, as an extension of the request. The server sets it after it has checked the header `Host`,
/// so that a page of another site cannot have chosen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedBaseUrl(pub String);

/// Returns the base URL that is issuer and audience of tokens. Headers such as `Forwarded` are ignored: a client could name
/// another server in them, and use a token for that server here.
///
/// * The `configured` URL takes precedence. Otherwise it is the gateway's domain name and the path before the route, or, on a
///   local server, [`TrustedBaseUrl`].
pub fn trusted_base_url(request: &Request, configured: Option<&str>) -> Result<String, RequestError> {
    if let Some(base) = configured {
        return Ok(base.to_owned());
    }
    let from_gateway = || match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => {
            let host = context.domain_name.as_deref().filter(|host| is_host(host))?;
            let (_, route) = context.route_key.as_deref()?.split_once(' ')?;
            let path = path_before_route(request.raw_http_path(), route)?;
            Some(format!("https://{host}{path}"))
        }
        Some(_) | None => None,
    };
    let from_server = || request.extensions().get::<TrustedBaseUrl>().map(|base| base.0.clone());
    let unknown = || format!("this server does not know its own address: set {}", Setting::BaseUrl);
    from_server().or_else(from_gateway).ok_or_else(|| RequestError::new(400, IssueCode::Invalid, "Host", unknown()))
}

/// Removes as many segments from the end of the path as the route has.
fn path_before_route<'a>(path: &'a str, route: &str) -> Option<&'a str> {
    let before = route.bytes().filter(|byte| *byte == b'/').try_fold(path, |path, _| path.rsplit_once('/').map(|(before, _)| before));
    before.filter(|path| is_path(path))
}

/// Returns the first value of a comma-separated header: that of the proxy nearest to the client.
fn first_value(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    value.split(',').next().map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned)
}

/// Returns a parameter of the first element of the header `Forwarded`.
fn forwarded(headers: &HeaderMap, parameter: &str) -> Option<String> {
    let element = first_value(headers, "forwarded")?;
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case(parameter).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// Returns true if the header `Host` names this machine. No other site can have such a name.
pub fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => return is_host(host) && address.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback()),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = |address: Ipv4Addr| address.is_loopback();
    is_host(host) && (name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback))
}

/// Returns true if the text is a name, an IPv4 address or an IPv6 address in brackets, with or without a port.
fn is_host(host: &str) -> bool {
    let (is_name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, behind)) => (address.parse::<Ipv6Addr>().is_ok(), behind),
        None => {
            let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
            (is_plain && name.len() <= 255 && name.bytes().any(|byte| byte.is_ascii_alphanumeric()), port)
        }
    };
    let is_digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_name && (port.is_empty() || port.strip_prefix(':').is_some_and(is_digits))
}

/// Returns true if the text is empty, or an absolute path of characters that are safe in a URL.
fn is_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~' | b'$');
    (path.is_empty() || path.starts_with('/')) && !path.starts_with("//") && path.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use lambda_http::Body;

    use super::*;

    fn base_url_of(path: &str, headers: &[(&str, &str)]) -> Result<String, RequestError> {
        let mut request = lambda_http::http::Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::Empty).unwrap().with_raw_http_path(path);
        request_base_url(&request, "/$export", None)
    }

    #[test]
    fn the_base_url_is_the_one_that_the_client_used() {
        for (path, headers, expected) in [
            ("/fhir/$export", &[("host", "127.0.0.1:8080")][..], "http://127.0.0.1:8080/fhir"),
            ("/$export", &[("host", "[::1]:80")], "http://[::1]:80"),
            (
                "/prod/$export",
                &[("host", "internal"), ("x-forwarded-host", "fhir.example.org"), ("x-forwarded-proto", "https")],
                "https://fhir.example.org/prod",
            ),
            (
                "/$export",
                &[
                    ("host", "internal"),
                    ("x-forwarded-host", "a.example, b.example"),
                    ("x-forwarded-proto", "https,http"),
                    ("x-forwarded-prefix", "/r4/"),
                ],
                "https://a.example/r4",
            ),
            (
                "/$export",
                &[("host", "internal"), ("forwarded", "for=1.2.3.4;host=\"f.example:8443\";proto=https, for=5.6.7.8;host=x")],
                "https://f.example:8443",
            ),
        ] {
            assert_eq!(base_url_of(path, headers).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn only_loopback_hosts_name_this_machine() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:8080"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "128.0.0.1",
            "[::2]",
            "[::1]x",
            "localhost:x",
            "10.0.0.1",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    fn event(route: &str, path: &str) -> Request {
        let context = serde_json::from_value(serde_json::json!({
            "routeKey": route, "domainName": "gateway.example", "stage": "prod", "http": { "method": "GET", "path": path }
        }));
        let request =
            lambda_http::http::Request::builder().uri("/").header("host", "evil.example").header("x-forwarded-host", "evil.example");
        let request = request.header("forwarded", "host=evil.example").body(Body::Empty).unwrap();
        request.with_raw_http_path(path).with_request_context(RequestContext::ApiGatewayV2(context.unwrap()))
    }

    // Holds: SEC-A6, SEC-A13
    #[test]
    fn the_audience_of_tokens_is_not_read_from_client_headers() {
        for (route, path, expected) in [
            ("POST /token", "/token", "https://gateway.example"),
            ("POST /token", "/prod/token", "https://gateway.example/prod"),
            ("GET /_operations/export/{job}", "/prod/r4/_operations/export/7", "https://gateway.example/prod/r4"),
            ("GET /{operation}", "/$export", "https://gateway.example"),
            ("GET /Group/{id}/{operation}", "/fhir/Group/Patient/$export", "https://gateway.example/fhir"),
        ] {
            assert_eq!(trusted_base_url(&event(route, path), None).as_deref(), Ok(expected), "{route} {path}");
            assert_eq!(trusted_base_url(&event(route, path), Some("https://x.example/r4")).as_deref(), Ok("https://x.example/r4"));
        }
        for (route, path) in [("$default", "/token"), ("POST /a/b/c", "/token"), ("POST /token", "token")] {
            assert_eq!(trusted_base_url(&event(route, path), None).unwrap_err().status, 400, "{route} {path}");
        }
        let mut local = lambda_http::http::Request::builder().header("host", "127.0.0.1:80").body(Body::Empty).unwrap();
        assert_eq!(trusted_base_url(&local, None).unwrap_err().status, 400);
        local.extensions_mut().insert(TrustedBaseUrl("http://127.0.0.1:80/fhir".to_owned()));
        assert_eq!(trusted_base_url(&local, None).as_deref(), Ok("http://127.0.0.1:80/fhir"));
    }

    #[test]
    fn an_invalid_host_is_rejected_and_an_invalid_scheme_is_ignored() {
        let long = "a".repeat(300);
        for host in [
            "evil/path",
            "a b",
            "x@y",
            "\"",
            "<script>",
            "...",
            "",
            "h:99999",
            "h:",
            "h:+1",
            "a:1:2",
            "[::g]",
            "[::1",
            "[::1]x",
            ":80",
            "h\\e",
            &long,
        ] {
            assert_eq!(base_url_of("/$export", &[("host", host)]).unwrap_err().status, 400, "{host}");
        }
        assert_eq!(base_url_of("/$export", &[("host", "h"), ("x-forwarded-proto", "javascript")]).as_deref(), Ok("http://h"));
        assert_eq!(base_url_of("/$export", &[("host", "h"), ("x-forwarded-prefix", "//evil")]).as_deref(), Ok("http://h"));
    }
}
