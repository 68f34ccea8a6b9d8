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
        after_long_help = "Examples:\n  headrace deid preview safe-harbor.json patient.json\n  head -1 lake/Patient.ndjson | headrace deid preview safe-harbor.json -"
    )]
    Preview(DeidPreviewArgs),
}

/// Arguments of `headrace deid check`.
#[derive(Debug, Args)]
pub struct DeidCheckArgs {
    /// The file with the anonymization configuration
    pub config: PathBuf,
    /// List the elements of these resource types that no rule matches; types are separated by commas
    #[arg(long = "type", value_name = "TYPES", value_delimiter = ',')]
    pub types: Vec<String>,
    /// Tell for each element what the rules do to it: kept, removed, hashed, shifted and so on. Free text that is kept comes
    /// first. For the types of --type, or for all types
    #[arg(long)]
    pub coverage: bool,
    /// Write the remarks, and the coverage if it is asked for, as JSON
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
