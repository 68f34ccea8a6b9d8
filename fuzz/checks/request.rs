//! Kick-off requests, from HTTP to the validated request. Every input must give a request or an error.
//!
//! The input is an HTTP request as text: method, target, headers, an empty line, the body.

use headrace_core::access::Permissions;
use headrace_core::request::{ExportPolicy, ExportRequest};
use headrace_core::vocab::clock::Millis;
use headrace_edge::{base_url, request};
use lambda_http::http::{HeaderName, HeaderValue, Method, Uri};
use lambda_http::{Body, Request, RequestExt as _};

/// Panics if a result cannot be sent to a client.
pub(crate) fn check(input: &[u8]) {
    let Some(http_request) = parse(input) else { return };
    let Ok(path) = request::parse_kick_off_path(&http_request) else { return };
    if let Ok(base) = base_url::base_url(&http_request, None) {
        assert!(base.starts_with("http://") || base.starts_with("https://"));
        assert!(HeaderValue::try_from(base).is_ok(), "the base is not a valid header value");
    }
    let now = Millis(1_769_846_400_000);
    let policy = ExportPolicy::default();
    let resolved = request::raw_kick_off(&http_request, path.level, policy.version)
        .and_then(|raw| ExportRequest::resolve(&raw, &policy, &Permissions::default(), now));
    match resolved {
        Ok(resolved) => {
            let id_bytes = resolved.patients.iter().map(|id| id.len() + 3).sum::<usize>();
            assert!(id_bytes <= 256 << 10, "{id_bytes} bytes of ids do not fit into the item of the plan task");
            assert!(resolved.request.container.is_none_or(|container| !container.as_str().contains(['.', '/', '\\'])));
        }
        Err(error) => {
            assert!((400..500).contains(&error.status), "{error:?}");
            assert!(!error.text.is_empty() && error.text.len() < 2_000, "{error:?}");
        }
    }
}

fn parse(input: &[u8]) -> Option<Request> {
    let split = input.windows(2).position(|two| two == b"\n\n");
    let (head, body) = split.and_then(|at| input.split_at_checked(at)).unwrap_or((input, b"\n\n"));
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.splitn(2, |byte| *byte == b' ');
    let (method, target) = (first.next()?, first.next()?);
    let mut request = Request::new(Body::from(body.get(2..).unwrap_or_default().to_vec()));
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::try_from(target).ok()?;
    for line in lines {
        let mut pair = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (HeaderName::from_bytes(pair.next()?).ok()?, HeaderValue::from_bytes(pair.next()?.trim_ascii()).ok()?);
        request.headers_mut().append(name, value);
    }
    let path = request.uri().path().to_owned();
    Some(request.with_raw_http_path(path))
}
