//! Command line of `headrace clients`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use headrace_core::access::{FixedConfiguration, check_client_id};
use headrace_core::vocab::container::Container;
use headrace_core::vocab::ids::Caller;

use super::events::WebhookArgs;
use super::whole_number::whole_number;
use crate::stores::client_key::KeyAlgorithm;

/// Arguments of `headrace clients`.
#[derive(Debug, Args)]
pub struct ClientsArgs {
    /// Subcommand to run.
    #[command(subcommand)]
    pub command: ClientsCommand,
}

/// The subcommands of `headrace clients`.
#[derive(Debug, Subcommand)]
pub enum ClientsCommand {
    /// Register a client
    #[command(
        after_long_help = "Examples:\n  headrace clients add lab --scope 'system/*.rs' --jwks lab/jwks.json\n  headrace clients add study-7 --scope 'system/Patient.rs system/Observation.rs?category=laboratory' --group cohort-7 --jwks-url https://study.example/jwks.json\n  headrace clients add arn:aws:sts::123456789012:assumed-role/Study --external-identity --scope 'system/*.rs' --max-exports 2 --table headrace-jobs\n  headrace clients add reader --scope 'system/*.rs' --anonymization-config study.json --jwks reader/jwks.json\n\nExit status: 0 done, 1 failed."
    )]
    Add(Box<AddClientArgs>),
    /// List all clients
    #[command(
        after_long_help = "Examples:\n  headrace clients list\n  headrace clients list --table headrace-jobs --json\n\nExit status: 0 done, 1 failed."
    )]
    List(ListClientsArgs),
    /// Show one client
    #[command(
        after_long_help = "Examples:\n  headrace clients show lab\n  headrace clients show lab --json --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Show(ShowClientArgs),
    /// Disable a client, effective at its next request
    #[command(
        after_long_help = "Examples:\n  headrace clients disable lab\n  headrace clients disable lab --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Disable(ClientArgs),
    /// Enable a disabled client
    #[command(
        after_long_help = "Examples:\n  headrace clients enable lab\n  headrace clients enable lab --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Enable(ClientArgs),
    /// Replace a client's keys; the old keys and the tokens that were issued for them become invalid
    #[command(
        after_long_help = "Examples:\n  headrace clients rotate lab --jwks lab-2027/jwks.json\n  headrace clients rotate study-7 --jwks-url https://study.example/jwks.json --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Rotate(RotateClientKeysArgs),
    /// Fix the anonymization configurations of a client, or allow it to export without one; effective at its next request
    ///
    /// A client with fixed configurations does not see earlier exports without one of them, and those that selected by ids and other
    /// original values.
    #[command(
        after_long_help = "Examples:\n  headrace clients change lab --anonymization-config study.json\n  headrace clients change lab --anonymization-config study.json=5d41402abc4b2a76b9719d911017c592 --table headrace-jobs\n  headrace clients change lab --any-data\n\nExit status: 0 done, 1 failed."
    )]
    Change(ChangeClientArgs),
    /// Set or remove the webhook that gets the events of a client's exports
    ///
    /// It gets the events of exports that start from now on, besides the webhook of the server.
    #[command(
        after_long_help = "Examples:\n  headrace clients webhook lab --url https://hooks.example.org/lab --secret-file lab.secret\n  headrace clients webhook lab --url https://hooks.example.org/lab --secret-file lab.secret.encrypted --table headrace-jobs\n  headrace clients webhook lab --remove\n\nExit status: 0 done, 1 failed."
    )]
    Webhook(ClientWebhookArgs),
    /// Remove a client's registration
    ///
    /// Its tokens end, and nobody can read its exports, which remain until they expire: a client that is registered again under the same
    /// client_id is another one. If no client is left, a server rejects every request.
    #[command(
        after_long_help = "Examples:\n  headrace clients remove lab\n  headrace clients remove lab --table headrace-jobs\n\nExit status: 0 done, 1 failed."
    )]
    Remove(ClientArgs),
    /// Generate a key pair for a client: private.jwk for the client alone, and jwks.json to register
    #[command(
        after_long_help = "Examples:\n  headrace clients keygen --out lab\n  headrace clients keygen --alg RS384 --out lab\n\nExit status: 0 done, 1 failed."
    )]
    Keygen(KeygenArgs),
}

