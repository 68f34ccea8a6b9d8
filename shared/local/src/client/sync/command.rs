//! Runs `headrace sync`: reads its arguments, and prints its report.

use std::collections::BTreeSet;

use headrace_core::job::sync::SyncRequest;
use headrace_core::lake::sync_report::SyncReport;
use headrace_fhir::definitions::ResourceType;

use crate::cli::{AuthMethod, OriginOptions, Source, SyncArgs};
use crate::client::bulk::Credential;
use crate::client::credential::read_credential;
use crate::client::progress::print_line;
use crate::server::state::check_apart_from_lake;
use crate::stores::deployment;
use crate::terminal::{print_result, printable_json, shorten};

use super::error::SyncCommandError;
use super::first_request::check_origin;
use super::lake_check::check_lake;
use super::run::{STATE_FOLDER, Sync};
use super::{HttpOrigin, OriginSettings, report};

/// Result of a synchronization, for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncStatus {
    /// The lake is complete up to the new watermark.
    Complete,
    /// The fetched resources are not complete, and the lake is as before.
    Incomplete,
}

/// Runs `headrace sync` and prints its progress and its report.
pub async fn run_sync(args: &SyncArgs) -> Result<SyncStatus, SyncCommandError> {
    let base = match Source::parse(&args.url)? {
        Source::Server(base) => base.trim_end_matches('/').to_owned(),
        Source::Directory(_) => return Err(SyncCommandError::NotServer(shorten(&args.url, 200))),
    };
    let types = args.types.as_deref().map(parse_types).transpose()?;
    let state = args.state.clone().unwrap_or_else(|| args.lake.join(STATE_FOLDER));
    check_apart_from_lake(&state, &args.lake)?;
    let credential = match args.signing.auth {
        Some(AuthMethod::Sigv4) => deployment::signature(&base, args.signing.region.clone(), &args.signing.sigv4_service).await?,
        None => read_credential(&args.login.credential)?,
    };
    let settings = origin_settings(credential, args.login.token_origins.clone(), &args.requests);
    let origin = HttpOrigin::new(&base, settings)?;
    let origin_name = check_lake(&args.lake, &base).await?;
    check_origin(&origin).await?;
    let sync = Sync {
        origin,
        request: sync_request(origin_name, types, args.full, &args.requests),
        lake: args.lake.clone(),
        state,
        deadline_hours: args.requests.sync_deadline_hours,
        workers: args.requests.requests_at_once,
        is_quiet: args.quiet,
    };
    let report = sync.run().await?;
    print_report(&report, args);
    Ok(if report.is_complete { SyncStatus::Complete } else { SyncStatus::Incomplete })
}

/// Prints the report to standard output and remarks to standard error.
fn print_report(report: &SyncReport, args: &SyncArgs) {
    if args.json {
        print_result(&serde_json::to_string(report).map(|json| printable_json(&json).into_owned() + "\n").unwrap_or_default());
    } else if !args.quiet {
        print_result(&report::result(report, &args.lake.to_string_lossy()));
    }
    print_remarks(report, args.quiet);
    if !report.is_complete && !args.quiet {
        print_line("note: the watermark of the lake was not moved; the next synchronization starts where this one did");
    }
    if !args.quiet
        && let Some(types) = report::types_of_unknown_deletions(report, false)
    {
        print_line(&format!("note: it is not known which resources the server has deleted, of {types}"));
    }
}

/// Prints the remarks of a report to standard error, or only the errors.
pub(super) fn print_remarks(report: &SyncReport, is_quiet: bool) {
    report::remarks(report).iter().filter(|remark| !is_quiet || remark.starts_with("error")).for_each(|remark| print_line(remark));
}

/// Parses the names of types.
pub(super) fn parse_types(text: &str) -> Result<BTreeSet<ResourceType>, SyncCommandError> {
    let parse = |name: &str| ResourceType::parse(name).ok_or_else(|| SyncCommandError::UnknownType(shorten(name, 100)));
    names(text).map(parse).collect()
}

/// Returns the names in a list of the command line.
pub(super) fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// Returns the settings of the access to the server.
pub(crate) fn origin_settings(credential: Credential, token_origins: Vec<reqwest::Url>, options: &OriginOptions) -> OriginSettings {
    OriginSettings {
        credential,
        token_origins,
        requests_at_once: options.requests_at_once,
        requests_per_second: options.requests_per_second,
        aliases: options.origin_aliases.iter().map(|alias| alias.trim_end_matches('/').to_owned()).collect(),
    }
}

/// Returns the request of a synchronization with this server.
pub(crate) fn sync_request(origin: String, types: Option<BTreeSet<ResourceType>>, is_full: bool, options: &OriginOptions) -> SyncRequest {
    SyncRequest {
        origin,
        types,
        lag_seconds: options.lag_seconds,
        window_resources: options.window_resources,
        page_size: options.page_size,
        is_full,
        reconciles: options.reconcile,
        ignores_totals: options.ignore_totals,
        deletions_since: None,
    }
}
