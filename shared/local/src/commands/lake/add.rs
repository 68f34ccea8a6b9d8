//! `headrace lake add`.

use std::sync::Arc;

use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::plural::counted;
#[cfg(feature = "deployment")]
use headrace_lake::add::add_to_bucket;
use headrace_lake::add::{AddReport, AddSettings, InputFormat, LeftOutExample, LeftOutReason, TableVersions, WatermarkChange, add};
use headrace_lake::add::{InputPosition, LeftOut};
use headrace_lake::progress::Progress;
use indicatif::HumanCount;
use serde_json::{Value, json};

use super::late_changes::{format_late, late_json, of_folder};
#[cfg(feature = "deployment")]
use super::lock_clock;
use super::progress::ProgressDisplay;
use super::{LakeCommandError, LakeStatus, rewrite_settings, status};
use crate::cli::{AddToLakeArgs, AddedFormat, AddedVersions, LakeLocation};
use crate::commands::table::{Column, format_columns, terminal_width};
#[cfg(feature = "deployment")]
use crate::stores::deployment;
use crate::terminal::{print_result, printable, printable_json};

/// The number of examples of a reason that are printed. The JSON has more.
const MAX_SHOWN: usize = 5;

/// The remedy if the input does not move the watermark.
const OPERATOR_REMEDY: &str = "; if you know up to when the lake is complete, run the command again with --complete-up-to";

/// Runs `headrace lake add`.
pub(super) async fn run_add(args: &AddToLakeArgs) -> Result<LakeStatus, LakeCommandError> {
    let settings = settings(args)?;
    let progress = Arc::new(Progress::default());
    let display = ProgressDisplay::start("adding", &progress, args.common.quiet);
    let from = args.from.clone();
    let added = match args.lake.clone() {
        LakeLocation::Directory(lake) => tokio::task::spawn_blocking(move || add(&from, &lake, &settings, &progress)).await?,
        #[cfg(feature = "deployment")]
        LakeLocation::S3 { bucket, prefix } => {
            let bucket = Arc::new(deployment::lake_bucket(&bucket, &prefix).await?);
            tokio::task::spawn_blocking(move || add_to_bucket(&from, bucket, lock_clock(), &settings, &progress)).await?
        }
        #[cfg(not(feature = "deployment"))]
        LakeLocation::S3 { .. } => return Err(crate::stores::deployment::DeploymentError::BuiltWithoutAws.into()),
    };
    drop(display);
    let report = added?;
    if args.json {
        print_result(&printable_json(&format!("{:#}\n", report_json(&report))));
    } else {
        print_result(&format_report(&report));
    }
    Ok(status(report.is_complete()))
}

/// Returns the settings that the arguments say.
fn settings(args: &AddToLakeArgs) -> Result<AddSettings, LakeCommandError> {
    Ok(AddSettings {
        format: args.format.map(|format| match format {
            AddedFormat::Bundles => InputFormat::Bundles,
            AddedFormat::Ndjson => InputFormat::Ndjson,
            AddedFormat::FhirWorks => InputFormat::FhirWorks,
        }),
        complete_up_to: args.complete_up_to.as_ref().map(|time| time.0),
        versions: match args.versions {
            AddedVersions::Newest => TableVersions::Newest,
            AddedVersions::All => TableVersions::All,
        },
        binaries: args.binaries.clone(),
        tenant: args.tenant.clone(),
        rewrite: rewrite_settings(&args.common)?,
    })
}

