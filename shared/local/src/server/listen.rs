//! Connections, with limits: a slow or a greedy peer costs one place for a while, and nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{Extension, Router};
use headrace_core::vocab::outcome::{IssueCode, Outcome};
use headrace_edge::door::Peer;
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

/// What peers may take up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Connections at the same time; whoever comes later waits for a place.
    connections: usize,
    /// How long the head of a request may take, from the end of the one before: also how long an idle connection is kept.
    head_timeout: Duration,
    /// The longest head of a request, in bytes.
    max_head_bytes: usize,
}

/// API Gateway takes heads of 10 kB; clients keep connections for a minute or so.
pub(crate) const DEFAULT_LIMITS: ConnectionLimits = ConnectionLimits { connections: 512, head_timeout: Duration::from_secs(75), max_head_bytes: 64 << 10 };

/// The most header fields.
const MAX_HEADERS: usize = 100;

/// How long to wait after a connection could not be accepted: there may be no file handles left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Serves until the future is dropped, connections included.
pub(crate) async fn serve(app: Router, listener: TcpListener, limits: ConnectionLimits) -> io::Result<()> {
    let app = app.layer(from_fn_with_state(limits.max_head_bytes, reject_long_head));
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let place = room.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (connection, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        // Without it, answers on a kept connection wait for the client's delayed acknowledgements: 40 ms each.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(error = %error, "a connection stays slow");
        }
        let app = app.clone().layer(Extension(Peer(peer.ip().to_canonical())));
        let service = TowerToHyperService::new(app.into_service::<Incoming>());
        connections.spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_buf_size(limits.max_head_bytes).max_headers(MAX_HEADERS);
            if let Err(error) = http.serve_connection(TokioIo::new(connection), service).await {
                tracing::debug!(error = %error, "a connection broke");
            }
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Refuses heads above the limit. hyper gives up a head that has filled its buffer and has no end yet; one whose end comes
/// with the last bytes that it reads may be longer, up to twice as long.
async fn reject_long_head(State(limit_bytes): State<usize>, request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    // With the line ends and what stands between names and values.
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let bytes = request.method().as_str().len() + path + " HTTP/1.1 \r\n\r\n".len() + fields.sum::<usize>();
    if bytes <= limit_bytes {
        return next.run(request).await;
    }
    let text =
        format!("the head of the request is longer than {limit_bytes} bytes: shorten its URL or its headers, or POST the parameters");
    let mut refused = into_axum_response(Reply::outcome(431, &Outcome::error(IssueCode::TooCostly, text)).into_response());
    refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    refused
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tower::ServiceExt as _;

    use super::*;

    async fn answer(address: std::net::SocketAddr, request: &[u8]) -> String {
        let mut peer = TcpStream::connect(address).await.unwrap();
        let mut said = Vec::new();
        // A peer that is cut off may see that while it writes, and a reset after what it was told.
        drop(peer.write_all(request).await);
        drop(peer.read_to_end(&mut said).await);
        String::from_utf8(said).unwrap()
    }

    async fn listening(limits: ConnectionLimits) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(Router::new().route("/", get(|| async { "here" })), listener, limits));
        address
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn whoever_does_not_go_on_loses_the_place_to_whoever_waits() {
        let address = listening(ConnectionLimits { connections: 1, head_timeout: Duration::from_millis(200), ..DEFAULT_LIMITS }).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        assert!(answer(address, REQUEST).await.ends_with("here"), "the place became free");
        let mut said = Vec::new();
        drop(slow.read_to_end(&mut said).await);
        assert!(!String::from_utf8(said).unwrap().contains("200 OK"));
    }

    /// A request whose head has so many bytes.
    fn head(bytes: usize) -> String {
        let (begin, end) = ("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx: ", "\r\n\r\n");
        format!("{begin}{}{end}", "x".repeat(bytes - begin.len() - end.len()))
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        let limits = ConnectionLimits { max_head_bytes: 16 << 10, ..DEFAULT_LIMITS };
        let address = listening(limits).await;
        assert!(answer(address, REQUEST).await.starts_with("HTTP/1.1 200"));
        assert!(answer(address, head(limits.max_head_bytes).as_bytes()).await.starts_with("HTTP/1.1 200"));
        // Whether it comes in one piece or not, and whether it has an end.
        for bytes in [limits.max_head_bytes + 1, limits.max_head_bytes + 100, 2 * limits.max_head_bytes - 1] {
            let said = answer(address, head(bytes).as_bytes()).await;
            assert!(said.starts_with("HTTP/1.1 431"), "{bytes}: {said}");
        }
        let endless = head(limits.max_head_bytes + 4);
        let endless = endless.strip_suffix("\r\n\r\n").unwrap();
        assert!(answer(address, endless.as_bytes()).await.starts_with("HTTP/1.1 431"));
        let many = format!("GET / HTTP/1.1\r\nhost: h\r\n{}\r\n", "x: y\r\n".repeat(MAX_HEADERS));
        assert!(answer(address, many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test]
    async fn whoever_sends_too_long_a_head_is_told_what_to_do() {
        let app = Router::new().route("/", get(|| async { "here" })).layer(from_fn_with_state(64, reject_long_head));
        for (x, status) in [(64 - 16 - 2 - 5, 200), (64 - 16 - 2 - 4, 431)] {
            let request = Request::builder().uri("/").header("x", "x".repeat(x)).body(Body::empty()).unwrap();
            let answer = app.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{x}");
            if status == 431 {
                assert_eq!(answer.headers()[CONNECTION], "close");
                let said = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
                let said = String::from_utf8(said.to_vec()).unwrap();
                assert!(said.contains("\"OperationOutcome\"") && said.contains("POST"), "{said}");
            }
        }
    }
}
