//! Conversion of requests and responses: the handlers of the Lambda functions answer the requests of the local server.

use std::collections::HashMap;

use axum::body::Body as HttpBody;
use axum::extract::{OriginalUri, RawPathParams, Request};
use axum::response::Response;
use lambda_http::{Body, RequestExt as _};

/// Converts a request without its body.
pub(crate) fn to_gateway_request(parameters: RawPathParams, request: Request) -> lambda_http::Request {
    build_gateway_request(&parameters, request.into_parts().0)
}

/// Converts a request to one without its body, and the body.
pub(crate) fn split_gateway_request(parameters: RawPathParams, request: Request) -> (lambda_http::Request, Request) {
    let (head, body) = request.into_parts();
    (build_gateway_request(&parameters, head.clone()), Request::from_parts(head, body))
}

/// Builds a `lambda_http` request with path parameters and raw path.
fn build_gateway_request(parameters: &RawPathParams, head: http::request::Parts) -> lambda_http::Request {
    let parameters: HashMap<String, String> = parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let path = head.extensions.get::<OriginalUri>().map_or_else(|| head.uri.path(), |uri| uri.path());
    // As from API Gateway: the path is decoded.
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
    lambda_http::Request::from_parts(head, Body::Empty).with_path_parameters(parameters).with_raw_http_path(path)
}

/// Converts the response of a handler.
pub(crate) fn into_axum_response(response: http::Response<Body>) -> Response {
    response.map(|body| match body {
        Body::Empty => HttpBody::empty(),
        Body::Text(text) => HttpBody::from(text),
        Body::Binary(bytes) => HttpBody::from(bytes),
        // `Body` is non-exhaustive; later versions may add variants.
        _ => HttpBody::empty(),
    })
}
