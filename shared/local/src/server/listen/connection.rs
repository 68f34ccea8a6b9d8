//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt as _;
use headrace_edge::auth::PeerAddress;
use headrace_edge::reply::fault_response;
use http::header::CONTENT_LENGTH;
use http::{Request, StatusCode};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::ServiceExt as _;

use super::activity::{Activity, CloseReason, Phase};
use super::limits::ConnectionLimits;
use super::rejection::Rejection;
use super::socket::TrackedSocket;
use super::table::OpenConnection;
use crate::server::gateway_request::into_axum_response;

/// Maximum number of header fields.
pub(super) const MAX_HEADERS: usize = 100;

/// Maximum number of bytes that are read after the last response: the longest body, and what comes with it.
const MAX_LINGER_BYTES: usize = 8 << 20;

/// Serves the requests of a connection until the peer or a limit ends it.
pub(super) async fn serve_connection(
    stream: TcpStream,
    connection: OpenConnection,
    service: (Router, PeerAddress),
    limits: ConnectionLimits,
) {
    let activity = connection.activity.clone();
    // A peer that sends nothing costs no more than its socket: the buffers and the state of HTTP come with the first byte.
    tokio::select! {
        biased;
        _ = activity.closed() => return,
        readable = stream.readable() => if readable.is_err() { return },
    }
    Box::pin(serve_requests(stream, activity, service, limits)).await;
    drop(connection);
}

/// Serves the requests of a connection whose peer has begun to send.
async fn serve_requests(stream: TcpStream, activity: Arc<Activity>, (app, peer): (Router, PeerAddress), limits: ConnectionLimits) {
    let mut http = http1::Builder::new();
    // The table of connections has the time limits.
    http.header_read_timeout(None).max_buf_size(limits.max_head_bytes).max_headers(MAX_HEADERS);
    let service = RequestService { app, peer, activity: activity.clone() };
    let socket = TrackedSocket::new(stream, activity.clone());
    let mut serving = http.serve_connection(TokioIo::new(socket), service);
    let ended = tokio::select! {
        biased;
        reason = activity.closed() => Err(reason),
        ended = &mut serving => Ok(ended),
    };
    let rejection = match &ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Rejection::from_error(error, activity.has_first_line()),
        Err(CloseReason::HeadTimeout) => Some(Rejection::HeadTimeout),
        Err(CloseReason::Idle | CloseReason::WriteTimeout | CloseReason::Evicted) => None,
    };
    let TrackedSocket { mut stream, has_withheld, .. } = serving.into_parts().io.into_inner();
    // hyper answers by itself, apart from HTTP/2. If its answer was written behind an earlier response, a second one would be too much.
    let is_unanswered = has_withheld || matches!(rejection, Some(Rejection::Version | Rejection::HeadTimeout));
    match (ended, rejection.filter(|_| is_unanswered)) {
        (_, Some(rejection)) => {
            activity.enter(Phase::Lingering);
            // A new connection has room for a short response, so this does not wait for the peer.
            drop(stream.try_write(&rejection.to_bytes()));
            linger(stream, &activity, limits).await;
        }
        (Ok(Ok(())), None) => {
            activity.enter(Phase::Lingering);
            linger(stream, &activity, limits).await;
        }
        (Ok(Err(error)), None) => tracing::debug!(error = %error, "a connection failed"),
        (Err(CloseReason::WriteTimeout), None) => {
            tracing::debug!("a peer did not read its response in time");
            reset(&stream);
        }
        // Otherwise the kernel would keep what the peer does not read, and go on sending it.
        (Err(CloseReason::Evicted), None) => reset(&stream),
        (Err(CloseReason::Idle | CloseReason::HeadTimeout), None) => drop(stream.shutdown().await),
    }
}

/// Lets the connection end without the kernel's usual wait.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(error = %error, "a connection could not be reset");
    }
}

/// Ends a connection after its last response. Reads what the peer still sends, within limits: to close with unread bytes would reset the
/// connection, and the peer might never see the response.
pub(super) async fn linger(mut stream: TcpStream, activity: &Activity, limits: ConnectionLimits) {
    let read = async {
        stream.shutdown().await?;
        let (mut buffer, mut total) = (vec![0; 16 << 10], 0);
        while total < MAX_LINGER_BYTES {
            match stream.read(&mut buffer).await? {
                0 => break,
                count => total += count,
            }
        }
        io::Result::Ok(())
    };
    tokio::select! {
        biased;
        _ = activity.closed() => {}
        _ = tokio::time::timeout(limits.linger_timeout, read) => {}
    }
}

/// The service of a connection: passes its requests to the routes.
struct RequestService {
    app: Router,
    peer: PeerAddress,
    activity: Arc<Activity>,
}

impl Service<Request<Incoming>> for RequestService {
    type Response = http::Response<TrackedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.activity.enter(Phase::Request);
        let open = OpenRequest(self.activity.clone());
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.activity.clone());
        let answer = self.app.clone().oneshot(request.map(Body::new));
        Box::pin(async move {
            // The connection and the process go on. Handlers keep nothing that a half-done request could leave inconsistent.
            let mut response: Response = match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => into_axum_response(fault_response()),
            };
            if response.status() == StatusCode::NOT_MODIFIED {
                // axum has added the length of the empty body. The header would stand for that of the file.
                response.headers_mut().remove(CONTENT_LENGTH);
            }
            Ok(response.map(|body| TrackedBody { body, _open: open }))
        })
    }
}

/// A request that is processed, or whose response is sent. When it is dropped, the connection is idle.
struct OpenRequest(Arc<Activity>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

/// The body of a response, with the request that it belongs to.
struct TrackedBody {
    body: Body,
    _open: OpenRequest,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
