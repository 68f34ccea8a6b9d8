//! From the request to what it asks about.

use std::sync::{Mutex, PoisonError};

use async_compression::tokio::bufread::GzipEncoder;
use headrace_core::ports::Clock;
use headrace_core::request::{Level, Refusal};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::{ExportError, StoreError};
use headrace_core::vocab::outcome::{IssueCode, Outcome};
use headrace_edge::config::{AccessControl, Offer};
use headrace_edge::reply::{FHIR_JSON, Reply, refuse};
use headrace_edge::{base, request};
use lambda_http::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderName, VARY};
use lambda_http::http::{Method, Response};
use lambda_http::{Body, Request, RequestExt as _};
use tokio::io::AsyncReadExt as _;

use crate::capabilities::{At, statement};
use crate::discovery::discovery;
use crate::operations::{Operation, bundle};

/// What the function needs, for the life of the process.
pub struct Metadata {
    offer: Offer,
    since: Millis,
    /// The statement at the base that was asked for last: a deployment has one, and hostile ones must not pile up.
    last: Mutex<Option<Statement>>,
}

/// A finished statement.
#[derive(Clone, Debug)]
struct Statement {
    at: At,
    json: String,
    gzip: Vec<u8>,
}

/// What a path asks about.
enum Subject<'a> {
    Capabilities,
    Operations,
    Operation(&'a str),
    Smart,
}

impl Metadata {
    /// For a deployment that offers this, from now on.
    pub fn new(clock: &impl Clock, offer: Offer) -> Self {
        Self { offer, since: clock.now(), last: Mutex::new(None) }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let response = self.answer(&request).await.map_or_else(|error| refuse(&request, &error), Reply::into_response);
        // What HEAD answers has no body, whatever stands before the function.
        if *request.method() == Method::HEAD { response.map(|_| Body::Empty) } else { response }
    }

    async fn answer(&self, request: &Request) -> Result<Reply, ExportError> {
        let (subject, route) = subject(request.raw_http_path()).ok_or(ExportError::NotFound("this path"))?;
        if let Subject::Smart = subject {
            return self.smart(request);
        }
        must_speak_json(request)?;
        let base = base::base(request, route, self.offer.base.as_deref())?;
        let json = |json: serde_json::Value| Reply::json(200, FHIR_JSON, json.to_string());
        match subject {
            Subject::Capabilities => {
                let token_url = token_url(&self.offer.access, request)?;
                self.capabilities(At { base, token_url }, request.headers()).await
            }
            Subject::Operations => Ok(json(bundle(&base, &self.offer))),
            Subject::Operation(id) => match Operation::named(id) {
                Some(operation) => Ok(json(operation.resource(&base, &self.offer))),
                None => Err(ExportError::NotFound("this OperationDefinition")),
            },
            Subject::Smart => Err(ExportError::NotFound("this path")),
        }
    }

    async fn capabilities(&self, at: At, headers: &HeaderMap) -> Result<Reply, ExportError> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let statement = match last.filter(|last| last.at == at) {
            Some(last) => last,
            None => {
                let made = self.make(at).await?;
                self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(made.clone());
                made
            }
        };
        let reply = if takes_gzip(headers) {
            Reply::bytes(200, FHIR_JSON, statement.gzip).with(CONTENT_ENCODING, "gzip")
        } else {
            Reply::json(200, FHIR_JSON, statement.json)
        };
        Ok(reply.with(VARY, "Accept-Encoding"))
    }

    async fn make(&self, at: At) -> Result<Statement, ExportError> {
        let failed = |cause| StoreError::NotApplied { what: "the capability statement", cause };
        let json = statement(&at, &self.offer, self.since).map_err(|error| failed(error.into()))?;
        let mut gzip = Vec::new();
        GzipEncoder::new(json.as_bytes()).read_to_end(&mut gzip).await.map_err(|error| failed(error.into()))?;
        tracing::info!(size_bytes = json.len(), gzip_bytes = gzip.len(), "the capability statement is made");
        Ok(Statement { at, json, gzip })
    }

    /// For clients that look for a token endpoint: always as JSON, whatever they take. Where there is none they are told so.
    fn smart(&self, request: &Request) -> Result<Reply, ExportError> {
        match token_url(&self.offer.access, request)? {
            Some(url) => Ok(Reply::json(200, "application/json", discovery(&url))),
            None => Ok(Reply::outcome(404, &Outcome::error(IssueCode::NotFound, no_smart(&self.offer.access)))),
        }
    }
}

