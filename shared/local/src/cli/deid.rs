//! Command line of `headrace deid`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Arguments of `headrace deid`.
#[derive(Debug, Args)]
pub struct DeidArgs {
    /// Subcommand to run.
    #[command(subcommand)]
    pub command: DeidCommand,
}

/// The subcommands of `headrace deid`.
#[derive(Debug, Subcommand)]
pub enum DeidCommand {
    /// Report errors of a configuration, remarks about its rules, and the elements that no rule matches
    ///
    /// Exit status: 0 no remarks, 1 invalid, 3 remarks.
    #[command(
        after_long_help = "Examples:\n  headrace deid check safe-harbor.json\n  headrace deid check safe-harbor.json --type Patient,Observation\n  headrace deid check safe-harbor.json --coverage --type Patient --json"
    )]
    Check(DeidCheckArgs),
    /// Show how a configuration changes a resource, rule by rule
    ///
    /// The output contains the resource's data. Keys that are empty in the configuration are generated for this run.
    #[command(
        after_long_help = "Examples:\n  headrace deid preview safe-harbor.json patient.json\n  head -1 lake/Patient.ndjson | headrace deid preview safe-harbor.json -\n\nExit status: 0 done, 1 failed."
    )]
    Preview(DeidPreviewArgs),
    /// Report what a configuration removes, changes and keeps in the resources of a directory, element by element
    ///
    /// The report is evidence for a privacy officer: the digest of the configuration, which is also in the manifest and the audit
    /// record of an export, and numbers by rule and element. It contains no value of a resource. The command applies the rules
    /// to every resource and writes none.
    ///
    /// Exit status: 0 done, 1 failed, 3 resources cannot be de-identified.
    #[command(
        after_long_help = "Examples:\n  headrace deid report study.json lake\n  headrace deid report study.json lake --type Patient --json"
    )]
    Report(DeidReportArgs),
    /// Generate the keys of de-identified exports, so that the pseudonyms of later exports are the same
    ///
    /// Writes a JSON file with cryptoHashKey, dateShiftKey and encryptKey that only its owner can read. Anyone who has the
    /// keys can compute the pseudonym of every known id: store them apart from exported files.
    #[command(
        after_long_help = "Examples:\n  headrace deid keygen --out study.keys\n  headrace deid keygen --out - | aws kms encrypt --key-id alias/study --plaintext fileb:///dev/stdin --encryption-context purpose=headrace-deid-keys --query CiphertextBlob --output text | base64 -d > study.json.keys\n\nExit status: 0 done, 1 failed."
    )]
    Keygen(DeidKeygenArgs),
}

/// Arguments of `headrace deid report`.
#[derive(Debug, Args)]
pub struct DeidReportArgs {
    /// The file with the anonymization configuration
    pub config: PathBuf,
    /// A directory of NDJSON files (plain, .gz, .zst)
    pub source: PathBuf,
    /// Report only these resource types, separated by commas
    #[arg(long = "type", value_name = "TYPES", value_delimiter = ',')]
    pub types: Vec<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// FHIR version of the resources.
    pub version: FhirVersionArgs,
}

/// Arguments of `headrace deid keygen`.
#[derive(Debug, Args)]
pub struct DeidKeygenArgs {
    /// The file for the keys, which must not exist; - writes to standard output
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// The keys of a de-identified export, kept apart from its configuration.
#[derive(Clone, Debug, Args)]
pub struct DeidKeysOptions {
    /// The file with the keys of the de-identification, see headrace deid keygen; - reads standard input. Needed so that
    /// several exports have the same pseudonyms. Takes precedence over HEADRACE_DEID_KEYS, a variable with the keys as JSON
    #[arg(long = "deid-keys", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The keys themselves, as JSON. From the environment only: other users can see command lines
    #[arg(long = "deid-keys-json", env = "HEADRACE_DEID_KEYS", value_name = "JSON", hide = true, hide_env_values = true)]
    pub json: Option<String>,
}

/// Arguments of `headrace deid check`.
#[derive(Debug, Args)]
pub struct DeidCheckArgs {
    /// The file with the anonymization configuration
    pub config: PathBuf,
    /// List the elements of these resource types that no rule matches; types are separated by commas
    #[arg(long = "type", value_name = "TYPES", value_delimiter = ',')]
    pub types: Vec<String>,
    /// Report for each element what the rules do to it: kept, removed, hashed, shifted and so on. Free text that is kept comes
    /// first. For the types of --type, or for all types
    #[arg(long)]
    pub coverage: bool,
    /// Write the remarks, and the coverage if it is requested, as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// FHIR version of the resources.
    pub version: FhirVersionArgs,
}

/// Arguments of `headrace deid preview`.
#[derive(Debug, Args)]
pub struct DeidPreviewArgs {
    /// The file with the anonymization configuration
    pub config: PathBuf,
    /// A file with one resource in JSON; - reads standard input
    pub resource: PathBuf,
    /// The id of the resource's patient, for dateShiftScope patient [default: the id of a Patient resource, else none]
    #[arg(long, value_name = "ID")]
    pub patient: Option<String>,
    #[command(flatten)]
    /// FHIR version of the resources.
    pub version: FhirVersionArgs,
}

/// The FHIR version option.
#[derive(Debug, Args)]
pub struct FhirVersionArgs {
    /// The FHIR version of the resources: 4.0.1, 4.3.0 or 5.0.0 [default: 4.0.1]
    #[arg(long, env = "HEADRACE_FHIR_VERSION", value_name = "VERSION")]
    pub fhir_version: Option<String>,
}
