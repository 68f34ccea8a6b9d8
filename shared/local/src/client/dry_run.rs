//! `headrace export --dry-run`: says what an export would ask for and read. It starts nothing and writes nothing.

use std::path::Path;

use headrace_core::access::Permissions;
use headrace_core::flow::client::estimate::{Estimate, EstimateSettings, Fleet, Volume, estimate_job};
use headrace_core::flow::client::kick_off::{CheckedKickOff, KickOffSettings, check_kick_off};
use headrace_core::flow::resolve_patients::PatientResolutionSettings;
use headrace_core::job::{ExportError, Job};
use headrace_core::ports::Clock as _;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::plural::counted;
use headrace_edge::config::ExportSettings;
use headrace_edge::system::{SystemClock, random_job_id};
use indicatif::{DecimalBytes, HumanCount};
use percent_encoding::utf8_percent_encode;
use serde_json::json;

use crate::cli::{ExportArgs, ExportOptions, OptionError};
use crate::client::bulk::QUERY_VALUE;
use crate::client::error::shown_url;
use crate::client::local_export::{in_command_words, raw_kick_off};
use crate::client::origin::{UnsafeUrl, parse_http_url};
use crate::stores::directory::{DirectoryLake, DirectoryOutputStore, GivenConfiguration};
use crate::terminal::{printable, printable_json};

