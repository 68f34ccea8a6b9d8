//! Handles requests for the CapabilityStatement, OperationDefinitions and the SMART configuration.

use std::sync::{Mutex, PoisonError};

use async_compression::tokio::bufread::GzipEncoder;
use headrace_core::job::ExportError;
use headrace_core::ports::Clock;
use headrace_core::request::RequestError;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::accept::{AcceptedCodings, ContentCoding, accepts_fhir_json};
use headrace_edge::config::{AccessControl, CapabilitySettings};
use headrace_edge::reply::{FHIR_JSON, Reply, error_response};
use headrace_edge::{base_url, request};
use lambda_http::http::header::{CONTENT_ENCODING, HeaderMap, VARY};
use lambda_http::http::{Method, Response};
use lambda_http::{Body, Request, RequestExt as _};
use tokio::io::AsyncReadExt as _;

use crate::capability_statement::{DeploymentUrls, capability_statement};
use crate::operation_definitions::{Operation, bundle};
use crate::smart_configuration::smart_configuration;

/// The handler for the descriptions of a deployment. It lives as long as the process.
pub struct MetadataHandler {
    settings: CapabilitySettings,
    started_at: Millis,
    /// The statement for the base URL of the last request. Only one is cached: a deployment normally has one base URL, and
    /// requests with forged ones must not fill the memory.
    cached: Mutex<Option<CachedStatement>>,
}

/// A CapabilityStatement, plain and compressed.
#[derive(Clone, Debug)]
struct CachedStatement {
    urls: DeploymentUrls,
    json: String,
    gzip: Vec<u8>,
}

/// A resource or document that a path names.
enum Endpoint<'a> {
    CapabilityStatement,
    OperationDefinitions,
    OperationDefinition(&'a str),
    SmartConfiguration,
}

impl MetadataHandler {
    /// Creates the handler for a deployment with these settings.
    pub fn new(clock: &impl Clock, settings: CapabilitySettings) -> Self {
        Self { settings, started_at: clock.now(), cached: Mutex::new(None) }
    }

    /// Responds to a request for a resource or document of the deployment. Never requires authentication.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let response = self.answer(&request).await.map_or_else(|error| error_response(&request, &error), Reply::into_response);
        // Local servers and gateways do not all remove the body of a response to HEAD.
        if *request.method() == Method::HEAD { response.map(|_| Body::Empty) } else { response }
    }

    /// Responds with the resource or document that the path names.
    async fn answer(&self, request: &Request) -> Result<Reply, ExportError> {
        let endpoint = parse_path(request.raw_http_path()).ok_or(ExportError::NotFound("this path"))?;
        if let Endpoint::SmartConfiguration = endpoint {
            return self.smart_configuration(request);
        }
        require_json(request)?;
        let base = base_url::base_url(request, self.settings.base.as_deref())?;
        let json = |json: serde_json::Value| Reply::json(200, FHIR_JSON, json.to_string());
        match endpoint {
            Endpoint::CapabilityStatement => {
                let token_url = token_url(&self.settings.access, request)?;
                self.capability_statement(DeploymentUrls { base, token_url }, request.headers()).await
            }
            Endpoint::OperationDefinitions => Ok(json(bundle(&base, &self.settings))),
            Endpoint::OperationDefinition(id) => match Operation::from_id(id) {
                Some(operation) => Ok(json(operation.resource(&base, &self.settings))),
                None => Err(ExportError::NotFound("this OperationDefinition")),
            },
            Endpoint::SmartConfiguration => Err(ExportError::NotFound("this path")),
        }
    }

    /// Responds with the CapabilityStatement, compressed if the client accepts gzip. Builds it only if the cached one has other
    /// URLs.
    async fn capability_statement(&self, urls: DeploymentUrls, headers: &HeaderMap) -> Result<Reply, ExportError> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let statement = match cached.filter(|cached| cached.urls == urls) {
            Some(cached) => cached,
            None => {
                let statement = self.build_statement(urls).await?;
                self.cached.lock().unwrap_or_else(PoisonError::into_inner).replace(statement.clone());
                statement
            }
        };
        let reply = match AcceptedCodings::from_headers(headers).preferred() {
            Some(ContentCoding::Gzip) => Reply::bytes(200, FHIR_JSON, statement.gzip).with_header(CONTENT_ENCODING, "gzip"),
            // A client that accepts neither gets what there is (RFC 9110, section 12.5.3).
            Some(ContentCoding::Identity) | None => Reply::json(200, FHIR_JSON, statement.json),
        };
        Ok(reply.with_header(VARY, "Accept-Encoding"))
    }

    /// Builds the CapabilityStatement for these URLs and compresses it.
    async fn build_statement(&self, urls: DeploymentUrls) -> Result<CachedStatement, ExportError> {
        let failed = |cause| StoreError::NotApplied { store: "the capability statement", cause };
        let json = capability_statement(&urls, &self.settings, self.started_at).map_err(|error| failed(error.into()))?;
        let mut gzip = Vec::new();
        GzipEncoder::new(json.as_bytes()).read_to_end(&mut gzip).await.map_err(|error| failed(error.into()))?;
        tracing::info!(size_bytes = json.len(), gzip_bytes = gzip.len(), "the CapabilityStatement was built");
        Ok(CachedStatement { urls, json, gzip })
    }

    /// Serves the SMART configuration, always as JSON. Without a token endpoint, the response is 404 and says how to
    /// authenticate instead.
    fn smart_configuration(&self, request: &Request) -> Result<Reply, ExportError> {
        match token_url(&self.settings.access, request)? {
            Some(url) => Ok(Reply::json(200, "application/json", smart_configuration(&url))),
            None => Ok(Reply::outcome(404, &OperationOutcome::error(IssueCode::NotFound, missing_token_endpoint(&self.settings.access)))),
        }
    }
}

