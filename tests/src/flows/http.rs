//! Test requests as API Gateway or the local server delivers them, and responses as a client reads them.

use bytes::Bytes;
use headrace_core::output::usage_report::UsageReport;
use headrace_edge::base_url::TrustedBaseUrl;
use lambda_http::http::Response;
use lambda_http::{Body, Request, RequestExt as _};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Result, canary};

/// FHIR base URL of the local server.
pub(super) const OWN_BASE: &str = "http://127.0.0.1:8080";

/// FHIR base URL of a deployment behind API Gateway.
pub(super) const GATEWAY_BASE: &str = "https://abc123.execute-api.eu-central-1.amazonaws.com";

/// HTTP request that a test sends to the service.
#[derive(Clone, Debug)]
pub struct TestRequest {
    /// HTTP method.
    pub method: &'static str,
    /// Path below the FHIR base, with its query.
    pub target: String,
    /// Header names, in lower case, and their values.
    pub headers: Vec<(&'static str, String)>,
    /// ARN of the caller's IAM identity. API Gateway passes it to the function; the local server ignores it.
    pub identity: Option<String>,
    /// Request body.
    pub body: Option<String>,
}

/// Path patterns of the routes. The first match wins.
const ROUTES: [&str; 14] = [
    "/token",
    "/Group",
    "/Group/{id}",
    "/metadata",
    "/OperationDefinition",
    "/OperationDefinition/{id}",
    "/.well-known/smart-configuration",
    "/_operations/export",
    "/_operations/export/{job}",
    "/_operations/files/{job}/{name}",
    "/Patient/{id}/{operation}",
    "/Group/{id}/{operation}",
    "/Patient/{operation}",
    "/{operation}",
];

impl TestRequest {
    /// Creates a request with the headers of an asynchronous FHIR request.
    pub fn new(method: &'static str, target: impl Into<String>) -> Self {
        let headers = vec![("accept", "application/fhir+json".to_owned()), ("prefer", "respond-async".to_owned())];
        Self { method, target: target.into(), headers, identity: None, body: None }
    }

    /// Sets the caller's IAM identity.
    #[must_use]
    pub fn with_identity(mut self, arn: &str) -> Self {
        self.identity = Some(arn.to_owned());
        self
    }

    /// Adds an `Authorization` header with the access token.
    #[must_use]
    pub fn with_bearer_token(mut self, token: &str) -> Self {
        self.headers.push(("authorization", format!("Bearer {token}")));
        self
    }

    /// Creates a POST request with a form as its body.
    #[must_use]
    pub fn form_post(target: &str, body: impl Into<String>) -> Self {
        let headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned()), ("accept", "application/json".to_owned())];
        Self { method: "POST", target: target.to_owned(), headers, identity: None, body: Some(body.into()) }
    }

    /// Returns the matching route and its path parameters.
    pub fn route(&self) -> Result<(&'static str, Vec<(&'static str, String)>)> {
        let path: Vec<&str> = self.path().split('/').collect();
        let match_route = |pattern: &'static str| {
            let segments: Vec<&'static str> = pattern.split('/').collect();
            let mut parameters = Vec::new();
            if segments.len() != path.len() {
                return None;
            }
            for (segment, value) in segments.iter().zip(&path) {
                match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    Some(name) => {
                        parameters.push((name, percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned()));
                    }
                    None if segment == value => {}
                    None => return None,
                }
            }
            Some((pattern, parameters))
        };
        ROUTES.into_iter().find_map(match_route).ok_or_else(|| format!("no route matches {}", self.target).into())
    }

    /// Returns the path of the request target.
    fn path(&self) -> &str {
        self.target.split_once('?').map_or(&*self.target, |(path, _)| path)
    }

    /// Returns the decoded path, as API Gateway and the local server pass it on.
    fn decoded_path(&self) -> String {
        percent_encoding::percent_decode_str(self.path()).decode_utf8_lossy().into_owned()
    }

    /// Returns the query of the request target, or an empty string.
    fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Returns the event that API Gateway's HTTP API sends to a Lambda function (payload format 2.0).
    pub fn to_gateway_event(&self) -> Result<Value> {
        let (route, parameters) = self.route()?;
        let parameters: Map<String, Value> = parameters.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let mut headers: Map<String, Value> = self.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect();
        headers.insert("host".to_owned(), "abc123.execute-api.eu-central-1.amazonaws.com".into());
        let authorizer = self.identity.as_ref().map(|arn| {
            json!({ "iam": {
                "accessKey": "ASIAEXAMPLE", "accountId": "111122223333", "callerId": "AROAEXAMPLE:session",
                "cognitoIdentity": null, "principalOrgId": null, "userArn": arn, "userId": "AROAEXAMPLE:session"
            } })
        });
        Ok(json!({
            "version": "2.0",
            "routeKey": format!("{} {route}", self.method),
            "rawPath": self.decoded_path(),
            "rawQueryString": self.query(),
            "headers": headers,
            "pathParameters": parameters,
            "requestContext": {
                "accountId": "111122223333", "apiId": "abc123", "authorizer": authorizer,
                "domainName": "abc123.execute-api.eu-central-1.amazonaws.com", "domainPrefix": "abc123",
                "http": { "method": self.method, "path": self.decoded_path(), "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test" },
                "requestId": "JKJaXmPLvHcESHA=", "routeKey": format!("{} {route}", self.method), "stage": "$default",
                "time": "01/Oct/2026:08:00:00 +0000", "timeEpoch": 1_790_841_600_000_u64
            },
            "body": self.body,
            "isBase64Encoded": false
        }))
    }

    /// Converts it to a handler's request: parsed from the gateway's event by `lambda_http`, or built like the local server does.
    pub fn to_lambda_request(&self, has_gateway: bool) -> Result<Request> {
        if has_gateway {
            return Ok(lambda_http::request::from_str(&self.to_gateway_event()?.to_string())?);
        }
        let (_, parameters) = self.route()?;
        let parameters: std::collections::HashMap<String, String> =
            parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut request = lambda_http::http::Request::builder().method(self.method).uri(&self.target).header("host", "127.0.0.1:8080");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let body = self.body.clone().map_or(Body::Empty, Body::Text);
        let request = request.extension(TrustedBaseUrl(OWN_BASE.to_owned())).body(body)?;
        Ok(request.with_raw_http_path(self.decoded_path()).with_path_parameters(parameters))
    }
}

