//! Requests as API Gateway makes them, and answers as a client reads them.

use bytes::Bytes;
use headrace_edge::base::OwnBase;
use lambda_http::http::Response;
use lambda_http::{Body, Request, RequestExt as _};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Result, canary};

/// The base of one machine's server.
pub(super) const OWN_BASE: &str = "http://127.0.0.1:8080";

/// The base of a deployment behind a gateway.
pub(super) const GATEWAY_BASE: &str = "https://abc123.execute-api.eu-central-1.amazonaws.com";

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The HTTP method.
    pub method: &'static str,
    /// The path below the base, and the query.
    pub target: String,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The ARN of the IAM identity, where a gateway knows it.
    pub identity: Option<String>,
    /// The body.
    pub body: Option<String>,
}

/// The paths of the routes; the first that fits is taken.
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

impl Ask {
    /// A request with the headers that Azure's clients send.
    pub fn new(method: &'static str, target: impl Into<String>) -> Self {
        let headers = vec![("accept", "application/fhir+json".to_owned()), ("prefer", "respond-async".to_owned())];
        Self { method, target: target.into(), headers, identity: None, body: None }
    }

    /// Sent by this IAM identity.
    #[must_use]
    pub fn by(mut self, arn: &str) -> Self {
        self.identity = Some(arn.to_owned());
        self
    }

    /// With this access token.
    #[must_use]
    pub fn bearer(mut self, token: &str) -> Self {
        self.headers.push(("authorization", format!("Bearer {token}")));
        self
    }

    /// A posted form.
    #[must_use]
    pub fn form(target: &str, body: impl Into<String>) -> Self {
        let headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned()), ("accept", "application/json".to_owned())];
        Self { method: "POST", target: target.to_owned(), headers, identity: None, body: Some(body.into()) }
    }

    /// The route that fits, with its parameters.
    pub fn route(&self) -> Result<(&'static str, Vec<(&'static str, String)>)> {
        let path: Vec<&str> = self.path().split('/').collect();
        let fit = |pattern: &'static str| {
            let segments: Vec<&'static str> = pattern.split('/').collect();
            let mut parameters = Vec::new();
            if segments.len() != path.len() {
                return None;
            }
            for (segment, given) in segments.iter().zip(&path) {
                match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    Some(name) => parameters.push((name, (*given).to_owned())),
                    None if segment == given => {}
                    None => return None,
                }
            }
            Some((pattern, parameters))
        };
        ROUTES.into_iter().find_map(fit).ok_or_else(|| format!("no route takes {}", self.target).into())
    }

    fn path(&self) -> &str {
        self.target.split_once('?').map_or(&*self.target, |(path, _)| path)
    }

    fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// As API Gateway's HTTP API gives it to a Lambda function (payload 2.0).
    pub fn event(&self) -> Result<Value> {
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
            "rawPath": self.path(),
            "rawQueryString": self.query(),
            "headers": headers,
            "pathParameters": parameters,
            "requestContext": {
                "accountId": "111122223333", "apiId": "abc123", "authorizer": authorizer,
                "domainName": "abc123.execute-api.eu-central-1.amazonaws.com", "domainPrefix": "abc123",
                "http": { "method": self.method, "path": self.path(), "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test" },
                "requestId": "JKJaXmPLvHcESHA=", "routeKey": format!("{} {route}", self.method), "stage": "$default",
                "time": "01/Oct/2026:08:00:00 +0000", "timeEpoch": 1_790_841_600_000_u64
            },
            "body": self.body,
            "isBase64Encoded": false
        }))
    }

    /// As a handler takes it: through `lambda_http` from the gateway's event, or as the local server makes it.
    pub fn request(&self, has_gateway: bool) -> Result<Request> {
        if has_gateway {
            return Ok(lambda_http::request::from_str(&self.event()?.to_string())?);
        }
        let (_, parameters) = self.route()?;
        let parameters: std::collections::HashMap<String, String> =
            parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut request = lambda_http::http::Request::builder().method(self.method).uri(&self.target).header("host", "127.0.0.1:8080");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let body = self.body.clone().map_or(Body::Empty, Body::Text);
        let request = request.extension(OwnBase(OWN_BASE.to_owned())).body(body)?;
        Ok(request.with_raw_http_path(self.path()).with_path_parameters(parameters))
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Reads a handler's response.
    pub fn of(response: Response<Body>) -> Result<Self> {
        let (head, body) = response.into_parts();
        let text = |value: &lambda_http::http::HeaderValue| value.to_str().map(str::to_owned);
        let headers = head.headers.iter().map(|(name, value)| Ok((name.as_str().to_owned(), text(value)?))).collect::<Result<Vec<_>>>()?;
        let body = match body {
            Body::Empty => Bytes::new(),
            Body::Text(text) => text.into(),
            Body::Binary(bytes) => bytes.into(),
            _ => return Err("a body of a kind unknown here".into()),
        };
        let answer = Self { status: head.status.as_u16(), headers, body };
        let said = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body));
        match canary::never_answered(&said).filter(|_| answer.status >= 400) {
            Some(secret) => Err(format!("an error tells `{secret}`: {said}").into()),
            None => Ok(answer),
        }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// What an OperationOutcome says: severity, code, diagnostics.
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
        let outcome: Outcome = serde_json::from_slice(&self.body).map_err(|error| format!("{self:?} is no OperationOutcome: {error}"))?;
        match outcome.issue.into_iter().next() {
            Some(issue) if outcome.resource_type == "OperationOutcome" => Ok((issue.severity, issue.code, issue.diagnostics)),
            _ => Err(format!("{self:?} is no OperationOutcome").into()),
        }
    }
}

/// A manifest as a client reads it: every member that the standard demands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// What to give as `_since` next time.
    pub transaction_time: String,
    /// The kick-off's URL.
    pub request: String,
    /// Whether files need credentials.
    pub requires_access_token: bool,
    /// By what type of resource files are organized, if they are.
    pub output_organized_by: Option<String>,
    /// Resources.
    pub output: Vec<Entry>,
    /// Deletions; there where `_since` was given.
    pub deleted: Option<Vec<Entry>>,
    /// OperationOutcomes.
    pub error: Vec<Entry>,
}

/// One file of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What its lines are; empty where they are of many types.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Where it is.
    pub url: String,
    /// How many lines it has.
    pub count: usize,
}

impl Entry {
    /// Whether its lines say what was deleted.
    pub fn is_of_deletions(&self) -> bool {
        self.name().starts_with("deleted-")
    }

    /// The last segment of its URL.
    pub fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or_default()
    }
}
