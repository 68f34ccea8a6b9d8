//! An accepted export: its status, its files and its report.

use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

use headrace_core::ports::Clock as _;
use headrace_edge::system::SystemClock;
use reqwest::Url;

use crate::cli::ExportArgs;
use crate::client::bulk::{BulkClient, ClientError};
use crate::client::deletions::count_deletions;
use crate::client::earlier_export::EarlierExport;
use crate::client::error::shown_url;
use crate::client::error_files::{OutcomeSeverity, Outcomes};
use crate::client::file_names::named_files;
use crate::client::folder::ExportFolder;
use crate::client::local_export::{OwnServer, in_command_words};
use crate::client::out_manifest::{MANIFEST_FILE, OutManifest};
use crate::client::progress::{DownloadProgress, Progress, print_line};
use crate::client::report::Report;
use crate::client::since_file::{SavedTime, SinceFile, SinceFileError, is_later};
use crate::server::signals::stop_signal;
use crate::terminal::{error_chain, print_result, printable_json};

use super::ExportStatus;
use super::error::ExportCommandError;

/// The output of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutputStyle {
    /// True for no progress, result and notes.
    is_quiet: bool,
    /// True to print the result as JSON.
    is_json: bool,
}

impl From<&ExportArgs> for OutputStyle {
    fn from(args: &ExportArgs) -> Self {
        Self { is_quiet: args.quiet, is_json: args.json }
    }
}

/// An export that was or will be accepted, from its kick-off to its report.
pub(super) struct Run<'a> {
    pub(super) folder: &'a ExportFolder,
    /// The directory or the base URL that is exported.
    pub(super) source: &'a str,
    pub(super) since_file: Option<SinceFile>,
    /// The `_until` of the request. `None` also if only the manifest can say it.
    pub(super) until: Option<&'a str>,
    /// The types that the files of resources may have. `None` for any.
    pub(super) types: Option<BTreeSet<String>>,
    pub(super) started: Instant,
    pub(super) style: OutputStyle,
    /// The server in this process, if it makes the export.
    pub(super) own_server: Option<OwnServer>,
}

