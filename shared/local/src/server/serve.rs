//! `headrace serve`: serves the Bulk Data API over a directory.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use headrace_core::job::ExportError;
use headrace_core::ports::{AccessStore as _, ResourceSource as _};

use crate::cli::{OptionError, ServeArgs};
use crate::server::access::{AccessError, resolve_access};
use crate::server::http::{self, ConnectionLimits, ServerLimits};
use crate::server::listen::{listen_on, raise_file_handle_limit};
use crate::server::service::{ServerAccess, Service, ServiceConfig, StartError};
use crate::server::signals::stop_signal;
use crate::server::state::{StateError, StateFolder, check_apart_from_lake};
use crate::server::webhook_option::{WebhookOptionError, webhook};
use crate::stores::directory::DirectoryLake;

/// Failure of `headrace serve`.
#[derive(Debug, thiserror::Error)]
pub enum ServeCommandError {
    /// The access control options are not sufficient.
    #[error(transparent)]
    ServerAccess(#[from] AccessError),
    /// The address is in use or not available.
    #[error("cannot listen on {address}; choose another address with --listen and --port")]
    Listen {
        /// Socket address.
        address: SocketAddr,
        /// Error of the operating system.
        #[source]
        cause: io::Error,
    },
    /// The value of an option is invalid.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The webhook cannot be used.
    #[error(transparent)]
    Webhook(#[from] WebhookOptionError),
    /// The service did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The server stopped with an error.
    #[error("the server stopped unexpectedly")]
    Stopped(#[source] io::Error),
}

/// The end of the messages about a stop: the kept state, and the way to go on.
const AFTER_STOP: &str = "files and exports are kept, and unfinished exports resume at the next start with the same state folder";

/// Runs the server until it is interrupted. Prints its base URL once it accepts requests.
pub async fn serve(args: &ServeArgs) -> Result<(), ServeCommandError> {
    // Before anything else: the access control writes to the state folder.
    check_apart_from_lake(&args.state, &args.lake).map_err(StartError::from)?;
    DirectoryLake::open(&args.lake).check().await.map_err(ExportError::from).map_err(StartError::from)?;
    let (settings, lake_settings, webhook) = (args.service.settings()?, args.service.lake_settings()?, webhook(&args.events)?);
    let address = SocketAddr::new(args.listen, args.port);
    let access = resolve_access(args, address).await?;
    let access_text = match &access {
        ServerAccess::Smart(_) => "registered clients can export, with access tokens of this server",
        ServerAccess::External(_) => "clients with an access token of the identity provider can export",
        ServerAccess::None => "no access control: anyone who can reach this server can export",
        ServerAccess::OpenByDefault => {
            "no access control: anyone who can reach this server can export; it serves programs on this machine only, and only until a \
             client is registered"
        }
    };
    let lacks_clients = matches!(access, ServerAccess::Smart(_)) && !has_clients(&args.state).await?;
    let config = ServiceConfig {
        lake: args.lake.clone(),
        state: args.state.clone(),
        settings,
        lake_settings,
        trust_object_names: args.service.trust_object_names,
        workers: args.service.workers(),
        access,
        webhook,
        given_configuration: None,
    };
    let limits = ServerLimits { connections: ConnectionLimits::for_file_handles(raise_file_handle_limit()), ..ServerLimits::default() };
    let listener = listen_on(address).map_err(|cause| ServeCommandError::Listen { address, cause })?;
    let base = http::base_url(listener.local_addr().map_err(|cause| ServeCommandError::Listen { address, cause })?);
    let service = Arc::new(Service::start(config).await?);
    tracing::info!("{access_text}");
    if lacks_clients {
        warn_without_clients(&args.state);
    }
    // Scripts wait for this line, so it must come after everything that can fail at the start.
    drop(writeln!(io::stdout(), "{base}"));
    service.start_schedules(base);
    let served = tokio::select! {
        served = http::serve_within(service.clone(), listener, limits) => served.map_err(ServeCommandError::Stopped),
        signal = stop_signal() => signal.map(|signal| tracing::info!(signal, "stopping: the workers hand back their tasks, and a second signal ends the process at once")).map_err(ServeCommandError::Stopped),
    };
    // A second signal ends the process at once.
    tokio::select! {
        () = service.stop() => tracing::info!("stopped; {AFTER_STOP}"),
        _ = stop_signal() => tracing::warn!("stopped before all workers had stopped; {AFTER_STOP}"),
    }
    served
}

/// Returns true if the state folder exists and has a registration.
async fn has_clients(state: &Path) -> Result<bool, StartError> {
    match StateFolder::open_existing(state).await {
        Ok(state) => Ok(!state.jobs.clients(None, 1).await?.clients.is_empty()),
        Err(StateError::NotFound(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Warns that every request is rejected, because no client is registered.
fn warn_without_clients(state: &Path) {
    let state = state.display();
    tracing::warn!(
        "no client is registered, so every request is rejected; register one with `headrace clients keygen --out lab` and `headrace \
         clients add lab --scope 'system/*.rs' --jwks lab/jwks.json --state {state}`, or start the server with --access none to \
         let anyone export"
    );
}
