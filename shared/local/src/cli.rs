//! The command line.

mod access;
mod audit;
mod clients;
mod credential;
mod deid;
mod documents;
mod events;
mod ignored_options;
mod jobs;
mod keys;
mod lake;
mod option_error;
mod schedules;
mod source;
mod sync;
mod ui;

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::RangedU64ValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use headrace_client::limits::{DEFAULT_FILE_GB, DEFAULT_WAIT_HOURS};
use headrace_core::job::{JobSettings, Quotas};
use headrace_core::request::ExportPolicy;
use headrace_core::vocab::lake_settings::{LakeSettings, LakeWatermark};
use headrace_core::vocab::level::Level;
use headrace_edge::config::{
    ExportSettings, parse_accepted_remarks, parse_base_url, parse_containers, parse_fhir_version, parse_folder_layouts,
    parse_lake_versions, parse_lake_watermark, parse_source_base_urls,
};
use reqwest::Url;

pub use access::{AccessMode, AccessOptions};
pub use audit::{AuditArgs, AuditCommand, AuditLocation, ShowRecordsArgs, VerifyArgs};
pub use clients::{AddClientArgs, ClientWebhookArgs, ClientsArgs, ClientsCommand, KeySetArgs, KeygenArgs, RegistryLocation};
pub use credential::{ClientKeyOptions, CredentialOptions};
pub use deid::{DeidArgs, DeidCheckArgs, DeidCommand, DeidKeygenArgs, DeidKeysOptions, DeidPreviewArgs, DeidReportArgs, FhirVersionArgs};
pub use documents::{CompletionsArgs, ManArgs};
pub use events::{EventOptions, EventsArgs, EventsCommand, ListEventsArgs, ReplayEventsArgs, WebhookArgs};
pub use jobs::{CancelJobsArgs, DEFAULT_SERVER, JobsArgs, JobsCommand, ListJobsArgs, ServerOptions, ShowJobArgs, TokenArgs, WatchJobsArgs};
pub use keys::{KeysArgs, KeysCommand};
pub use lake::{
    AddToLakeArgs, AddedFormat, AddedVersions, CheckLakeArgs, CompactLakeArgs, LakeArgs, LakeCommand, LakeLocation, LakeOptions,
};
pub use option_error::OptionError;
pub(crate) use option_error::parse_option;
pub use schedules::{
    AddScheduleArgs, ChangeScheduleArgs, ListSchedulesArgs, ScheduleArgs, ScheduleOption, ScheduleServerOptions, ScheduleSettings,
    ScheduleWebhookArgs, SchedulesArgs, SchedulesCommand, ShowScheduleArgs,
};
pub use source::{Source, SourceError};
pub use sync::{AuthMethod, OriginOptions, SigningOptions, SyncArgs};
pub use ui::UiArgs;

/// Text at the end of the help.
const EXIT_STATUSES: &str = "Examples:\n  headrace export lake out\n  headrace serve lake\n  headrace jobs list\n\nExit status: 0 done, 1 failed, 2 the \
                             command line is wrong, 3 done with findings. The help of each command says more.";

/// FHIR Bulk Data export on one machine.
///
/// Serves the Bulk Data API over a directory of NDJSON files, or runs one export and writes its files to a directory. The
/// same code runs as AWS Lambda functions; see template.yaml.
#[derive(Debug, Parser)]
#[command(name = "headrace", version, arg_required_else_help = true, max_term_width = 120, after_long_help = EXIT_STATUSES)]
pub struct Cli {
    /// Subcommand to run.
    #[command(subcommand)]
    pub command: Command,
    /// Log filter: error, warn, info or debug for Headrace, or target=level pairs [default: warn; serve: info]
    #[arg(long, env = "HEADRACE_LOG", global = true, value_name = "FILTER")]
    pub log: Option<String>,
}

