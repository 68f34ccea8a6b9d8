//! Command line of `headrace schedules`.

use clap::{Args, Subcommand, ValueEnum};
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::schedule_key::ScheduleName;

use super::ExportOptions;
use super::clients::{RegistryLocation, parse_client_id};
use super::events::WebhookArgs;
use super::whole_number::whole_number;

/// Arguments of `headrace schedules`.
#[derive(Debug, Args)]
pub struct SchedulesArgs {
    /// Subcommand to run.
    #[command(subcommand)]
    pub command: SchedulesCommand,
}

/// The subcommands of `headrace schedules`.
#[derive(Debug, Subcommand)]
pub enum SchedulesCommand {
    /// Add a schedule
    #[command(
        after_long_help = "Examples:\n  headrace schedules add nightly --every 'cron(0 2 * * *)' --zone Europe/Berlin --incremental --container nightly --keep 7\n  headrace schedules add labs --every PT6H --client lab --type Observation --type-filter 'Observation?category=laboratory'\n  headrace schedules add weekly --every 'cron(0 3 * * SUN)' --client lab --level group:cohort-7 --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Add(Box<AddScheduleArgs>),
    /// Change a schedule. What is not named stays as it is
    ///
    /// An option replaces what the schedule has for it, and --unset returns one to its default. If the schedule then exports something else than
    /// before, its next run exports everything. Nothing is changed if somebody else changes the schedule, or a run starts, at the same moment.
    #[command(
        after_long_help = "Examples:\n  headrace schedules change nightly --every 'cron(30 3 * * *)'\n  headrace schedules change nightly --type Patient,Observation --unset keep\n  headrace schedules change nightly --client lab --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Change(Box<ChangeScheduleArgs>),
    /// List all schedules, with their last runs
    #[command(
        after_long_help = "Examples:\n  headrace schedules list\n  headrace schedules list --table headrace-jobs --json\n\nExit status: 0 done, 1 failed."
    )]
    List(ListSchedulesArgs),
    /// Show one schedule, with its last runs and problems
    #[command(
        after_long_help = "Examples:\n  headrace schedules show nightly\n  headrace schedules show nightly --json --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Show(ShowScheduleArgs),
    /// Start a run now, beside the times of the schedule
    ///
    /// A server on this machine starts it within seconds, a deployment within a minute. A paused schedule runs as well.
    #[command(
        after_long_help = "Examples:\n  headrace schedules run nightly\n  headrace schedules run nightly --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Run(ScheduleArgs),
    /// Start no more runs until the schedule is resumed
    #[command(
        after_long_help = "Examples:\n  headrace schedules pause nightly\n  headrace schedules pause nightly --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Pause(ScheduleArgs),
    /// Start runs again. Times that have passed meanwhile are not made up for
    #[command(
        after_long_help = "Examples:\n  headrace schedules resume nightly\n  headrace schedules resume nightly --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Resume(ScheduleArgs),
    /// Set or remove the webhook that gets the events of a schedule's runs
    ///
    /// It gets the events of runs that start from now on, besides the webhooks of the server and of the client.
    #[command(
        after_long_help = "Examples:\n  headrace schedules webhook nightly --url https://hooks.example.org/nightly --secret-file nightly.secret\n  headrace schedules webhook nightly --remove --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Webhook(ScheduleWebhookArgs),
    /// Remove a schedule. Its exports stay until they expire
    #[command(
        after_long_help = "Examples:\n  headrace schedules remove nightly\n  headrace schedules remove nightly --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Remove(ScheduleArgs),
}

/// Arguments of `headrace schedules add`.
#[derive(Debug, Args)]
pub struct AddScheduleArgs {
    /// The name: 1 to 63 of the characters a-z, 0-9 and -
    #[arg(value_parser = parse_schedule_name)]
    pub name: ScheduleName,
    /// The times: cron(MINUTE HOUR DAY-OF-MONTH MONTH DAY-OF-WEEK), or an interval such as PT6H or P1D
    #[arg(long, value_name = "TIMES")]
    pub every: String,
    #[command(flatten)]
    /// Options of the schedule.
    pub settings: ScheduleSettings,
    #[command(flatten)]
    /// Location of the schedule.
    pub registry: RegistryLocation,
}

