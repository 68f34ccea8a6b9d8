//! Server for the key set of a client or an identity provider.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, HeaderName};
use axum::response::{IntoResponse as _, Response};
use headrace_tests::flows::Result;
use tokio::net::TcpListener;

/// Local server with the same response for every path.
#[derive(Clone)]
pub(crate) struct KeyServer {
    answer: Arc<Mutex<StoredResponse>>,
    url: String,
}

/// Response of the server, and its requests so far.
struct StoredResponse {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// `Accept` header of every request.
    asked: Vec<String>,
}

impl KeyServer {
    /// Starts a server for this key set, without cache headers.
    pub(crate) async fn start(jwks: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/jwks", listener.local_addr()?);
        let served = StoredResponse { status: 200, headers: Vec::new(), body: jwks.into_bytes(), asked: Vec::new() };
        let answer = Arc::new(Mutex::new(served));
        let app = Router::new().fallback(serve).with_state(Arc::clone(&answer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { answer, url })
    }

    /// Returns the URL of the key set.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Replaces the response.
    pub(crate) fn set_response(&self, status: u16, headers: &[(&'static str, &str)], body: impl Into<Vec<u8>>) {
        let mut served = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        (served.status, served.body) = (status, body.into());
        served.headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    }

    /// Returns the number of requests so far.
    pub(crate) fn request_count(&self) -> usize {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).asked.len()
    }

    /// Returns true if every request had `Accept: application/json`.
    pub(crate) fn all_requests_accept_json(&self) -> bool {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).asked.iter().all(|accept| accept == "application/json")
    }
}

/// Handles a request: stores its `Accept` header and sends the stored response.
async fn serve(State(answer): State<Arc<Mutex<StoredResponse>>>, request: Request) -> Response {
    let mut served = answer.lock().unwrap_or_else(PoisonError::into_inner);
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    served.asked.push(accept.to_owned());
    let mut response = (StatusCode::from_u16(served.status).unwrap_or_default(), served.body.clone()).into_response();
    for (name, value) in &served.headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
    response
}
