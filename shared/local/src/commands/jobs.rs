//! `headrace jobs`: lists, shows, follows and cancels the exports of a server, as a client of its Bulk Data API.

mod pace;
mod reference;
pub(crate) mod usage;
mod view;
mod watch;

use std::path::Path;

use headrace_core::job::PriceTable;
use headrace_core::vocab::error::BoxError;
use reqwest::{StatusCode, Url};

use crate::cli::{CancelJobsArgs, JobsArgs, JobsCommand, ListJobsArgs, ServerOptions, ShowJobArgs};
use crate::client::bulk::{BulkClient, ClientError, ClientSettings};
use crate::client::credential::read_credential;
use crate::client::exports::{ExportAnswer, LIST, ListedExport, is_unreachable};
use crate::client::progress::print_line;
use crate::client::timer::SystemTimer;
use crate::commands::table::terminal_columns;
use crate::stores::client_key::KeyError;
use crate::terminal::{error_chain, print_result, printable_json};

use self::reference::{Reference, ReferenceError};
use self::view::ShownExport;

/// Number of exports, the newest ones, among which the details of an export are looked up.
const MAX_LOOKED_UP: usize = 1_000;

/// Failure of `headrace jobs`.
#[derive(Debug, thiserror::Error)]
pub enum JobsCommandError {
    /// The client's key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The request failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No server listens at the base URL.
    #[error(
        "no server answers at {url}: start the one whose exports are meant with `headrace serve LAKE --state DIR`, or give the base URL of another with \
         --url. An export of a directory (`headrace export`) ends with its command, and OUT/manifest.json says what it has written"
    )]
    NoServer {
        /// The base URL.
        url: String,
        /// Error of the connection.
        #[source]
        cause: Box<ClientError>,
    },
    /// The server has no list of exports.
    #[error(
        "{url} has no list of exports. If it is the base URL of the server (--url), give the status URL of the export: the standard requires no list"
    )]
    NoList {
        /// The base URL.
        url: String,
        /// Rejection of the request.
        #[source]
        cause: Box<ClientError>,
    },
    /// The export is complete, and must not be deleted by mistake.
    #[error("it is complete already, and nothing was deleted: add --finished to delete its files{schedule}")]
    Finished {
        /// A sentence about the schedule that has started it, if one has.
        schedule: String,
    },
    /// A text names no export.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The price table cannot be read.
    #[error("--prices {path} cannot be used")]
    Prices {
        /// Path of the file.
        path: String,
        /// Reason.
        #[source]
        cause: BoxError,
    },
    /// The result cannot be written as JSON.
    #[error("the result cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Result of `headrace jobs`, for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobsStatus {
    /// No export has failed.
    Done,
    /// At least one export has failed, or could not be followed or cancelled.
    SomeFailed,
}

/// Runs `headrace jobs` and prints its result.
pub async fn run_jobs(args: &JobsArgs) -> Result<JobsStatus, JobsCommandError> {
    match &args.command {
        JobsCommand::List(list) => list_jobs(list).await.map(|()| JobsStatus::Done),
        JobsCommand::Show(show) => show_job(show).await.map(|()| JobsStatus::Done),
        JobsCommand::Watch(watch) => watch::watch_jobs(watch).await,
        JobsCommand::Cancel(cancel) => cancel_jobs(cancel).await,
    }
}

/// A server, and the client that calls it.
struct Server {
    client: BulkClient,
    base: String,
}

impl Server {
    /// Creates the client of the server that the options name.
    fn new(options: &ServerOptions) -> Result<Self, JobsCommandError> {
        let credential = read_credential(&options.credential)?;
        let client = BulkClient::new(&options.url, credential, ClientSettings::default(), SystemTimer)?;
        Ok(Self { client, base: options.url.clone() })
    }

    /// Lists exports, newest first, until `take` returns false.
    async fn list(&self, take: impl FnMut(ListedExport) -> bool) -> Result<(), JobsCommandError> {
        self.client.list_exports(&self.base, take).await.map_err(|error| self.explain(error))
    }

    /// Returns the status URLs of the exports that these texts name.
    async fn resolve(&self, texts: &[String]) -> Result<Vec<Url>, JobsCommandError> {
        let references: Vec<Reference> = texts.iter().map(|text| Reference::parse(text)).collect::<Result<_, _>>()?;
        let mut listed = Vec::new();
        if references.iter().any(Reference::needs_list) {
            self.list(|export| {
                listed.push(export.id);
                true
            })
            .await?;
        }
        references.iter().map(|reference| Ok(reference.status_url(&self.base, &listed)?)).collect()
    }

    /// Returns an error with what to do about it, if that is known.
    fn explain(&self, error: ClientError) -> JobsCommandError {
        let has_no_list =
            |status: StatusCode| matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED);
        let is_list = matches!(&error, ClientError::Rejected { request: LIST, status, .. } if has_no_list(*status));
        let (url, is_silent) = (self.base.clone(), is_unreachable(&error));
        if is_silent {
            JobsCommandError::NoServer { url, cause: Box::new(error) }
        } else if is_list {
            JobsCommandError::NoList { url, cause: Box::new(error) }
        } else {
            error.into()
        }
    }
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), JobsCommandError> {
    print_result(&format!("{}\n", printable_json(&serde_json::to_string(value)?)));
    Ok(())
}

