//! Exports from servers without an export operation: the resources are fetched by searches.

use std::path::Path;

use crate::cli::ExportArgs;
use crate::client::credential::read_credential;
use crate::client::since_file::parse_since;
use crate::client::sync::HttpOrigin;
use crate::client::sync::command::origin_settings;
use crate::client::sync::first_request::read_metadata;
use crate::client::sync::for_export::sync_for_export;

use super::ExportStatus;
use super::directory::export_directory;
use super::error::ExportCommandError;
use super::output_dir::{LAKE_FOLDER, prepare_output_dir};
use super::task::{ExportTask, requested_since};

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
/// exports that. The lake stays if that fails, and the same command continues.
pub(super) async fn export_by_sync(task: &ExportTask<'_>, base: &str, out: &Path) -> Result<ExportStatus, ExportCommandError> {
    let args = task.args;
    prepare_output_dir(out, args.overwrite)?;
    let lake = out.join(LAKE_FOLDER);
    let since = requested_since(task)?.and_then(|since| parse_since(&since));
    let report = sync_for_export(args, base, &lake, since).await?;
    if !report.is_complete {
        let faults: Vec<String> = report.types.iter().flat_map(|one| &one.faults).take(3).cloned().collect();
        return Err(ExportCommandError::NotFetched(faults.join("; ")));
    }
    let status = export_directory(task, lake.clone(), out).await?;
    std::fs::remove_dir_all(&lake).map_err(|cause| ExportCommandError::Out { path: lake, cause })?;
    Ok(status)
}