impl Cli {
    /// Parses the arguments of the process. If they are not a valid command, prints an error or the help and exits.
    pub fn parse_arguments() -> Self {
        Self::try_parse_arguments(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// Parses arguments. Options that the command would ignore are errors.
    pub fn try_parse_arguments<I>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator,
        I::Item: Into<std::ffi::OsString> + Clone,
    {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        let cli = Self::from_arg_matches(&matches)?;
        if let (Command::Export(args), Some(("export", given))) = (&cli.command, matches.subcommand())
            && let Some(problem) = args.ignored_options(given)
        {
            // The usage of the subcommand helps, that of the whole program does not.
            let mut export = command.find_subcommand("export").cloned().unwrap_or(command);
            return Err(export.error(ErrorKind::ArgumentConflict, problem));
        }
        Ok(cli)
    }
}

/// The subcommands of `headrace`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Export a directory or a FHIR server to a directory of files
    ///
    /// Works as a Bulk Data client: kick-off, status polling, downloads, each checked by count. For a directory, it starts a
    /// server in this process on a free loopback port. An export from a server that was interrupted, or that failed on the way,
    /// is continued with --resume OUT. A server without $export is read by searches, and the same command continues.
    ///
    /// Exit status: 0 complete, 1 failed, 3 complete except for what the files in OUT/error report.
    #[command(
        override_usage = "headrace export [OPTIONS] <SOURCE> <OUT>\n       headrace export [OPTIONS] --resume <OUT>",
        after_long_help = "Examples:\n  headrace export lake out\n  headrace export lake out --type Patient,Observation --since 2026-01-01\n  headrace export lake out --level group:cohort-7 --type-filter 'Observation?category=laboratory'\n  headrace export http://127.0.0.1:8080/fhir out\n  headrace export https://fhir.example.org/r4 out --client-id lab --client-key private.jwk\n  headrace export --resume out\n  headrace export lake out --overwrite --since-file last-export --quiet\n  headrace export lake out --type-filter 'Observation?category=laboratory' --dry-run"
    )]
    Export(Box<ExportArgs>),
    /// Serve the Bulk Data API over a directory
    ///
    /// Prints its base URL when it is ready. By default it listens on this machine only, and until a client is registered
    /// (headrace clients add), anyone on this machine can export. Everywhere else clients need access tokens, unless you say
    /// --access none. Unfinished exports resume after a restart with the same --state.
    #[command(
        after_long_help = "Examples:\n  headrace serve lake\n  curl -i -H 'Accept: application/fhir+json' -H 'Prefer: respond-async' 'http://127.0.0.1:8080/fhir/$export'\n\nExit status: 0 stopped by a signal, 1 failed."
    )]
    Serve(Box<ServeArgs>),
    /// Bring a directory up to date with a FHIR server, which need not support bulk exports
    ///
    /// The first run fetches everything by searches, later runs fetch what has changed. What is fetched becomes part of the
    /// directory, the lake, only if nothing is missing. Then the lake can be exported and served. A run that was interrupted is
    /// continued by the same command.
    ///
    /// Exit status: 0 complete, 1 failed, 3 something is missing and the lake is as before.
    #[command(
        after_long_help = "Examples:\n  headrace sync http://127.0.0.1:8080/fhir lake\n  headrace sync https://fhir.example.org/r4 lake --client-id lab --client-key private.jwk\n  headrace sync https://fhir.example.org/r4 lake --type Patient,Observation --requests-per-second 10\n  headrace export lake out --since-file last-export"
    )]
    Sync(Box<SyncArgs>),
    /// Manage the clients that may export from a server on this machine or a deployment on AWS
    ///
    /// A running server applies every change at the client's next request. The first registration closes a server that was open
    /// to this machine: it rejects every request until it is restarted, and then issues access tokens.
    Clients(ClientsArgs),
    /// Manage exports that start by themselves, on a server on this machine or a deployment on AWS
    ///
    /// A running server starts the exports. If it was not running at a scheduled time, one run makes up for it. A run is skipped while
    /// the one before it is open.
    Schedules(SchedulesArgs),
    /// List undelivered events about exports, and deliver them again
    Events(EventsArgs),
    /// Manage the keys that sign access tokens of a server on this machine
    Keys(KeysArgs),
    /// List and verify audit records: who exported what, when, from where, and the outcome
    Audit(AuditArgs),
    /// Check, preview and report what an anonymization configuration does, and make the keys of de-identified exports
    Deid(DeidArgs),
    /// Check, fill and compact the lake that exports read
    Lake(LakeArgs),
    /// List, show, follow and cancel the exports of a server, on this machine or anywhere
    Jobs(JobsArgs),
    /// Print an access token for scripts, such as with curl
    ///
    /// Gets it with the client's key (SMART Backend Services). Standard output has the token alone, standard error its lifetime.
    #[command(
        after_long_help = "Examples:\n  TOKEN=$(headrace token https://fhir.example.org/r4 --client-id lab --client-key private.jwk)\n  curl -H \"Authorization: Bearer $TOKEN\" https://fhir.example.org/r4/Group\n\nExit status: 0 done, 1 failed."
    )]
    Token(TokenArgs),
    /// Show the exports of a server in a browser
    ///
    /// Serves a page on this machine, which lists, starts, follows and cancels exports, and shows their files and errors. With --table
    /// or --state, it manages schedules and events too, by your own access to the job table. Requests go through this program, which
    /// logs in with the client's key: neither the key nor a token reaches the browser. Prints the address of the page. Anyone who has
    /// the address can use the page while the program runs, so it contains a secret.
    #[command(
        after_long_help = "Examples:\n  headrace ui\n  headrace ui https://fhir.example.org/r4 --client-id lab --client-key private.jwk\n  headrace ui https://fhir.example.org/r4 --client-id lab --client-key private.jwk --table headrace-jobs\n\nExit status: 0 stopped by a signal, 1 failed."
    )]
    Ui(UiArgs),
    /// Print the completions of a shell
    #[command(
        after_long_help = "Examples:\n  headrace completions bash > ~/.local/share/bash-completion/completions/headrace\n  headrace completions zsh > ~/.zfunc/_headrace\n  headrace completions fish > ~/.config/fish/completions/headrace.fish\n\nExit status: 0 done."
    )]
    Completions(CompletionsArgs),
    /// Write the man pages, one for each command
    #[command(
        after_long_help = "Examples:\n  headrace man ~/.local/share/man/man1\n  man headrace-export\n\nExit status: 0 done, 1 failed."
    )]
    Man(ManArgs),
}

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
    /// SOURCE gets it
    #[arg(long = "token-origin", value_name = "URL")]
    pub token_origins: Vec<Url>,
}

