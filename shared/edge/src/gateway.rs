//! Converts API Gateway events to requests, and responses to what API Gateway expects.
//!
//! `lambda_http` does the same, but builds an absolute URL from the request's headers and panics if that fails: the header
//! `X-Forwarded-Proto: https,http`, which two proxies in a row send, is enough. A header must not stop a function.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt as _;

use headrace_core::job::ExportError;
use headrace_core::request::RequestError;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use lambda_http::http::{Response, Uri};
use lambda_http::lambda_runtime::{self, LambdaEvent, service_fn};
use lambda_http::request::RequestContext;
use lambda_http::{Body, Error, Request, RequestExt as _};

use crate::reply::{add_strict_transport_security, error_reply, fault_response};

/// Runs the Lambda function: passes each API Gateway event as a request to `handle`, until the process is stopped.
pub async fn run<A>(handle: impl Fn(Request) -> A) -> Result<(), Error>
where
    A: Future<Output = Response<Body>>,
{
    // Boxed: the type of a handler's future exceeds the compiler's recursion limit.
    let handle = |request| -> Pin<Box<dyn Future<Output = Response<Body>> + '_>> { Box::pin(handle(request)) };
    let respond =
        async |event: LambdaEvent<ApiGatewayV2httpRequest>| Ok::<_, Error>(to_gateway_response(handle_event(event.payload, handle).await));
    lambda_runtime::run(service_fn(respond)).await
}

/// Handles one API Gateway event: converts it to a request, and passes the request to `handle`.
pub async fn handle_event<A>(event: ApiGatewayV2httpRequest, handle: impl FnOnce(Request) -> A) -> Response<Body>
where
    A: Future<Output = Response<Body>>,
{
    let mut response = match to_request(event) {
        // The process continues with the next event. Handlers keep nothing that a half-done request could leave inconsistent.
        Ok(request) => AssertUnwindSafe(async { handle(request).await }).catch_unwind().await.unwrap_or_else(|_| fault_response()),
        Err(error) => error_reply(&ExportError::Rejected(error)).into_response(),
    };
    // API Gateway serves nothing but https.
    add_strict_transport_security(response.headers_mut());
    response
}

/// Converts an event to a request. Its URI has a query only; [`crate::base_url`] determines the base URL.
fn to_request(event: ApiGatewayV2httpRequest) -> Result<Request, RequestError> {
    let path = event.raw_path.unwrap_or_default();
    let query = event.raw_query_string.filter(|query| !query.is_empty());
    let mut request = Request::new(event.body.map(|text| Body::from_maybe_encoded(event.is_base64_encoded, &text)).unwrap_or_default());
    *request.uri_mut() = query_uri(query.as_deref())?;
    *request.method_mut() = event.request_context.http.method.clone();
    *request.headers_mut() = event.headers;
    let parameters: HashMap<String, String> = event.path_parameters;
    Ok(request
        .with_path_parameters(parameters)
        .with_request_context(RequestContext::ApiGatewayV2(event.request_context))
        .with_raw_http_path(path))
}

/// Creates a URI with this query. Fails if the query is invalid. The path is left out: handlers read it from the route's
/// parameters or as it was sent.
fn query_uri(query: Option<&str>) -> Result<Uri, RequestError> {
    let Some(query) = query else { return Ok(Uri::from_static("/")) };
    // A `Uri` holds at most 65,534 bytes.
    if query.len() > 60_000 {
        return Err(RequestError::new(414, IssueCode::TooCostly, "query", "the query is too long: send a POST with a Parameters body"));
    }
    let invalid = |_| RequestError::new(400, IssueCode::Invalid, "query", "the query is not percent-encoded UTF-8");
    Uri::try_from(format!("/?{query}")).map_err(invalid)
}

/// Converts a response to the format of API Gateway. Binary bodies are sent in Base64.
fn to_gateway_response(response: Response<Body>) -> ApiGatewayV2httpResponse {
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
    fn an_event_becomes_the_request_that_was_sent() {
        let request = to_request(event(&json!({ "host": "fhir.example", "prefer": "respond-async" }), "_type=Patient%2CGroup&x")).unwrap();
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
    fn no_header_makes_an_event_invalid() {
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
            assert!(to_request(event(&headers, "")).is_ok(), "{headers}");
        }
    }

    #[test]
    fn an_invalid_query_is_rejected() {
        for (query, status) in [("a b", 400), ("\u{0}", 400), ("ü\n", 400), (&"x".repeat(70_000), 414)] {
            assert_eq!(to_request(event(&json!({}), query)).unwrap_err().status, status);
        }
    }

    #[tokio::test]
    async fn every_response_has_the_headers_that_keep_browsers_from_rendering_or_caching_it() {
        let good = async |_| crate::reply::Reply::json(200, "application/json", "{}".to_owned()).into_response();
        for event in [event(&json!({}), ""), event(&json!({}), "a b")] {
            let response = handle_event(event, good).await;
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

    #[tokio::test]
    async fn a_handler_that_panics_answers_with_an_operation_outcome() {
        let response = handle_event(event(&json!({}), ""), async |_| panic!("CANARY")).await;
        assert_eq!(response.status(), 500);
        let Body::Text(text) = response.body() else { panic!("an OperationOutcome") };
        assert!(text.contains("\"exception\"") && !text.contains("CANARY"), "{text}");
    }

    #[test]
    fn a_response_is_passed_on_unchanged() {
        let response = Response::builder().status(202).header("content-location", "https://x").body(Body::from("{}")).unwrap();
        let json = serde_json::to_value(to_gateway_response(response)).unwrap();
        assert_eq!((&json["statusCode"], &json["body"], &json["isBase64Encoded"]), (&json!(202), &json!("{}"), &json!(false)));
        assert_eq!(json["headers"]["content-location"], "https://x");
        let json = serde_json::to_value(to_gateway_response(Response::new(Body::Empty))).unwrap();
        assert_eq!(json.get("body"), None);
    }
}
