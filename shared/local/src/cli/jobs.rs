//! Command line of `headrace jobs` and `headrace token`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::credential::{ClientKeyOptions, CredentialOptions};
use super::whole_number::whole_number;

/// Base URL of a server on this machine with its default address.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:8080/fhir";

/// Arguments of `headrace jobs`.
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Subcommand to run.
    #[command(subcommand)]
    pub command: JobsCommand,
}

/// The subcommands of `headrace jobs`.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List the exports of this client, newest first
    ///
    /// On a terminal, ids are shortened. Every command takes the beginning of an id, as long as only one export has it.
    #[command(
        after_long_help = "Examples:\n  headrace jobs list\n  headrace jobs list --open\n  headrace jobs list --url https://fhir.example.org/r4 --client-id lab --client-key private.jwk --json\n\nExit status: 0 done, 1 failed."
    )]
    List(ListJobsArgs),
    /// Show one export: state, parameters, and the files of a complete one
    #[command(
        after_long_help = "Examples:\n  headrace jobs show 4f9a1c\n  headrace jobs show 4f9a1c --json\n  headrace jobs show https://fhir.example.org/r4/_operations/export/4f9a1c0be25d4f0b8f6f3a0f4a6be1aa --token \"$TOKEN\"\n\nExit status: 0 done, 1 failed."
    )]
    Show(ShowJobArgs),
    /// Follow exports until they end, with a bar, the rate and the time left
    ///
    /// Follows all unfinished exports unless ids are given. Progress is on standard error: bars on a terminal, else lines. The end of
    /// each export is a line on standard output.
    #[command(
        after_long_help = "Examples:\n  headrace jobs watch\n  headrace jobs watch 4f9a1c 77b0e2\n  headrace jobs watch 4f9a1c --json\n\nExit status: 0 all exports are complete, 1 an export has failed or cannot be followed."
    )]
    Watch(WatchJobsArgs),
    /// Cancel exports and delete their files. Finished exports need --finished
    #[command(
        after_long_help = "Examples:\n  headrace jobs cancel 4f9a1c\n  headrace jobs cancel 4f9a1c --finished\n  headrace jobs cancel 4f9a1c 77b0e2 --url https://fhir.example.org/r4 --client-id lab --client-key private.jwk\n\nExit status: 0 all are cancelled, 1 at least one is not."
    )]
    Cancel(CancelJobsArgs),
}

/// The server whose exports are meant, and the credential for it.
#[derive(Clone, Debug, Args)]
pub struct ServerOptions {
    /// The base URL of the server
    #[arg(long, env = "HEADRACE_URL", default_value = DEFAULT_SERVER, value_name = "BASE")]
    pub url: String,
    #[command(flatten)]
    /// Credential for the server.
    pub credential: CredentialOptions,
}

/// Arguments of `headrace jobs list`.
#[derive(Debug, Args)]
pub struct ListJobsArgs {
    /// List only exports that are queued or running
    #[arg(long)]
    pub open: bool,
    /// The maximum number of exports to list
    #[arg(long, default_value_t = 50, value_parser = whole_number::<u32>(1, 100_000), value_name = "COUNT")]
    pub limit: u32,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
    #[command(flatten, next_help_heading = "Server")]
    /// Server whose exports are listed.
    pub server: ServerOptions,
}

/// Arguments of `headrace jobs show`.
#[derive(Debug, Args)]
pub struct ShowJobArgs {
    /// The id of the export, its beginning, or the status URL
    #[arg(value_name = "EXPORT")]
    pub export: String,
    /// A price table by which the cost of an export on AWS is shown, instead of the server's
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten, next_help_heading = "Server")]
    /// Server of the export.
    pub server: ServerOptions,
}

/// Arguments of `headrace jobs watch`.
#[derive(Debug, Args)]
pub struct WatchJobsArgs {
    /// The ids of exports, their beginnings, or status URLs [default: all unfinished exports]
    #[arg(value_name = "EXPORT")]
    pub exports: Vec<String>,
    /// Print each change as a JSON object on a line of its own
    #[arg(long)]
    pub json: bool,
    #[command(flatten, next_help_heading = "Server")]
    /// Server of the exports.
    pub server: ServerOptions,
}

/// Arguments of `headrace jobs cancel`.
#[derive(Debug, Args)]
pub struct CancelJobsArgs {
    /// The ids of exports, their beginnings, or status URLs
    #[arg(value_name = "EXPORT", required = true)]
    pub exports: Vec<String>,
    /// Delete finished exports too, with their files. This cannot be undone
    #[arg(long)]
    pub finished: bool,
    #[command(flatten, next_help_heading = "Server")]
    /// Server of the exports.
    pub server: ServerOptions,
}

/// Arguments of `headrace token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The base URL of the server
    #[arg(value_name = "URL", env = "HEADRACE_URL")]
    pub url: String,
    #[command(flatten)]
    /// The client that gets the token.
    pub key: ClientKeyOptions,
}