/// Returns the URL of the token endpoint. `None` if there is none or it is unknown.
fn token_url(access: &AccessControl, request: &Request) -> Result<Option<String>, RequestError> {
    match access {
        AccessControl::Smart(settings) => Ok(Some(base_url::base_url(request, settings.base.as_deref())? + "/token")),
        AccessControl::External(settings) => Ok(settings.token_url.clone()),
        AccessControl::AwsIam | AccessControl::None => Ok(None),
    }
}

/// Explains why there is no SMART configuration, and how to authenticate.
fn missing_token_endpoint(access: &AccessControl) -> &'static str {
    match access {
        AccessControl::AwsIam => {
            "this server does not use SMART App Launch and has no token endpoint: sign requests with AWS Signature Version 4, service execute-api"
        }
        AccessControl::Smart(_) | AccessControl::External(_) => {
            "this server accepts access tokens of an identity provider and does not know its token endpoint: ask its operator"
        }
        AccessControl::None => "this server does not use SMART App Launch: it requires no credentials",
    }
}

/// Parses the end of a path. The beginning belongs to the base URL.
fn parse_path(path: &str) -> Option<Endpoint<'_>> {
    let (before, last) = path.rsplit_once('/')?;
    match last {
        "metadata" => Some(Endpoint::CapabilityStatement),
        "OperationDefinition" => Some(Endpoint::OperationDefinitions),
        "smart-configuration" if before.ends_with("/.well-known") => Some(Endpoint::SmartConfiguration),
        id => before.ends_with("/OperationDefinition").then_some(Endpoint::OperationDefinition(id)),
    }
}

/// Rejects a request for a format other than JSON. `_format` takes precedence over `Accept`; without both, JSON is returned.
fn require_json(request: &Request) -> Result<(), RequestError> {
    let reject = |what| {
        RequestError::new(
            406,
            IssueCode::NotSupported,
            what,
            format!("{what} asks for a format other than JSON: this server returns application/fhir+json"),
        )
    };
    let parameters = request::parameters(request)?;
    if let Some((_, format)) = parameters.into_iter().find(|(name, _)| name == "_format") {
        // Some clients encode the `+` in the media type as a space.
        let media = format.split(';').next().unwrap_or_default().trim().replace(' ', "+");
        let is_json = matches!(media.as_str(), "json" | "text/json" | "application/json" | "application/fhir+json");
        return if is_json { Ok(()) } else { Err(reject("_format")) };
    }
    if accepts_fhir_json(request.headers()).unwrap_or(true) { Ok(()) } else { Err(reject("Accept")) }
}

#[cfg(test)]
mod tests;
