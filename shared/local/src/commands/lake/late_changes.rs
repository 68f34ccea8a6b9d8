//! The report about changes that an addition brings at or before the watermark of the lake.

use headrace_lake::add::LateChanges;
use serde_json::{Value, json};

use crate::client::late_changes::describe_late_changes;

/// Formats the changes that clients of increments do not see.
pub(super) fn format_late(late: &LateChanges) -> String {
    let watermark = format!("the watermark{} {}", of_folder(&late.folder), late.complete_up_to.instant());
    describe_late_changes(&watermark, &late.resources, &late.deletions).into_iter().map(|sentence| sentence + "\n").collect()
}

/// Returns the changes as JSON.
pub(super) fn late_json(late: &LateChanges) -> Value {
    json!({
        "folder": late.folder,
        "completeUpTo": late.complete_up_to.instant(),
        "resources": late.resources,
        "deletions": late.deletions,
    })
}

/// Returns the words for a folder of the lake behind its watermark. Empty for the lake itself.
pub(super) fn of_folder(folder: &str) -> String {
    if folder.is_empty() { String::new() } else { format!(" of {}", folder.trim_end_matches('/')) }
}
