//! `headrace deid`: checks and previews an anonymization configuration before an export uses it.

mod coverage;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use headrace_core::ports::Clock as _;
use headrace_core::request::{MAX_CONFIG_BYTES, RemarkNames};
use headrace_core::vocab::config_digest::ConfigDigest;
use headrace_core::vocab::error::SourceError;
use headrace_core::vocab::plural::counted;
use headrace_edge::config::parse_fhir_version;
use headrace_edge::system::{SystemClock, random_job_secret};
use headrace_fhir::definitions::{FhirVersion, ResourceType};
use headrace_fhir::deid::{DeidConfig, DeidConfigError, DeidCoverage, DeidFailure, DeidJobContext, DeidStep, Deidentified};
use headrace_fhir::head::{InvalidResource, MemberIndex, Resource};
use headrace_fhir::json::JsonValue;
use headrace_fhir::semantics::compartment::PatientCompartment;
use headrace_fhir::semantics::reference::BaseUrls;

use crate::cli::{
    DeidArgs, DeidCheckArgs, DeidCommand, DeidKeygenArgs, DeidPreviewArgs, DeidReportArgs, FhirVersionArgs, OptionError, parse_option,
};
use crate::commands::deid_report::DeidReport;
use crate::stores::deid_keys::{DeidKeysFileError, generate_deid_keys};
use crate::stores::directory::DirectoryLake;
use crate::terminal::{print_escaped, print_result, printable, printable_json, printable_lines};
use coverage::{format_coverage, format_json, format_kept};

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

/// Parses the FHIR version option. Defaults to 4.0.1.
fn parse_version(args: &FhirVersionArgs) -> Result<FhirVersion, OptionError> {
    Ok(parse_option(&args.fhir_version, parse_fhir_version)?.unwrap_or_default())
}

/// Reads a file, or standard input for `-`.
fn read_file(path: &Path) -> Result<Vec<u8>, DeidCommandError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") { io::stdin().read_to_end(&mut bytes).map(|_| bytes) } else { std::fs::read(path) };
    read.map_err(|cause| DeidCommandError::Read { path: path.to_owned(), cause })
}

/// Reads and parses an anonymization configuration.
fn read_configuration(path: &Path, version: FhirVersion) -> Result<DeidConfig, DeidCommandError> {
    parse_configuration(path, &read_file(path)?, version)
}

/// Parses the text of an anonymization configuration.
fn parse_configuration(path: &Path, text: &[u8], version: FhirVersion) -> Result<DeidConfig, DeidCommandError> {
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(DeidCommandError::TooLong(path.to_owned()));
    }
    DeidConfig::parse(text, version).map_err(|faults| DeidCommandError::Invalid { path: path.to_owned(), faults })
}

