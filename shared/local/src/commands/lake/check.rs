//! `headrace lake check`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headrace_core::lake::watermark::WATERMARK_OBJECT;
use headrace_core::ports::{Clock as _, ResourceSource};
use headrace_core::vocab::clock::Millis;
#[cfg(feature = "deployment")]
use headrace_core::vocab::error::SourceError;
use headrace_core::vocab::lake_settings::LakeWatermark;
use headrace_core::vocab::plural::counted;
use headrace_edge::system::SystemClock;
use headrace_fhir::instant::Instant;
use headrace_lake::check::{CheckError, CheckSettings, Finding, FindingExample, LakeReport, SLICE_BYTES, TypeReport, check_lake};
#[cfg(feature = "deployment")]
use headrace_lake::compact::waiting_objects_in;
use headrace_lake::compact::{ObjectCount, waiting_objects};
use headrace_lake::progress::Progress;
use headrace_lake::writing::unfinished_runs;
#[cfg(feature = "deployment")]
use headrace_lake::writing::unfinished_runs_in;
use indicatif::{DecimalBytes, HumanCount};
use serde_json::{Value, json};

use super::progress::ProgressDisplay;
use super::{LakeCommandError, LakeStatus, SORT_BYTES, random_seed, status};
use crate::cli::{CheckLakeArgs, LakeLocation};
use crate::client::error::human_duration;
use crate::commands::table::{Column, format_columns, terminal_width};
#[cfg(feature = "deployment")]
use crate::stores::deployment;
use crate::stores::directory::DirectoryLake;
use crate::terminal::{print_result, printable, printable_json};

/// The number of examples of a finding that are printed. The JSON has more.
const MAX_SHOWN: usize = 5;

/// Objects that wait for their removal, and when the last of them was replaced.
type WaitingObjects = (ObjectCount, Option<Millis>);

/// Runs `headrace lake check`.
pub(super) async fn run_check(args: &CheckLakeArgs) -> Result<LakeStatus, LakeCommandError> {
    let (report, unfinished, waiting) = match &args.lake {
        LakeLocation::Directory(path) => {
            let report = check(DirectoryLake::open(path), args).await?;
            // A compaction may be removing them at this moment.
            let waiting = waiting_objects(path).unwrap_or_default();
            (report, count_unfinished(path)?, waiting)
        }
        #[cfg(feature = "deployment")]
        LakeLocation::S3 { bucket, prefix } => {
            let report = check(deployment::clients().await?.lake(bucket, prefix), args).await?;
            let bucket = deployment::lake_bucket(bucket, prefix).await?;
            let internal =
                tokio::task::spawn_blocking(move || Ok::<_, std::io::Error>((unfinished_runs_in(&bucket)?, waiting_objects_in(&bucket)?)));
            let failed = |cause: std::io::Error| SourceError::Unavailable(cause.into());
            let (unfinished, waiting) = internal.await?.map_err(failed)?;
            (report, unfinished, waiting)
        }
        #[cfg(not(feature = "deployment"))]
        LakeLocation::S3 { .. } => return Err(crate::stores::deployment::DeploymentError::BuiltWithoutAws.into()),
    };
    if args.json {
        print_result(&printable_json(&format!("{:#}\n", report_json(&report, unfinished, waiting))));
    } else {
        print_result(&format_report(&report, unfinished, waiting));
    }
    Ok(status(report.is_clean() && unfinished == 0))
}

/// Checks a lake.
async fn check<S: ResourceSource + 'static>(source: S, args: &CheckLakeArgs) -> Result<LakeReport, LakeCommandError> {
    let settings = CheckSettings {
        temp_folder: std::env::temp_dir(),
        workers: args.common.workers(),
        sort_bytes: SORT_BYTES,
        slice_bytes: SLICE_BYTES,
        now: SystemClock.now(),
        watermark: args.watermark.rule()?,
        seed: random_seed()?,
    };
    let progress = Arc::new(Progress::default());
    let display = ProgressDisplay::start("checking", &progress, args.common.quiet);
    let report = check_lake(Arc::new(source), &settings, &progress).await;
    drop(display);
    Ok(report?)
}

/// Returns the number of runs that have added a part of their files.
fn count_unfinished(path: &Path) -> Result<u64, LakeCommandError> {
    let failed = |cause| CheckError::Temporary { folder: path.to_owned(), cause };
    Ok(unfinished_runs(path).map_err(failed)?)
}

