//! The FHIR base that a client used, also behind proxies.

use std::net::{Ipv4Addr, Ipv6Addr};

use headrace_core::request::Refusal;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::http::HeaderMap;
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};

/// The base of a request whose path ends in `route`, without a slash at its end.
///
/// * `configured` wins. Else `Forwarded` (RFC 7239), then `X-Forwarded-Host`, `-Proto` and `-Prefix`, then the request's
///   own host.
/// * What the path has before the route (a stage, a mapping) belongs to the base.
pub fn base(request: &Request, route: &str, configured: Option<&str>) -> Result<String, Refusal> {
    if let Some(base) = configured {
        return Ok(base.to_owned());
    }
    let headers = request.headers();
    let gateway = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => Some(context),
        Some(_) | None => None,
    };
    let scheme = forwarded(headers, "proto")
        .or_else(|| first(headers, "x-forwarded-proto"))
        .filter(|scheme| scheme == "https" || scheme == "http")
        .unwrap_or_else(|| if gateway.is_some() { "https".to_owned() } else { "http".to_owned() });
    let host = forwarded(headers, "host")
        .or_else(|| first(headers, "x-forwarded-host"))
        .or_else(|| first(headers, "host"))
        .or_else(|| gateway.and_then(|context| context.domain_name.clone()))
        .filter(|host| is_host(host))
        .ok_or_else(|| Refusal::of(400, IssueCode::Invalid, "Host", "the host that the request names is not a host name"))?;
    let before = first(headers, "x-forwarded-prefix").filter(|prefix| is_path(prefix)).unwrap_or_default();
    let path = request.raw_http_path();
    let own = path.strip_suffix(route).filter(|own| is_path(own)).unwrap_or_default();
    Ok(format!("{scheme}://{host}{}{}", before.trim_end_matches('/'), own.trim_end_matches('/')))
}

/// Where one machine's server is reached, by the `Host` of a request that it takes: whoever is in front of the handlers sets
/// it, and vouches that no page of another site can have chosen that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnBase(pub String);

/// The base that tokens are by and for. What a client can write into a header, `Forwarded` and its like, is not asked: a
/// token for another server must not count here.
///
/// * `configured` wins. Else it is the gateway's own name and what the path has before the route, or, on one machine,
///   [`OwnBase`].
pub fn own(request: &Request, configured: Option<&str>) -> Result<String, Refusal> {
    if let Some(base) = configured {
        return Ok(base.to_owned());
    }
    let by_the_gateway = || match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => {
            let host = context.domain_name.as_deref().filter(|host| is_host(host))?;
            let (_, route) = context.route_key.as_deref()?.split_once(' ')?;
            let path = before_route(request.raw_http_path(), route)?;
            Some(format!("https://{host}{path}"))
        }
        Some(_) | None => None,
    };
    let by_the_server = || request.extensions().get::<OwnBase>().map(|base| base.0.clone());
    let unknown = "this server does not know its own address: set HEADRACE_BASE_URL";
    by_the_server().or_else(by_the_gateway).ok_or_else(|| Refusal::of(400, IssueCode::Invalid, "Host", unknown))
}

/// What the path has before as many segments as the route has.
fn before_route<'a>(path: &'a str, route: &str) -> Option<&'a str> {
    let before = route.bytes().filter(|byte| *byte == b'/').try_fold(path, |path, _| path.rsplit_once('/').map(|(before, _)| before));
    before.filter(|before| is_path(before))
}

/// The first value of a comma-separated header: what the proxy nearest to the client said.
fn first(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    value.split(',').next().map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned)
}

/// A parameter of the first element of `Forwarded`.
fn forwarded(headers: &HeaderMap, parameter: &str) -> Option<String> {
    let element = first(headers, "forwarded")?;
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case(parameter).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// Whether a `Host` names the machine itself: a name that no other site can have.
pub fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => return is_host(host) && address.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback()),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = |address: Ipv4Addr| address.is_loopback();
    is_host(host) && (name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback))
}

/// A name, an IPv4 address or an IPv6 address in brackets, with or without a port.
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

fn is_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~' | b'$');
    (path.is_empty() || path.starts_with('/')) && !path.starts_with("//") && path.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use lambda_http::Body;

    use super::*;

    fn base_of(path: &str, headers: &[(&str, &str)]) -> Result<String, Refusal> {
        let mut request = lambda_http::http::Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::Empty).unwrap().with_raw_http_path(path);
        base(&request, "/$export", None)
    }

    #[test]
    fn the_base_is_what_the_client_used() {
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
            assert_eq!(base_of(path, headers).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_host_is_the_machine_itself_or_it_is_not() {
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
    fn what_tokens_are_for_is_not_taken_from_a_clients_headers() {
        for (route, path, expected) in [
            ("POST /token", "/token", "https://gateway.example"),
            ("POST /token", "/prod/token", "https://gateway.example/prod"),
            ("GET /_operations/export/{job}", "/prod/r4/_operations/export/7", "https://gateway.example/prod/r4"),
            ("GET /{operation}", "/$export", "https://gateway.example"),
            ("GET /Group/{id}/{operation}", "/fhir/Group/Patient/$export", "https://gateway.example/fhir"),
        ] {
            assert_eq!(own(&event(route, path), None).as_deref(), Ok(expected), "{route} {path}");
            assert_eq!(own(&event(route, path), Some("https://x.example/r4")).as_deref(), Ok("https://x.example/r4"));
        }
        for (route, path) in [("$default", "/token"), ("POST /a/b/c", "/token"), ("POST /token", "token")] {
            assert_eq!(own(&event(route, path), None).unwrap_err().status, 400, "{route} {path}");
        }
        let mut local = lambda_http::http::Request::builder().header("host", "127.0.0.1:80").body(Body::Empty).unwrap();
        assert_eq!(own(&local, None).unwrap_err().status, 400);
        local.extensions_mut().insert(OwnBase("http://127.0.0.1:80/fhir".to_owned()));
        assert_eq!(own(&local, None).as_deref(), Ok("http://127.0.0.1:80/fhir"));
    }

    #[test]
    fn a_hostile_host_is_refused_and_a_hostile_scheme_ignored() {
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
            assert_eq!(base_of("/$export", &[("host", host)]).unwrap_err().status, 400, "{host}");
        }
        assert_eq!(base_of("/$export", &[("host", "h"), ("x-forwarded-proto", "javascript")]).as_deref(), Ok("http://h"));
        assert_eq!(base_of("/$export", &[("host", "h"), ("x-forwarded-prefix", "//evil")]).as_deref(), Ok("http://h"));
    }
}
