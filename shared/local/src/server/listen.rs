//! Accepts connections within limits, so that a slow or malicious peer only occupies one connection for a limited time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{Extension, Router};
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::auth::PeerAddress;
use headrace_edge::reply::Reply;
use http::HeaderValue;
use http::header::CONNECTION;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::server::http::into_axum_response;

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Maximum number of open connections. Further connections wait.
    connections: usize,
    /// Time limit for the head of a request, from the end of the previous request. It also limits idle connections.
    head_timeout: Duration,
    /// Maximum size of the head of a request, in bytes.
    max_head_bytes: usize,
}

/// The limits of a server. API Gateway accepts heads of 10 kB, and clients keep connections for about a minute.
pub(crate) const DEFAULT_LIMITS: ConnectionLimits =
    ConnectionLimits { connections: 512, head_timeout: Duration::from_secs(75), max_head_bytes: 64 << 10 };

/// Maximum number of header fields.
const MAX_HEADERS: usize = 100;

/// Time to wait after a failed accept. The process may have no file handles left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Serves connections until the future is dropped, which also closes them.
pub(crate) async fn serve(app: Router, listener: TcpListener, limits: ConnectionLimits) -> io::Result<()> {
    let app = app.layer(from_fn_with_state(limits.max_head_bytes, reject_long_head));
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (connection, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        // Otherwise each response on a kept connection waits 40 ms for the client's delayed acknowledgement.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(error = %error, "TCP_NODELAY could not be set");
        }
        let app = app.clone().layer(Extension(PeerAddress(peer.ip().to_canonical())));
        let service = TowerToHyperService::new(app.into_service::<Incoming>());
        connections.spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(limits.head_timeout)
                .max_buf_size(limits.max_head_bytes)
                .max_headers(MAX_HEADERS);
            if let Err(error) = http.serve_connection(TokioIo::new(connection), service).await {
                tracing::debug!(error = %error, "a connection failed");
            }
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Rejects heads above the limit with 431. This is a middleware. hyper only rejects a head that fills its buffer before it ends, so a
/// head of up to twice the limit could pass if its end arrives with the last read.
async fn reject_long_head(State(limit_bytes): State<usize>, request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    // Four more bytes per field: the colon, a space and the line end.
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let bytes = request.method().as_str().len() + path + " HTTP/1.1 \r\n\r\n".len() + fields.sum::<usize>();
    if bytes <= limit_bytes {
        return next.run(request).await;
    }
    let text =
        format!("the request line and headers are longer than {limit_bytes} bytes: shorten the URL or the headers, or POST the parameters");
    let mut response = into_axum_response(Reply::outcome(431, &OperationOutcome::error(IssueCode::TooCostly, text)).into_response());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tower::ServiceExt as _;

    use super::*;

    /// Sends bytes on a new connection and returns everything that the server sends until it closes it.
    async fn send(address: std::net::SocketAddr, request: &[u8]) -> String {
        let mut peer = TcpStream::connect(address).await.unwrap();
        let mut response = Vec::new();
        // The server may close the connection while the peer still writes, and reset it after the response.
        drop(peer.write_all(request).await);
        drop(peer.read_to_end(&mut response).await);
        String::from_utf8(response).unwrap()
    }

    /// Starts a server with these limits and returns its address.
    async fn start_server(limits: ConnectionLimits) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(Router::new().route("/", get(|| async { "here" })), listener, limits));
        address
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn an_idle_connection_is_closed_and_its_slot_is_reused() {
        let address = start_server(ConnectionLimits { connections: 1, head_timeout: Duration::from_millis(200), ..DEFAULT_LIMITS }).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        assert!(send(address, REQUEST).await.ends_with("here"), "the slot became free");
        let mut response = Vec::new();
        drop(slow.read_to_end(&mut response).await);
        assert!(!String::from_utf8(response).unwrap().contains("200 OK"));
    }

    /// Returns a request whose head has this size.
    fn head(bytes: usize) -> String {
        let (begin, end) = ("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx: ", "\r\n\r\n");
        format!("{begin}{}{end}", "x".repeat(bytes - begin.len() - end.len()))
    }

    #[tokio::test]
    async fn a_head_above_the_limit_is_rejected() {
        let limits = ConnectionLimits { max_head_bytes: 16 << 10, ..DEFAULT_LIMITS };
        let address = start_server(limits).await;
        assert!(send(address, REQUEST).await.starts_with("HTTP/1.1 200"));
        assert!(send(address, head(limits.max_head_bytes).as_bytes()).await.starts_with("HTTP/1.1 200"));
        // In one or several reads, with or without an end.
        for bytes in [limits.max_head_bytes + 1, limits.max_head_bytes + 100, 2 * limits.max_head_bytes - 1] {
            let response = send(address, head(bytes).as_bytes()).await;
            assert!(response.starts_with("HTTP/1.1 431"), "{bytes}: {response}");
        }
        let endless = head(limits.max_head_bytes + 4);
        let endless = endless.strip_suffix("\r\n\r\n").unwrap();
        assert!(send(address, endless.as_bytes()).await.starts_with("HTTP/1.1 431"));
        let many = format!("GET / HTTP/1.1\r\nhost: h\r\n{}\r\n", "x: y\r\n".repeat(MAX_HEADERS));
        assert!(send(address, many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test]
    async fn the_rejection_of_a_long_head_says_what_to_do() {
        let app = Router::new().route("/", get(|| async { "here" })).layer(from_fn_with_state(64, reject_long_head));
        for (x, status) in [(64 - 16 - 2 - 5, 200), (64 - 16 - 2 - 4, 431)] {
            let request = Request::builder().uri("/").header("x", "x".repeat(x)).body(Body::empty()).unwrap();
            let reply = app.clone().oneshot(request).await.unwrap();
            assert_eq!(reply.status(), status, "{x}");
            if status == 431 {
                assert_eq!(reply.headers()[CONNECTION], "close");
                let body = axum::body::to_bytes(reply.into_body(), 1000).await.unwrap();
                let body = String::from_utf8(body.to_vec()).unwrap();
                assert!(body.contains("\"OperationOutcome\"") && body.contains("POST"), "{body}");
            }
        }
    }
}