/// The location of the registrations.
#[derive(Debug, Args)]
pub struct RegistryLocation {
    /// The state folder of `headrace serve`
    #[arg(long, env = "HEADRACE_STATE", default_value = ".headrace", value_name = "DIR")]
    pub state: PathBuf,
    /// The job table of a deployment on AWS (the stack's output JobTableName), instead of a state folder. Uses the credentials and
    /// the region of the AWS CLI, such as AWS_PROFILE
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
}

/// Arguments of `headrace clients add`.
#[derive(Debug, Args)]
pub struct AddClientArgs {
    /// The client_id. With --external-identity, the external name of the client: the ARN of a user, the ARN of a role's sessions without
    /// path and session, issuer#subject, or `*` for all callers that have no registration of their own [default: random]
    #[arg(value_parser = parse_client_id)]
    pub id: Option<Caller>,
    /// The scopes that the client may be granted: SMART system scopes, separated by spaces
    #[arg(long = "scope", value_name = "SCOPES", required = true)]
    pub scopes: Vec<String>,
    #[command(flatten)]
    /// Authentication of the client.
    pub authentication: ClientAuthentication,
    /// A display name
    #[arg(long, value_name = "TEXT", value_parser = parse_name)]
    pub name: Option<String>,
    /// The id of a group that the client may export; it may then export nothing else. Repeat it to allow several groups
    #[arg(long = "group", value_name = "ID", value_parser = parse_group_id)]
    pub groups: Vec<String>,
    /// A container that the client may use. Repeat it to allow several [default: the server's containers]
    #[arg(long = "container", value_name = "NAME", value_parser = parse_container)]
    pub containers: Vec<Container>,
    /// An anonymization configuration with which the client may export; it then exports nothing in clear, and selects nothing by ids and
    /// other original values. With =ETAG the file must have this entity tag. Repeat it to allow several configurations
    #[arg(long = "anonymization-config", value_name = "NAME", value_parser = parse_fixed_configuration)]
    pub configurations: Vec<FixedConfiguration>,
    /// The maximum number of exports of the client that run at the same time [default: the server's limit]
    #[arg(long, value_parser = whole_number::<u32>(1, 1_000_000), value_name = "COUNT")]
    pub max_exports: Option<u32>,
    /// The destination of the client's files, instead of the server's: a folder, or on AWS bucket or bucket/prefix
    #[arg(long, value_name = "DESTINATION")]
    pub destination: Option<String>,
    /// The FHIR version of the resource types in the scopes: 4.0.1, 4.3.0 or 5.0.0 [default: 4.0.1]
    #[arg(long, env = "HEADRACE_FHIR_VERSION", value_name = "VERSION")]
    pub fhir_version: Option<String>,
    /// The server's base URL, for the printed instructions to the client
    #[arg(long, env = "HEADRACE_BASE_URL", value_name = "URL")]
    pub base_url: Option<String>,
    #[command(flatten)]
    /// Location of the registration.
    pub registry: RegistryLocation,
}

/// The authentication of a new client.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ClientAuthentication {
    /// The file with the client's public keys, a JSON Web Key Set
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// The URL of the client's public keys, a JSON Web Key Set; the client can then rotate its keys itself
    #[arg(long, value_name = "URL")]
    pub jwks_url: Option<String>,
    /// The client has no keys here: AWS IAM or the server's identity provider authenticates it
    #[arg(long)]
    pub external_identity: bool,
}

/// Arguments of `headrace clients list`.
#[derive(Debug, Args)]
pub struct ListClientsArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// Location of the registrations.
    pub registry: RegistryLocation,
}

/// Arguments of `headrace clients show`.
#[derive(Debug, Args)]
pub struct ShowClientArgs {
    /// The client_id
    #[arg(value_parser = parse_client_id)]
    pub id: Caller,
    /// Print JSON, including the keys
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// Location of the registration.
    pub registry: RegistryLocation,
}

