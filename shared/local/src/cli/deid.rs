//! Command line of `headrace deid`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use headrace_core::vocab::clock::Millis;
use headrace_fhir::instant::Instant;

use super::{BaseUrlOptions, WatermarkOptions};

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
    /// Some remarks are about keys. Give the keys that an export has, so that the remarks are those that it has.
    ///
    /// Exit status: 0 no remarks, 1 invalid, 3 remarks.
    #[command(
        after_long_help = "Examples:\n  headrace deid check safe-harbor.json\n  headrace deid check safe-harbor.json --type Patient,Observation\n  headrace deid check safe-harbor.json --coverage --type Patient --json\n  headrace deid check study.json --deid-keys study.keys"
    )]
    Check(DeidCheckArgs),
    /// Show how a configuration changes a resource, rule by rule
    ///
    /// The resource is the one that an export with the same keys, settings and time writes. The output contains the resource's
    /// data. Keys that are not given are generated for this run, as for each export.
    #[command(
        after_long_help = "Examples:\n  headrace deid preview safe-harbor.json patient.json\n  head -1 lake/Patient.ndjson | headrace deid preview safe-harbor.json -\n  headrace deid preview study.json patient.json --deid-keys study.keys\n\nExit status: 0 done, 1 failed."
    )]
    Preview(DeidPreviewArgs),
    /// Report what a configuration removes, changes and keeps in the resources of a directory, element by element
    ///
    /// The report is evidence for a privacy officer: the digest of the configuration, which is also in the manifest and the audit
    /// record of an export, and numbers by rule and element. It contains no value of a resource. The command applies the rules
    /// to every resource, also to versions that an export leaves out, and writes none. Give it the keys and settings of the export:
    /// dates that reveal an age over 89 are removed, and which these are depends on keys and time.
    ///
    /// Exit status: 0 done, 1 failed, 3 resources cannot be de-identified, or the numbers do not explain the output.
    #[command(
        after_long_help = "Examples:\n  headrace deid report study.json lake\n  headrace deid report study.json lake --type Patient --json\n  headrace deid report study.json lake --deid-keys study.keys --transaction-time 2026-11-29T10:00:00Z"
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
    /// Keys of the export.
    pub keys: DeidKeysOptions,
    #[command(flatten)]
    /// Base URLs of references, which name the patients by whom dates move.
    pub base_urls: BaseUrlOptions,
    #[command(flatten)]
    /// The moment up to which the directory is complete, which an export is not later than.
    pub watermark: WatermarkOptions,
    #[command(flatten)]
    /// Time of the export.
    pub time: TransactionTimeArgs,
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
    #[arg(id = "deid_keys", long = "deid-keys", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The keys themselves, as JSON. From the environment only: other users can see command lines
    #[arg(
        id = "deid_keys_json",
        long = "deid-keys-json",
        env = "HEADRACE_DEID_KEYS",
        value_name = "JSON",
        hide = true,
        hide_env_values = true
    )]
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
    /// Keys of the export.
    pub keys: DeidKeysOptions,
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
    /// The id of the patient with whom the dates of the resource move, for dateShiftScope patient [default: the one that the resource
    /// names, as in an export]
    #[arg(long, value_name = "ID")]
    pub patient: Option<String>,
    #[command(flatten)]
    /// Keys of the export.
    pub keys: DeidKeysOptions,
    #[command(flatten)]
    /// Base URLs of references, which name the patients by whom dates move.
    pub base_urls: BaseUrlOptions,
    #[command(flatten)]
    /// Time of the export.
    pub time: TransactionTimeArgs,
    #[command(flatten)]
    /// FHIR version of the resources.
    pub version: FhirVersionArgs,
}

/// The option for the time of an export.
#[derive(Debug, Args)]
pub struct TransactionTimeArgs {
    /// The transactionTime of the export, as its manifest has it. Ages, and conditions with today(), are of this time [default: now; in a
    /// report, that of an export of the directory now]
    #[arg(long, value_name = "INSTANT", value_parser = parse_transaction_time)]
    pub transaction_time: Option<Millis>,
}

/// Parses the time of an export.
fn parse_transaction_time(text: &str) -> Result<Millis, String> {
    let time = Instant::parse(text).ok().and_then(Millis::from_instant);
    time.ok_or_else(|| {
        "write an instant or a date from 1970 on, such as 2026-11-29T10:00:00Z; without a time zone, it is in UTC".to_owned()
    })
}

/// The FHIR version option.
#[derive(Debug, Args)]
pub struct FhirVersionArgs {
    /// The FHIR version of the resources: 4.0.1, 4.3.0 or 5.0.0 [default: 4.0.1]
    #[arg(long, env = "HEADRACE_FHIR_VERSION", value_name = "VERSION")]
    pub fhir_version: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_export_is_an_instant_or_a_date_from_1970_on() {
        for (text, millis) in [("1970-01-01", 0), ("1970-01-01T00:00:01", 1_000), ("1970-01-01T01:00:00+01:00", 0), ("1970-01", 0)] {
            assert_eq!(parse_transaction_time(text), Ok(Millis(millis)), "{text}");
        }
        for text in ["1960-01-01T00:00:00Z", "1969-12-31", "yesterday", ""] {
            let error = parse_transaction_time(text).unwrap_err();
            assert!(error.contains("from 1970 on") && error.contains("in UTC"), "{text}: {error}");
        }
    }
}
