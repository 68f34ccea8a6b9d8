//! The report about a finished synchronization: a table on standard output, and what is not known on standard error.

use headrace_core::lake::sync_report::{SyncReport, TypeReport};
use headrace_core::vocab::plural::counted;
use indicatif::HumanCount;

use crate::client::late_changes::{TypeCounts, describe_late_changes};
use crate::terminal::printable;

/// The number of types that a note names.
const NAMED_TYPES: usize = 20;

/// Formats a row for each type with resources, deletions or faults, and the result. Without any row it is one sentence.
pub(super) fn result(report: &SyncReport, lake: &str) -> String {
    let has_row = |one: &&TypeReport| one.windows > 0 || one.deletions.is_some_and(|count| count > 0) || !one.faults.is_empty();
    let shown: Vec<&TypeReport> = report.types.iter().filter(has_row).collect();
    if shown.is_empty() && report.is_complete {
        let (complete, lake) = (&report.complete_up_to, printable(lake));
        return match &report.from {
            Some(from) => format!("nothing has changed since {from}; {lake} is complete up to {complete}\n"),
            None => format!("the server has no resources; {lake} is complete up to {complete}\n"),
        };
    }
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
        Some(from) if report.types.iter().all(|one| one.late_changes == 0 && !one.is_whole) => format!(" changed from {from} on"),
        Some(from) => format!(", not only those that changed from {from} on"),
        None => " in all".to_owned(),
    };
    let resources = format!("{}{changed}", counted(total, "resource", "resources"));
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
        if one.is_covered || one.left_at.is_some() {
            remarks.extend(one.remark.as_ref().map(|remark| format!("note: {}: {remark}", one.resource_type)));
        }
    }
    let is_not_searchable = |one: &&TypeReport| !one.is_covered && one.faults.is_empty() && one.left_at.is_none();
    let not_searchable: Vec<&str> = report.types.iter().filter(is_not_searchable).map(|one| one.resource_type.as_str()).collect();
    if !not_searchable.is_empty() {
        let types = name_types(&not_searchable);
        remarks.push(format!("note: the server cannot search these types, so the lake does not have them: {types}"));
    }
    if report.is_complete {
        remarks.extend(late_changes(report));
    } else {
        remarks.push("note: the watermark of the lake was not moved; the next synchronization starts where this one did".to_owned());
    }
    remarks
}

/// Names the first types, and counts the others. The report has all of them.
fn name_types(types: &[&str]) -> String {
    let named = types.iter().take(NAMED_TYPES).copied().collect::<Vec<_>>().join(", ");
    match types.len().saturating_sub(NAMED_TYPES) {
        0 => named,
        1 => format!("{named} and 1 other"),
        others => format!("{named} and {others} others"),
    }
}

/// Returns the notes about changes and deletions at or before the watermark that the lake had.
fn late_changes(report: &SyncReport) -> Vec<String> {
    let Some(watermark) = &report.previous_watermark else { return Vec::new() };
    let (changed, deleted) = (count_by_type(report, |one| one.late_changes), count_by_type(report, |one| one.late_deletions));
    let sentences = describe_late_changes(&format!("the watermark {watermark}"), &changed, &deleted);
    sentences.into_iter().map(|sentence| format!("note: {sentence}")).collect()
}

/// Returns a number of each type that has one.
fn count_by_type(report: &SyncReport, count: impl Fn(&TypeReport) -> u64) -> TypeCounts {
    report.types.iter().map(|one| (one.resource_type, count(one))).filter(|(_, count)| *count > 0).collect()
}

/// Returns the names of the types of which it is not known what the server has deleted. `None` if there are none, or something is missing.
///
/// * `has_unchanged`: true to name also types of which nothing was fetched, and which have no remark.
pub(super) fn types_of_unknown_deletions(report: &SyncReport, has_unchanged: bool) -> Option<String> {
    let is_unknown =
        |one: &&TypeReport| one.is_covered && one.deletions.is_none() && (has_unchanged || one.windows > 0 || one.remark.is_some());
    let unknown: Vec<&str> = report.types.iter().filter(is_unknown).map(|one| one.resource_type.as_str()).collect();
    (report.is_complete && !unknown.is_empty()).then(|| unknown.join(", "))
}