/// Runs `headrace jobs list`.
async fn list_jobs(args: &ListJobsArgs) -> Result<(), JobsCommandError> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (mut exports, mut has_more) = (Vec::new(), false);
    let server = Server::new(&args.server)?;
    server
        .list(|export| {
            if !args.open || export.state.is_open() {
                has_more = exports.len() == limit;
                exports.extend((!has_more).then_some(export));
            }
            !has_more
        })
        .await?;
    if args.json {
        return print_json(&exports.iter().map(view::to_json).collect::<Vec<_>>());
    }
    print_result(&view::format_list(&exports, terminal_columns()));
    if exports.is_empty() && !args.open {
        print_line(&no_exports_hint(&server.base));
    }
    if has_more {
        print_line(&format!("only the newest {limit} are listed; list more with --limit"));
    }
    Ok(())
}

/// Returns what to do if a server has no exports, and some are expected.
fn no_exports_hint(base: &str) -> String {
    format!(
        "{base} has no exports of this client, or they have expired. Others are in another state folder (`headrace serve LAKE --state DIR`), on another \
         server (--url), or of another client. An export of a directory (`headrace export`) ends with its command, and OUT/manifest.json says what it \
         has written"
    )
}

/// Reads a price table.
fn read_prices(path: &Path) -> Result<PriceTable, JobsCommandError> {
    let unreadable = |cause: BoxError| JobsCommandError::Prices { path: path.display().to_string(), cause };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.into()))?;
    PriceTable::parse(&text).map_err(|error| unreadable(error.into()))
}

/// Runs `headrace jobs show`.
async fn show_job(args: &ShowJobArgs) -> Result<(), JobsCommandError> {
    let server = Server::new(&args.server)?;
    let prices = args.prices.as_deref().map(read_prices).transpose()?;
    let urls = server.resolve(std::slice::from_ref(&args.export)).await?;
    for url in urls {
        let answer = match server.client.export_status(&url).await {
            Ok(ExportAnswer::Running(progress)) => Ok((progress, None)),
            Ok(ExportAnswer::Complete(manifest)) => Ok((None, Some(manifest))),
            Err(ClientError::ExportFailed { text, .. }) => Err(text),
            Err(error) => return Err(server.explain(error)),
        };
        let shown = ShownExport { status_url: &url, listed: details(&server, &url).await, answer, prices: prices.as_ref() };
        if args.json {
            print_json(&shown.to_json())?;
        } else {
            print_result(&shown.format());
        }
    }
    Ok(())
}

/// Looks up an export among the newest of the list. Returns `None` if it is not among them, or the server has no list: what the status
/// says is shown all the same.
async fn details(server: &Server, status_url: &Url) -> Option<ListedExport> {
    let id = status_url.path_segments()?.next_back()?.to_owned();
    let (mut found, mut seen) = (None, 0);
    let listed = server.list(|export| {
        seen += 1;
        if export.id == id {
            found = Some(export);
        }
        found.is_none() && seen < MAX_LOOKED_UP
    });
    if let Err(error) = listed.await {
        tracing::debug!(error = %error_chain(&error), "the export could not be looked up in the list");
    }
    found
}

/// Runs `headrace jobs cancel`.
async fn cancel_jobs(args: &CancelJobsArgs) -> Result<JobsStatus, JobsCommandError> {
    let server = Server::new(&args.server)?;
    let mut status = JobsStatus::Done;
    for (url, text) in server.resolve(&args.exports).await?.iter().zip(&args.exports) {
        match cancel_job(&server, url, args.finished).await {
            Ok(done) => print_result(&format!("{done} {text}; its files are deleted\n")),
            Err(error) => {
                print_line(&format!("{text}: {}", error_chain(&error)));
                status = JobsStatus::SomeFailed;
            }
        }
    }
    Ok(status)
}

/// Cancels one export, or deletes a finished one if that is wanted. Returns what was done in one word.
async fn cancel_job(server: &Server, url: &Url, with_finished: bool) -> Result<&'static str, JobsCommandError> {
    let is_complete = match server.client.export_status(url).await {
        Ok(ExportAnswer::Complete(_)) => true,
        Ok(ExportAnswer::Running(_)) | Err(ClientError::ExportFailed { .. }) => false,
        Err(error) => return Err(server.explain(error)),
    };
    if is_complete && !with_finished {
        let schedule = details(server, url).await.and_then(|listed| listed.requester);
        let schedule =
            schedule.map(|name| format!(". It is a run of the {name}, which does not export its changes again")).unwrap_or_default();
        return Err(JobsCommandError::Finished { schedule });
    }
    server.client.delete(url).await.map_err(|error| server.explain(error))?;
    Ok(if is_complete { "deleted" } else { "cancelled" })
}
