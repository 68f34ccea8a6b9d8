//! `headrace lake compact`.

use std::sync::Arc;
use std::time::Duration;

use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::lake_settings::LakeVersions;
use headrace_core::vocab::plural::counted;
use headrace_core::vocab::setting::Setting;
use headrace_edge::config::{ConfigError, parse_lake_versions, parse_lake_watermark};
#[cfg(feature = "deployment")]
use headrace_lake::compact::compact_bucket;
use headrace_lake::compact::{CompactReport, CompactSettings, ObjectCount, compact};
use headrace_lake::progress::Progress;
#[cfg(feature = "deployment")]
use headrace_lake::writing::{LakeBucket, LockClock};
use indicatif::{DecimalBytes, HumanCount};
use serde_json::{Value, json};
use tokio::runtime::Handle;

#[cfg(feature = "deployment")]
use super::lock_clock;
use super::progress::ProgressDisplay;
use super::{LakeCommandError, LakeStatus, rewrite_settings, status};
use crate::cli::{CompactLakeArgs, LakeLocation, OptionError, parse_option};
#[cfg(feature = "deployment")]
use crate::stores::deployment;
use crate::stores::directory::DirectoryLake;
use crate::terminal::print_result;

/// Checks that no export of the lake would contain resources twice while old and new objects exist together.
fn check_versions(args: &CompactLakeArgs) -> Result<(), OptionError> {
    let versions = parse_option(&args.lake_versions, parse_lake_versions)?.unwrap_or_default();
    if versions != LakeVersions::One || args.now {
        return Ok(());
    }
    let problem = "is `one`: exports of this lake contain every line, so they would contain each resource twice while old and new objects \
                   exist together; stop them and use --now";
    Err(ConfigError { setting: Setting::LakeVersions, problem: problem.to_owned() }.into())
}

/// Runs `headrace lake compact`.
pub(super) async fn run_compact(args: &CompactLakeArgs) -> Result<LakeStatus, LakeCommandError> {
    check_versions(args)?;
    let settings = CompactSettings {
        export_deadline: Duration::from_secs(args.deadline_hours * 3_600),
        removes_now: args.now,
        watermark: parse_option(&args.lake_watermark, parse_lake_watermark)?.unwrap_or_default(),
        rewrite: rewrite_settings(&args.common)?,
    };
    let progress = Arc::new(Progress::default());
    let display = ProgressDisplay::start("compacting", &progress, args.common.quiet);
    let runtime = Handle::current();
    let compacted = match args.lake.clone() {
        LakeLocation::Directory(root) => {
            tokio::task::spawn_blocking(move || compact(&DirectoryLake::open(&root), &root, &settings, &progress, &runtime)).await?
        }
        #[cfg(feature = "deployment")]
        LakeLocation::S3 { bucket, prefix } => {
            let bucket = deployment::lake_bucket(&bucket, &prefix).await?;
            let source = bucket.lake.clone();
            let place: (Arc<dyn LakeBucket>, LockClock) = (Arc::new(bucket), lock_clock());
            tokio::task::spawn_blocking(move || compact_bucket(&source, place, &settings, &progress, &runtime)).await?
        }
        #[cfg(not(feature = "deployment"))]
        LakeLocation::S3 { .. } => return Err(crate::stores::deployment::DeploymentError::BuiltWithoutAws.into()),
    };
    drop(display);
    let report = compacted?;
    if args.json {
        print_result(&format!("{:#}\n", report_json(&report)));
    } else {
        print_result(&format_report(&report));
    }
    Ok(status(report.kept_objects == 0 && report.linked_objects == 0))
}

/// Formats the report for people.
fn format_report(report: &CompactReport) -> String {
    let size = |count: ObjectCount| format!("{} ({})", counted(count.objects, "object", "objects"), DecimalBytes(count.bytes));
    let mut text = String::new();
    if report.removed.objects > 0 {
        text += &format!("removed {} that newer ones have replaced\n", size(report.removed));
    }
    if report.replaced.objects == 0 {
        text += "nothing to compact\n";
    } else {
        text += &format!(
            "{} and {} in {} are now {} and {} in {}\n",
            versions(report.versions_before),
            counted(report.deletions.0, "deletion", "deletions"),
            size(report.replaced),
            versions(report.versions_after),
            counted(report.deletions.1, "deletion", "deletions"),
            size(report.written),
        );
    }
    if let Some(time) = report.removable_at {
        text += &format!(
            "{} wait until exports that read them have ended: run this command again after {}, or with --now if no export is running\n",
            size(report.waiting),
            time.instant()
        );
    }
    if report.kept_objects > 0 {
        text += &format!(
            "attention: {} as they are, because they have lines that are not valid: see headrace lake check\n",
            counted(report.kept_objects, "object stays", "objects stay")
        );
    }
    if report.tied_objects > 0 {
        text += &format!(
            "attention: {} as they are, because nothing but their order says that a version in them is newer than one in an object that stays\n",
            counted(report.tied_objects, "object stays", "objects stay")
        );
    }
    if report.linked_objects > 0 {
        text += &format!(
            "attention: {} as they are, because they are reached through a link to a folder: compact the lake to which they belong\n",
            counted(report.linked_objects, "object stays", "objects stay")
        );
    }
    text
}

/// Describes a number of versions.
fn versions(count: u64) -> String {
    format!("{} {}", HumanCount(count), if count == 1 { "version" } else { "versions" })
}

/// Returns the report as JSON.
fn report_json(report: &CompactReport) -> Value {
    let count = |count: ObjectCount| json!({ "objects": count.objects, "storedBytes": count.bytes });
    json!({
        "replaced": count(report.replaced),
        "written": count(report.written),
        "removed": count(report.removed),
        "waiting": count(report.waiting),
        "removableAt": report.removable_at.map(Millis::instant),
        "keptObjects": report.kept_objects,
        "tiedObjects": report.tied_objects,
        "linkedObjects": report.linked_objects,
        "versions": { "before": report.versions_before, "after": report.versions_after },
        "deletions": { "before": report.deletions.0, "after": report.deletions.1 },
    })
}
