//! A deployment written by hand, with any number of exports. It records each request that it gets.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use headrace_local::stores::client_key::{GeneratedKey, KeyAlgorithm};
use headrace_tests::flows::Result;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The access token that the deployment issues.
pub(crate) const TOKEN: &str = "stub-access-token";

/// A request that the deployment got.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Received {
    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A deployment behind `http://127.0.0.1:PORT/fhir`, and a store of files with another origin.
#[derive(Clone)]
pub(crate) struct StubDeployment {
    /// Base URL.
    pub(crate) base: String,
    store: String,
    /// Number of exports in the list.
    exports: usize,
    received: Arc<Mutex<Vec<Received>>>,
    stored: Arc<Mutex<Vec<Received>>>,
}

impl StubDeployment {
    /// Starts a deployment with this number of exports.
    pub(crate) async fn start(exports: usize) -> Result<Self> {
        let (listener, store) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        let base = format!("http://{}/fhir", listener.local_addr()?);
        let deployment =
            Self { base, store: format!("http://{}", store.local_addr()?), exports, received: Arc::default(), stored: Arc::default() };
        let app = Router::new().fallback(respond).with_state(deployment.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let app = Router::new().fallback(respond_with_file).with_state(deployment.clone());
        tokio::spawn(async move { axum::serve(store, app).await });
        Ok(deployment)
    }

    /// Returns the requests to the deployment.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the requests to the store of files.
    pub(crate) fn stored(&self) -> Vec<Received> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a page of the list of exports. Every text from the deployment tries to control a terminal.
    fn list(&self, target: &str) -> Value {
        let parameter = |name: &str| {
            let query = target.split_once('?')?.1;
            query.split('&').filter_map(|pair| pair.split_once('=')).find(|(found, _)| *found == name)?.1.parse::<usize>().ok()
        };
        let (count, first) = (parameter("_count").unwrap_or(20), parameter("page").unwrap_or(0));
        let last = (first + count).min(self.exports);
        let entry = |number: usize| {
            json!({ "resource": {
                "resourceType": "Task", "id": export_id(number), "status": if number.is_multiple_of(2) { "completed" } else { "failed" },
                "businessStatus": { "text": "\u{1b}[2Jcleared" }, "intent": "order", "description": "Export of Group/\u{202e}x<img src=x>",
                "authoredOn": "2026-01-31T08:00:00.000Z", "lastModified": "2026-01-31T08:01:00.000Z"
            } })
        };
        let next = || json!({ "relation": "next", "url": format!("{}/_operations/export?_count={count}&page={last}", self.base) });
        let links: Vec<Value> = (last < self.exports).then(next).into_iter().collect();
        json!({ "resourceType": "Bundle", "type": "searchset", "link": links, "entry": (first..last).map(entry).collect::<Vec<_>>() })
    }
}

/// Returns the id of an export.
pub(crate) fn export_id(number: usize) -> String {
    format!("{number:08x}{}", "0".repeat(24))
}

/// Writes a new private key, and returns its path.
pub(crate) fn write_key(folder: &tempfile::TempDir) -> Result<String> {
    let path = folder.path().join("private.jwk");
    std::fs::write(&path, GeneratedKey::new(KeyAlgorithm::Es384)?.private.to_string())?;
    Ok(path.to_str().ok_or("the path is not UTF-8")?.to_owned())
}

/// Records a request.
async fn record(request: Request, into: &Mutex<Vec<Received>>) -> Result<Received> {
    let (head, body) = request.into_parts();
    let body = String::from_utf8(axum::body::to_bytes(body, 1 << 20).await?.to_vec())?;
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let received = Received { method: head.method, target, headers: head.headers, body };
    into.lock().unwrap_or_else(PoisonError::into_inner).push(received.clone());
    Ok(received)
}

/// Creates a response.
fn response(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let builder = headers.iter().fold(Response::builder().status(status), |builder, (name, value)| builder.header(*name, *value));
    builder.body(body.into()).unwrap_or_default()
}

/// Handles a request to the deployment.
async fn respond(State(deployment): State<StubDeployment>, request: Request) -> Response {
    let Ok(received) = record(request, &deployment.received).await else { return response(500, &[], "") };
    let fhir = |value: &Value| response(200, &[("content-type", "application/fhir+json"), ("set-cookie", "session=1")], value.to_string());
    let path = received.target.strip_prefix("/fhir/").unwrap_or_default();
    match path.split(['/', '?']).collect::<Vec<_>>()[..] {
        [".well-known", "smart-configuration"] => fhir(&json!({ "token_endpoint": format!("{}/token", deployment.base), "capabilities": ["permission-v2"] })),
        ["token"] => fhir(&json!({ "access_token": TOKEN, "token_type": "bearer", "expires_in": 300 })),
        ["metadata"] => fhir(&json!({ "resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [{ "resource": [{ "type": "Patient" }] }] })),
        ["_operations", "export"] | ["_operations", "export", _] if path.contains("export?") || path.ends_with("export") => {
            fhir(&deployment.list(&received.target))
        }
        ["_operations", "export", _] if received.method == Method::DELETE => response(202, &[], ""),
        ["_operations", "export", id] => fhir(&json!({
            "transactionTime": "2026-01-31T08:00:00.000Z", "request": format!("{}/$export", deployment.base), "requiresAccessToken": true,
            "output": [{ "type": "Patient", "url": format!("{}/_operations/files/{id}/Patient-1.ndjson", deployment.base), "count": 1 }],
            "error": []
        })),
        ["_operations", "files", _, name] => response(307, &[("location", &format!("{}/bucket/{name}?X-Amz-Signature=secret", deployment.store))], ""),
        ["$export", ..] => response(202, &[("content-location", &format!("{}/_operations/export/{}", deployment.base, export_id(0)))], ""),
        _ => response(404, &[("content-type", "application/fhir+json")], json!({ "resourceType": "OperationOutcome", "issue": [{ "severity": "error", "code": "not-found", "diagnostics": "nothing is here" }] }).to_string()),
    }
}

/// Handles a request to the store of files. A browser would show a response of this media type.
async fn respond_with_file(State(deployment): State<StubDeployment>, request: Request) -> Response {
    match record(request, &deployment.stored).await {
        Ok(_) => response(200, &[("content-type", "text/html")], "{\"resourceType\":\"Patient\",\"id\":\"<script>alert(1)</script>\"}\n"),
        Err(_) => response(500, &[], ""),
    }
}