#[cfg(test)]
mod tests {
    use headrace_core::job::sync::SyncRecord;
    use headrace_fhir::definitions::ResourceType;

    use super::*;

    /// Returns the report of a complete synchronization with these types.
    fn complete(types: Vec<TypeReport>, from: Option<&str>) -> SyncReport {
        SyncReport {
            origin: "https://fhir.example.org".to_owned(),
            job: "1".repeat(32),
            from: from.map(str::to_owned),
            previous_watermark: from.map(str::to_owned),
            complete_up_to: "2026-11-30T02:00:00.000Z".to_owned(),
            is_complete: true,
            types,
        }
    }

    /// Returns the report of a type of which something was fetched or deleted.
    fn patients(resources: u64, deletions: u64) -> TypeReport {
        let mut report = TypeReport::new(ResourceType::PATIENT);
        let windows = u64::from(resources > 0);
        report.add(&SyncRecord {
            is_covered: true,
            windows,
            resources,
            deletions: Some(deletions),
            ..SyncRecord::new(ResourceType::PATIENT)
        });
        report
    }

    #[test]
    fn a_synchronization_without_changes_is_one_sentence() {
        let from = "2026-11-29T02:00:00.000Z";
        let unchanged = result(&complete(vec![patients(0, 0)], Some(from)), "lake");
        assert_eq!(unchanged, format!("nothing has changed since {from}; lake is complete up to 2026-11-30T02:00:00.000Z\n"));
        let empty = result(&complete(Vec::new(), None), "lake");
        assert_eq!(empty, "the server has no resources; lake is complete up to 2026-11-30T02:00:00.000Z\n");
    }

    #[test]
    fn late_changes_are_a_note_and_are_not_called_changed_since_the_watermark() {
        let from = "2026-11-29T02:00:00.000Z";
        let mut report = complete(vec![patients(5, 0)], Some(from));
        assert!(result(&report, "lake").contains(&format!("\n5 resources changed from {from} on; ")) && remarks(&report).is_empty());
        report.types[0].late_changes = 5;
        let untrue = |text: &str| text.contains("resources changed from") || !text.contains(", not only those that changed from");
        let text = result(&report, "lake");
        assert!(!untrue(&text), "{text}");
        let note = remarks(&report).concat();
        assert!(note.starts_with(&format!("note: 5 resources (Patient 5) changed at or before the watermark {from}: exports")), "{note}");
        report.types[0].late_deletions = 1;
        let notes = remarks(&report);
        let deletion = format!("note: 1 resource was deleted (Patient 1) at or before the watermark {from}: exports with _since");
        assert!(notes.len() == 2 && notes[1].starts_with(&deletion), "{notes:?}");
        report.types[0].late_deletions = 0;
        (report.types[0].late_changes, report.types[0].is_whole) = (0, true);
        let text = result(&report, "lake");
        assert!(!untrue(&text) && remarks(&report).is_empty(), "{text}");
    }

    #[test]
    fn a_note_names_some_of_many_types() {
        let types = (0..NAMED_TYPES + 5).map(|_| TypeReport::new(ResourceType::PATIENT)).collect();
        let notes = remarks(&complete(types, None)).concat();
        assert!(notes.matches("Patient").count() == NAMED_TYPES && notes.ends_with("Patient and 5 others"), "{notes}");
    }

    #[test]
    fn a_synchronization_with_deletions_alone_shows_them() {
        let text = result(&complete(vec![patients(0, 2)], Some("2026-11-29T02:00:00.000Z")), "lake");
        assert!(
            text.lines().nth(1).is_some_and(|row| row.split_whitespace().collect::<Vec<_>>() == ["Patient", "0", "2", "0", "0"]),
            "{text}"
        );
    }
}
