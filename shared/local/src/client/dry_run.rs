//! `headrace export --dry-run`: says what an export would ask for and read. It starts nothing and writes nothing.

use std::path::Path;

use headrace_core::access::Permissions;
use headrace_core::flow::client::kick_off::{KickOffSettings, check_kick_off};
use headrace_core::flow::client::source_size::{SourceSize, source_size};
use headrace_core::flow::resolve_patients::PatientResolutionSettings;
use headrace_core::job::ExportError;
use headrace_core::lines::selection::types_to_read;
use headrace_core::request::{Preferences, RawKickOff};
use headrace_core::vocab::error::{SourceError, StoreError};
use headrace_core::vocab::level::Level;
use headrace_core::vocab::plural::counted;
use headrace_edge::config::ExportSettings;
use headrace_edge::system::{SystemClock, random_job_id};
use indicatif::{DecimalBytes, HumanCount};
use percent_encoding::utf8_percent_encode;
use serde_json::json;

use crate::cli::{ExportArgs, ExportLevel, ExportOptions};
use crate::client::bulk::QUERY_VALUE;
use crate::client::error::shown_url;
use crate::client::local_export::in_command_words;
use crate::client::origin::{UnsafeUrl, parse_http_url};
use crate::stores::directory::{DirectoryLake, DirectoryOutputStore, GivenConfiguration};
use crate::terminal::{printable, printable_json};

/// Reason why an export would be rejected.
#[derive(Debug, thiserror::Error)]
pub enum DryRunError {
    /// The kick-off would be rejected.
    #[error("the export would be rejected: {}", in_command_words(&.0.to_string()))]
    Rejected(ExportError),
    /// The lake cannot be listed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The random number generator of the system failed.
    #[error(transparent)]
    Random(#[from] StoreError),
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] headrace_edge::config::ConfigError),
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
    let raw = RawKickOff {
        level: to_level(&options.level),
        preferences: Preferences { is_lenient: options.lenient, ..Preferences::default() },
        parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
    };
    let ExportSettings { policy, job, quotas, watermark, .. } = args.service.settings()?;
    let patient_resolution = PatientResolutionSettings::default();
    let settings = KickOffSettings { policy: &policy, job, quotas, watermark, patient_resolution };
    let (lake, output) = (DirectoryLake::open(lake), DirectoryOutputStore::open(out).with_configuration(configuration));
    let (id, permissions) = (random_job_id()?, Permissions::default());
    let checked = Box::pin(check_kick_off((&lake, &output), &SystemClock, settings, (&id, &raw, &permissions))).await;
    let request = checked.map_err(DryRunError::Rejected)?;
    let trusted = types_to_read(&request, &args.service.lake_settings()?).filter(|_| args.service.trust_object_names);
    let size = source_size(&lake, trusted).await?;
    let hint = match (&request.types, args.service.trust_object_names) {
        (Some(_), false) => "; --trust-object-names would skip files that are named for other types",
        (Some(_), true) | (None, _) => "",
    };
    let asked = request_line("[base]", options);
    if args.json {
        return Ok(to_json(&asked, Some(size)));
    }
    let ignored: String = request.ignored.iter().map(|ignored| format!("ignored     {}\n", printable(&ignored.text))).collect();
    Ok(format!("request     {}\nreads       {}{hint}\n{ignored}{NOTHING_DONE}\n", printable(&asked), describe_size(size)))
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

/// Last line of the output.
const NOTHING_DONE: &str = "nothing was exported, because of --dry-run";

/// Returns the request line of the kick-off.
fn request_line(base: &str, options: &ExportOptions) -> String {
    let pair = |(name, value): &(&str, String)| format!("{name}={}", utf8_percent_encode(value, QUERY_VALUE));
    let query: Vec<String> = options.parameters().iter().map(pair).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("GET {base}/{}{mark}{}", options.path(), query.join("&"))
}

/// Describes the size of the source in one line.
fn describe_size(size: SourceSize) -> String {
    let SourceSize { objects, bytes, compressed, skipped } = size;
    let packed = match compressed {
        0 => String::new(),
        count => format!(", {} of them compressed", HumanCount(count)),
    };
    let skipped = match skipped {
        0 => String::new(),
        count => format!("; skips {} of other types or without content", counted(count, "file", "files")),
    };
    format!("{} with {}{packed}{skipped}", counted(objects, "file", "files"), DecimalBytes(bytes))
}

/// Returns the description as JSON.
fn to_json(request: &str, size: Option<SourceSize>) -> String {
    let size =
        size.map(|size| json!({ "objects": size.objects, "bytes": size.bytes, "compressed": size.compressed, "skipped": size.skipped }));
    printable_json(&json!({ "dryRun": true, "request": request, "source": size }).to_string()).into_owned() + "\n"
}

/// Returns the level of a request.
fn to_level(level: &ExportLevel) -> Level {
    match level {
        ExportLevel::System => Level::System,
        ExportLevel::AllPatients => Level::AllPatients,
        ExportLevel::Patient(id) => Level::OnePatient(id.clone()),
        ExportLevel::Group(id) => Level::Group(id.clone()),
    }
}