impl Run<'_> {
    /// Waits for an accepted export and downloads it. An error says how to continue, unless the export itself has failed.
    pub(super) async fn run_to_the_end(&self, client: &BulkClient, status_url: &Url) -> Result<ExportStatus, ExportCommandError> {
        let resumable = |cause| ExportCommandError::Resumable { cause, out: self.folder.out().to_owned() };
        let result = tokio::select! {
            result = self.finish_export(client, status_url) => result,
            _ = stop_signal() => return Err(resumable("interrupted; the export continues on the server".to_owned())),
        };
        match result {
            // The files are complete even if the time of the export cannot be recorded.
            Ok(_) | Err(ExportCommandError::Client(ClientError::ExportFailed { .. }) | ExportCommandError::SinceFile(_)) => {
                self.folder.finish();
                result
            }
            Err(error) => Err(resumable(error_chain(&error))),
        }
    }

    /// Waits for an accepted export, downloads its files, deletes it on the server and reports the result.
    pub(super) async fn finish_export(&self, client: &BulkClient, status_url: &Url) -> Result<ExportStatus, ExportCommandError> {
        let mut progress = Progress::new(self.style.is_quiet);
        let manifest = client.wait_for_manifest(status_url, |waiting| progress.update(&waiting)).await;
        let export_time = self.started.elapsed();
        progress.finish();
        let manifest = manifest?;
        for warning in &manifest.warnings {
            tracing::warn!("{warning}");
        }
        let is_ahead = manifest.is_ahead_of_clocks(SystemClock.now());
        if is_ahead {
            let time = &manifest.transaction_time;
            tracing::warn!(
                "the server's transactionTime {time} is in the future: an export with that --since skips what changes until then"
            );
        }
        let configuration = manifest.configuration_digest();
        let since_file = self.since_file.as_ref().map(|file| file.with_configuration(configuration));
        if let Some(Err(error)) = since_file.as_ref().map(SinceFile::read) {
            self.delete_on_server(client, status_url).await;
            return Err(error.into());
        }
        self.remove_earlier_files()?;
        self.folder.record_files(&named_files(&manifest))?;
        let downloads = DownloadProgress::new(&manifest, self.style.is_quiet);
        let files = client.download_missing(&manifest, Some(status_url), self.folder, |bytes| downloads.add(bytes)).await;
        downloads.finish();
        let files = files?;
        self.folder.remove_superseded_files(&files).map_err(|(path, cause)| ClientError::Write { path, cause })?;
        let total_time = self.started.elapsed();
        let unreadable = |cause| ClientError::File {
            file: "error".to_owned(),
            problem: format!("the downloaded files of errors and deletions cannot be read: {cause}"),
        };
        let outcomes = Outcomes::read(&files).map_err(unreadable)?;
        let deletions = count_deletions(&files).map_err(unreadable)?;
        let mut written = OutManifest::new(self.source.to_owned(), &manifest, &files, deletions, &outcomes);
        if let Some(server) = &self.own_server {
            written.request = written.request.map(|request| server.request_of_user(&request));
            written.source = written.source.filter(|_| manifest.configuration_digest().is_none());
        }
        self.write_manifest(&written)?;
        self.delete_on_server(client, status_url).await;
        let report = Report {
            manifest: &manifest,
            files: &files,
            deletions,
            outcomes: &outcomes,
            out: self.folder.out(),
            until: self.until,
            types: self.types.as_ref(),
            export_time,
            total_time,
        };
        self.print(&report, &written);
        match &since_file {
            Some(file) if is_ahead => {
                let shown = file.path().display();
                print_line(&format!("attention: {shown} is not written, because the time of the export is in the future"));
            }
            Some(file) => record_time(file, &report.next_since(), &outcomes, self.style.is_quiet)?,
            None => {}
        }
        let has_errors = outcomes.count(OutcomeSeverity::Error) > 0;
        Ok(if has_errors { ExportStatus::WithErrors } else { ExportStatus::Complete })
    }

    /// Deletes the export on the server.
    async fn delete_on_server(&self, client: &BulkClient, status_url: &Url) {
        if let Err(error) = client.delete(status_url).await {
            tracing::warn!(error = %error_chain(&error), url = %shown_url(status_url), "the export could not be deleted on the server");
        }
    }

    /// Removes the files of the export that `manifest.json` names, and those of exports before this one that have not ended. The manifest
    /// can only be an earlier one, because that of this export is written last. Nothing is removed before the new export is complete on the
    /// server.
    fn remove_earlier_files(&self) -> Result<(), ExportCommandError> {
        let out = self.folder.out();
        let earlier = EarlierExport::read(out, self.folder.earlier_files());
        let earlier = earlier.map_err(|cause| ClientError::Write { path: out.join(MANIFEST_FILE), cause })?;
        if earlier.names().next().is_some() {
            self.folder.record_earlier_files(earlier.names())?;
        }
        earlier.remove(out).map_err(|(path, cause)| ClientError::Write { path, cause })?;
        Ok(self.folder.forget_earlier_files()?)
    }

    /// Writes `manifest.json`, after all files that it names.
    fn write_manifest(&self, manifest: &OutManifest) -> Result<(), ExportCommandError> {
        let text = serde_json::to_vec_pretty(manifest).map_err(io::Error::from);
        let written =
            text.map_err(|cause| (self.folder.path(MANIFEST_FILE), cause)).and_then(|text| self.folder.write_file(MANIFEST_FILE, &text));
        written.map_err(|(path, cause)| ClientError::Write { path, cause })?;
        Ok(self.folder.forget_files()?)
    }

    /// Prints the result to standard output and remarks to standard error.
    fn print(&self, report: &Report<'_>, manifest: &OutManifest) {
        let result = match self.style {
            OutputStyle { is_json: true, .. } => {
                serde_json::to_string(manifest).map(|json| printable_json(&json).into_owned() + "\n").unwrap_or_default()
            }
            OutputStyle { is_quiet: true, .. } => String::new(),
            OutputStyle { .. } => report.result(),
        };
        print_result(&result);
        for remark in report.remarks(self.style.is_quiet) {
            print_line(&if self.own_server.is_some() { in_command_words(&remark) } else { remark });
        }
    }
}

/// Writes the time of the export to the file of `--since-file`, unless a later export may have without a repair what is missing. A schedule
/// has the same rule: a line that nobody repairs must not stop the increments.
fn record_time(file: &SinceFile, time: &str, outcomes: &Outcomes, is_quiet: bool) -> Result<(), SinceFileError> {
    let shown = file.path().display();
    if outcomes.has_temporary_error() {
        print_line(&format!(
            "attention: {shown} keeps its time, because the server reports errors that may pass, or that cannot be read; the next export starts there again"
        ));
        return Ok(());
    }
    let later = file.read()?.filter(|saved| is_later(&saved.time, time));
    file.write(time)?;
    // With the later time, changes would be missing that this export does not have yet.
    if let Some(SavedTime { time: later, .. }) = later.filter(|_| !is_quiet) {
        print_line(&format!(
            "note: {shown} moves back from {later} to {time}, because this export is complete only up to then; the next export has some changes again"
        ));
    }
    if outcomes.count(OutcomeSeverity::Error) > 0 {
        print_line(&format!(
            "attention: {shown} has the time of this export all the same. After a repair, give the repaired resources a new \
             meta.lastUpdated, or delete {shown} to export everything once"
        ));
    }
    Ok(())
}
