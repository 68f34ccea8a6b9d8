//! Accepts connections within limits, so that slow or malicious peers neither keep others out nor fill the memory.
//!
//! A connection without a request ends if another peer needs it. A request ends only if its peer makes no progress: it does not read the
//! response, or does not send the body.

mod accept_faults;
mod activity;
mod connection;
mod handles;
mod limits;
mod rejection;
mod socket;
mod table;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use headrace_edge::auth::PeerAddress;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::accept_faults::AcceptFaults;
use self::connection::{linger, serve_connection};
use self::rejection::Rejection;
use self::table::{ConnectionTable, Peer};

pub(crate) use self::activity::Activity;
pub(crate) use self::handles::raise_file_handle_limit;
pub use self::limits::ConnectionLimits;

/// Maximum number of connections beyond the limits that get a response at the same time. Further ones are closed without a response.
const REJECTED_AT_ONCE: usize = 64;

/// Time that a peer beyond the limits has to send its request, so that it reads the response.
const REJECTION_TIME: Duration = Duration::from_secs(1);

/// Number of new connections that the system holds until they are accepted. Beyond it, peers try again after a second.
const BACKLOG: u32 = 4_096;

/// Begins to listen for connections on an address.
pub(crate) fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As `TcpListener::bind` does: a restart must not wait for the connections of the process before.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves connections until the future is dropped, which also closes them.
pub(crate) async fn serve(app: Router, listener: TcpListener, limits: ConnectionLimits) -> io::Result<()> {
    let (table, rejections) = (Arc::new(ConnectionTable::new(limits)), Arc::new(Semaphore::new(REJECTED_AT_ONCE)));
    let (mut tasks, mut faults) = (JoinSet::new(), AcceptFaults::default());
    tasks.spawn(close_expired_connections(table.clone(), limits));
    loop {
        let accepted = tokio::select! {
            biased;
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                faults.handle(&error, &table).await;
                continue;
            }
        };
        faults.record_success();
        // Otherwise each response on a kept connection waits 40 ms for the client's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = %error, "TCP_NODELAY could not be set");
        }
        match table.admit(Peer::from_address(address.ip())).await {
            Some(connection) => {
                let peer = PeerAddress(address.ip().to_canonical());
                tasks.spawn(serve_connection(stream, connection, (app.clone(), peer), limits));
            }
            None => {
                if let Ok(permit) = rejections.clone().try_acquire_owned() {
                    tasks.spawn(async move {
                        reject(stream, limits).await;
                        drop(permit);
                    });
                }
            }
        }
    }
}

/// Closes connections whose time limits have passed, until the future is dropped.
async fn close_expired_connections(table: Arc<ConnectionTable>, limits: ConnectionLimits) {
    let shortest = limits.first_byte_timeout.min(limits.head_timeout).min(limits.idle_timeout).min(limits.write_timeout);
    let mut ticks = tokio::time::interval((shortest / 8).clamp(Duration::from_millis(5), Duration::from_secs(1)));
    loop {
        ticks.tick().await;
        table.close_expired();
    }
}

/// Tells a peer that all connections are in use.
async fn reject(stream: TcpStream, limits: ConnectionLimits) {
    // Not before the peer has sent something: a client that is still sending might not read.
    if tokio::time::timeout(REJECTION_TIME, stream.readable()).await.is_ok() {
        drop(stream.try_write(&Rejection::Overloaded.to_bytes()));
        let limits = ConnectionLimits { linger_timeout: REJECTION_TIME, ..limits };
        linger(stream, &Activity::new(), limits).await;
    }
}

#[cfg(test)]
mod tests;