/// Formats the report for people.
fn format_report(report: &AddReport) -> String {
    if report.is_repeat {
        return format_repeat(report);
    }
    let mut text = String::new();
    if !report.resources.is_empty() {
        let kinds = report.resources.keys().map(|(folder, kind)| format!("{folder}{kind}")).collect();
        let counts = report.resources.values().map(|count| HumanCount(*count).to_string()).collect();
        let columns = vec![Column { title: "TYPE", priority: 0, cells: kinds }, Column { title: "RESOURCES", priority: 0, cells: counts }];
        text += &format!("{}\n", format_columns(columns, terminal_width()));
    }
    let deletions =
        if report.deletions > 0 { format!(" and {}", counted(report.deletions, "deletion", "deletions")) } else { String::new() };
    text += &format!(
        "{} {}{deletions} from {}, in {}\n",
        HumanCount(report.resource_count()),
        if report.resource_count() == 1 { "resource" } else { "resources" },
        counted(report.files, "file", "files"),
        counted(report.objects, "object", "objects"),
    );
    for (count, one, many) in [
        (report.files_added_before, "file was added before, and was not added again", "files were added before, and were not added again"),
        (report.files_without_data, "file has no data, such as a manifest", "files have no data, such as a manifest"),
        (report.references.resolved, "reference was resolved", "references were resolved"),
        (
            report.rewritten,
            "resource of the lake was written again: references in it are resolved now",
            "resources of the lake were written again: references in them are resolved now",
        ),
        (
            report.replaced,
            "resource replaces other content in the lake, with the same lastUpdated and versionId or without both",
            "resources replace other content in the lake, with the same lastUpdated and versionId or without both",
        ),
        (
            report.deletions_without_time,
            "deletion has no time: it hides its resource for ever, also one that is created again",
            "deletions have no time: they hide their resources for ever, also those that are created again",
        ),
    ] {
        if count > 0 {
            text += &format!("{}\n", counted(count, one, many));
        }
    }
    text.extend(report.late.iter().map(format_late));
    text.extend(report.watermarks.iter().map(|(folder, change)| format_watermark(folder, *change)));
    for (count, one, many) in [
        (
            report.references.unknown_urls,
            "reference stays as it is: no resource of the input or of the lake has its urn",
            "references stay as they are: no resource of the input or of the lake has their urn",
        ),
        (
            report.references.unknown_identifiers,
            "reference stays as it is: no resource of the input or of the lake has its identifier",
            "references stay as they are: no resource of the input or of the lake has their identifier",
        ),
        (
            report.references.ambiguous,
            "reference stays as it is: several resources of the input and of the lake have its name or identifier",
            "references stay as they are: several resources of the input and of the lake have their name or identifier",
        ),
        (
            report.references.other_searches,
            "reference stays as it is: a search for something else than one identifier",
            "references stay as they are: searches for something else than one identifier",
        ),
    ] {
        if count > 0 {
            text += &format!("attention: {}\n", counted(count, one, many));
        }
    }
    text += &format_irregular_ids(&report.irregular_ids);
    text += &format_watermark_problem(report);
    text.extend(report.left_out.iter().map(|(reason, left_out)| format_left_out(*reason, left_out)));
    text
}

/// Formats the report about an input that was added before.
fn format_repeat(report: &AddReport) -> String {
    let is_written = |(_, change): &(String, WatermarkChange)| matches!(change, WatermarkChange::Written(_));
    let start = if report.watermarks.iter().any(is_written) { "nothing was added" } else { "nothing to do" };
    let mut text = format!("{start}: the same input was added before\n");
    text.extend(report.watermarks.iter().map(|(folder, change)| format_watermark(folder, *change)));
    text + &format_watermark_problem(report)
}

/// Formats the reason why the input does not move the watermark.
fn format_watermark_problem(report: &AddReport) -> String {
    let Some(problem) = &report.watermark_problem else { return String::new() };
    format!("attention: no watermark was written: {}{OPERATOR_REMEDY}\n", printable(problem))
}

/// Formats what became of a watermark.
fn format_watermark(folder: &str, change: WatermarkChange) -> String {
    let place = of_folder(folder);
    match change {
        WatermarkChange::Written(time) => format!("watermark{place}: complete up to {}\n", time.instant()),
        WatermarkChange::KeptLater(time) => format!("watermark{place}: it stays at {}, which is not earlier\n", time.instant()),
        WatermarkChange::KeptInvalid => format!("attention: watermark{place}: the object is not valid, and was not changed\n"),
        WatermarkChange::KeptForSync => format!(
            "attention: watermark{place}: none was written, because the first headrace sync of the lake is not complete: run it to its end\n"
        ),
        WatermarkChange::KeptOfOthers => {
            format!("attention: watermark{place}: the object is that of another pipeline, and was not changed{OPERATOR_REMEDY}\n")
        }
        WatermarkChange::KeptBeforeGap { before: Some(before), after } => format!(
            "attention: watermark{place}: it stays at {}, because the changes of the input begin later, at {}{OPERATOR_REMEDY}\n",
            before.instant(),
            after.instant()
        ),
        WatermarkChange::KeptBeforeGap { before: None, after } => format!(
            "attention: watermark{place}: none was written, because the changes of the input begin at {}, and nothing says that the lake is \
             complete up to then{OPERATOR_REMEDY}\n",
            after.instant()
        ),
    }
}

