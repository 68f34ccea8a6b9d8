//! A local server in the process of a test.

use std::path::Path;
use std::sync::Arc;

use headrace_local::server::http;
use headrace_local::server::service::{ServerAccess, Service, ServiceConfig};
use tokio::net::TcpListener;

use super::Result;

/// Returns the configuration of a server with the default settings and one worker.
pub fn server_config(lake: &Path, state: &Path, access: ServerAccess) -> ServiceConfig {
    ServiceConfig {
        lake: lake.to_path_buf(),
        state: state.to_path_buf(),
        settings: Default::default(),
        lake_settings: Default::default(),
        trust_object_names: false,
        workers: 1,
        access,
        webhook: None,
        given_configuration: None,
    }
}

/// Starts a server on a free port of this machine. Returns its base URL.
pub async fn start_local_server(config: ServiceConfig) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = http::base_url(listener.local_addr()?);
    tokio::spawn(http::serve(Arc::new(Service::start(config).await?), listener));
    Ok(base)
}
