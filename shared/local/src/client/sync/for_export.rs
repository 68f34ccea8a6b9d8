//! Synchronizations for exports of servers that need not know `$export`.

use std::collections::BTreeSet;
use std::path::Path;

use headrace_core::job::sync::SyncRequest;
use headrace_core::lake::origin::normalize_base_url;
use headrace_core::lake::sync_report::SyncReport;
use headrace_core::request::AssociatedData;
use headrace_core::vocab::clock::Millis;
use headrace_fhir::definitions::ResourceType;
use headrace_lake::writing::SyncLock;

use crate::cli::{ExportArgs, ExportLevel, ExportOptions};
use crate::client::credential::read_credential;
use crate::client::progress::print_line;

use super::command::{names, origin_settings, parse_types, print_remarks, sync_request};
use super::error::SyncCommandError;
use super::first_request::{check_origin, check_subject};
use super::lake_check::is_continued_by;
use super::run::{STATE_FOLDER, Sync};
use super::{HttpOrigin, report};

impl Sync {
    /// Runs the synchronization for an export of what has changed since a moment, or of everything. A lake that an export has left, because it
    /// was stopped after the lake was complete, is filled anew if it may have resources that the server has deleted.
    async fn run_for_export(&self, since: Option<Millis>) -> Result<SyncReport, SyncCommandError> {
        let report = self.run().await?;
        let is_continued = report.from.is_some();
        if since.is_some() || !is_continued || report::types_of_unknown_deletions(&report, true).is_none() {
            return Ok(report);
        }
        if !self.is_quiet {
            print_line(
                "note: the resources that a stopped export has left are fetched again, because the server does not say which of them it has \
                 deleted meanwhile",
            );
        }
        std::fs::remove_dir_all(&self.lake).map_err(|cause| SyncCommandError::Lake { path: self.lake.clone(), cause })?;
        self.run().await
    }

    /// Removes the lake that an export has left, if this one cannot continue it: it was of another server, or of types that are not requested
    /// now. Exports alone fill it, so nobody else misses it.
    async fn discard_other_lake(&self) -> Result<(), SyncCommandError> {
        if is_continued_by(&self.lake, &self.request).await? {
            return Ok(());
        }
        SyncLock::check(&self.lake)?;
        if !self.is_quiet {
            print_line("note: the resources that a stopped export of other types or of another server has left are removed");
        }
        std::fs::remove_dir_all(&self.lake).map_err(|cause| SyncCommandError::Lake { path: self.lake.clone(), cause })
    }
}

/// Fetches the resources that an export needs into a lake. Continues if the lake is that of an interrupted export. Returns the report.
///
/// * `types`: those of `types_for_export`.
/// * `since`: the moment after which the export has changes and deletions. `None` if it has everything.
pub(crate) async fn sync_for_export(
    args: &ExportArgs,
    base: &str,
    lake: &Path,
    (types, since): (Option<BTreeSet<ResourceType>>, Option<Millis>),
) -> Result<SyncReport, Box<SyncCommandError>> {
    let run = async {
        let base = normalize_base_url(base);
        let deletions_since = since.or_else(|| args.options.includes(AssociatedData::Deleted).then_some(Millis(0)));
        let settings = origin_settings(read_credential(&args.login.credential)?, args.login.token_origins.clone(), &args.searches);
        let origin = HttpOrigin::new(&base, settings)?;
        check_origin(&origin).await?;
        check_subject(&origin, &args.options.level()).await?;
        let sync = Sync {
            origin,
            request: SyncRequest { deletions_since, ..sync_request(base, types, false, &args.searches) },
            lake: lake.to_owned(),
            state: lake.join(STATE_FOLDER),
            deadline_hours: args.searches.sync_deadline_hours,
            workers: args.searches.requests_at_once,
            is_quiet: args.quiet,
        };
        sync.discard_other_lake().await?;
        let report = sync.run_for_export(since).await?;
        print_remarks(&report, args.quiet);
        if deletions_since.is_some()
            && let Some(types) = report::types_of_unknown_deletions(&report, true)
        {
            let remedy = if since.is_some() { ", and only an export of everything shows what is left" } else { "" };
            print_line(&format!(
                "attention: it is not known which resources the server has deleted, of {types}: this export has no deletions of these types{remedy}"
            ));
        }
        Ok(report)
    };
    run.await.map_err(Box::new)
}

/// Returns the types that an export needs. `None` means all: groups and patients can refer to any type. Fails for what searches cannot find.
pub(crate) fn types_for_export(options: &ExportOptions) -> Result<Option<BTreeSet<ResourceType>>, SyncCommandError> {
    if options.includes(AssociatedData::History) {
        return Err(SyncCommandError::NoVersions);
    }
    let types = options.types.as_deref().map(|list| requested_types(list, options.lenient)).transpose()?;
    let is_of_types = options.level() == ExportLevel::System && options.include_associated_data.is_none();
    Ok(types.filter(|_| is_of_types))
}

/// Returns the types of a list. A lenient export ignores unknown types beside a known one, and has an `error` file that names them. Fails if
/// no type is known: everything would be fetched, or nothing, for an export without resources.
fn requested_types(list: &str, is_lenient: bool) -> Result<BTreeSet<ResourceType>, SyncCommandError> {
    let known: BTreeSet<ResourceType> = names(list).filter_map(ResourceType::parse).collect();
    if is_lenient && !known.is_empty() { Ok(known) } else { parse_types(list) }
}
