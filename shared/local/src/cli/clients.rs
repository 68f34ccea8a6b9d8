//! `headrace clients` and `headrace keys`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use headrace_core::access::check_client_id;
use headrace_core::request::Container;
use headrace_core::vocab::ids::Caller;

use crate::client::client_key::KeyAlgorithm;

/// `headrace clients`.
#[derive(Debug, Args)]
pub struct Clients {
    /// What to do with them.
    #[command(subcommand)]
    pub action: Action,
}

/// What is done with registrations.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Register a client
    #[command(
        after_long_help = "Examples:\n  headrace clients add lab --scope 'system/*.rs' --jwks lab/jwks.json\n  headrace clients add study-7 --scope 'system/Patient.rs system/Observation.rs?category=laboratory' --group cohort-7 --jwks-url https://study.example/jwks.json\n  headrace clients add arn:aws:iam::123456789012:role/Study --known-elsewhere --scope 'system/*.rs' --jobs 2 --table headrace-jobs"
    )]
    Add(Box<Add>),
    /// List all clients
    List(List),
    /// Show one client
    Show(Show),
    /// Shut a client out, from its next request on
    Disable(Named),
    /// Let a client that was shut out in again
    Enable(Named),
    /// Replace a client's keys: the old ones count no longer
    Rotate(Rotate),
    /// Forget a client
    ///
    /// Its exports stay in its name until their time is over: who is registered under the same name again finds them.
    /// To be sure, shut it out instead.
    Remove(Named),
    /// Make a key pair for a client: private.jwk, which stays with the client, and jwks.json, which is registered
    Keygen(Keygen),
}

/// Where registrations are kept.
#[derive(Debug, Args)]
pub struct Place {
    /// Where `headrace serve` keeps its state
    #[arg(long, env = "HEADRACE_STATE", default_value = ".headrace", value_name = "DIR")]
    pub state: PathBuf,
    /// The job table of a deployment on AWS instead, by its name; credentials and region are those of the AWS tools
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
}

/// `headrace clients add`.
#[derive(Debug, Args)]
pub struct Add {
    /// Its client_id; of a client that is known elsewhere the name that it has there: an ARN, or issuer#subject
    /// [default: a random one]
    #[arg(value_parser = client_id)]
    pub id: Option<Caller>,
    /// What it may be granted at most: SMART scopes of a system, blanks between them
    #[arg(long = "scope", value_name = "SCOPES", required = true)]
    pub scopes: Vec<String>,
    #[command(flatten)]
    /// How it proves who it is.
    pub proof: Proof,
    /// What people call it
    #[arg(long, value_name = "TEXT", value_parser = name)]
    pub name: Option<String>,
    /// A group that it may export, by id, and nothing that is not of such a group. Several: any of them
    #[arg(long = "group", value_name = "ID", value_parser = group)]
    pub groups: Vec<String>,
    /// A container that it may name. Several: any of them [default: whatever the server allows]
    #[arg(long = "container", value_name = "NAME", value_parser = container)]
    pub containers: Vec<Container>,
    /// Exports of it that may be at work [default: what the server allows]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub jobs: Option<u32>,
    /// Where its files go instead of the server's destination: a folder, or on AWS bucket or bucket/prefix
    #[arg(long, value_name = "WHERE")]
    pub destination: Option<String>,
    /// The version of FHIR whose types the scopes name: 4.0.1, 4.3.0 or 5.0.0 [default: 4.0.1]
    #[arg(long, env = "HEADRACE_FHIR_VERSION", value_name = "VERSION")]
    pub fhir_version: Option<String>,
    /// The server's base, for what the client is to be told
    #[arg(long, env = "HEADRACE_BASE_URL", value_name = "URL")]
    pub base_url: Option<String>,
    #[command(flatten)]
    /// Where it is registered.
    pub place: Place,
}

/// How a new client proves who it is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Proof {
    /// Its public keys, a file with a JSON Web Key Set
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// Where its public keys are, the URL of a JSON Web Key Set: so it can change them by itself
    #[arg(long, value_name = "URL")]
    pub jwks_url: Option<String>,
    /// Not to this server: AWS IAM or the identity provider that the server trusts knows it
    #[arg(long)]
    pub known_elsewhere: bool,
}

/// `headrace clients list`.
#[derive(Debug, Args)]
pub struct List {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// Where they are registered.
    pub place: Place,
}

/// `headrace clients show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Its client_id
    #[arg(value_parser = client_id)]
    pub id: Caller,
    /// As JSON, with its keys
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// Where it is registered.
    pub place: Place,
}

/// One client.
#[derive(Debug, Args)]
pub struct Named {
    /// Its client_id
    #[arg(value_parser = client_id)]
    pub id: Caller,
    #[command(flatten)]
    /// Where it is registered.
    pub place: Place,
}

/// `headrace clients rotate`.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Its client_id
    #[arg(value_parser = client_id)]
    pub id: Caller,
    #[command(flatten)]
    /// Its keys from now on.
    pub keys: KeySetArgs,
    #[command(flatten)]
    /// Where it is registered.
    pub place: Place,
}

/// The keys that a client has from now on.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct KeySetArgs {
    /// Its public keys, a file with a JSON Web Key Set
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// Where its public keys are, the URL of a JSON Web Key Set
    #[arg(long, value_name = "URL")]
    pub jwks_url: Option<String>,
}

/// `headrace clients keygen`.
#[derive(Debug, Args)]
pub struct Keygen {
    /// What the key signs with
    #[arg(long, value_enum, default_value = "ES384")]
    pub alg: KeyAlgorithm,
    /// Where the two files go; created if absent
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

fn client_id(text: &str) -> Result<Caller, String> {
    check_client_id(text).map_err(|error| error.to_string())?;
    Ok(Caller(text.to_owned()))
}

/// It is shown on terminals and in tables.
fn name(text: &str) -> Result<String, String> {
    let fits = (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("a name is 1 to 200 characters in one line".to_owned()) }
}

fn group(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_id = (1..=64).contains(&text.len()) && text.bytes().all(is_plain) && text.bytes().any(|byte| byte != b'.');
    if is_id { Ok(text.to_owned()) } else { Err("an id is 1 to 64 letters, digits, hyphens, dots and underscores".to_owned()) }
}

fn container(text: &str) -> Result<Container, String> {
    Container::parse(text).ok_or_else(|| "a container is named by 3 to 63 of a-z, 0-9 and -".to_owned())
}