/// Limits on an export from a server.
#[derive(Debug, Args)]
pub struct TransferOptions {
    /// The longest time to wait for the export, and for the download of one file, in hours
    #[arg(long, default_value_t = DEFAULT_WAIT_HOURS, value_parser = clap::value_parser!(u64).range(1..=8760), value_name = "HOURS")]
    pub max_wait_hours: u64,
    /// The largest file that is accepted, in GB (1,000,000,000 bytes)
    #[arg(long, default_value_t = DEFAULT_FILE_GB, value_parser = clap::value_parser!(u64).range(1..=1_000_000), value_name = "GB")]
    pub max_file_gb: u64,
}

/// The level of an export.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ExportLevel {
    /// The data of the whole system.
    #[default]
    System,
    /// The data of all patients.
    AllPatients,
    /// The data of one patient, by id.
    Patient(String),
    /// The data of the patients of one group, by id.
    Group(String),
}

impl From<&ExportLevel> for Level {
    fn from(level: &ExportLevel) -> Self {
        match level {
            ExportLevel::System => Self::System,
            ExportLevel::AllPatients => Self::AllPatients,
            ExportLevel::Patient(id) => Self::OnePatient(id.clone()),
            ExportLevel::Group(id) => Self::Group(id.clone()),
        }
    }
}

impl FromStr for ExportLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "system" => Ok(Self::System),
            None if text == "patient" => Ok(Self::AllPatients),
            Some(("patient", id)) if !id.is_empty() => Ok(Self::Patient(id.to_owned())),
            Some(("group", id)) if !id.is_empty() => Ok(Self::Group(id.to_owned())),
            None | Some(_) => Err("write system, patient, patient:ID or group:ID".to_owned()),
        }
    }
}

