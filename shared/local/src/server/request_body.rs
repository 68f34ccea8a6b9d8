//! Bodies of requests: limited in size, time, and bytes in memory of all requests together.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use headrace_core::job::ExportError;
use headrace_core::request::RequestError;
use headrace_core::vocab::outcome::IssueCode;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use lambda_http::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::server::listen::Activity;

/// The limits of request bodies.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Maximum size of a body, in bytes. Lambda accepts 6 MB; base64 may take a quarter of that.
    pub max_bytes: usize,
    /// Maximum size of all bodies that are received or processed at the same time, in bytes. Further ones wait.
    pub bytes_in_flight: usize,
    /// Time limit for that wait.
    pub wait_timeout: Duration,
    /// Time limit for receiving a body.
    pub timeout: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { max_bytes: 5_000_000, bytes_in_flight: 32 << 20, wait_timeout: Duration::from_secs(30), timeout: Duration::from_secs(60) }
    }
}

/// Size up to which a body does not count, in bytes: the connections limit the number of such bodies.
const SMALL_BYTES: usize = 16 << 10;

/// Unit of the bytes in flight.
const UNIT_BYTES: usize = 1 << 10;

/// The receiver of request bodies. Clones share the limits.
#[derive(Clone, Debug)]
pub(crate) struct RequestBodies {
    limits: BodyLimits,
    /// The unit is [`UNIT_BYTES`].
    in_flight: Arc<Semaphore>,
}

/// A received body. It counts as in flight until this is dropped.
pub(crate) struct ReceivedBody {
    pub(crate) body: Body,
    _in_flight: Option<OwnedSemaphorePermit>,
}

impl RequestBodies {
    /// Creates the receiver.
    pub(crate) fn new(limits: BodyLimits) -> Self {
        Self { limits, in_flight: Arc::new(Semaphore::new(limits.bytes_in_flight / UNIT_BYTES)) }
    }

    /// Receives the body of a request. Rejects one that is too long, incomplete or too slow.
    pub(crate) async fn receive(&self, request: Request) -> Result<ReceivedBody, ExportError> {
        let length = content_length(&request);
        if length.is_some_and(|length| length > self.limits.max_bytes as u64) {
            return Err(self.too_long());
        }
        // A body of unknown length may become as long as any.
        let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(self.limits.max_bytes);
        let in_flight = self.reserve(length).await?;
        let bytes = self.read(request, self.limits.max_bytes).await?;
        if bytes.len() > self.limits.max_bytes {
            return Err(self.too_long());
        }
        Ok(ReceivedBody { body: to_lambda_body(bytes), _in_flight: in_flight })
    }

    /// Receives the beginning of a body: all of it, or more than `max_bytes`, which the handler then rejects.
    pub(crate) async fn receive_beginning(&self, request: Request, max_bytes: usize) -> Result<Body, ExportError> {
        self.read(request, max_bytes).await.map(to_lambda_body)
    }

    /// Waits until this many more bytes may be in flight.
    async fn reserve(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, ExportError> {
        if bytes <= SMALL_BYTES {
            return Ok(None);
        }
        let units = bytes.min(self.limits.bytes_in_flight).div_ceil(UNIT_BYTES).min(self.limits.bytes_in_flight / UNIT_BYTES);
        let permit = self.in_flight.clone().acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX));
        match tokio::time::timeout(self.limits.wait_timeout, permit).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            Ok(Err(_)) | Err(_) => {
                let text = "too many large requests are processed at the same time: try again later";
                Err(RequestError::new(503, IssueCode::Throttled, "body", text).into())
            }
        }
    }

    /// Reads a body until it ends or has more than `max_bytes`.
    async fn read(&self, request: Request, max_bytes: usize) -> Result<Vec<u8>, ExportError> {
        let activity = request.extensions().get::<Arc<Activity>>().cloned();
        let wait = |is_waiting| activity.iter().for_each(|activity| activity.record_body_wait(is_waiting));
        wait(true);
        let read = tokio::time::timeout(self.limits.timeout, read_body(request, max_bytes)).await;
        wait(false);
        match read {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => {
                Err(RequestError::new(400, IssueCode::Invalid, "body", "the request body is incomplete: send the request again").into())
            }
            Err(_) => {
                let text = format!("the request body did not arrive within {} s: send the request again", self.limits.timeout.as_secs());
                Err(RequestError::new(408, IssueCode::Timeout, "body", text).into())
            }
        }
    }

    /// Creates the error for a body that is too long.
    fn too_long(&self) -> ExportError {
        let megabytes = self.limits.max_bytes as f64 / 1e6;
        let text = format!("the request body is longer than {megabytes} MB: split the request into several exports");
        RequestError::new(413, IssueCode::TooCostly, "body", text).into()
    }
}

/// Returns the length of a body that its request announces.
fn content_length(request: &Request) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body until it ends or has more than `max_bytes`. Returns `None` if it breaks off.
async fn read_body(request: Request, max_bytes: usize) -> Option<Vec<u8>> {
    let expected = content_length(&request).and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let (mut body, mut bytes) = (request.into_body(), Vec::with_capacity(expected.min(max_bytes)));
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > max_bytes {
            break;
        }
    }
    Some(bytes)
}

/// Converts a body as API Gateway does: text stays text, other bodies arrive in base64 and are decoded by `lambda_http`.
fn to_lambda_body(bytes: Vec<u8>) -> Body {
    match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() => Body::Empty,
        Ok(text) => Body::Text(text),
        Err(error) => Body::Binary(error.into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body as HttpBody;

    use super::*;

    fn post(length: usize) -> Request {
        Request::builder().header(CONTENT_LENGTH, length).body(HttpBody::from(vec![b' '; length])).unwrap()
    }

    #[tokio::test]
    async fn large_bodies_wait_until_earlier_ones_were_processed_and_small_ones_do_not() {
        let limits = BodyLimits { bytes_in_flight: 64 << 10, wait_timeout: Duration::from_millis(50), ..BodyLimits::default() };
        let bodies = RequestBodies::new(limits);
        let first = bodies.receive(post(40 << 10)).await.ok().unwrap();
        let Err(ExportError::Rejected(error)) = bodies.receive(post(40 << 10)).await else { panic!("a second one does not fit") };
        assert_eq!((error.status, error.code), (503, IssueCode::Throttled));
        assert!(bodies.receive(post(SMALL_BYTES)).await.is_ok());
        drop(first);
        assert!(bodies.receive(post(40 << 10)).await.is_ok());
        // One that is larger than all together is received alone.
        assert!(bodies.receive(post(100 << 10)).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_read_up_to_the_limit() {
        let bodies = RequestBodies::new(BodyLimits { max_bytes: 100, ..BodyLimits::default() });
        let chunked = |length: usize| {
            Request::new(HttpBody::from_stream(futures_util::stream::iter((0..length).map(|_| Ok::<_, std::io::Error>("x")))))
        };
        assert!(bodies.receive(chunked(100)).await.is_ok());
        let Err(ExportError::Rejected(error)) = bodies.receive(chunked(101)).await else { panic!("it is too long") };
        assert_eq!(error.status, 413);
        let beginning = bodies.receive_beginning(chunked(1_000), 10).await.unwrap();
        assert_eq!(beginning.as_ref().len(), 11);
    }
}
