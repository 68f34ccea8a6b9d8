//! The command line.

mod access;
mod audit;
mod clients;
mod credential;
mod deid;
mod documents;
mod events;
mod export;
mod export_options;
mod ignored_options;
mod jobs;
mod keys;
mod lake;
mod option_error;
mod schedules;
mod serve;
mod service_options;
mod source;
mod sync;
mod ui;
mod whole_number;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use access::{AccessMode, AccessOptions};
pub use audit::{AuditArgs, AuditCommand, AuditLocation, ShowRecordsArgs, VerifyArgs};
pub use clients::{AddClientArgs, ClientWebhookArgs, ClientsArgs, ClientsCommand, KeySetArgs, KeygenArgs, RegistryLocation};
pub use credential::{ClientKeyOptions, CredentialOptions};
pub use deid::{DeidArgs, DeidCheckArgs, DeidCommand, DeidKeygenArgs, DeidKeysOptions, DeidPreviewArgs, DeidReportArgs, FhirVersionArgs};
pub use documents::{CompletionsArgs, ManArgs};
pub use events::{EventOptions, EventsArgs, EventsCommand, ListEventsArgs, ReplayEventsArgs, WebhookArgs};
pub use export::{ExportArgs, LoginOptions, TransferOptions};
pub use export_options::{ExportLevel, ExportOptions};
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
pub use serve::ServeArgs;
pub use service_options::ServiceOptions;
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
        after_long_help = "Examples:\n  headrace export lake out\n  headrace export lake out --type Patient,Observation --since 2026-01-01\n  headrace export lake out --level group:cohort-7 --type-filter 'Observation?category=laboratory'\n  headrace export http://127.0.0.1:8080/fhir out\n  headrace export https://fhir.example.org/r4 out --client-id lab --client-key private.jwk\n  headrace export --resume out\n  headrace export lake out --overwrite --since-file last-export --quiet\n  headrace export lake out --type-filter 'Observation?category=laboratory' --dry-run",
        mut_args(ignored_options::hide_setting_for_clients)
    )]
    Export(Box<ExportArgs>),
    /// Serve the Bulk Data API over a directory
    ///
    /// Prints its base URL when it is ready. By default it listens on this machine only, and until a client is registered
    /// (headrace clients add), anyone on this machine can export. Everywhere else clients need access tokens, unless
    /// --access none is given. Unfinished exports resume after a restart with the same --state.
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

/// Returns the text unless it is absent or empty: an empty environment variable counts as unset.
pub(crate) fn non_empty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
