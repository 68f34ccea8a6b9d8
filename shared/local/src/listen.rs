//! Connections, with limits: a slow or a greedy peer costs one place for a while, and nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections at the same time; whoever comes later waits for a place.
const CONNECTIONS: usize = 512;

/// How long the head of a request may take, from the end of the one before: also how long an idle connection is kept.
const HEAD_WITHIN: Duration = Duration::from_secs(75);

/// The longest head of a request. API Gateway takes 10 kB.
const HEAD_BYTES: usize = 64 << 10;

/// The most header fields.
const HEADERS: usize = 100;

/// How long to wait after a connection could not be accepted: there may be no file handles left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until the future is dropped, connections included.
pub(crate) async fn serve(app: Router, listener: TcpListener) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = room.clone().acquire_owned().await.map_err(io::Error::other)?;
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                tracing::warn!(error = %error, "a connection was not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Without it, answers on a kept connection wait for the client's delayed acknowledgements: 40 ms each.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(error = %error, "a connection stays slow");
        }
        let service = TowerToHyperService::new(app.clone().into_service::<Incoming>());
        connections.spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES).max_headers(HEADERS);
            if let Err(error) = http.serve_connection(TokioIo::new(connection), service).await {
                tracing::debug!(error = %error, "a connection broke");
            }
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}