/// HTTP response as a client reads it.
#[derive(Clone, Debug)]
pub struct TestResponse {
    /// HTTP status code.
    pub status: u16,
    /// Header names, in lower case, and their values.
    pub headers: Vec<(String, String)>,
    /// Response body.
    pub body: Bytes,
}

impl TestResponse {
    /// Converts a handler's response.
    ///
    /// # Errors
    ///
    /// If an error response contains a credential or a patient's data.
    pub fn from_lambda(response: Response<Body>) -> Result<Self> {
        let (head, body) = response.into_parts();
        let text = |value: &lambda_http::http::HeaderValue| value.to_str().map(str::to_owned);
        let headers = head.headers.iter().map(|(name, value)| Ok((name.as_str().to_owned(), text(value)?))).collect::<Result<Vec<_>>>()?;
        let body = match body {
            Body::Empty => Bytes::new(),
            Body::Text(text) => text.into(),
            Body::Binary(bytes) => bytes.into(),
            _ => return Err("the response has a body type that tests cannot read".into()),
        };
        let response = Self { status: head.status.as_u16(), headers, body };
        let text = format!("{:?} {}", response.headers, String::from_utf8_lossy(&response.body));
        match canary::find_forbidden_in_response(&text).filter(|_| response.status >= 400) {
            Some(secret) => Err(format!("an error response contains `{secret}`: {text}").into()),
            None => Ok(response),
        }
    }

    /// Returns the value of the header with this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// Parses the body as JSON.
    pub fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Returns severity, code and diagnostics of the first issue of the OperationOutcome in the body.
    pub fn outcome(&self) -> Result<(String, String, String)> {
        #[derive(Deserialize)]
        struct Outcome {
            #[serde(rename = "resourceType")]
            resource_type: String,
            issue: Vec<Issue>,
        }
        #[derive(Deserialize)]
        struct Issue {
            severity: String,
            code: String,
            diagnostics: String,
        }
        let outcome: Outcome =
            serde_json::from_slice(&self.body).map_err(|error| format!("{self:?} is not an OperationOutcome: {error}"))?;
        match outcome.issue.into_iter().next() {
            Some(issue) if outcome.resource_type == "OperationOutcome" => Ok((issue.severity, issue.code, issue.diagnostics)),
            _ => Err(format!("{self:?} is not an OperationOutcome").into()),
        }
    }
}

/// Export manifest as a client parses it. A missing required member or an unknown member is an error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Instant to send as `_since` in the next export.
    pub transaction_time: String,
    /// URL of the kick-off request.
    pub request: String,
    /// True if downloads need an access token.
    pub requires_access_token: bool,
    /// Resource type of `organizeOutputBy`.
    pub output_organized_by: Option<String>,
    /// Files of exported resources.
    pub output: Vec<ManifestFile>,
    /// Files of deletions. Present if the request had `_since`.
    pub deleted: Option<Vec<ManifestFile>>,
    /// Files of OperationOutcomes.
    pub error: Vec<ManifestFile>,
    /// Extension with the watermark of the lake.
    pub extension: Option<Value>,
}

impl Manifest {
    /// Removes what the export has used from the extension, and returns it. `None` if it is missing.
    pub fn take_usage(&mut self) -> Option<UsageReport> {
        let members = self.extension.as_mut()?.as_object_mut()?;
        let usage = members.remove("urn:headrace:usage")?;
        if members.is_empty() {
            self.extension = None;
        }
        serde_json::from_value(usage).ok()
    }
}

/// Entry of a manifest for one file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Resource type of its lines. Empty if the file holds several types.
    #[serde(rename = "type", default)]
    pub resource_type: String,
    /// Download URL.
    pub url: String,
    /// Number of lines.
    pub count: usize,
}

impl ManifestFile {
    /// Returns true if the file lists deleted resources.
    pub fn is_deletion_file(&self) -> bool {
        self.name().starts_with("deleted-")
    }

    /// Returns the file name: the last segment of the URL.
    pub fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or_default()
    }
}
