//! Formats exports for a terminal and as JSON.

use std::collections::BTreeMap;

use headrace_core::job::PriceTable;
use headrace_core::output::usage_report::UsageReport;
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::usage::usage_lines;
use crate::client::bulk::Manifest;
use crate::client::error::shown_url;
use crate::client::exports::ListedExport;
use crate::commands::table::{format_table, format_table_within};
use crate::terminal::printable;

/// Number of digits of an id on a terminal.
const SHORT_ID: usize = 12;

/// Formats a list as a table that fits the terminal.
///
/// * `columns`: the width of the terminal; `None` keeps ids and texts complete.
pub(super) fn format_list(exports: &[ListedExport], columns: Option<usize>) -> String {
    if exports.is_empty() {
        return "no exports\n".to_owned();
    }
    let short = |text: &str, length: usize| if columns.is_some() { text.chars().take(length).collect() } else { text.to_owned() };
    let mut rows = vec![["EXPORT", "STATE", "STARTED", "PROGRESS", "DATA"].map(str::to_owned)];
    rows.extend(exports.iter().map(|export| {
        let state = export.state.as_str().to_owned();
        let progress = progress(export);
        let progress = if columns.is_some() { two_parts(progress).to_owned() } else { progress.to_owned() };
        // The data comes last, because what is too long for a terminal is cut off there.
        [short(&export.id, SHORT_ID), state, minutes(&export.started), progress, data(export)]
    }));
    format_table_within(&rows, columns)
}

/// Returns the progress without the state, which has a column of its own.
fn progress(export: &ListedExport) -> &str {
    let (progress, state) = (export.progress.as_str(), export.state.as_str());
    progress.strip_prefix(state).map_or(progress, |rest| rest.trim_start_matches(", "))
}

/// Returns the first two of the parts that commas separate, such as `45 % done, 1234 resources`.
fn two_parts(progress: &str) -> &str {
    let end = progress.match_indices(", ").nth(1).map_or(progress.len(), |(end, _)| end);
    progress.get(..end).unwrap_or(progress)
}

/// Returns what distinguishes an export from others: the reason of a failure, its level, its parameters, and the schedule that has started it.
fn data(export: &ListedExport) -> String {
    let level = export.level.strip_prefix("Export of ").unwrap_or(&export.level).to_owned();
    let requester = export.requester.iter().map(|requester| format!("by {requester}"));
    let parts = export.reason.iter().cloned().chain([level]).chain(requester).chain([parameters(export)]);
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Returns the parameters of an export, separated by spaces.
fn parameters(export: &ListedExport) -> String {
    export.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// Returns a point in time of FHIR to the minute, in a readable form. Other texts are returned as they are.
fn minutes(instant: &str) -> String {
    match (instant.get(..10), instant.get(10..11), instant.get(11..16)) {
        (Some(day), Some("T"), Some(time)) => format!("{day} {time}"),
        (_, _, _) => instant.to_owned(),
    }
}

/// Returns an export of the list as JSON.
pub(super) fn to_json(export: &ListedExport) -> Value {
    json!({
        "id": export.id,
        "state": export.state.as_str(),
        "data": export.level,
        "progress": export.progress,
        "reason": export.reason,
        "requester": export.requester,
        "started": export.started,
        "changed": export.changed,
        "transactionTime": export.transaction_time,
        "parameters": export.parameters.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<_>>(),
    })
}

/// An export, by what the server's list and its status say.
pub(super) struct ShownExport<'a> {
    pub(super) status_url: &'a Url,
    /// Entry of the list, if it was found.
    pub(super) listed: Option<ListedExport>,
    /// The progress and the manifest, or the reason of a failure.
    pub(super) answer: Result<(Option<String>, Option<Box<Manifest>>), String>,
    /// The prices by which the costs are shown, instead of the server's.
    pub(super) prices: Option<&'a PriceTable>,
}

impl ShownExport<'_> {
    /// Formats all details.
    pub(super) fn format(&self) -> String {
        let mut lines: Vec<(&str, String)> = vec![("status URL", shown_url(self.status_url)), ("state", self.state().to_owned())];
        if let Some(listed) = &self.listed {
            lines.extend([("data", listed.level.clone()), ("parameters", parameters(listed)), ("started", listed.started.clone())]);
            lines.extend([("changed", listed.changed.clone()), ("started by", listed.requester.clone().unwrap_or_default())]);
            lines.push(("result", if listed.state.is_open() { String::new() } else { progress(listed).to_owned() }));
        }
        match &self.answer {
            Err(reason) => lines.push(("reason", reason.clone())),
            Ok((progress, None)) => lines.push(("progress", progress.clone().unwrap_or_default())),
            Ok((_, Some(manifest))) => {
                lines.push(("data up to", manifest.transaction_time.clone()));
                lines.push(("request", manifest.request.clone().unwrap_or_default()));
            }
        }
        lines.extend(self.usage().iter().flat_map(usage_lines));
        let lines = lines.iter().filter(|(_, value)| !value.is_empty());
        let text: String = lines.map(|(label, value)| format!("{label:12} {}\n", printable(value))).collect();
        match &self.answer {
            Ok((_, Some(manifest))) => text + &format_files(manifest),
            Ok((_, None)) | Err(_) => text,
        }
    }

    /// Returns all details as JSON.
    pub(super) fn to_json(&self) -> Value {
        let mut members = self.listed.as_ref().map(to_json).and_then(|value| value.as_object().cloned()).unwrap_or_default();
        members.insert("statusUrl".to_owned(), shown_url(self.status_url).into());
        members.insert("state".to_owned(), self.state().into());
        match &self.answer {
            Err(reason) => drop(members.insert("reason".to_owned(), reason.as_str().into())),
            Ok((progress, None)) => drop(members.insert("progress".to_owned(), json!(progress))),
            Ok((_, Some(manifest))) => add_manifest(&mut members, manifest),
        }
        members.extend(self.usage().map(|usage| ("usage".to_owned(), json!(usage))));
        members.into()
    }

    /// Returns what the export has used, as the manifest or the list says.
    fn usage(&self) -> Option<UsageReport> {
        let complete = self.answer.as_ref().ok().and_then(|(_, manifest)| manifest.as_ref()?.usage());
        let usage = complete.or_else(|| self.listed.as_ref()?.usage.clone())?;
        Some(match self.prices {
            Some(prices) => usage.with_prices(prices),
            None => usage,
        })
    }

    /// Returns the word for the state.
    fn state(&self) -> &'static str {
        match (&self.answer, &self.listed) {
            (Err(_), _) => "failed",
            (Ok((_, Some(_))), _) => "complete",
            (Ok((_, None)), Some(listed)) if listed.state.is_open() => listed.state.as_str(),
            (Ok((_, None)), _) => "running",
        }
    }
}