/// Formats the report for people.
fn format_report(report: &LakeReport, unfinished: u64, waiting: WaitingObjects) -> String {
    let mut text = format_types(report);
    let objects = counted(report.objects, "object", "objects");
    let resources: u64 = report.types.values().map(|counts| counts.resources).sum();
    text += &format!(
        "{} {} of {} in {objects}, {}\n",
        HumanCount(resources),
        if resources == 1 { "resource" } else { "resources" },
        counted(report.types.values().filter(|counts| counts.resources > 0).count() as u64, "type", "types"),
        DecimalBytes(report.stored_bytes)
    );
    text += &format_watermark(report);
    text += &format_without_time(report);
    text += &format_deletions_without_time(report);
    text += &format_waiting(waiting);
    if unfinished > 0 {
        text += &format!(
            "attention: {}: run the same command again to complete it\n",
            counted(unfinished, "interrupted run of lake add or lake compact", "interrupted runs of lake add or lake compact")
        );
    }
    text.extend(report.findings.iter().map(|finding| format_finding(finding, report)));
    text
}

/// Formats a table with a row for each type.
fn format_types(report: &LakeReport) -> String {
    if report.types.is_empty() {
        return String::new();
    }
    let day = |time: Option<Instant>| time.map_or_else(|| "-".to_owned(), |time| time.to_string().chars().take(10).collect());
    let count = |count: u64| HumanCount(count).to_string();
    let counts = |value: &dyn Fn(&TypeReport) -> u64| report.types.values().map(value).map(count).collect();
    let all: [(&'static str, u8, Vec<String>, bool); 11] = [
        ("TYPE", 0, report.types.keys().map(|kind| kind.to_string()).collect(), true),
        ("OBJECTS", 5, counts(&|counts| counts.objects), true),
        ("SIZE", 4, report.types.values().map(|counts| DecimalBytes(counts.stored_bytes).to_string()).collect(), true),
        ("RESOURCES", 0, counts(&|counts| counts.resources), true),
        ("IDS", 1, counts(&|counts| counts.ids), true),
        ("OLDER", 1, counts(&|counts| counts.older_versions), report.types.values().any(|counts| counts.older_versions > 0)),
        ("DELETIONS", 2, counts(&|counts| counts.deletions), report.types.values().any(|counts| counts.deletions > 0)),
        ("OLDEST", 6, report.types.values().map(|counts| day(counts.oldest)).collect(), true),
        ("NEWEST", 3, report.types.values().map(|counts| day(counts.newest)).collect(), true),
        ("NO TIME", 2, counts(&|counts| counts.without_time), report.types.values().any(|counts| counts.without_time > 0)),
        ("LATER", 2, counts(&|counts| counts.after_watermark), report.types.values().any(|counts| counts.after_watermark > 0)),
    ];
    let columns = all.into_iter().filter(|(.., is_shown)| *is_shown);
    let columns: Vec<Column> = columns.map(|(title, priority, cells, _)| Column { title, priority, cells }).collect();
    format!("{}\n", format_columns(columns, terminal_width()))
}

/// Formats the watermark in a line.
fn format_watermark(report: &LakeReport) -> String {
    let source = match report.watermark.rule {
        LakeWatermark::Auto | LakeWatermark::Object => WATERMARK_OBJECT,
        LakeWatermark::Now | LakeWatermark::Lag(_) | LakeWatermark::Arrival => "--lake-watermark",
    };
    match (report.watermark.complete_up_to, report.watermark.is_invalid) {
        (_, true) => format!("watermark: {WATERMARK_OBJECT} is not valid, or does not exist\n"),
        (Some(time), false) => {
            let age = report.checked_at.unwrap_or(time).since(time);
            format!("watermark: complete up to {} ({} ago), as {source} says\n", time.instant(), format_age(age))
        }
        (None, false) if source == WATERMARK_OBJECT => {
            format!("watermark: none; no {WATERMARK_OBJECT} says up to when the lake is complete\n")
        }
        (None, false) => format!("watermark: the time of an export, as {source} says\n"),
    }
}

/// Formats an age in whole seconds or a larger unit.
fn format_age(age: Duration) -> String {
    match age.as_secs() {
        0 => "less than a second".to_owned(),
        seconds => human_duration(Duration::from_secs(seconds)),
    }
}

/// Says that a compaction has left old objects in the lake, which exports still read.
fn format_waiting((count, replaced_at): WaitingObjects) -> String {
    let Some(replaced_at) = replaced_at else { return String::new() };
    format!(
        "note: {} ({}) wait for their removal, since newer ones replaced them at {}, and are counted above: headrace lake compact removes them \
         when no export can be reading them any more\n",
        counted(count.objects, "object", "objects"),
        DecimalBytes(count.bytes),
        replaced_at.instant(),
    )
}

/// Says what follows for resources without a time. It needs no attention: many lakes of Bundles have none.
fn format_without_time(report: &LakeReport) -> String {
    let count: u64 = report.types.values().map(|counts| counts.without_time).sum();
    if count == 0 {
        return String::new();
    }
    let resources = if count == 1 { "1 resource has".to_owned() } else { format!("{} resources have", HumanCount(count)) };
    format!(
        "note: {resources} no valid meta.lastUpdated: every export contains them, whatever --since is, and of several versions without a time \
         the last one in the order of objects counts\n"
    )
}

/// Formats the note about deletions without a time.
fn format_deletions_without_time(report: &LakeReport) -> String {
    let count: u64 = report.types.values().map(|counts| counts.deletions_without_time).sum();
    if count == 0 {
        return String::new();
    }
    let (deletions, consequence) = if count == 1 {
        ("1 deletion has".to_owned(), "it hides its resource for ever, also one that is created again")
    } else {
        (format!("{} deletions have", HumanCount(count)), "they hide their resources for ever, also those that are created again")
    };
    format!("note: {deletions} no time: {consequence}\n")
}

/// Formats a finding with its first examples.
fn format_finding(finding: &Finding, report: &LakeReport) -> String {
    let (one, many) = finding.kind.subject();
    let mut text = format!("attention: {}: {}\n", counted(finding.count, one, many), finding.kind.consequence());
    if let Some(near_misses) = report.near_misses.as_ref().filter(|_| finding.kind == headrace_lake::check::FindingKind::NearMiss) {
        text += &format!("  {near_misses}\n");
    }
    let shown = finding.examples.iter().filter(|example| !example.object.is_empty()).take(MAX_SHOWN);
    text.extend(shown.map(format_example));
    let more = finding.count.saturating_sub(MAX_SHOWN as u64);
    if more > 0 && !finding.examples.is_empty() {
        text += &format!("  and {more} more\n");
    }
    text
}

/// Formats the position of a finding.
fn format_example(example: &FindingExample) -> String {
    let line = example.line.map(|line| format!(", line {line}")).unwrap_or_default();
    let byte = example.offset.map(|offset| format!(", byte {offset}")).unwrap_or_default();
    let detail = if example.detail.is_empty() { String::new() } else { format!(": {}", example.detail) };
    format!("  {}{line}{byte}{detail}\n", printable(&example.object))
}

/// Returns the report as JSON.
fn report_json(report: &LakeReport, unfinished: u64, (waiting, replaced_at): WaitingObjects) -> Value {
    let instant = |time: Option<Instant>| time.map(|time| time.to_string());
    let types: serde_json::Map<String, Value> = report
        .types
        .iter()
        .map(|(kind, counts)| {
            let members = json!({
                "objects": counts.objects,
                "storedBytes": counts.stored_bytes,
                "resources": counts.resources,
                "ids": counts.ids,
                "olderVersions": counts.older_versions,
                "deletions": counts.deletions,
                "deleted": counts.deleted,
                "deletionsWithoutTime": counts.deletions_without_time,
                "conflicting": counts.conflicting,
                "oldest": instant(counts.oldest),
                "newest": instant(counts.newest),
                "withoutTime": counts.without_time,
                "afterWatermark": counts.after_watermark,
            });
            (kind.to_string(), members)
        })
        .collect();
    let age = |time: Millis| report.checked_at.map(|now| now.since(time).as_secs());
    json!({
        "types": types,
        "objects": report.objects,
        "storedBytes": report.stored_bytes,
        "watermark": {
            "object": WATERMARK_OBJECT,
            "completeUpTo": report.watermark.complete_up_to.map(Millis::instant),
            "ageSeconds": report.watermark.complete_up_to.and_then(age),
            "isValid": !report.watermark.is_invalid,
        },
        "unfinishedRuns": unfinished,
        "waitingObjects": {
            "objects": waiting.objects,
            "storedBytes": waiting.bytes,
            "replacedAt": replaced_at.map(Millis::instant),
        },
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "nearMisses": report.near_misses,
    })
}

/// Returns a finding as JSON.
fn finding_json(finding: &Finding) -> Value {
    let examples = finding.examples.iter().filter(|example| !example.object.is_empty());
    let examples =
        examples.map(|example| json!({ "object": example.object, "line": example.line, "byte": example.offset, "detail": example.detail }));
    json!({
        "kind": finding.kind.as_str(),
        "count": finding.count,
        "consequence": finding.kind.consequence(),
        "examples": examples.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_no_milliseconds() {
        let age = |millis| format_age(Duration::from_millis(millis));
        assert_eq!([age(951), age(1_951), age(7_200_000)], ["less than a second", "1 s", "2 h"]);
    }
}