/// Parameters of an export request.
#[derive(Clone, Debug, Args)]
pub struct ExportOptions {
    /// The data to export: system, patient (all patients), patient:ID or group:ID [default: system]
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<ExportLevel>,
    /// Export only these resource types, separated by commas
    #[arg(long = "type", value_name = "TYPES")]
    pub types: Option<String>,
    /// Export only resources of the query's type that match it, such as 'Observation?category=laboratory'. Repeat it to match
    /// any of several queries
    #[arg(long = "type-filter", value_name = "QUERY")]
    pub type_filters: Vec<String>,
    /// Export only these elements, separated by commas, as element or Type.element
    #[arg(long, value_name = "ELEMENTS")]
    pub elements: Option<String>,
    /// Export only resources changed after this instant or date
    #[arg(long, value_name = "INSTANT")]
    pub since: Option<String>,
    /// Export only resources changed before this instant or date
    #[arg(long, value_name = "INSTANT")]
    pub until: Option<String>,
    /// LatestProvenanceResources, RelevantProvenanceResources, _history or _deleted, separated by commas
    #[arg(long, value_name = "NAMES")]
    pub include_associated_data: Option<String>,
    /// Write each patient's resources as a block, instead of one file per resource type
    #[arg(long, value_name = "TYPE", value_parser = ["patient"], ignore_case = true)]
    pub organize_by: Option<String>,
    /// Ignore parameters that the server does not support instead of failing; its error file lists them
    #[arg(long)]
    pub lenient: bool,
    /// The output format: NDJSON, by any of its three names
    #[arg(long, value_name = "FORMAT")]
    pub output_format: Option<String>,
    /// A container in the server's destination
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// De-identify with this anonymization configuration: a file if a directory is exported, else the name of a configuration
    /// on the server
    #[arg(long, value_name = "CONFIG")]
    pub anonymization_config: Option<String>,
}

impl ExportOptions {
    /// Returns the level of the export.
    pub fn level(&self) -> ExportLevel {
        self.level.clone().unwrap_or_default()
    }

    /// Returns the path of the export operation, relative to the base URL, with ids percent-encoded.
    pub fn path(&self) -> String {
        match self.level() {
            ExportLevel::System => "$export".to_owned(),
            ExportLevel::AllPatients => "Patient/$export".to_owned(),
            ExportLevel::Patient(id) => format!("Patient/{}/$export", encode_segment(&id)),
            ExportLevel::Group(id) => format!("Group/{}/$export", encode_segment(&id)),
        }
    }

    /// Returns the Bulk Data parameters of the request as names and values.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let organize_by = self.organize_by.as_ref().map(|_| "Patient".to_owned());
        let single = [
            ("_type", &self.types),
            ("_elements", &self.elements),
            ("_since", &self.since),
            ("_until", &self.until),
            ("includeAssociatedData", &self.include_associated_data),
            ("organizeOutputBy", &organize_by),
            ("_outputFormat", &self.output_format),
            ("_container", &self.container),
            ("_anonymizationConfig", &self.anonymization_config),
        ];
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        single.chain(self.type_filters.iter().map(|query| ("_typeFilter", query.clone()))).collect()
    }
}

