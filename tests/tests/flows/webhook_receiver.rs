//! An HTTP server that receives webhooks.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headrace_edge::event_targets::EventTargets;
use headrace_edge::jwks::UrlPolicy;
use headrace_edge::webhook::{WebhookClient, WebhookSecret, WebhookSettings};
use headrace_tests::flows::Result;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A secret in the form of Standard Webhooks.
pub(super) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request that the receiver got.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Value,
}

/// The answer of the receiver to each request: a status, and headers. `None` never answers.
pub(super) type Answer = Option<(u16, &'static str)>;

/// An HTTP server that receives webhooks.
#[derive(Clone)]
pub(super) struct Receiver {
    port: u16,
    answer: Arc<Mutex<Answer>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Starts a receiver on a free loopback port. It accepts every event until its answer is changed.
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let receiver =
            Self { port: listener.local_addr()?.port(), answer: Arc::new(Mutex::new(Some((204, "")))), received: Arc::default() };
        let served = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = served.clone();
                tokio::spawn(async move { receiver.serve(stream).await.ok() });
            }
        });
        Ok(receiver)
    }

    /// Reads requests of one connection and answers them.
    async fn serve(&self, mut stream: TcpStream) -> Result<()> {
        let mut buffer = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break end + 4;
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            let head = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let headers: BTreeMap<String, String> = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length: usize = headers.get("content-length").ok_or("no length")?.parse()?;
            while buffer.len() < end + length {
                stream.read_buf(&mut buffer).await?;
            }
            let rest = buffer.split_off(end + length);
            let body = serde_json::from_slice(buffer.get(end..).unwrap_or_default())?;
            buffer = rest;
            self.received.lock().unwrap_or_else(PoisonError::into_inner).push(Received { path, headers, body });
            let answer = *self.answer.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((status, headers)) = answer else { std::future::pending().await };
            stream.write_all(format!("HTTP/1.1 {status} x\r\n{headers}content-length: 0\r\n\r\n").as_bytes()).await?;
        }
    }

    /// Sets the answer to further requests.
    pub(super) fn set_answer(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// Returns the requests so far.
    pub(super) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the types of the events so far.
    pub(super) fn types(&self) -> Vec<String> {
        self.received().iter().map(|received| received.body["type"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Returns the URL of a webhook with this path. It contains a secret.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}?key=secret", self.port)
    }

    /// Returns the types of the events that a path got so far.
    pub(super) fn types_at(&self, path: &str) -> Vec<String> {
        let received = self.received();
        let at_path = received.iter().filter(|received| received.path == format!("{path}?key=secret"));
        at_path.map(|received| received.body["type"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Returns the targets of a process that sends the events of all exports here.
    pub(super) fn targets(&self) -> Result<EventTargets> {
        let settings = WebhookSettings::new(self.url("/hook"), WebhookSecret::parse(SECRET)?, UrlPolicy::LocalClients)?;
        Ok(EventTargets::new(Some(settings), webhook_client()))
    }
}

impl Received {
    /// Fails unless the event is signed with this secret, as Standard Webhooks defines it.
    pub(super) fn verify(&self, secret: &str) -> Result<()> {
        let key = STANDARD.decode(secret.trim_start_matches("whsec_"))?;
        let header = |name: &str| self.headers.get(name).map(String::as_str).unwrap_or_default();
        // The sender writes members in the order of their names, as `Value` does.
        let message = format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), self.body);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), message.as_bytes());
        let expected = format!("v1,{}", STANDARD.encode(tag.as_ref()));
        if header("webhook-signature") == expected { Ok(()) } else { Err(format!("the signature of {self:?} is not {expected}").into()) }
    }
}

/// Returns a client of webhooks that does not wait long.
pub(super) fn webhook_client() -> WebhookClient {
    WebhookClient::new(UrlPolicy::LocalClients).with_timeout(Duration::from_millis(300))
}
