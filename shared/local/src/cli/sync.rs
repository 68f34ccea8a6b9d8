//! Arguments of `headrace sync`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::LoginOptions;
use super::whole_number::whole_number;

/// Arguments of `headrace sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// The base URL of the FHIR server
    pub url: String,
    /// The directory of the lake; created if it does not exist
    pub lake: PathBuf,
    /// Fetch only these resource types, separated by commas [default: all that the server can search]
    #[arg(long = "type", value_name = "TYPES")]
    pub types: Option<String>,
    /// Fetch everything, including what the lake already has
    #[arg(long)]
    pub full: bool,
    /// Print the report as one JSON object, the same as in LAKE/_headrace/sync.json
    #[arg(id = "report_as_json", long = "json")]
    pub json: bool,
    /// Print no progress, report or notes, only warnings and errors. With --json, the JSON object is printed
    #[arg(long)]
    pub quiet: bool,
    #[command(flatten)]
    /// Settings of the requests.
    pub requests: OriginOptions,
    #[command(flatten, next_help_heading = "Access to the FHIR server")]
    /// Access to the server.
    pub login: LoginOptions,
    #[command(flatten)]
    /// Signatures of the requests.
    pub signing: SigningOptions,
    /// The folder with the state of the synchronization, from which an interrupted one continues [default: LAKE/_headrace/sync-state]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// The way in which requests to a FHIR server are authenticated, beside tokens and passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthMethod {
    /// Signatures with AWS credentials (Signature Version 4)
    Sigv4,
}

/// Signatures of the requests to a FHIR server.
#[derive(Clone, Debug, Default, Args)]
pub struct SigningOptions {
    /// Sign the requests with the credentials of the AWS CLI, as AWS HealthLake requires. The signature is sent to the origin of URL only
    #[arg(long, value_name = "METHOD", conflicts_with_all = ["token", "client_id", "basic_file"])]
    pub auth: Option<AuthMethod>,
    /// The AWS region of the server [default: that in a URL of HealthLake, else that of the AWS CLI]
    #[arg(long, requires = "auth", value_name = "REGION")]
    pub region: Option<String>,
    /// The AWS service for which requests are signed: healthlake, or execute-api for a server behind API Gateway
    #[arg(long, requires = "auth", default_value = "healthlake", value_name = "NAME")]
    pub sigv4_service: String,
}

/// Settings of the requests to a FHIR server.
#[derive(Clone, Debug, Args)]
pub struct OriginOptions {
    /// The maximum number of requests at the same time. A server that is busy gets fewer
    #[arg(long, env = "HEADRACE_REQUESTS_AT_ONCE", default_value_t = 4, value_parser = whole_number::<usize>(1, 64), value_name = "COUNT")]
    pub requests_at_once: usize,
    /// The maximum number of requests in a second [default: unlimited]
    #[arg(long, env = "HEADRACE_REQUESTS_PER_SECOND", value_parser = whole_number::<u32>(1, 10_000), value_name = "COUNT")]
    pub requests_per_second: Option<u32>,
    /// The number of resources to request for a page. Servers may send fewer
    #[arg(long, default_value_t = 1000, value_parser = whole_number::<u32>(1, 10_000), value_name = "COUNT")]
    pub page_size: u32,
    /// The number of resources of a window of time that is fetched, verified and repeated as a whole
    #[arg(long, default_value_t = 50_000, value_parser = whole_number::<u64>(1, 10_000_000), value_name = "COUNT")]
    pub window_resources: u64,
    /// The time before the start up to which everything is fetched, in seconds, because searches of the server may not show later changes
    /// yet
    #[arg(long, default_value_t = 60, value_parser = whole_number::<u64>(0, 86_400), value_name = "SECONDS")]
    pub lag_seconds: u64,
    /// Do not compare what is fetched with the totals of the server, because these are estimates, and accept as many resources of one second as a
    /// limit of the server may be
    #[arg(long)]
    pub ignore_totals: bool,
    /// Compare the ids of all resources of the lake with those of the server, where it has no history of types or an earlier one could not be
    /// read, to find what was deleted
    #[arg(long)]
    pub reconcile: bool,
    /// Another base URL that the server uses in its links, such as its internal one behind a proxy. Repeat it for several
    #[arg(long = "origin-alias", value_name = "URL")]
    pub origin_aliases: Vec<String>,
    /// The time after which an unfinished synchronization fails, in hours
    #[arg(long, default_value_t = 168, value_parser = whole_number::<u64>(1, 8760), value_name = "HOURS")]
    pub sync_deadline_hours: u64,
}