/// Encodes an id as one path segment, with percent-encoding.
fn encode_segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Arguments of `headrace serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The directory of NDJSON files (plain, .gz, .zst) to serve
    pub lake: PathBuf,
    /// The address to listen on
    #[arg(long, env = "HEADRACE_LISTEN", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub listen: IpAddr,
    /// The port to listen on; 0 picks a free one
    #[arg(long, env = "HEADRACE_PORT", default_value_t = 8080)]
    pub port: u16,
    /// With --access none, allow listening on a non-loopback address: anyone on the network can export
    #[arg(long)]
    pub allow_unauthenticated: bool,
    /// Allow listening on a non-loopback address with access control. A proxy in front must terminate TLS, because this
    /// server speaks plain HTTP
    #[arg(long)]
    pub behind_tls_proxy: bool,
    #[command(flatten)]
    /// Access control.
    pub access: AccessOptions,
    #[command(flatten)]
    /// Events.
    pub events: EventOptions,
    /// The state folder: jobs, registrations and exported files
    #[arg(long, env = "HEADRACE_STATE", default_value = ".headrace", value_name = "DIR")]
    pub state: PathBuf,
    #[command(flatten)]
    /// Settings of the exports.
    pub service: ServiceOptions,
}

/// Settings of a server, common to `headrace serve` and `headrace export`.
#[derive(Debug, Args)]
pub struct ServiceOptions {
    /// The size at which an output file is closed and the next one begins, in MB (1,000,000 bytes)
    #[arg(long, env = "HEADRACE_FILE_SIZE_MB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000), value_name = "MB")]
    pub file_size_mb: u64,
    /// The time for which files are kept after their export has finished, in hours
    #[arg(long, env = "HEADRACE_RETENTION_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760), value_name = "HOURS")]
    pub retention_hours: u64,
    /// The time after which an unfinished export fails, in hours
    #[arg(long, env = "HEADRACE_DEADLINE_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760), value_name = "HOURS")]
    pub deadline_hours: u64,
    /// The containers that clients may use, separated by commas [default: any]
    #[arg(long, env = "HEADRACE_CONTAINERS", value_name = "NAMES")]
    pub containers: Option<String>,
    /// The server's base URL as clients see it. Set it behind a proxy, whose headers are not read [default: the address and port
    /// that the server listens on]
    #[arg(long, env = "HEADRACE_BASE_URL", value_name = "URL")]
    pub base_url: Option<String>,
    /// Skip files whose names indicate a resource type that is not exported. Faster with --type, but lines of other types in
    /// such a file are missed
    #[arg(long, env = "HEADRACE_TRUST_OBJECT_NAMES")]
    pub trust_object_names: bool,
    /// The FHIR version of the resources: 4.0.1, 4.3.0 or 5.0.0 [default: 4.0.1]
    #[arg(long, env = "HEADRACE_FHIR_VERSION", value_name = "VERSION")]
    pub fhir_version: Option<String>,
    /// Versions of a resource in the source: one (each line is exported), auto (the newest is exported), many (as auto, but
    /// faster if many resources have several versions) [default: auto]
    #[arg(long, env = "HEADRACE_LAKE_VERSIONS", value_name = "MODE")]
    pub lake_versions: Option<String>,
    /// The moment up to which the source is complete: auto (as _headrace/watermark.json in the source says, else now), object (that
    /// file, which must exist), now (no change arrives late), a delay such as PT15M (no change is later), arrival (now; --since
    /// includes the files that arrived after it) [default: auto]
    #[arg(long, env = "HEADRACE_LAKE_WATERMARK", value_name = "RULE")]
    pub lake_watermark: Option<String>,
    /// Add the practitioners, organizations, locations, medications and devices that exported resources refer to, in patient and
    /// group exports
    #[arg(long, env = "HEADRACE_INCLUDE_REFERENCED_RESOURCES")]
    pub include_referenced_resources: bool,
    /// Export all data of members who joined a group after --since, not only later changes
    #[arg(long, env = "HEADRACE_GROUP_NEW_MEMBERS")]
    pub group_new_members: bool,
    /// Base URLs of absolute references to resources in the source, separated by commas [default: any]
    #[arg(long, env = "HEADRACE_SOURCE_BASE_URLS", value_name = "URLS")]
    pub source_base_urls: Option<String>,
    /// Folder layouts that clients may select with _format: name=layout, separated by semicolons
    #[arg(long, env = "HEADRACE_FOLDER_LAYOUTS", value_name = "LAYOUTS")]
    pub folder_layouts: Option<String>,
    /// Export although the anonymization configuration has these remarks of headrace deid check: names, separated by commas, or
    /// CONFIGURATION=NAMES pairs, separated by semicolons
    #[arg(long, env = "HEADRACE_ACCEPT_REMARKS", value_name = "NAMES")]
    pub accept_remarks: Option<String>,
    /// The maximum number of exports of one client that run at the same time [default: unlimited]
    #[arg(long, env = "HEADRACE_MAX_EXPORTS_PER_CLIENT", value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub max_exports_per_client: Option<u32>,
    /// The maximum number of exports of all clients that run at the same time [default: unlimited]
    #[arg(long, env = "HEADRACE_MAX_CONCURRENT_EXPORTS", value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub max_concurrent_exports: Option<u32>,
    /// Queue exports beyond these limits instead of rejecting them
    #[arg(long, env = "HEADRACE_QUEUE_WHEN_FULL")]
    pub queue_when_full: bool,
    /// The number of tasks that run at the same time [default: the number of processors]
    #[arg(long, env = "HEADRACE_WORKERS", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000), value_name = "COUNT")]
    pub workers: Option<usize>,
}

/// Returns the text unless it is absent or empty: an empty environment variable counts as unset.
pub(crate) fn non_empty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

impl ServiceOptions {
    /// Returns the settings of the request handlers of a server for its clients.
    pub fn settings(&self) -> Result<ExportSettings, OptionError> {
        let own = self.settings_without_clients()?;
        Ok(ExportSettings {
            base: parse_option(&self.base_url, parse_base_url)?,
            policy: ExportPolicy {
                containers: parse_option(&self.containers, parse_containers)?,
                layouts: parse_option(&self.folder_layouts, parse_folder_layouts)?.unwrap_or_default(),
                ..own.policy
            },
            quotas: Quotas {
                per_caller: self.max_exports_per_client,
                global: self.max_concurrent_exports,
                queue_when_full: self.queue_when_full,
            },
            ..own
        })
    }

    /// Returns the settings of the request handlers of a server that this program starts for itself. Variables of the environment may be set
    /// for `headrace serve`: what they say about clients has no effect, not even if it is invalid.
    pub fn settings_without_clients(&self) -> Result<ExportSettings, OptionError> {
        Ok(ExportSettings {
            base: None,
            // A directory does not encrypt its files, so there are no keys to offer.
            policy: ExportPolicy {
                version: parse_option(&self.fhir_version, parse_fhir_version)?.unwrap_or_default(),
                bases: parse_option(&self.source_base_urls, parse_source_base_urls)?.unwrap_or_default(),
                accepted_remarks: parse_option(&self.accept_remarks, parse_accepted_remarks)?.unwrap_or_default(),
                ..ExportPolicy::default()
            },
            quotas: Quotas::default(),
            job: JobSettings {
                file_bytes: self.file_size_mb * 1_000_000,
                retention_seconds: self.retention_hours * 3600,
                deadline_seconds: self.deadline_hours * 3600,
            },
            watermark: self.watermark()?,
        })
    }

    /// Returns the settings for reading the source.
    pub fn lake_settings(&self) -> Result<LakeSettings, OptionError> {
        Ok(LakeSettings {
            versions: parse_option(&self.lake_versions, parse_lake_versions)?.unwrap_or_default(),
            adds_referenced: self.include_referenced_resources,
            adds_new_members: self.group_new_members,
            bases: parse_option(&self.source_base_urls, parse_source_base_urls)?.unwrap_or_default(),
            watermark: self.watermark()?,
        })
    }

    /// Returns the moment up to which the source is complete.
    fn watermark(&self) -> Result<LakeWatermark, OptionError> {
        Ok(parse_option(&self.lake_watermark, parse_lake_watermark)?.unwrap_or_default())
    }

    /// Returns the number of workers.
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, std::num::NonZero::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses the arguments of `headrace export`.
    fn export_options(arguments: &[&str]) -> Result<ExportOptions, clap::Error> {
        let line = ["headrace", "export", "lake", "out"].iter().chain(arguments);
        let Command::Export(args) = Cli::try_parse_from(line)?.command else { panic!("another command: {arguments:?}") };
        Ok(args.options)
    }

    #[test]
    fn a_missing_argument_is_named_with_its_alternative() {
        for (arguments, alternative) in [(["audit", "verify"], "--state"), (["events", "replay"], "--all")] {
            let error = Cli::try_parse_from(["headrace"].iter().chain(&arguments)).unwrap_err().to_string();
            assert!(error.contains(alternative), "{error}");
        }
        assert_eq!(export_options(&["--organize-by=Patient"]).unwrap().parameters(), [("organizeOutputBy", "Patient".to_owned())]);
    }

    #[test]
    fn the_number_of_workers_has_bounds() {
        for (count, is_valid) in [("1", true), ("1000", true), ("0", false), ("1001", false), ("99999999999", false), ("x", false)] {
            let arguments = ["headrace", "export", "lake", "out", "--workers", count];
            assert_eq!(Cli::try_parse_from(arguments).is_ok(), is_valid, "{count}");
        }
    }

    #[test]
    fn options_that_would_have_no_effect_are_refused_by_name() {
        for (arguments, name) in [
            (&["https://h/fhir", "out", "--file-size-mb", "1"][..], "--file-size-mb"),
            (&["https://h/fhir", "out", "--workers=1", "--trust-object-names"], "--trust-object-names, --workers"),
            (&["lake", "out", "--token=x"], "--token"),
            (&["lake", "out", "--client-id=x", "--client-key=y"], "--client-id, --client-key"),
            (&["lake", "out", "--max-wait-hours=3"], "--max-wait-hours"),
            (&["--resume", "out", "--type=Patient"], "--type"),
            (&["--resume", "out", "--level=patient"], "--level"),
            (&["--resume", "out", "--workers=1"], "--workers"),
            (&["lake", "out", "--deid-keys=night.keys"], "--deid-keys"),
            (&["lake", "out", "--accept-remarks=no-effect:1"], "--accept-remarks"),
            (&["https://h/fhir", "out", "--by-sync", "--deid-keys=night.keys"], "--deid-keys"),
            (&["lake", "out", "--retention-hours=3", "--max-exports-per-client=1"], "--retention-hours, --max-exports-per-client"),
            (&["lake", "out", "--queue-when-full", "--max-concurrent-exports=1"], "--max-concurrent-exports, --queue-when-full"),
            (&["lake", "out", "--base-url=https://h/r4", "--containers=a"], "--containers, --base-url"),
            (&["lake", "out", "--folder-layouts=a=b"], "--folder-layouts"),
            (&["lake", "out", "--container=a"], "--container"),
            (&["https://h/fhir", "out", "--by-sync", "--container=a"], "--container"),
            (&["https://h/fhir", "out", "--by-sync", "--retention-hours=3"], "--retention-hours"),
            (&["https://h/fhir", "out", "--by-sync", "--max-wait-hours=3"], "--max-wait-hours"),
            (&["https://h/fhir", "out", "--by-sync", "--reconcile"], "--reconcile"),
            (&["https://h/fhir", "out", "--reconcile"], "--reconcile"),
        ] {
            let error = Cli::try_parse_arguments([&["headrace", "export"], arguments].concat()).unwrap_err().to_string();
            assert!(error.contains(&format!("{name} would have no effect")), "{error}");
            assert!(error.contains("Usage: headrace export"), "the usage is that of the command: {error}");
        }
        for arguments in [
            &["https://h/fhir", "out", "--token=x", "--type=Patient"][..],
            &["lake", "out", "--workers=1", "--type=Patient"],
            &["--resume", "out", "--token=x", "--max-wait-hours=3"],
            &["lake", "out", "--deid-keys=night.keys", "--accept-remarks=no-effect:1", "--anonymization-config=night.json"],
            &["https://h/fhir", "out", "--by-sync", "--deid-keys=night.keys", "--anonymization-config=night.json", "--file-size-mb=1"],
            &["https://h/fhir", "out", "--container=a", "--anonymization-config=night.json"],
        ] {
            assert!(Cli::try_parse_arguments([&["headrace", "export"], arguments].concat()).is_ok(), "{arguments:?}");
        }
        for arguments in [
            &["--resume", "out", "lake", "other"][..],
            &["lake"],
            &["--resume", "out", "--overwrite"],
            &["lake", "out", "--since-file=last", "--since=2026-01-01"],
            &["lake", "out", "--since-file=last", "--until=2026-01-01"],
            &[],
        ] {
            assert!(Cli::try_parse_arguments([&["headrace", "export"], arguments].concat()).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn the_help_of_export_groups_its_options() {
        let mut command = Cli::command();
        let help = command.find_subcommand_mut("export").unwrap().render_long_help().to_string();
        let position = |text: &str| help.find(text).unwrap_or_else(|| panic!("{text} is not in the help"));
        let headings =
            ["What is exported:", "Access to a FHIR server (SOURCE is a URL):", "Export of a directory (SOURCE is a directory):"];
        let [what, access, directory] = headings.map(position);
        assert!(what < position("--type <") && position("--type <") < access);
        assert!(access < position("--client-id") && position("--client-id") < directory);
        assert!(directory < position("--file-size-mb"));
        assert!(position("--resume <OUT>") < what);
    }

    #[test]
    fn the_help_of_each_command_has_examples_and_the_exit_statuses() {
        let mut problems = Vec::new();
        let mut commands = vec![("headrace".to_owned(), Cli::command())];
        while let Some((name, mut command)) = commands.pop() {
            commands.extend(command.get_subcommands().map(|sub| (format!("{name} {}", sub.get_name()), sub.clone())));
            // `headrace clients` and the like do nothing themselves.
            if command.has_subcommands() {
                continue;
            }
            let help = command.render_long_help().to_string();
            if !help.contains("Examples:\n") || !help.contains("Exit status:") {
                problems.push(format!("{name} has no examples or exit statuses"));
            }
        }
        assert!(problems.is_empty(), "{problems:#?}");
    }

    #[test]
    fn each_level_has_its_operation_path() {
        for (level, path) in [
            ("system", "$export"),
            ("patient", "Patient/$export"),
            ("patient:p-1", "Patient/p%2D1/$export"),
            ("group:a/../b", "Group/a%2F%2E%2E%2Fb/$export"),
        ] {
            assert_eq!(export_options(&["--level", level]).unwrap().path(), path);
        }
        for level in ["patients", "group", "group:", "patient:", "Group:1", ""] {
            assert!(export_options(&["--level", level]).is_err(), "{level}");
        }
    }

    #[test]
    fn options_become_bulk_data_parameters() {
        let options = export_options(&[
            "--type=Patient,Observation",
            "--type-filter=Observation?category=laboratory",
            "--type-filter=Observation?category=vital-signs",
            "--elements=id",
            "--since=2026-01-01",
            "--until=2026-02-01",
            "--include-associated-data=_deleted",
            "--organize-by=patient",
        ]);
        let parameters: Vec<String> = options.unwrap().parameters().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            parameters,
            [
                "_type=Patient,Observation",
                "_elements=id",
                "_since=2026-01-01",
                "_until=2026-02-01",
                "includeAssociatedData=_deleted",
                "organizeOutputBy=Patient",
                "_typeFilter=Observation?category=laboratory",
                "_typeFilter=Observation?category=vital-signs",
            ]
        );
    }

    #[test]
    fn an_invalid_value_is_reported_by_the_option_that_was_typed() {
        let service_options = |arguments: &[&str]| {
            let cli = Cli::try_parse_from(["headrace", "serve", "lake"].iter().chain(arguments)).unwrap();
            let Command::Serve(args) = cli.command else { panic!("another command: {arguments:?}") };
            args.service
        };
        for (argument, option) in [
            ("--fhir-version=6", "--fhir-version is `6`: "),
            ("--folder-layouts=x", "--folder-layouts "),
            ("--accept-remarks=everything", "--accept-remarks "),
            ("--source-base-urls=here", "--source-base-urls is `here`: "),
            ("--base-url=here", "--base-url is `here`: "),
            ("--containers=UP", "--containers names `UP`: "),
        ] {
            let error = service_options(&[argument]).settings().unwrap_err().to_string();
            assert!(error.starts_with(option), "{argument}: {error}");
        }
        for rule in ["later", "15", "P1M", "pt15m", "P367D", "PT99999999H", "P999999999W", "PT9999999999H"] {
            let options = service_options(&[&format!("--lake-watermark={rule}")]);
            let expected = format!("--lake-watermark is `{rule}`: ");
            assert!(options.settings().unwrap_err().to_string().starts_with(&expected), "{rule}");
            assert!(options.lake_settings().unwrap_err().to_string().starts_with(&expected), "{rule}");
        }
        let options = service_options(&["--lake-watermark=PT15M"]);
        let watermark = LakeWatermark::Lag(std::time::Duration::from_secs(900));
        assert_eq!((options.settings().unwrap().watermark, options.lake_settings().unwrap().watermark), (watermark, watermark));
        let error = service_options(&["--lake-versions=two"]).lake_settings().unwrap_err().to_string();
        assert!(error.starts_with("--lake-versions is `two`: "), "{error}");
        let quotas = service_options(&["--max-exports-per-client=2", "--queue-when-full"]).settings().unwrap().quotas;
        assert_eq!(quotas, Quotas { per_caller: Some(2), global: None, queue_when_full: true });
    }
}
