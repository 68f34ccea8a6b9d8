//! Exports from servers without an export operation: the resources are fetched by searches.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use headrace_core::access::Permissions;
use headrace_core::flow::client::kick_off::check_parameters;
use headrace_core::lake::sync_report::{SyncReport, TypeReport};
use headrace_core::ports::Clock as _;
use headrace_edge::system::SystemClock;
use headrace_fhir::definitions::ResourceType;

use crate::cli::{ExportArgs, ExportOptions};
use crate::client::credential::read_credential;
use crate::client::local_export::{in_command_words, raw_kick_off};
use crate::client::progress::print_line;
use crate::client::since_file::parse_since;
use crate::client::sync::HttpOrigin;
use crate::client::sync::command::origin_settings;
use crate::client::sync::first_request::read_metadata;
use crate::client::sync::for_export::{sync_for_export, types_for_export};
use crate::stores::directory::DirectoryOutputStore;
use crate::terminal::error_chain;

use super::ExportStatus;
use super::directory::export_directory;
use super::error::ExportCommandError;
use super::output_dir::{LAKE_FOLDER, prepare_output_dir};
use super::task::{ExportTask, local_server_parameters, requested_since};

/// Returns true if the CapabilityStatement of a server can be read and names no export operation.
pub(super) async fn lacks_export(args: &ExportArgs, base: &str) -> bool {
    let Ok(credential) = read_credential(&args.login.credential) else { return false };
    let settings = origin_settings(credential, args.login.token_origins.clone(), &args.searches);
    let Ok(origin) = HttpOrigin::new(base, settings) else { return false };
    read_metadata(&origin).await.is_ok_and(|page| names_no_export(&page.body))
}

/// Returns true for a CapabilityStatement that names no export operation, of the system or of a type.
fn names_no_export(statement: &[u8]) -> bool {
    let statement: serde_json::Value = serde_json::from_slice(statement).unwrap_or_default();
    let items = |value: &serde_json::Value, name: &str| value.get(name).and_then(|items| items.as_array().cloned()).unwrap_or_default();
    let rest = items(&statement, "rest");
    let of_types = rest.iter().flat_map(|rest| items(rest, "resource")).flat_map(|resource| items(&resource, "operation"));
    let operations = rest.iter().flat_map(|rest| items(rest, "operation")).chain(of_types);
    let is_export = |operation: serde_json::Value| {
        let name = operation.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
        matches!(name.trim_start_matches('$'), "export" | "patient-export" | "group-export")
    };
    let is_statement = statement.get("resourceType").is_some_and(|kind| kind == "CapabilityStatement");
    is_statement && !operations.into_iter().any(is_export)
}

/// Exports from a server that need not know `$export`: fetches its resources by searches into a lake within the output directory, and
/// exports that. The lake stays if that fails, and the same command continues. The error then names it.
pub(super) async fn export_by_sync(task: &ExportTask<'_>, base: &str, out: &Path) -> Result<ExportStatus, ExportCommandError> {
    prepare_output_dir(out, task.args.overwrite)?;
    let lake = out.join(LAKE_FOLDER);
    let result = Box::pin(fetch_and_export(task, base, (&lake, out))).await;
    result.map_err(|error| if lake.exists() { left_lake(task.configuration.is_some(), &error, lake) } else { error })
}

/// Checks the request, fetches the resources into a lake, exports that, and removes it.
async fn fetch_and_export(task: &ExportTask<'_>, base: &str, (lake, out): (&Path, &Path)) -> Result<ExportStatus, ExportCommandError> {
    check_request(task, out).await?;
    let types = types_for_export(&task.args.options).map_err(Box::new)?;
    if task.configuration.is_some() {
        // A process that is killed later cannot report it.
        print_line(&format!("attention: until the export is complete, `{}` has the resources as the server sends them", lake.display()));
    }
    let since = requested_since(task)?.and_then(|since| parse_since(&since));
    let report = sync_for_export(task.args, base, lake, (types.clone(), since)).await?;
    if !report.is_complete {
        return Err(not_fetched(&report, types.as_ref()));
    }
    let status = export_directory(task, lake.to_owned(), out).await?;
    std::fs::remove_dir_all(lake).map_err(|cause| ExportCommandError::Out { path: lake.to_owned(), cause })?;
    Ok(status)
}

/// Checks everything about the export that does not depend on the server's resources, before the first request: to fetch them may take hours,
/// and an export that is rejected afterwards would leave them as they are, although they were to be de-identified.
async fn check_request(task: &ExportTask<'_>, out: &Path) -> Result<(), ExportCommandError> {
    let args = task.args;
    let policy = args.service.settings_without_clients()?.policy;
    args.service.lake_settings()?;
    let options = ExportOptions { since: requested_since(task)?, ..args.options.clone() };
    let raw = raw_kick_off(&options, &local_server_parameters(&options));
    let output = DirectoryOutputStore::open(out).with_configuration(task.configuration.clone());
    let permissions = Permissions::default();
    let checked = Box::pin(check_parameters(&output, (&policy, SystemClock.now()), (&raw, &permissions))).await;
    checked.map_err(|error| ExportCommandError::Local(in_command_words(&error.to_string())))
}

/// Returns the error for resources that could not be fetched. The same command would fail again for types that the server cannot search.
fn not_fetched(report: &SyncReport, requested: Option<&BTreeSet<ResourceType>>) -> ExportCommandError {
    let is_requested = |kind: &ResourceType| requested.is_some_and(|types| types.contains(kind));
    let is_out_of_reach = |one: &&TypeReport| !one.is_covered && !one.faults.is_empty() && is_requested(&one.resource_type);
    let types: Vec<&str> = report.types.iter().filter(is_out_of_reach).map(|one| one.resource_type.as_str()).collect();
    if !types.is_empty() {
        return ExportCommandError::NotSearchable(types.join(","));
    }
    let faults: Vec<String> = report.types.iter().flat_map(|one| &one.faults).take(3).cloned().collect();
    ExportCommandError::NotFetched(faults.join("; "))
}

/// Returns the error of an export that has left its lake.
fn left_lake(is_deidentified: bool, error: &ExportCommandError, lake: PathBuf) -> ExportCommandError {
    let state = if is_deidentified { "as the server has sent them, not de-identified" } else { "that were fetched" };
    let continuation = if matches!(error, ExportCommandError::NotSearchable(_)) {
        "the command without these types uses or removes them"
    } else {
        "the same command continues with them"
    };
    // The export of a directory begins anew, and says so.
    let cause = if matches!(error, ExportCommandError::Interrupted) {
        "interrupted: the export was stopped before it was complete".to_owned()
    } else {
        error_chain(error)
    };
    ExportCommandError::LeftLake { cause, lake, state, continuation }
}

/// Prints the path of a lake that an earlier export by searches has left in the output directory. Other exports do not remove it.
pub(super) fn print_left_lake(out: &Path) {
    let lake = out.join(LAKE_FOLDER);
    if lake.exists() {
        print_line(&format!(
            "attention: an earlier export has left `{}` with resources as their server has sent them, not de-identified: remove the folder",
            lake.display()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_that_is_interrupted_after_its_resources_were_fetched_gives_one_instruction() {
        let text = left_lake(true, &ExportCommandError::Interrupted, PathBuf::from("out/.headrace-lake")).to_string();
        assert!(text.starts_with("interrupted: ") && text.contains("the same command continues with them"), "{text}");
        assert!(!text.contains("--overwrite") && text.contains("not de-identified"), "{text}");
    }
}
