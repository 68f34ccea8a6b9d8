//! The report about changes that an addition brings at or before the watermark of the lake.

use std::collections::BTreeMap;

use headrace_core::vocab::plural::counted;
use headrace_fhir::definitions::ResourceType;
use headrace_lake::add::LateChanges;
use indicatif::HumanCount;
use serde_json::{Value, json};

/// Formats the changes that clients of increments do not see.
pub(super) fn format_late(late: &LateChanges) -> String {
    let watermark = format!("at or before the watermark{} {}", of_folder(&late.folder), late.complete_up_to.instant());
    let mut text = String::new();
    if !late.resources.is_empty() {
        let (count, by_type) = count_by_type(&late.resources);
        let subject = counted(count, "resource", "resources");
        text += &format!(
            "{subject} ({by_type}) changed {watermark}: exports with _since after it do not contain {}; a full export does\n",
            if count == 1 { "it" } else { "them" }
        );
    }
    if !late.deletions.is_empty() {
        let (count, by_type) = count_by_type(&late.deletions);
        let subject = counted(count, "resource was", "resources were");
        text += &format!(
            "{subject} deleted ({by_type}) {watermark}: exports with _since after it do not say so; a full export leaves {} out\n",
            if count == 1 { "it" } else { "them" }
        );
    }
    text
}

/// Returns the sum of counts, and the count of each type for people.
fn count_by_type(counts: &BTreeMap<ResourceType, u64>) -> (u64, String) {
    let by_type: Vec<String> = counts.iter().map(|(kind, count)| format!("{kind} {}", HumanCount(*count))).collect();
    (counts.values().sum(), by_type.join(", "))
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
