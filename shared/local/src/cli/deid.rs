//! `headrace deid`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `headrace deid`.
#[derive(Debug, Args)]
pub struct Deid {
    /// What to do with a configuration.
    #[command(subcommand)]
    pub action: DeidCommand,
}

/// What is done with an anonymization configuration.
#[derive(Debug, Subcommand)]
pub enum DeidCommand {
    /// Say what is wrong with a configuration, and what no rule of it touches
    ///
    /// Exit status: 0 it can be used, 1 it cannot, 3 it can, but something in it should be looked at.
    #[command(
        after_long_help = "Examples:\n  headrace deid check safe-harbor.json\n  headrace deid check safe-harbor.json --type Patient,Observation"
    )]
    Check(DeidCheckArgs),
    /// Show what a configuration makes of a resource, rule by rule
    ///
    /// What it prints holds the resource's data. Keys that the configuration leaves empty are made up for the occasion.
    #[command(
        after_long_help = "Examples:\n  headrace deid preview safe-harbor.json patient.json\n  head -1 lake/Patient.ndjson | headrace deid preview safe-harbor.json -"
    )]
    Preview(DeidPreviewArgs),
}

/// `headrace deid check`.
#[derive(Debug, Args)]
pub struct DeidCheckArgs {
    /// The configuration
    pub config: PathBuf,
    /// List the elements of these resource types that no rule touches, separated by commas
    #[arg(long = "type", value_name = "TYPES", value_delimiter = ',')]
    pub types: Vec<String>,
    #[command(flatten)]
    /// Of which FHIR.
    pub version: FhirVersionArgs,
}

/// `headrace deid preview`.
#[derive(Debug, Args)]
pub struct DeidPreviewArgs {
    /// The configuration
    pub config: PathBuf,
    /// A file with one resource in JSON; - reads the standard input
    pub resource: PathBuf,
    /// Whose the resource is, for dateShiftScope patient: a patient's id [default: a Patient's own, else none]
    #[arg(long, value_name = "ID")]
    pub patient: Option<String>,
    #[command(flatten)]
    /// Of which FHIR.
    pub version: FhirVersionArgs,
}

/// The version of FHIR.
#[derive(Debug, Args)]
pub struct FhirVersionArgs {
    /// The version of FHIR that the resources are in: 4.0.1, 4.3.0 or 5.0.0 [default: 4.0.1]
    #[arg(long, env = "HEADRACE_FHIR_VERSION", value_name = "VERSION")]
    pub fhir_version: Option<String>,
}
