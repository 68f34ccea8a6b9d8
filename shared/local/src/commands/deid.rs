//! `headrace deid`: checks and previews an anonymization configuration before an export uses it.

mod coverage;
mod inputs;
mod preview;
mod report;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use headrace_core::flow::export_time::determine_export_time;
use headrace_core::ports::{Clock as _, ResourceSource as _};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::SourceError;
use headrace_core::vocab::plural::counted;
use headrace_edge::system::SystemClock;
use headrace_fhir::definitions::{FhirVersion, ResourceType};
use headrace_fhir::deid::{ChangingDraws, DeidConfig, DeidConfigError, DeidCoverage, DeidFailure};
use headrace_fhir::head::InvalidResource;

use crate::cli::{DeidArgs, DeidCheckArgs, DeidCommand, DeidKeygenArgs, DeidReportArgs, OptionError, non_empty};
use crate::stores::deid_keys::{DeidKeysFileError, generate_deid_keys};
use crate::stores::directory::DirectoryLake;
use crate::terminal::{print_escaped, print_result, printable_json};
use coverage::{format_coverage, format_json, format_kept};
use inputs::{KeyedConfiguration, check_standard_input};
use preview::preview;
use report::{DeidReport, ReportInputs};

/// Result of a check, for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckStatus {
    /// The linter has no remarks about the configuration.
    Clean,
    /// The configuration can be parsed, and the linter has remarks.
    HasRemarks,
}

/// Failure of `headrace deid`.
#[derive(Debug, thiserror::Error)]
pub enum DeidCommandError {
    /// A file cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// Two inputs are standard input.
    #[error("`-` is given for two files, but standard input can be read only once; give the path of one of them")]
    StandardInputTwice,
    /// The time of the export is given twice.
    #[error(
        "--lake-watermark (HEADRACE_LAKE_WATERMARK) would have no effect: --transaction-time says the time of the export; give one of them, or \
         unset the variable"
    )]
    TimeTwice,
    /// The given patient would have no effect.
    #[error(
        "--patient would have no effect: it is for a configuration with dateShiftScope `patient`, and this one does not move dates by patients"
    )]
    UnusedPatient,
    /// The configuration exceeds the size that an export accepts.
    #[error("`{0}` is longer than 1 MB, the largest size that an export accepts")]
    TooLong(PathBuf),
    /// The value of an option is invalid.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The configuration is invalid.
    #[error("`{path}` is invalid:\n{}", format_faults(.faults))]
    Invalid {
        /// Path of the configuration.
        path: PathBuf,
        /// Errors of the configuration.
        faults: DeidConfigError,
    },
    /// The resource type does not exist in this FHIR version.
    #[error("`{0}` is not a resource type of this FHIR version")]
    UnknownType(String),
    /// The file does not contain one resource, in the sense of an export.
    #[error("an export would leave `{path}` out: {reason}. The file must contain one resource")]
    InvalidResource {
        /// Path of the file.
        path: PathBuf,
        /// Reason that an export would report.
        reason: InvalidResource,
    },
    /// The resource cannot be de-identified.
    #[error("the resource cannot be de-identified: {0}")]
    Failed(DeidFailure),
    /// The directory cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The keys cannot be read or written.
    #[error(transparent)]
    Keys(#[from] DeidKeysFileError),
    /// The random number generator failed.
    #[error(transparent)]
    Random(#[from] headrace_core::vocab::error::StoreError),
}

/// Formats the errors of a configuration, one per line.
fn format_faults(faults: &DeidConfigError) -> String {
    faults.0.iter().map(|fault| format!("  {fault}")).collect::<Vec<_>>().join("\n")
}

/// Runs `headrace deid` and prints its result.
pub async fn run_deid(args: &DeidArgs) -> Result<CheckStatus, DeidCommandError> {
    let (output, status) = match &args.command {
        DeidCommand::Check(args) => check(args)?,
        DeidCommand::Preview(args) => {
            print_escaped(&preview(args, io::stdout().is_terminal())?);
            return Ok(CheckStatus::Clean);
        }
        DeidCommand::Report(args) => report(args).await?,
        DeidCommand::Keygen(args) => (keygen(args)?, CheckStatus::Clean),
    };
    print_result(&output);
    Ok(status)
}

/// Formats the warnings of a configuration and, for each requested type, the elements that no rule matches.
fn check(args: &DeidCheckArgs) -> Result<(String, CheckStatus), DeidCommandError> {
    check_standard_input(&[&args.config], &args.keys)?;
    let read = KeyedConfiguration::read(&args.config, &args.keys, &args.version)?;
    let KeyedConfiguration { config: configuration, remark_names, version, .. } = read;
    let types: Vec<ResourceType> = args.types.iter().map(|name| parse_type(name, version)).collect::<Result<_, _>>()?;
    let mut remarks = configuration.lint();
    remarks.extend(configuration.key_remarks());
    remarks.extend(configuration.lasting_key_remarks());
    let status = if remarks.is_empty() { CheckStatus::Clean } else { CheckStatus::HasRemarks };
    let all = coverage_of(&configuration, version, &types);
    let coverage = args.coverage.then_some(&all);
    if args.json {
        return Ok((
            printable_json(&format_json(&configuration, (&remarks, &remark_names), coverage.map(Vec::as_slice))).into_owned(),
            status,
        ));
    }
    let mut output: String = remarks.iter().map(|remark| format!("{remark}\n")).collect();
    output += &format_derived_keys(&configuration.derived_key_names());
    if let Some(coverage) = coverage {
        output += &format_coverage(coverage);
    }
    for kind in types.into_iter().filter(|_| coverage.is_none()) {
        output += &format_untouched(&configuration, kind);
    }
    for remark in configuration.increment_remarks() {
        output += &format!("for exports with --since: {remark}\n");
    }
    if let Some(draws) = configuration.changing_draws() {
        output += &format!("for clients with fixed configurations: {}\n", refusal_for_fixed_clients(draws));
    }
    let names: Vec<String> = remarks.iter().map(|remark| remark_names.name(remark)).collect();
    output += &match status {
        CheckStatus::Clean => format!("the configuration is valid. {}\n", format_kept(&all)),
        CheckStatus::HasRemarks => {
            format!("no export uses the configuration, unless these remarks are accepted by name: --accept-remarks {}\n", names.join(","))
        }
    };
    Ok((output, status))
}

/// Formats a note about keys that each export generates. Empty if there are none.
fn format_derived_keys(names: &[&'static str]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!(
        "note: {}: empty, so each export generates its own key, and resources of different exports cannot be linked; for increments, give \
         keys of `headrace deid keygen` apart from the configuration\n",
        names.join(", ")
    )
}

/// Formats the elements of a type that no rule matches.
fn format_untouched(configuration: &DeidConfig, kind: ResourceType) -> String {
    let unmatched = configuration.untouched_elements(kind);
    let elements = counted(
        unmatched.len() as u64,
        "element matches no rule and is exported unchanged",
        "elements match no rule and are exported unchanged",
    );
    let lines = unmatched.into_iter().map(|element| format!("  {} ({})\n", element.path, element.type_name));
    format!("{}: {elements}\n{}", kind.as_str(), lines.collect::<String>())
}

/// Returns why a client with fixed configurations gets no export, by the rule of a kick-off.
fn refusal_for_fixed_clients(draws: ChangingDraws) -> &'static str {
    match draws {
        ChangingDraws::MissingKeys => {
            "no export starts without lasting keys, because each would shift dates or perturb numbers anew; make keys with `headrace deid keygen`"
        }
        ChangingDraws::EncryptedIds => {
            "no export starts, because each would shift dates anew; set dateShiftScope to `patient`, or do not encrypt ids"
        }
    }
}

