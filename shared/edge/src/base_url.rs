//! The FHIR base URL of a request, as trusted sources report it.

use std::net::Ipv6Addr;

use headrace_core::request::RequestError;
use headrace_core::vocab::outcome::IssueCode;
use headrace_core::vocab::setting::Setting;
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};

/// The base URL of a local server, as an extension of the request. The server derives it from its own address, so that neither
/// a client nor a page of another site can choose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedBaseUrl(pub String);

/// Returns the FHIR base URL of a request, without a trailing slash: the start of every URL in responses, and the issuer and
/// audience of tokens.
///
/// No header is read, because a client could name another server in it and use here what it was given there. In this order:
///
/// 1. the `configured` URL,
/// 2. on a local server, [`TrustedBaseUrl`],
/// 3. behind API Gateway, the domain name that the gateway reports, and the path before the route (a stage, or the mapping of a
///    custom domain).
pub fn base_url(request: &Request, configured: Option<&str>) -> Result<String, RequestError> {
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

/// Returns the path before the route. Returns none if the path does not match the route.
///
/// The gateway decodes the path, so an encoded slash in a parameter looks like one more segment. The first segment of the route then
/// tells where the route begins.
fn path_before_route<'a>(path: &'a str, route: &str) -> Option<&'a str> {
    let route = route.strip_prefix('/')?;
    let by_segments = route.rsplit('/').try_fold(path, |path, segment| {
        let (before, last) = path.rsplit_once('/')?;
        (segment.starts_with('{') || segment == last).then_some(before)
    });
    let by_first = || {
        let (first, _) = route.split_once('/').filter(|(first, _)| !first.starts_with('{'))?;
        path.split_once(&format!("/{first}/")).map(|(before, _)| before)
    };
    by_segments.or_else(by_first).filter(|path| is_path(path))
}

/// Returns true if the text is a name, an IPv4 address or an IPv6 address in brackets, with or without a port.
pub fn is_host(host: &str) -> bool {
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
    fn the_base_url_is_not_read_from_headers() {
        for (route, path, expected) in [
            ("POST /token", "/token", "https://gateway.example"),
            ("POST /token", "/prod/token", "https://gateway.example/prod"),
            ("GET /_operations/export/{job}", "/prod/r4/_operations/export/7", "https://gateway.example/prod/r4"),
            ("GET /{operation}", "/$export", "https://gateway.example"),
            ("GET /Group/{id}/{operation}", "/fhir/Group/Patient/$export", "https://gateway.example/fhir"),
            ("GET /Group/{id}/{operation}", "/prod/Group/a/b/$export", "https://gateway.example/prod"),
        ] {
            assert_eq!(base_url(&event(route, path), None).as_deref(), Ok(expected), "{route} {path}");
            assert_eq!(base_url(&event(route, path), Some("https://x.example/r4")).as_deref(), Ok("https://x.example/r4"));
        }
        for (route, path) in [("$default", "/token"), ("POST /a/b/c", "/token"), ("POST /token", "token")] {
            assert_eq!(base_url(&event(route, path), None).unwrap_err().status, 400, "{route} {path}");
        }
        let mut local = lambda_http::http::Request::builder().header("host", "127.0.0.1:80").body(Body::Empty).unwrap();
        assert_eq!(base_url(&local, None).unwrap_err().status, 400);
        local.extensions_mut().insert(TrustedBaseUrl("http://127.0.0.1:80/fhir".to_owned()));
        assert_eq!(base_url(&local, None).as_deref(), Ok("http://127.0.0.1:80/fhir"));
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in ["localhost", "fhir.example.org:8443", "127.0.0.1:8080", "[::1]", "[::1]:80", "a_b"] {
            assert!(is_host(host), "{host}");
        }
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
            assert!(!is_host(host), "{host}");
        }
    }
}
