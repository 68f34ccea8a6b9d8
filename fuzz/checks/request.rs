//! A kick-off from the wire to the resolved request: whatever comes in, a request or a refusal goes out.
//!
//! The input is an HTTP request as text: method, target, headers, an empty line, the body.

use headrace_core::access::Reach;
use headrace_core::request::{ExportRequest, Policy};
use headrace_core::vocab::clock::Millis;
use headrace_edge::{base, request};
use lambda_http::http::{HeaderName, HeaderValue, Method, Uri};
use lambda_http::{Body, Request, RequestExt as _};

/// Panics if an answer is none that a client could be given.
pub(crate) fn check(input: &[u8]) {
    let Some(sent) = parse(input) else { return };
    let Ok(path) = request::kick_off_path(&sent) else { return };
    if let Ok(base) = base::base(&sent, &path.route, None) {
        assert!(base.starts_with("http://") || base.starts_with("https://"));
        assert!(HeaderValue::try_from(base).is_ok(), "a base that no Content-Location can hold");
    }
    let now = Millis(1_769_846_400_000);
    let resolved =
        request::asked(&sent, path.level).and_then(|asked| ExportRequest::resolve(&asked, &Policy::default(), &Reach::default(), now));
    match resolved {
        Ok(resolved) => {
            let kept = resolved.patients.iter().map(|id| id.len() + 3).sum::<usize>();
            assert!(kept <= 256 << 10, "{kept} bytes of ids do not fit the plan's item");
            assert!(resolved.request.container.is_none_or(|container| !container.as_str().contains(['.', '/', '\\'])));
        }
        Err(refusal) => {
            assert!((400..500).contains(&refusal.status), "{refusal:?}");
            assert!(!refusal.text.is_empty() && refusal.text.len() < 2_000, "{refusal:?}");
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
