//! `headrace serve`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::cli::Serve;
use crate::server::access::{AccessError, access};
use crate::server::http;
use crate::server::service::{Access, Plan, Service, StartError};

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeFailure {
    /// Who may ask is not settled.
    #[error(transparent)]
    Access(#[from] AccessError),
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
pub async fn serve(order: &Serve) -> Result<(), ServeFailure> {
    let address = SocketAddr::new(order.listen, order.port);
    let access = access(order, address).await?;
    let who = match &access {
        Access::Smart(_) => "registered clients may export, with access tokens of this server",
        Access::External(_) => "whoever has an access token of the identity provider may export",
        Access::None => "whoever reaches this server may export",
    };
    let plan = Plan {
        lake: order.lake.clone(),
        state: order.state.clone(),
        terms: order.terms.terms()?,
        lake_terms: order.terms.lake_terms()?,
        trust_lake_names: order.terms.trust_lake_names,
        workers: order.terms.workers(),
        access,
    };
    let listener = TcpListener::bind(address).await.map_err(|cause| ServeFailure::Listen { address, cause })?;
    let base = http::base_of(listener.local_addr().map_err(|cause| ServeFailure::Listen { address, cause })?);
    let service = Arc::new(Service::start(plan).await?);
    tracing::info!("{who}");
    // What starts this program waits for this line.
    drop(writeln!(io::stdout(), "{base}"));
    tokio::select! {
        served = http::serve(service, listener) => served.map_err(ServeFailure::Stopped),
        interrupted = tokio::signal::ctrl_c() => {
            tracing::info!("stopped; unfinished exports go on at the next start");
            interrupted.map_err(ServeFailure::Stopped)
        }
    }
}
