//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use headrace_core::job::{Limits, Quotas};
use headrace_core::request::{Container, Policy};
use headrace_edge::config::{ConfigError, Terms, read_base, read_containers};

/// FHIR Bulk Data export on one machine.
///
/// Serves the Bulk Data API over a directory of NDJSON files, or does a whole export and leaves you the files. The same
/// code runs as AWS Lambda functions; see template.yaml.
#[derive(Debug, Parser)]
#[command(name = "headrace", version, arg_required_else_help = true, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Which events are logged: error, warn, info or debug for our own, or target=level pairs [default: warn; serve: info]
    #[arg(long, env = "HEADRACE_LOG", global = true, value_name = "FILTER")]
    pub log: Option<String>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Export a directory, or a FHIR server, into a directory of files
    ///
    /// Goes the way of every Bulk Data client: kick-off, polls, downloads. For a directory, the server is this program
    /// itself, on a free loopback port.
    ///
    /// Exit status: 0 all exported, 1 failed, 3 exported, but lines of the lake were no resources (see error-1.ndjson).
    #[command(
        after_long_help = "Examples:\n  headrace export lake out\n  headrace export lake out --type Patient,Observation --since 2026-01-01\n  headrace export http://127.0.0.1:8080/fhir out"
    )]
    Export(Export),
    /// Serve the Bulk Data API over a directory
    ///
    /// Prints its base once it is ready. There is no access control: only this machine can reach it unless you ask for
    /// more. Unfinished exports go on after a restart with the same --state.
    #[command(
        after_long_help = "Examples:\n  headrace serve lake\n  curl -i -H 'Accept: application/fhir+json' -H 'Prefer: respond-async' 'http://127.0.0.1:8080/fhir/$export'"
    )]
    Serve(Serve),
}

/// `headrace export`.
#[derive(Debug, Args)]
pub struct Export {
    /// A directory of NDJSON files (plain, .gz, .zst), or the base URL of a FHIR server
    pub from: String,
    /// Where the files go; created if absent
    pub out: PathBuf,
    /// Only these resource types, separated by commas
    #[arg(long = "type", value_name = "TYPES")]
    pub types: Option<String>,
    /// Only resources changed later than this: an instant or a date
    #[arg(long, value_name = "INSTANT")]
    pub since: Option<String>,
    /// The output format's name; NDJSON by any of its three names
    #[arg(long, value_name = "FORMAT")]
    pub output_format: Option<String>,
    /// A named place inside the server's destination
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// Write into OUT although it is not empty; files of the same names are replaced
    #[arg(long)]
    pub overwrite: bool,
    /// A bearer token for the server
    #[arg(long, env = "HEADRACE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    #[command(flatten)]
    /// How a directory is exported.
    pub terms: ServiceTerms,
}

/// `headrace serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// A directory of NDJSON files (plain, .gz, .zst), in any layout that names types
    pub lake: PathBuf,
    /// The address to listen on
    #[arg(long, env = "HEADRACE_LISTEN", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub listen: IpAddr,
    /// The port; 0 takes a free one
    #[arg(long, env = "HEADRACE_PORT", default_value_t = 8080)]
    pub port: u16,
    /// Needed to listen on anything but a loopback address: there is no access control
    #[arg(long)]
    pub let_anyone_on_the_network_export: bool,
    /// Where jobs and their files are kept
    #[arg(long, env = "HEADRACE_STATE", default_value = ".headrace", value_name = "DIR")]
    pub state: PathBuf,
    #[command(flatten)]
    /// What jobs are promised.
    pub terms: ServiceTerms,
}

/// What both have in common.
#[derive(Debug, Args)]
pub struct ServiceTerms {
    /// A new file starts once the current one has reached this many MB (1 MB is 1,000,000 bytes)
    #[arg(long, env = "HEADRACE_FILE_SIZE_MB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000), value_name = "MB")]
    pub file_size_mb: u64,
    /// How long files are kept after an export has finished
    #[arg(long, env = "HEADRACE_RETENTION_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760), value_name = "HOURS")]
    pub retention_hours: u64,
    /// How long an export may take
    #[arg(long, env = "HEADRACE_DEADLINE_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760), value_name = "HOURS")]
    pub deadline_hours: u64,
    /// The containers that clients may name, separated by commas [default: any]
    #[arg(long, env = "HEADRACE_CONTAINERS", value_name = "NAMES")]
    pub containers: Option<String>,
    /// The base that clients use, if a proxy in front does not say so
    #[arg(long, env = "HEADRACE_BASE_URL", value_name = "URL")]
    pub base_url: Option<String>,
    /// Pass over files whose names promise a type that was not asked for. Faster with --type; a line of another type in
    /// such a file is then missed
    #[arg(long, env = "HEADRACE_TRUST_LAKE_NAMES")]
    pub trust_lake_names: bool,
    /// Tasks worked on at the same time [default: the number of processors]
    #[arg(long, env = "HEADRACE_WORKERS", value_name = "COUNT")]
    pub workers: Option<usize>,
}

impl ServiceTerms {
    /// As the handlers take them.
    pub fn terms(&self) -> Result<Terms, ConfigError> {
        let present = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let containers: Option<std::collections::BTreeSet<Container>> =
            present(&self.containers).map(|names| read_containers(&names)).transpose()?;
        Ok(Terms {
            base: present(&self.base_url).map(|base| read_base(&base)).transpose()?,
            policy: Policy { containers, ..Policy::default() },
            quotas: Quotas::default(),
            limits: Limits {
                file_bytes: self.file_size_mb * 1_000_000,
                retention_seconds: self.retention_hours * 3600,
                deadline_seconds: self.deadline_hours * 3600,
            },
        })
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, std::num::NonZero::get))
    }
}