/// Arguments of a subcommand that takes one client.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// The client_id
    #[arg(value_parser = parse_client_id)]
    pub id: Caller,
    #[command(flatten)]
    /// Location of the registration.
    pub registry: RegistryLocation,
}

/// Arguments of `headrace clients webhook`.
#[derive(Debug, Args)]
pub struct ClientWebhookArgs {
    /// The client_id
    #[arg(value_parser = parse_client_id)]
    pub id: Caller,
    #[command(flatten)]
    /// The webhook.
    pub webhook: WebhookArgs,
    #[command(flatten)]
    /// Location of the registration.
    pub registry: RegistryLocation,
}

/// Arguments of `headrace clients rotate`.
#[derive(Debug, Args)]
pub struct RotateClientKeysArgs {
    /// The client_id
    #[arg(value_parser = parse_client_id)]
    pub id: Caller,
    #[command(flatten)]
    /// New keys of the client.
    pub keys: KeySetArgs,
    #[command(flatten)]
    /// Location of the registration.
    pub registry: RegistryLocation,
}

/// A client's new keys.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct KeySetArgs {
    /// The file with the client's public keys, a JSON Web Key Set
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// The URL of the client's public keys, a JSON Web Key Set
    #[arg(long, value_name = "URL")]
    pub jwks_url: Option<String>,
}

/// Arguments of `headrace clients change`.
#[derive(Debug, Args)]
pub struct ChangeClientArgs {
    /// The client_id
    #[arg(value_parser = parse_client_id)]
    pub id: Caller,
    #[command(flatten)]
    /// New anonymization configurations of the client.
    pub data: ClientDataArgs,
    #[command(flatten)]
    /// Location of the registration.
    pub registry: RegistryLocation,
}

/// The data that a client may export: de-identified with some configurations, or any.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ClientDataArgs {
    /// An anonymization configuration with which the client may export, instead of those in its registration. With =ETAG the file must
    /// have this entity tag. Repeat it to allow several configurations
    #[arg(long = "anonymization-config", value_name = "NAME", value_parser = parse_fixed_configuration)]
    pub configurations: Vec<FixedConfiguration>,
    /// The client may export without an anonymization configuration
    #[arg(long)]
    pub any_data: bool,
}

/// Arguments of `headrace clients keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// The signature algorithm of the key
    #[arg(long, value_enum, default_value = "ES384")]
    pub alg: KeyAlgorithm,
    /// The folder for the two files; created if it does not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Parses a client_id from a command-line value.
pub(super) fn parse_client_id(text: &str) -> Result<Caller, String> {
    check_client_id(text).map_err(|error| error.to_string())?;
    Ok(Caller(text.to_owned()))
}

/// Parses a display name. It is shown on terminals and in tables, so control characters are rejected.
fn parse_name(text: &str) -> Result<String, String> {
    let fits = (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("a name has 1 to 200 characters in one line".to_owned()) }
}

/// Parses a group id from a command-line value.
fn parse_group_id(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_id = (1..=64).contains(&text.len()) && text.bytes().all(is_plain) && text.bytes().any(|byte| byte != b'.');
    if is_id { Ok(text.to_owned()) } else { Err("an id has 1 to 64 letters, digits, hyphens, dots and underscores".to_owned()) }
}

/// Parses an anonymization configuration from a command-line value: its name, and its entity tag if that is fixed.
fn parse_fixed_configuration(text: &str) -> Result<FixedConfiguration, String> {
    let rule =
        "write NAME or NAME=ETAG: the path of a file below `anonymization` in the destination, of letters, digits, spaces, -, _ and .";
    FixedConfiguration::parse(text).ok_or_else(|| rule.to_owned())
}

/// Parses a container name from a command-line value.
fn parse_container(text: &str) -> Result<Container, String> {
    Container::parse(text).ok_or_else(|| format!("a container is {}", Container::RULE))
}
