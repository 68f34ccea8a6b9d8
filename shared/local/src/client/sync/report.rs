//! The report about a finished synchronization: a table on standard output, and what is not known on standard error.

use headrace_core::lake::sync_report::{SyncReport, TypeReport};
use headrace_core::vocab::plural::counted;
use indicatif::HumanCount;

use crate::terminal::printable;

/// Formats a row for each type with resources, deletions or faults, and the result.
pub(super) fn result(report: &SyncReport, lake: &str) -> String {
    let shown: Vec<&TypeReport> = report.types.iter().filter(|one| one.windows > 0 || !one.faults.is_empty()).collect();
    let width = shown.iter().map(|one| one.resource_type.as_str().len()).max().unwrap_or_default().max(4);
    let mut output = format!("{:width$}  {:>12}  {:>9}  {:>8}  {:>8}\n", "TYPE", "RESOURCES", "DELETIONS", "WINDOWS", "REPEATED");
    for one in &shown {
        let deletions = one.deletions.map_or_else(|| "unknown".to_owned(), |count| HumanCount(count).to_string());
        let (resources, windows) = (HumanCount(one.resources).to_string(), HumanCount(one.windows).to_string());
        let repeats = HumanCount(one.repeats).to_string();
        output += &format!("{:width$}  {resources:>12}  {deletions:>9}  {windows:>8}  {repeats:>8}\n", one.resource_type.as_str());
    }
    let total: u64 = report.types.iter().map(|one| one.resources).sum();
    let changed = match &report.from {
        Some(from) => format!("changed from {from} on"),
        None => "in all".to_owned(),
    };
    let resources = format!("{} {changed}", counted(total, "resource", "resources"));
    if report.is_complete {
        let complete = &report.complete_up_to;
        output += &format!("\n{resources}; {} is complete up to {complete}\n", printable(lake));
    } else {
        output += &format!("\n{resources} fetched, but not everything: nothing was added to {}\n", printable(lake));
    }
    output
}

/// Returns the remarks for the user, one per line.
pub(super) fn remarks(report: &SyncReport) -> Vec<String> {
    let mut remarks = Vec::new();
    for one in &report.types {
        remarks.extend(one.faults.iter().map(|fault| format!("error: {}: {fault}", one.resource_type)));
        if one.further_faults > 0 {
            let further = counted(one.further_faults, "further error", "further errors");
            remarks.push(format!("error: {}: {further}", one.resource_type));
        }
        if one.is_covered {
            remarks.extend(one.remark.as_ref().map(|remark| format!("note: {}: {remark}", one.resource_type)));
        }
    }
    let not_searchable: Vec<&str> =
        report.types.iter().filter(|one| !one.is_covered && one.faults.is_empty()).map(|one| one.resource_type.as_str()).collect();
    if !not_searchable.is_empty() {
        remarks.push(format!("note: the server cannot search these types, so the lake does not have them: {}", not_searchable.join(", ")));
    }
    let unknown: Vec<&str> = report
        .types
        .iter()
        .filter(|one| one.is_covered && one.deletions.is_none() && one.windows > 0)
        .map(|one| one.resource_type.as_str())
        .collect();
    if !unknown.is_empty() && report.is_complete {
        remarks.push(format!("note: it is not known which resources the server has deleted, of {}", unknown.join(", ")));
    }
    if !report.is_complete {
        remarks.push("note: the watermark of the lake was not moved; the next synchronization starts where this one did".to_owned());
    }
    remarks
}
