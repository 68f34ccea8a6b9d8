//! `headrace ui`: serves the page for people at a browser on this machine, and sends its requests to a server.

mod proxy;
mod target;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::any;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::reply::Reply;
use headrace_edge::system::random_id;
use tokio::net::TcpListener;

use crate::cli::UiArgs;
use crate::client::bulk::{BulkClient, ClientError, ClientSettings};
use crate::client::credential::read_credential;
use crate::client::origin::{UnsafeUrl, UrlRules};
use crate::client::progress::print_line;
use crate::client::timer::SystemTimer;
use crate::server::gateway_request::into_axum_response;
use crate::server::host::{AllowedHosts, reject_unknown_host};
use crate::server::http::ConnectionLimits;
use crate::server::listen::{listen_on, serve};
use crate::server::page::{self, OwnOrigin, PageContext, reject_other_origins};
use crate::server::request_head::check_head;
use crate::server::signals::stop_signal;
use crate::stores::client_key::KeyError;

use self::proxy::Proxy;

/// Failure of `headrace ui`.
#[derive(Debug, thiserror::Error)]
pub enum UiCommandError {
    /// The client's key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The base URL is not used.
    #[error(transparent)]
    Url(#[from] UnsafeUrl),
    /// The server does not let the client in, or does not answer.
    #[error("the server cannot be used")]
    Client(#[from] ClientError),
    /// The port is in use or not available.
    #[error("cannot listen on {address}; choose another port with --port")]
    Listen {
        /// Socket address.
        address: SocketAddr,
        /// Error of the operating system.
        #[source]
        cause: io::Error,
    },
    /// There are no random numbers for the address of the page.
    #[error(transparent)]
    Random(#[from] StoreError),
    /// The server of the page stopped with an error.
    #[error("the server of the page stopped unexpectedly")]
    Stopped(#[source] io::Error),
}

/// Runs the server of the page until it is interrupted. Prints the address of the page once it accepts requests.
pub async fn run_ui(args: &UiArgs) -> Result<(), UiCommandError> {
    let has_credential = args.credential.token.is_some() || args.credential.key.client_id.is_some();
    let rules = UrlRules::new(&args.url, &[], has_credential)?;
    let client = BulkClient::new(&args.url, read_credential(&args.credential)?, ClientSettings::default(), SystemTimer)?;
    client.check_access(rules.base()).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let unavailable = |cause| UiCommandError::Listen { address, cause };
    let listener = listen_on(address).map_err(unavailable)?;
    let own_address = listener.local_addr().map_err(unavailable)?;
    let context = PageContext {
        api: "api/",
        server: rules.base().as_str().trim_end_matches('/').to_owned(),
        client: args.credential.key.client_id.clone(),
        needs_token: false,
    };
    let prefix = format!("/{}", random_id()?);
    let app = app(own_address, &prefix, &context, Proxy::new(client, rules.base().clone()));
    print_line("open this address in a browser on this machine, and keep it to yourself: whoever has it can use the page");
    // Scripts wait for this line.
    drop(writeln!(io::stdout(), "http://{own_address}{prefix}/"));
    serve_until_stopped(app, listener).await
}

/// Builds the application. Everything is below a secret prefix, because other users of this machine can connect to it too.
fn app(address: SocketAddr, prefix: &str, context: &PageContext, proxy: Proxy) -> Router {
    let limits = ConnectionLimits::default();
    Router::new()
        .route(&format!("{prefix}/api/{{*path}}"), any(proxy::forward))
        .merge(page::routes(prefix, context))
        .fallback(not_found)
        .with_state(Arc::new(proxy))
        .layer(from_fn_with_state(OwnOrigin::new(None, format!("{prefix}/")), reject_other_origins))
        .layer(from_fn_with_state(AllowedHosts::new(address, None, false), reject_unknown_host))
        .layer(from_fn_with_state(limits.max_head_bytes, check_head))
}

/// Rejects a request for another path.
async fn not_found(_: Request) -> Response {
    let text = "nothing is here: open the complete address that `headrace ui` has printed";
    into_axum_response(Reply::outcome(404, &OperationOutcome::error(IssueCode::NotFound, text)).into_response())
}

/// Serves the page until a signal arrives.
async fn serve_until_stopped(app: Router, listener: TcpListener) -> Result<(), UiCommandError> {
    tokio::select! {
        served = serve(app, listener, ConnectionLimits::default()) => served.map_err(UiCommandError::Stopped),
        signal = stop_signal() => signal.map(drop).map_err(UiCommandError::Stopped),
    }
}
