//! Command line of `headrace export`.

use std::path::PathBuf;

use clap::Args;
use headrace_client::limits::{DEFAULT_FILE_GB, DEFAULT_WAIT_HOURS};
use reqwest::Url;

use super::whole_number::whole_number;
use super::{CredentialOptions, DeidKeysOptions, ExportOptions, OriginOptions, ServiceOptions};

/// Arguments of `headrace export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A directory of NDJSON files (plain, .gz, .zst), or the base URL of a FHIR server
    #[arg(required_unless_present = "resume")]
    pub source: Option<String>,
    /// The directory for the exported files; created if it does not exist
    #[arg(required_unless_present = "resume")]
    pub out: Option<PathBuf>,
    /// Write to OUT even if it is not empty. Removes the files of the earlier export that OUT/manifest.json names, and nothing else. Fails if
    /// another file has the name of an exported one
    #[arg(long)]
    pub overwrite: bool,
    /// Report what would be requested and read, without an export. Fails if the export would be refused. Writes nothing, and sends no
    /// request to a server
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
    /// Fetch the resources of a server by searches, as headrace sync does, and export them on this machine, with every option of the
    /// export of a directory. The default for a server without $export
    #[arg(long, conflicts_with_all = ["resume", "dry_run"])]
    pub by_sync: bool,
    /// Continue the unfinished export from a server in OUT: polls, downloads what is missing and checks it
    #[arg(long, value_name = "OUT", conflicts_with_all = ["source", "out", "overwrite"])]
    pub resume: Option<PathBuf>,
    /// Export what changed after the time in FILE, and write the time of this export to it once the export is complete. Exports
    /// everything if FILE does not exist. FILE is of one export, and an export of anything else is refused
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "until"])]
    pub since_file: Option<PathBuf>,
    /// Print the result as one JSON object, the same as in OUT/manifest.json
    #[arg(id = "result_as_json", long = "json")]
    pub json: bool,
    /// Print no progress, result or notes, only warnings and errors. With --json, the JSON object is printed
    #[arg(long)]
    pub quiet: bool,
    #[command(flatten, next_help_heading = "What is exported")]
    /// Parameters of the export request.
    pub options: ExportOptions,
    #[command(flatten, next_help_heading = "Access to a FHIR server (SOURCE is a URL)")]
    /// Access to a server.
    pub login: LoginOptions,
    #[command(flatten, next_help_heading = "Access to a FHIR server (SOURCE is a URL)")]
    /// Limits on what a server sends.
    pub transfer: TransferOptions,
    #[command(flatten, next_help_heading = "Searches of a FHIR server (--by-sync, or a server without $export)")]
    /// Settings of the searches.
    pub searches: OriginOptions,
    #[command(flatten, next_help_heading = "Export of a directory (SOURCE is a directory)")]
    /// Keys of the de-identification.
    pub deid_keys: DeidKeysOptions,
    #[command(flatten, next_help_heading = "Export of a directory (SOURCE is a directory)")]
    /// Settings of the server that exports a directory.
    pub service: ServiceOptions,
}

/// Access to a server, and limits on what it sends.
#[derive(Debug, Args)]
pub struct LoginOptions {
    #[command(flatten)]
    /// Credential for the server.
    pub credential: CredentialOptions,
    /// Another server that may get the access token, such as one for files. Repeat it for several. Otherwise only the origin of
    /// the base URL gets it
    #[arg(long = "token-origin", value_name = "URL")]
    pub token_origins: Vec<Url>,
}

/// Limits on an export from a server.
#[derive(Debug, Args)]
pub struct TransferOptions {
    /// The longest time to wait for the export, and for the download of one file, in hours
    #[arg(long, default_value_t = DEFAULT_WAIT_HOURS, value_parser = whole_number::<u64>(1, 8760), value_name = "HOURS")]
    pub max_wait_hours: u64,
    /// The largest file that is accepted, in GB (1,000,000,000 bytes)
    #[arg(long, default_value_t = DEFAULT_FILE_GB, value_parser = whole_number::<u64>(1, 1_000_000), value_name = "GB")]
    pub max_file_gb: u64,
}