/// Formats the warnings of a configuration and, for each requested type, the elements that no rule matches.
fn check(args: &DeidCheckArgs) -> Result<(String, CheckStatus), DeidCommandError> {
    let version = parse_version(&args.version)?;
    let types: Vec<ResourceType> = args.types.iter().map(|name| parse_type(name, version)).collect::<Result<_, _>>()?;
    let text = read_file(&args.config)?;
    let (configuration, remark_names) = (parse_configuration(&args.config, &text, version)?, RemarkNames::new(&text));
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
    match configuration.derived_key_names().as_slice() {
        [] => {}
        wanted => {
            output += &format!(
                "note: {}: empty, so each export generates its own key, and resources of different exports cannot be linked; for increments, give \
                 keys of `headrace deid keygen` apart from the configuration\n",
                wanted.join(", ")
            )
        }
    }
    if let Some(coverage) = coverage {
        output += &format_coverage(coverage);
    }
    for kind in types.into_iter().filter(|_| coverage.is_none()) {
        let unmatched = configuration.untouched_elements(kind);
        let elements = counted(
            unmatched.len() as u64,
            "element matches no rule and is exported unchanged",
            "elements match no rule and are exported unchanged",
        );
        output += &format!("{}: {elements}\n", kind.as_str());
        for element in unmatched {
            output += &format!("  {} ({})\n", element.path, element.type_name);
        }
    }
    for remark in configuration.increment_remarks() {
        output += &format!("for exports with --since: {remark}\n");
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

/// Returns what the rules do to the elements of these types, or of all types if there are none.
fn coverage_of(configuration: &DeidConfig, version: FhirVersion, types: &[ResourceType]) -> Vec<DeidCoverage> {
    let all = || version.types().iter().collect();
    let types = if types.is_empty() { all() } else { types.to_vec() };
    types.into_iter().filter_map(|kind| configuration.coverage(kind)).collect()
}

/// Applies the rules to the resources of a directory and formats the report about it.
async fn report(args: &DeidReportArgs) -> Result<(String, CheckStatus), DeidCommandError> {
    let version = parse_version(&args.version)?;
    let types: BTreeSet<ResourceType> = args.types.iter().map(|name| parse_type(name, version)).collect::<Result<_, _>>()?;
    let digest = ConfigDigest::from_bytes(&read_file(&args.config)?);
    let now = SystemClock.now();
    let job = DeidJobContext { key: random_job_secret()?.0, today: now.day(), time: now.time_of_day() };
    let rules = read_configuration(&args.config, version)?.for_job(&job);
    let report = DeidReport::from_directory(&DirectoryLake::open(&args.source), &rules, &types).await?;
    let (name, digest) = (args.config.display().to_string(), digest.to_string());
    let output = if args.json {
        printable_json(&format!("{:#}\n", report.to_json(&name, &digest))).into_owned()
    } else {
        report.to_text(&name, &digest)
    };
    Ok((output, if report.has_failures() { CheckStatus::HasRemarks } else { CheckStatus::Clean }))
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

/// Formats the steps of a de-identification and the resulting resource.
///
/// The file is read and the result is written by the code of an export, so that both always agree: about numbers, escapes, the
/// patient of a resource, and files that are not resources.
fn preview(args: &DeidPreviewArgs, use_colors: bool) -> Result<String, DeidCommandError> {
    let version = parse_version(&args.version)?;
    let configuration = read_configuration(&args.config, version)?;
    let bytes = read_file(&args.resource)?;
    // The reader of a lake drops a byte order mark, too.
    let line = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut member_index = MemberIndex::default();
    let resource = Resource::parse(line, &mut member_index)
        .map_err(|reason| DeidCommandError::InvalidResource { path: args.resource.clone(), reason })?;
    let first_patient = || PatientCompartment::new(version, BaseUrls::any()).first_patient(&resource);
    let patient = args.patient.clone().or_else(first_patient);
    let now = SystemClock.now();
    let job = DeidJobContext { key: random_job_secret()?.0, today: now.day(), time: now.time_of_day() };
    let rules = configuration.for_job(&job);
    let mut exported = Vec::new();
    let result = rules.deidentify(line, patient.as_deref(), &mut exported).map_err(DeidCommandError::Failed)?;
    let mut output = match result {
        Deidentified::Complete => {
            let steps = rules.explain(line, patient.as_deref()).map_err(DeidCommandError::Failed)?.steps;
            steps.iter().map(|step| format_step(step, use_colors)).collect::<String>()
        }
        Deidentified::TypeOnly(failure) => printable_lines(&format!("only the type is exported: {failure}\n")).into_owned(),
    };
    let exported = String::from_utf8_lossy(&exported);
    output += &format!("\n{}\n", printable_json(&JsonValue::from_valid(&exported).to_pretty()));
    Ok(output)
}

/// Formats one step: the old value in red, the new value in green.
fn format_step(step: &DeidStep, use_colors: bool) -> String {
    let paint = |color: &str, text: &str| if use_colors { format!("\u{1b}[{color}m{text}\u{1b}[0m") } else { text.to_owned() };
    // The values are of the resource, and the paths of the configuration.
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| "(none)".to_owned(), |value| printable(value).into_owned());
    let DeidStep { rule_number, path, method, element_path, before, after } = step;
    let (path, element_path) = (printable(path), &printable(element_path));
    let title = paint("1", element_path);
    if before == after {
        return format!("{title}  rule {rule_number}, {method} `{path}`: unchanged\n");
    }
    let (before, after) = (paint("31", &value(before)), paint("32", &value(after)));
    format!("{title}  rule {rule_number}, {method} `{path}`\n  - {before}\n  + {after}\n")
}