/// Where tokens are given out; `None` if that is nowhere, or nobody knows.
fn token_url(access: &AccessControl, request: &Request) -> Result<Option<String>, Refusal> {
    match access {
        // The assertion must be for this URL: no header of a request can name another.
        AccessControl::Smart(terms) => Ok(Some(base::own(request, terms.base.as_deref())? + "/token")),
        AccessControl::External(terms) => Ok(terms.token_url.clone()),
        AccessControl::AwsIam | AccessControl::None => Ok(None),
    }
}

fn no_smart(access: &AccessControl) -> &'static str {
    match access {
        AccessControl::AwsIam => {
            "this server does not use SMART App Launch and has no token endpoint: sign requests with AWS Signature Version 4, service execute-api"
        }
        AccessControl::Smart(_) | AccessControl::External(_) => {
            "this server takes access tokens of an identity provider, whose token endpoint it does not know: ask its operator"
        }
        AccessControl::None => "this server does not use SMART App Launch: it asks nobody for credentials",
    }
}

/// What the path asks about, and the end of the path that says so: before it stands the base.
fn subject(path: &str) -> Option<(Subject<'_>, &str)> {
    let from = |index: usize| path.get(index..);
    if let Some(index) = path.strip_suffix("/metadata").map(str::len) {
        return Some((Subject::Capabilities, from(index)?));
    }
    if let Some(index) = path.strip_suffix("/OperationDefinition").map(str::len) {
        return Some((Subject::Operations, from(index)?));
    }
    if let Some(index) = path.strip_suffix("/.well-known/smart-configuration").map(str::len) {
        return Some((Subject::Smart, from(index)?));
    }
    let (before, id) = path.rsplit_once('/')?;
    let index = before.strip_suffix("/OperationDefinition").map(str::len)?;
    Some((Subject::Operation(id), from(index)?))
}

/// `_format` decides, else `Accept`; without either, JSON is what there is.
fn must_speak_json(request: &Request) -> Result<(), Refusal> {
    let refuse = |what| {
        Refusal::of(
            406,
            IssueCode::NotSupported,
            what,
            format!("{what} asks for another format than JSON: this server speaks application/fhir+json"),
        )
    };
    let parameters = request::asked(request, Level::System)?.parameters;
    if let Some((_, format)) = parameters.into_iter().find(|(name, _)| name == "_format") {
        // A `+` that was not percent-encoded arrives as a blank.
        let media = format.split(';').next().unwrap_or_default().trim().replace(' ', "+");
        let is_json = matches!(media.as_str(), "json" | "text/json" | "application/json" | "application/fhir+json");
        return if is_json { Ok(()) } else { Err(refuse("_format")) };
    }
    let is_served = |range: &str| matches!(range, "*/*" | "application/*" | "application/json" | "application/fhir+json");
    if offers(request.headers(), &ACCEPT, is_served).unwrap_or(true) { Ok(()) } else { Err(refuse("Accept")) }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    offers(headers, &ACCEPT_ENCODING, |coding| matches!(coding, "gzip" | "*")).unwrap_or(false)
}

/// Whether a header that lists what a client takes has something that `fits` and is not refused by `q=0`; `None` without
/// the header.
fn offers(headers: &HeaderMap, name: &HeaderName, fits: impl Fn(&str) -> bool) -> Option<bool> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut items = values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty()).peekable();
    items.peek()?;
    Some(items.any(|item| {
        let mut pieces = item.split(';').map(|piece| piece.trim().to_ascii_lowercase());
        let fits = pieces.next().is_some_and(|name| fits(&name));
        fits && !pieces.any(|piece| piece.strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0_f32)))
    }))
}

#[cfg(test)]
mod tests;
