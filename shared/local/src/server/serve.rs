//! `headrace serve`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::cli::Serve;
use crate::server::access::{AccessError, resolve_access};
use crate::server::http;
use crate::server::service::{ServerAccess, ServiceConfig, Service, StartError};

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeCommandError {
    /// Who may ask is not settled.
    #[error(transparent)]
    ServerAccess(#[from] AccessError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}; name another with --listen and --port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A setting.
    #[error(transparent)]
    Config(#[from] headrace_edge::config::ConfigError),
    /// The service did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The server stopped by itself.
    #[error("the server stopped")]
    Stopped(#[source] io::Error),
}

/// Serves until it is interrupted.
pub async fn serve(order: &Serve) -> Result<(), ServeCommandError> {
    let address = SocketAddr::new(order.listen, order.port);
    let access = resolve_access(order, address).await?;
    let who = match &access {
        ServerAccess::Smart(_) => "registered clients may export, with access tokens of this server",
        ServerAccess::External(_) => "whoever has an access token of the identity provider may export",
        ServerAccess::None => "whoever reaches this server may export",
    };
    let config = ServiceConfig {
        lake: order.lake.clone(),
        state: order.state.clone(),
        settings: order.terms.terms()?,
        lake_settings: order.terms.lake_settings()?,
        trust_object_names: order.terms.trust_object_names,
        workers: order.terms.workers(),
        access,
    };
    let listener = TcpListener::bind(address).await.map_err(|cause| ServeCommandError::Listen { address, cause })?;
    let base = http::base_url(listener.local_addr().map_err(|cause| ServeCommandError::Listen { address, cause })?);
    let service = Arc::new(Service::start(config).await?);
    tracing::info!("{who}");
    // What starts this program waits for this line.
    drop(writeln!(io::stdout(), "{base}"));
    tokio::select! {
        served = http::serve(service, listener) => served.map_err(ServeCommandError::Stopped),
        interrupted = tokio::signal::ctrl_c() => {
            tracing::info!("stopped; unfinished exports go on at the next start");
            interrupted.map_err(ServeCommandError::Stopped)
        }
    }
}
