//! Command line of `headrace events`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::clients::RegistryLocation;

/// The webhook of `headrace serve`.
#[derive(Debug, Args)]
pub struct EventOptions {
    /// A URL that gets an event by POST for each change of an export's state, as Standard Webhooks defines it: https, or http on this machine
    #[arg(long, env = "HEADRACE_EVENT_WEBHOOK_URL", value_name = "URL")]
    pub event_webhook_url: Option<String>,
    /// The file with the secret that signs events: whsec_ and 24 to 64 bytes in base64
    #[arg(long, env = "HEADRACE_EVENT_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub event_webhook_secret_file: Option<PathBuf>,
}

/// The webhook of a client or a schedule.
#[derive(Debug, Args)]
pub struct WebhookArgs {
    /// A URL that gets an event by POST for each change of state of these exports, as Standard Webhooks defines it: https, or http on
    /// this machine
    #[arg(long, value_name = "URL", required_unless_present = "remove", requires = "secret_file")]
    pub url: Option<String>,
    /// The file with the secret that signs the events: whsec_ and 24 to 64 bytes in base64. With --table, what `aws kms encrypt` prints
    /// for it
    #[arg(long, value_name = "FILE", requires = "url")]
    pub secret_file: Option<PathBuf>,
    /// Remove the webhook
    #[arg(long, conflicts_with_all = ["url", "secret_file"])]
    pub remove: bool,
}

/// Arguments of `headrace events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Subcommand to run.
    #[command(subcommand)]
    pub command: EventsCommand,
}

/// The subcommands of `headrace events`.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// List the events that are not delivered yet, and those that could not be delivered within a day
    #[command(
        after_long_help = "Examples:\n  headrace events list\n  headrace events list --json --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    List(ListEventsArgs),
    /// Retry events that could not be delivered, with the same ids
    #[command(
        after_long_help = "Examples:\n  headrace events replay a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5-complete\n  headrace events replay --all --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Replay(ReplayEventsArgs),
}

/// Arguments of `headrace events list`.
#[derive(Debug, Args)]
pub struct ListEventsArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// Location of the events.
    pub registry: RegistryLocation,
}

/// Arguments of `headrace events replay`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("events").required(true).multiple(true).args(["ids", "all"])))]
pub struct ReplayEventsArgs {
    /// The ids of the events
    #[arg(value_name = "IDS")]
    pub ids: Vec<String>,
    /// Replay all events that could not be delivered
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    #[command(flatten)]
    /// Location of the events.
    pub registry: RegistryLocation,
}