/// Counts the files of one list of a manifest, and their resources, by type.
fn count_by_type(files: &[crate::client::bulk::ManifestFile]) -> BTreeMap<&str, (u64, u64)> {
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for file in files {
        let count = counts.entry(file.resource_type.as_deref().unwrap_or("several types")).or_default();
        *count = (count.0 + 1, count.1.saturating_add(file.count.unwrap_or_default()));
    }
    counts
}

/// Formats the table of files after an empty line. An increment without changes has no files, and no table.
fn format_files(manifest: &Manifest) -> String {
    let rows = file_rows(manifest);
    if rows.len() > 1 { format!("\n{}", format_table(&rows)) } else { String::new() }
}

/// Returns the rows of the table of files, the first one with its headings.
fn file_rows(manifest: &Manifest) -> Vec<[String; 4]> {
    let mut rows = vec![["LIST", "TYPE", "FILES", "RESOURCES"].map(str::to_owned)];
    for (list, files) in [("output", &manifest.output), ("deleted", &manifest.deleted), ("error", &manifest.error)] {
        let counts = count_by_type(files).into_iter();
        rows.extend(counts.map(|(kind, (files, resources))| [list.to_owned(), kind.to_owned(), files.to_string(), resources.to_string()]));
    }
    rows
}

/// Adds what a manifest says to a JSON object.
fn add_manifest(members: &mut Map<String, Value>, manifest: &Manifest) {
    members.insert("transactionTime".to_owned(), manifest.transaction_time.as_str().into());
    members.insert("request".to_owned(), json!(manifest.request));
    for (list, files) in [("output", &manifest.output), ("deleted", &manifest.deleted), ("error", &manifest.error)] {
        let files: Vec<Value> =
            files.iter().map(|file| json!({ "type": file.resource_type, "url": file.url, "count": file.count })).collect();
        members.insert(list.to_owned(), files.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::exports::ExportState;

    /// Returns a running export whose texts try to control the terminal.
    fn export() -> ListedExport {
        ListedExport {
            id: "4f9a1c0be25d4f0b8f6f3a0f4a6be1aa".to_owned(),
            state: ExportState::Running,
            level: "Export of Group/\u{1b}[31mred".to_owned(),
            progress: "45 % done, 1234 resources, 3 of 7 tasks left".to_owned(),
            reason: None,
            started: "2026-01-31T08:00:00.000Z".to_owned(),
            changed: "2026-01-31T08:00:01.000Z".to_owned(),
            parameters: vec![("_type".to_owned(), "Patient".to_owned())],
            requester: None,
            transaction_time: None,
            usage: None,
        }
    }

    #[test]
    fn a_list_fits_the_terminal_and_is_complete_elsewhere() {
        let list = format_list(&[export()], Some(80));
        assert!(list.lines().all(|line| line.chars().count() <= 80), "{list}");
        assert!(list.contains("4f9a1c0be25d  running  2026-01-31 08:00  45 % done, 1234 resources  Group/"), "{list}");
        assert!(format_list(&[export()], Some(200)).contains("Group/\\u{1b}[31mred, _type=Patient"));
        assert!(!list.contains('\u{1b}'));
        let whole = format_list(&[export()], None);
        assert!(whole.contains("4f9a1c0be25d4f0b8f6f3a0f4a6be1aa") && whole.contains("3 of 7 tasks left"), "{whole}");
        assert_eq!(format_list(&[], None), "no exports\n");
    }

    #[test]
    fn exports_can_be_told_apart_and_the_state_is_said_once() {
        let nightly = ListedExport {
            state: ExportState::Complete,
            level: "Export of the whole system".to_owned(),
            progress: "complete, 2523 resources, 1 line left out".to_owned(),
            requester: Some("schedule nightly".to_owned()),
            ..export()
        };
        let failed =
            ListedExport { state: ExportState::Failed, progress: "failed".to_owned(), reason: Some("no space".to_owned()), ..export() };
        let list = format_list(&[nightly.clone(), failed], None);
        for words in ["2523 resources, 1 line left out  the whole system, by schedule nightly, _type=Patient", "no space, Group/"] {
            assert!(list.contains(words), "{words}: {list}");
        }
        assert_eq!(list.matches("complete").count() + list.matches("failed").count(), 2, "{list}");
        assert!(format_list(&[nightly], Some(70)).contains("2523 resources"), "the count is not what is cut off");
    }

    #[test]
    fn counts_of_a_server_whose_sum_is_beyond_every_number_are_shown() {
        let file = |count| crate::client::bulk::ManifestFile {
            resource_type: Some("Patient".to_owned()),
            url: "https://h.example/1".to_owned(),
            count: Some(count),
            size: None,
            checksum: None,
        };
        assert_eq!(count_by_type(&[file(u64::MAX), file(2)]).get("Patient"), Some(&(2, u64::MAX)));
    }

    #[test]
    fn an_export_without_files_has_no_table_of_files() {
        let manifest = Manifest {
            transaction_time: "2026-01-31T08:00:00.000Z".to_owned(),
            request: None,
            requires_access_token: None,
            organized_by: None,
            output: Vec::new(),
            deleted: Vec::new(),
            error: Vec::new(),
            extension: Value::Null,
            next: None,
            server_time: None,
            warnings: Vec::new(),
        };
        let url = Url::parse("https://h.example/r4/_operations/export/1").unwrap();
        let shown = ShownExport { status_url: &url, listed: None, answer: Ok((None, Some(Box::new(manifest)))), prices: None };
        let text = shown.format();
        assert!(text.contains("data up to   2026-01-31T08:00:00.000Z") && !text.contains("RESOURCES"), "{text}");
    }

    #[test]
    fn details_name_the_state_and_escape_what_the_server_said() {
        let url = Url::parse("https://h.example/r4/_operations/export/1?secret").unwrap();
        let failed = ShownExport { status_url: &url, listed: Some(export()), answer: Err("\u{1b}]0;x\u{7}".to_owned()), prices: None };
        let text = failed.format();
        assert!(text.contains("state        failed") && text.contains("reason       \\u{1b}]0;x\\u{7}"), "{text}");
        assert!(!text.contains("secret") && text.contains("parameters   _type=Patient"), "{text}");
        let running = ShownExport { status_url: &url, listed: None, answer: Ok((Some("45 % done".to_owned()), None)), prices: None };
        assert_eq!(
            running.to_json(),
            json!({ "statusUrl": "https://h.example/r4/_operations/export/1", "state": "running", "progress": "45 % done" })
        );
    }
}