/// Formats what was left out for one reason.
fn format_left_out(reason: LeftOutReason, left_out: &LeftOut) -> String {
    let label = if reason.is_loss() { "attention: " } else { "" };
    let mut text = format!("{label}left out: {} ({})\n", HumanCount(left_out.count), reason.describe());
    if reason.is_loss() {
        text += &format_examples(left_out);
    }
    text
}

/// Formats the resources that were added with an id that breaks the rules of FHIR.
fn format_irregular_ids(irregular: &LeftOut) -> String {
    if irregular.count == 0 {
        return String::new();
    }
    let (one, many) = (
        "resource has an id that breaks FHIR's rules: it is exported unchanged, and readers may refuse it",
        "resources have ids that break FHIR's rules: they are exported unchanged, and readers may refuse them",
    );
    format!("{}\n{}", counted(irregular.count, one, many), format_examples(irregular))
}

/// Formats the first positions, and the number of the others.
fn format_examples(found: &LeftOut) -> String {
    let mut text: String = found.examples.iter().take(MAX_SHOWN).map(format_example).collect();
    let more = found.count.saturating_sub(MAX_SHOWN as u64);
    if more > 0 {
        text += &format!("  and {more} more\n");
    }
    text
}

/// Formats the position of something that was left out.
fn format_example(example: &LeftOutExample) -> String {
    let position = match example.position {
        InputPosition::Byte(offset) => format!("byte {offset}"),
        InputPosition::Line(number) => format!("line {number}"),
    };
    let detail = if example.detail.is_empty() { String::new() } else { format!(": {}", example.detail) };
    format!("  {}, {position}{detail}\n", printable(&example.file))
}

/// Returns the first positions as JSON.
fn examples_json(found: &LeftOut) -> Vec<Value> {
    let example = |example: &LeftOutExample| match example.position {
        InputPosition::Byte(offset) => json!({ "file": example.file, "byte": offset, "detail": example.detail }),
        InputPosition::Line(number) => json!({ "file": example.file, "line": number, "detail": example.detail }),
    };
    found.examples.iter().map(example).collect()
}

/// Returns the report as JSON.
fn report_json(report: &AddReport) -> Value {
    let resources = report.resources.iter().map(|((folder, kind), count)| (format!("{folder}{kind}"), Value::from(*count)));
    let left_out = report.left_out.iter().map(|(reason, left_out)| {
        json!({ "reason": reason.as_str(), "count": left_out.count, "isLoss": reason.is_loss(), "examples": examples_json(left_out) })
    });
    let watermarks = report.watermarks.iter().map(|(folder, change)| match change {
        WatermarkChange::Written(time) => json!({ "folder": folder, "completeUpTo": time.instant(), "isWritten": true }),
        WatermarkChange::KeptLater(time) => json!({ "folder": folder, "completeUpTo": time.instant(), "isWritten": false }),
        WatermarkChange::KeptInvalid | WatermarkChange::KeptForSync | WatermarkChange::KeptOfOthers => {
            json!({ "folder": folder, "completeUpTo": null, "isWritten": false, "problem": change.problem() })
        }
        WatermarkChange::KeptBeforeGap { before, .. } => {
            json!({ "folder": folder, "completeUpTo": before.map(Millis::instant), "isWritten": false, "problem": change.problem() })
        }
    });
    json!({
        "format": report.format.map(InputFormat::as_str),
        "run": report.run,
        "isRepeat": report.is_repeat,
        "files": report.files,
        "filesAddedBefore": report.files_added_before,
        "filesWithoutData": report.files_without_data,
        "objects": report.objects,
        "resources": resources.collect::<serde_json::Map<_, _>>(),
        "deletions": report.deletions,
        "deletionsWithoutTime": report.deletions_without_time,
        "irregularIds": { "count": report.irregular_ids.count, "examples": examples_json(&report.irregular_ids) },
        "rewrittenResources": report.rewritten,
        "replacedResources": report.replaced,
        "references": {
            "resolved": report.references.resolved,
            "unknownUrls": report.references.unknown_urls,
            "unknownIdentifiers": report.references.unknown_identifiers,
            "ambiguous": report.references.ambiguous,
            "otherSearches": report.references.other_searches,
        },
        "lateChanges": report.late.iter().map(late_json).collect::<Vec<_>>(),
        "leftOut": left_out.collect::<Vec<_>>(),
        "watermarks": watermarks.collect::<Vec<_>>(),
        "watermarkProblem": report.watermark_problem,
    })
}