/// Reason why an export would be rejected.
#[derive(Debug, thiserror::Error)]
pub enum DryRunError {
    /// The kick-off would be rejected, or the lake cannot be read.
    #[error("the export would be rejected: {}", in_command_words(&.0.to_string()))]
    Rejected(ExportError),
    /// The random number generator of the system failed.
    #[error(transparent)]
    Random(#[from] StoreError),
    /// The value of an option is invalid.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The base URL is not used.
    #[error(transparent)]
    Url(#[from] UnsafeUrl),
}

/// Describes the export of a directory.
///
/// * `parameters`: the parameters of the request to the server in this process.
/// * `configuration`: the anonymization configuration that they name.
pub(crate) async fn describe_directory_export(
    args: &ExportArgs,
    options: &ExportOptions,
    (lake, out): (&Path, &Path),
    (parameters, configuration): (&[(&'static str, String)], Option<GivenConfiguration>),
) -> Result<String, DryRunError> {
    let raw = raw_kick_off(options, parameters);
    let ExportSettings { policy, job, quotas, watermark, .. } = args.service.settings_without_clients()?;
    let lake_settings = args.service.lake_settings()?;
    let patient_resolution = PatientResolutionSettings::default();
    let settings = KickOffSettings { policy: &policy, job, quotas, watermark, patient_resolution };
    let (lake, output) = (DirectoryLake::open(lake), DirectoryOutputStore::open(out).with_configuration(configuration));
    let (id, permissions) = (random_job_id()?, Permissions::default());
    let checked = Box::pin(check_kick_off((&lake, &output), &SystemClock, settings, (&id, &raw, &permissions))).await;
    let CheckedKickOff { request, patients, time } = checked.map_err(DryRunError::Rejected)?;
    let hint = match (&request.types, args.service.trust_object_names) {
        (Some(_), false) => "; --trust-object-names would skip files that are named for other types",
        (Some(_), true) | (None, _) => "",
    };
    let job = Job { settings: job, ..Job::accepted(id, Caller("dry run".to_owned()), request, SystemClock.now()) };
    let fleet = Fleet::Process(u32::try_from(args.service.workers()).unwrap_or(u32::MAX));
    let estimates = EstimateSettings::new(lake_settings, args.service.trust_object_names, fleet);
    let estimated = Box::pin(estimate_job((&lake, &SystemClock), (&job, &patients), time, &estimates)).await;
    let estimate = estimated.map_err(DryRunError::Rejected)?;
    let asked = request_line("[base]", options);
    let is_deidentified = job.request.anonymization.is_some();
    if args.json {
        return Ok(to_json(&asked, Some((&estimate, is_deidentified))));
    }
    let ignored: String = job.request.ignored.iter().map(|ignored| format!("ignored     {}\n", printable(&ignored.text))).collect();
    let deid_note = if is_deidentified { DEID_NOTE } else { "" };
    Ok(format!("request     {}\n{}{deid_note}{ignored}{NOTHING_DONE}\n", printable(&asked), describe_estimate(&estimate, hint)))
}

/// Describes the export from a server. The server is not asked, because a kick-off starts an export.
pub(crate) fn describe_server_export(args: &ExportArgs, options: &ExportOptions, base: &str) -> Result<String, DryRunError> {
    let url = parse_http_url(base)?;
    let asked = request_line(shown_url(&url).trim_end_matches('/'), options);
    if args.json {
        return Ok(to_json(&asked, None));
    }
    Ok(format!("request     {}\nreads       only the server knows, and it is not asked\n{NOTHING_DONE}\n", printable(&asked)))
}

/// Line about the estimate of a de-identified export.
const DEID_NOTE: &str = "note        de-identification is not part of the estimate: the files are smaller or larger\n";

/// Last line of the output.
const NOTHING_DONE: &str = "nothing was exported, because of --dry-run";

/// Returns the request line of the kick-off.
fn request_line(base: &str, options: &ExportOptions) -> String {
    let pair = |(name, value): &(&str, String)| format!("{name}={}", utf8_percent_encode(value, QUERY_VALUE));
    let query: Vec<String> = options.parameters().iter().map(pair).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("GET {base}/{}{mark}{}", options.path(), query.join("&"))
}

/// Describes an estimate in lines. `hint` says how less would be read.
fn describe_estimate(estimate: &Estimate, hint: &str) -> String {
    let basis = if estimate.has_read_all { "the source was read to estimate this" } else { "estimated from samples of the source" };
    let resources: f64 = estimate.output_kinds().map(|(_, kind)| kind.lines).sum();
    format!(
        "reads       {}{hint}\nwrites      {} with {:.0} resources, {}; {basis}\ntakes       about {:.1} s in {} on this machine\n",
        describe_source(&estimate.volume),
        counted(estimate.output_files(), "file", "files"),
        resources,
        decimal_bytes(estimate.volume.output_bytes()),
        estimate.seconds,
        counted(estimate.tasks, "task", "tasks"),
    )
}

/// Formats an expected number of bytes.
fn decimal_bytes(bytes: f64) -> String {
    // An expected value has fractions.
    DecimalBytes(format!("{bytes:.0}").parse().unwrap_or_default()).to_string()
}

/// Describes the size of the source in one line.
fn describe_source(volume: &Volume) -> String {
    let packed = match volume.compressed {
        0 => String::new(),
        count => format!(", {} of them compressed", HumanCount(count)),
    };
    let skipped = match volume.skipped {
        0 => String::new(),
        count => format!("; skips {} of other types or without content", counted(count, "file", "files")),
    };
    format!("{} with {}{packed}{skipped}", counted(volume.objects, "file", "files"), DecimalBytes(volume.source_bytes))
}

/// Returns the description as JSON. The sizes of a de-identified export are not exact, because they are those before de-identification.
fn to_json(request: &str, estimate: Option<(&Estimate, bool)>) -> String {
    let source = estimate.map(|(estimate, _)| {
        let Volume { objects, source_bytes, compressed, skipped, .. } = &estimate.volume;
        json!({ "objects": objects, "bytes": source_bytes, "compressed": compressed, "skipped": skipped })
    });
    let output = estimate.map(|(estimate, is_deidentified)| {
        let kinds = estimate.output_kinds().map(|(kind, volume)| {
            json!({
                "type": kind.as_str(), "files": volume.files(estimate.file_bytes), "bytes": volume.bytes.round(),
                "resources": volume.lines.round(),
            })
        });
        json!({
            "files": estimate.output_files(), "bytes": estimate.volume.output_bytes().round(), "types": kinds.collect::<Vec<_>>(),
            "tasks": estimate.tasks, "seconds": estimate.seconds, "isExact": estimate.has_read_all && !is_deidentified,
        })
    });
    printable_json(&json!({ "dryRun": true, "request": request, "source": source, "estimate": output }).to_string()).into_owned() + "\n"
}
