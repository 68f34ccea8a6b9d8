//! A connection that gives written answers and remembers the requests, for tests of answers that no stand-in gives.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;

/// An answer to one request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A response with this status and body.
    Http(u16, String),
    /// A response with these headers.
    WithHeaders(u16, Vec<(&'static str, String)>, String),
    /// A response whose body ends after this text, although its Content-Length is this larger number.
    Broken(String, usize),
    /// The connection was lost before an answer came.
    Lost,
}

/// A request as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Sent {
    /// Returns the value of a header field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Returns the text member of a JSON body.
    pub(crate) fn json(&self, member: &str) -> Option<String> {
        serde_json::from_str::<serde_json::Value>(&self.body).ok()?.get(member)?.as_str().map(str::to_owned)
    }
}

/// Answers to the requests of a client, one after the other. The last one is repeated.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Script {
    /// Creates a script of these answers.
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), sent: Arc::default() }
    }

    /// Returns the requests so far.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// Returns the client of the SDKs that gets these answers.
    pub(crate) fn http_client(&self) -> SharedHttpClient {
        let script = self.clone();
        http_client_fn(move |_: &HttpConnectorSettings, _: &_| SharedHttpConnector::new(script.clone()))
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = request.body().bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        let headers = request.headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.sent.lock().unwrap().push(Sent { method: request.method().to_owned(), uri: request.uri().to_owned(), headers, body });
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let response = |status: u16, body: SdkBody| HttpResponse::new(status.try_into().unwrap(), body);
        HttpConnectorFuture::ready(match answer.unwrap() {
            Answer::Http(status, body) => Ok(response(status, SdkBody::from(body))),
            Answer::WithHeaders(status, headers, body) => {
                let mut response = response(status, SdkBody::from(body));
                for (name, value) in headers {
                    response.headers_mut().insert(name, value);
                }
                Ok(response)
            }
            Answer::Broken(body, announced) => {
                let mut response = response(206, SdkBody::from(body));
                response.headers_mut().insert("content-length", announced.to_string());
                Ok(response)
            }
            Answer::Lost => Err(ConnectorError::io("the connection was lost".into())),
        })
    }
}