/// Returns what the rules do to the elements of these types, or of all types if there are none.
fn coverage_of(configuration: &DeidConfig, version: FhirVersion, types: &[ResourceType]) -> Vec<DeidCoverage> {
    let all = || version.types().iter().collect();
    let types = if types.is_empty() { all() } else { types.to_vec() };
    types.into_iter().filter_map(|kind| configuration.coverage(kind)).collect()
}

/// Applies the rules to the resources of a directory and formats the report about it.
async fn report(args: &DeidReportArgs) -> Result<(String, CheckStatus), DeidCommandError> {
    check_standard_input(&[&args.config], &args.keys)?;
    let configuration = KeyedConfiguration::read(&args.config, &args.keys, &args.version)?;
    let types: BTreeSet<ResourceType> = args.types.iter().map(|name| parse_type(name, configuration.version)).collect::<Result<_, _>>()?;
    let lake = DirectoryLake::open(&args.source);
    lake.check().await?;
    let transaction_time = transaction_time(args, &lake).await?;
    let rules = configuration.for_export(transaction_time, args.base_urls.bases()?)?;
    let report = DeidReport::from_directory(&lake, &rules, &types).await?;
    let name = args.config.display().to_string();
    let derived_keys = configuration.config.derived_key_names();
    let inputs = ReportInputs { configuration: &name, digest: &configuration.digest, transaction_time, derived_keys };
    let output = if args.json { printable_json(&format!("{:#}\n", report.to_json(&inputs))).into_owned() } else { report.to_text(&inputs) };
    Ok((output, if report.has_failures() { CheckStatus::HasRemarks } else { CheckStatus::Clean }))
}

/// Returns the given time of an export, else the time of an export of the lake now.
async fn transaction_time(args: &DeidReportArgs, lake: &DirectoryLake) -> Result<Millis, DeidCommandError> {
    let rule = args.watermark.rule()?;
    match args.time.transaction_time {
        Some(_) if non_empty(&args.watermark.lake_watermark).is_some() => Err(DeidCommandError::TimeTwice),
        Some(time) => Ok(time),
        None => Ok(determine_export_time(lake, rule, SystemClock.now()).await?.transaction_time),
    }
}

/// Parses the name of a resource type of a FHIR version.
fn parse_type(name: &str, version: FhirVersion) -> Result<ResourceType, DeidCommandError> {
    let kind = ResourceType::parse(name).filter(|kind| version.types().contains(*kind));
    kind.ok_or_else(|| DeidCommandError::UnknownType(name.to_owned()))
}

/// Generates keys. Returns the message about the file; none if the keys themselves are the output.
fn keygen(args: &DeidKeygenArgs) -> Result<String, DeidCommandError> {
    generate_deid_keys(&args.out)?;
    if args.out == Path::new("-") {
        return Ok(String::new());
    }
    Ok(format!(
        "the keys are in {}\nkeep them as long as exports must have the same pseudonyms: headrace export --deid-keys {0}\n",
        args.out.display()
    ))
}