/// Arguments of `headrace schedules change`.
#[derive(Debug, Args)]
pub struct ChangeScheduleArgs {
    /// The name
    #[arg(value_parser = parse_schedule_name)]
    pub name: ScheduleName,
    /// The times: cron(MINUTE HOUR DAY-OF-MONTH MONTH DAY-OF-WEEK), or an interval such as PT6H or P1D
    #[arg(long, value_name = "TIMES")]
    pub every: Option<String>,
    /// Return an option to its default. Repeat it for several
    #[arg(long, value_name = "OPTION")]
    pub unset: Vec<ScheduleOption>,
    /// Change the schedule only if it has this version, which `headrace schedules show --json` shows
    #[arg(long, value_name = "VERSION")]
    pub if_version: Option<String>,
    #[command(flatten)]
    /// Options of the schedule.
    pub settings: ScheduleSettings,
    #[command(flatten)]
    /// Location of the schedule.
    pub registry: RegistryLocation,
}

/// Options of a schedule, common to `headrace schedules add` and `headrace schedules change`.
#[derive(Debug, Args)]
pub struct ScheduleSettings {
    /// The time zone of the cron expression, such as Europe/Berlin. A time that is skipped when daylight saving time begins runs once,
    /// and so does one that occurs twice when it ends [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// The client that owns the exports, and whose permissions apply when one starts. Needed if access control is on
    #[arg(long, value_name = "ID", value_parser = parse_client_id)]
    pub client: Option<Caller>,
    /// Export what has changed since the last complete run. The first run exports everything
    #[arg(long, conflicts_with_all = ["since", "until"])]
    pub incremental: bool,
    /// Keep only this many complete results: older ones are deleted when a newer one is complete [default: until they expire]
    #[arg(long, value_parser = whole_number::<u32>(1, 100), value_name = "COUNT")]
    pub keep: Option<u32>,
    #[command(flatten, next_help_heading = "What is exported")]
    /// Parameters of the export request.
    pub options: ExportOptions,
    #[command(flatten)]
    /// Settings of the server that starts the exports.
    pub server: ScheduleServerOptions,
}

/// Settings of the server that starts the exports, by which a schedule is checked.
#[derive(Debug, Args)]
pub struct ScheduleServerOptions {
    /// The FHIR version of the resources: 4.0.1, 4.3.0 or 5.0.0 [default: 4.0.1]
    #[arg(long, env = "HEADRACE_FHIR_VERSION", value_name = "VERSION")]
    pub fhir_version: Option<String>,
    /// Export although the anonymization configuration has these remarks of headrace deid check: names, separated by commas, or
    /// CONFIGURATION=NAMES pairs, separated by semicolons
    #[arg(long, env = "HEADRACE_ACCEPT_REMARKS", value_name = "NAMES")]
    pub accept_remarks: Option<String>,
}

/// An option of a schedule that has a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScheduleOption {
    /// UTC
    Zone,
    /// No client
    Client,
    /// Each run exports everything
    Incremental,
    /// Results stay until they expire
    Keep,
    /// The whole system
    Level,
    /// All types
    Type,
    /// No filter
    TypeFilter,
    /// All elements
    Elements,
    /// From the beginning
    Since,
    /// Up to the export
    Until,
    /// No associated data
    IncludeAssociatedData,
    /// A file for each type
    OrganizeBy,
    /// Unsupported parameters are rejected
    Lenient,
    /// NDJSON
    OutputFormat,
    /// The default container of the client
    Container,
    /// No de-identification
    AnonymizationConfig,
}

/// Arguments of `headrace schedules list`.
#[derive(Debug, Args)]
pub struct ListSchedulesArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// Location of the schedules.
    pub registry: RegistryLocation,
}

/// Arguments of `headrace schedules show`.
#[derive(Debug, Args)]
pub struct ShowScheduleArgs {
    /// The name
    #[arg(value_parser = parse_schedule_name)]
    pub name: ScheduleName,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// Location of the schedule.
    pub registry: RegistryLocation,
}

/// Arguments of `headrace schedules webhook`.
#[derive(Debug, Args)]
pub struct ScheduleWebhookArgs {
    /// The name
    #[arg(value_parser = parse_schedule_name)]
    pub name: ScheduleName,
    #[command(flatten)]
    /// The webhook.
    pub webhook: WebhookArgs,
    #[command(flatten)]
    /// Location of the schedule.
    pub registry: RegistryLocation,
}

/// Arguments of a subcommand that takes one schedule.
#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// The name
    #[arg(value_parser = parse_schedule_name)]
    pub name: ScheduleName,
    #[command(flatten)]
    /// Location of the schedule.
    pub registry: RegistryLocation,
}

/// Parses the name of a schedule from a command-line value.
fn parse_schedule_name(text: &str) -> Result<ScheduleName, String> {
    ScheduleName::parse(text).map_err(|error| error.to_string())
}
