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

use crate::cli::{RegistryLocation, UiArgs};
use crate::client::bulk::{BulkClient, ClientError, ClientSettings};
use crate::client::credential::read_credential;
use crate::client::origin::{UnsafeUrl, UrlRules};
use crate::client::progress::print_line;
use crate::client::timer::SystemTimer;
use crate::commands::job_table::{JobTableError, open_existing_job_table};
use crate::server::gateway_request::into_axum_response;
use crate::server::host::{AllowedHosts, reject_unknown_host};
use crate::server::http::ConnectionLimits;
use crate::server::listen::{listen_on, serve};
use crate::server::page::{self, OwnOrigin, PageContext, PageTable, reject_other_origins};
use crate::server::request_head::check_head;
use crate::server::signals::stop_signal;
use crate::server::state::StateError;
use crate::server::state_access::needs_client;
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
    /// The job table cannot be opened.
    #[error(transparent)]
    JobTable(#[from] JobTableError),
    /// The state folder cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
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
    let table = page_table(args).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let unavailable = |cause| UiCommandError::Listen { address, cause };
    let listener = listen_on(address).map_err(unavailable)?;
    let own_address = listener.local_addr().map_err(unavailable)?;
    let context = PageContext {
        api: "api/",
        server: rules.base().as_str().trim_end_matches('/').to_owned(),
        client: args.credential.key.client_id.clone(),
        needs_token: false,
        manages_schedules: table.is_some(),
    };
    let prefix = format!("/{}", random_id()?);
    let app = app(own_address, (&prefix, &context), Proxy::new(client, rules.base().clone()), table);
    print_line("open this address in a browser on this machine, and keep it to yourself: whoever has it can use the page");
    // Scripts wait for this line.
    drop(writeln!(io::stdout(), "http://{own_address}{prefix}/"));
    serve_until_stopped(app, listener).await
}

/// Opens the job table whose schedules and events the page manages. `None` if the command names none.
async fn page_table(args: &UiArgs) -> Result<Option<PageTable>, UiCommandError> {
    if args.table.is_none() && args.state.is_none() {
        return Ok(None);
    }
    let location = RegistryLocation { state: args.state.clone().unwrap_or_default(), table: args.table.clone() };
    let store = open_existing_job_table(&location).await?;
    let requires_client = location.table.is_some() || needs_client(&location.state).await?;
    Ok(Some(PageTable { store, policy: None, output: None, requires_client, sends_events: None }))
}

/// Builds the application. Everything is below a secret prefix, because other users of this machine can connect to it too.
fn app(address: SocketAddr, (prefix, context): (&str, &PageContext), proxy: Proxy, table: Option<PageTable>) -> Router {
    let limits = ConnectionLimits::default();
    let routes = Router::new()
        .route(&format!("{prefix}/api/{{*path}}"), any(proxy::forward))
        .merge(page::routes(prefix, context))
        .fallback(not_found);
    let routes = match table {
        Some(table) => routes.merge(page::table_routes(prefix, table)),
        None => routes,
    };
    routes
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
