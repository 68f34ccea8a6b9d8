//! From an event of API Gateway to a request, and from a response to what API Gateway takes.
//!
//! `lambda_http` does the same, but makes an absolute URL of the request's headers first and panics where there is none:
//! `X-Forwarded-Proto: https,http`, which two proxies in a row send, is enough. A header must not be able to do that.

use std::collections::HashMap;
use std::pin::Pin;

use headrace_core::request::Refusal;
use headrace_core::vocab::error::ExportError;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use lambda_http::http::{Response, Uri};
use lambda_http::lambda_runtime::{self, LambdaEvent, service_fn};
use lambda_http::request::RequestContext;
use lambda_http::{Body, Error, Request, RequestExt as _};

use crate::reply::{only_by_https, outcome};

/// Answers API Gateway's events until the process is stopped.
pub async fn run<A>(handle: impl Fn(Request) -> A) -> Result<(), Error>
where
    A: Future<Output = Response<Body>>,
{
    // Behind a pointer: the type of a handler's future is deeper than the compiler looks.
    let handle = |request| -> Pin<Box<dyn Future<Output = Response<Body>> + '_>> { Box::pin(handle(request)) };
    let respond = async |event: LambdaEvent<ApiGatewayV2httpRequest>| Ok::<_, Error>(gateway_response(answer(event.payload, handle).await));
    lambda_runtime::run(service_fn(respond)).await
}

/// Answers one event.
pub async fn answer<A>(event: ApiGatewayV2httpRequest, handle: impl FnOnce(Request) -> A) -> Response<Body>
where
    A: Future<Output = Response<Body>>,
{
    let mut response = match request(event) {
        Ok(request) => handle(request).await,
        Err(refusal) => outcome(&ExportError::Refused(refusal)).into_response(),
    };
    // API Gateway speaks nothing else.
    only_by_https(response.headers_mut());
    response
}

/// The request in an event. Its URI has path and query only: whoever needs the base takes it from [`crate::base`].
fn request(event: ApiGatewayV2httpRequest) -> Result<Request, Refusal> {
    let path = event.raw_path.unwrap_or_default();
    let query = event.raw_query_string.filter(|query| !query.is_empty());
    let mut request = Request::new(event.body.map(|text| Body::from_maybe_encoded(event.is_base64_encoded, &text)).unwrap_or_default());
    *request.uri_mut() = uri(query.as_deref())?;
    *request.method_mut() = event.request_context.http.method.clone();
    *request.headers_mut() = event.headers;
    let parameters: HashMap<String, String> = event.path_parameters;
    Ok(request
        .with_path_parameters(parameters)
        .with_request_context(RequestContext::ApiGatewayV2(event.request_context))
        .with_raw_http_path(path))
}

/// What can be no URI is refused. The path is not looked at: it comes by the route's parameters and as it was sent.
fn uri(query: Option<&str>) -> Result<Uri, Refusal> {
    let Some(query) = query else { return Ok(Uri::from_static("/")) };
    // The longest that the type holds is 65,534 bytes.
    if query.len() > 60_000 {
        return Err(Refusal::of(414, IssueCode::TooCostly, "query", "the query is too long: send a POST with a Parameters body"));
    }
    let refuse = |_| Refusal::of(400, IssueCode::Invalid, "query", "the query is not percent-encoded UTF-8");
    Uri::try_from(format!("/?{query}")).map_err(refuse)
}

fn gateway_response(response: Response<Body>) -> ApiGatewayV2httpResponse {
    let (head, body) = response.into_parts();
    let mut answer = ApiGatewayV2httpResponse::default();
    answer.status_code = head.status.as_u16().into();
    answer.headers = head.headers;
    answer.is_base64_encoded = matches!(body, Body::Binary(_));
    answer.body = if matches!(body, Body::Empty) { None } else { Some(body) };
    answer
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(headers: &serde_json::Value, query: &str) -> ApiGatewayV2httpRequest {
        serde_json::from_value(json!({
            "version": "2.0", "routeKey": "GET /{operation}", "rawPath": "/prod/$export", "rawQueryString": query, "headers": headers,
            "requestContext": { "stage": "prod", "domainName": "gateway.example", "http": { "method": "POST", "path": "/prod/$export" } },
            "pathParameters": { "operation": "$export" }, "body": "e30=", "isBase64Encoded": true
        }))
        .unwrap()
    }

    #[test]
    fn an_event_is_the_request_that_was_sent() {
        let request = request(event(&json!({ "host": "fhir.example", "prefer": "respond-async" }), "_type=Patient%2CGroup&x")).unwrap();
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri().query(), Some("_type=Patient%2CGroup&x"));
        assert_eq!(request.raw_http_path(), "/prod/$export");
        assert_eq!(request.path_parameters().first("operation"), Some("$export"));
        assert_eq!(request.headers()["prefer"], "respond-async");
        assert_eq!(request.body().as_ref(), b"{}");
        assert!(
            matches!(request.request_context_ref(), Some(RequestContext::ApiGatewayV2(context)) if context.stage.as_deref() == Some("prod"))
        );
    }

    #[test]
    fn no_header_makes_an_event_unreadable() {
        for headers in [
            json!({ "host": "fhir.example", "x-forwarded-proto": "https,http" }),
            json!({ "host": "fhir.example", "x-forwarded-proto": "javascript:" }),
            json!({ "host": "fhir.example", "x-forwarded-proto": "" }),
            json!({ "host": "a b" }),
            json!({ "host": "1.2.3.999" }),
            json!({ "host": "fhir.example:99999" }),
            json!({ "host": "[::g]" }),
            json!({ "host": "" }),
            json!({}),
        ] {
            assert!(request(event(&headers, "")).is_ok(), "{headers}");
        }
    }

    #[test]
    fn a_query_that_is_no_query_is_refused() {
        for (query, status) in [("a b", 400), ("\u{0}", 400), ("ü\n", 400), (&"x".repeat(70_000), 414)] {
            assert_eq!(request(event(&json!({}), query)).unwrap_err().status, status);
        }
    }

    #[tokio::test]
    async fn every_answer_keeps_browsers_from_making_anything_of_it() {
        let good = async |_| crate::reply::Reply::json(200, "application/json", "{}".to_owned()).into_response();
        for event in [event(&json!({}), ""), event(&json!({}), "a b")] {
            let response = answer(event, good).await;
            for (name, value) in [
                ("strict-transport-security", "max-age=31536000"),
                ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                ("cache-control", "no-store"),
            ] {
                assert_eq!(response.headers()[name], value, "{name}");
            }
        }
    }

    #[test]
    fn a_response_is_handed_over_as_it_is() {
        let response = Response::builder().status(202).header("content-location", "https://x").body(Body::from("{}")).unwrap();
        let json = serde_json::to_value(gateway_response(response)).unwrap();
        assert_eq!((&json["statusCode"], &json["body"], &json["isBase64Encoded"]), (&json!(202), &json!("{}"), &json!(false)));
        assert_eq!(json["headers"]["content-location"], "https://x");
        let json = serde_json::to_value(gateway_response(Response::new(Body::Empty))).unwrap();
        assert_eq!(json.get("body"), None);
    }
}
