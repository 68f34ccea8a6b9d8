//! `headrace deid`: an anonymization configuration, looked at before an export goes by it.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use headrace_core::job::anonymization::LIMIT_BYTES;
use headrace_core::ports::Clock as _;
use headrace_edge::config::{ConfigError, read_version};
use headrace_edge::system::{SystemClock, random_secret};
use headrace_fhir::{DeidConfigError, DeidFailure, DeidStep, DeidConfig, DeidExplanation, FhirVersion, DeidJobContext, ResourceType};
use serde_json::Value;

use crate::cli::{Deid, DeidCommand, DeidCheckArgs, DeidPreviewArgs, FhirVersionArgs};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckStatus {
    /// There is nothing to look at.
    Clean,
    /// It can be used, and something in it should be looked at.
    HasWarnings,
}

/// Why a command about a configuration failed.
#[derive(Debug, thiserror::Error)]
pub enum DeidCommandError {
    /// A file cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Longer than an export would read.
    #[error("`{0}` is longer than the 1 MB that an export reads")]
    TooLong(PathBuf),
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration has faults.
    #[error("`{path}` cannot be used:\n{}", format_faults(.faults))]
    Faulty {
        /// Which file.
        path: PathBuf,
        /// Its faults.
        faults: DeidConfigError,
    },
    /// Not a type of this version.
    #[error("`{0}` is no resource type of this version of FHIR")]
    Type(String),
    /// The resource is none.
    #[error("`{0}` holds no JSON object")]
    NoResource(PathBuf),
    /// The resource cannot be de-identified.
    #[error("the resource cannot be de-identified: {0}")]
    Failed(DeidFailure),
    /// There are no random numbers.
    #[error(transparent)]
    Random(#[from] headrace_core::vocab::error::StoreError),
}

fn format_faults(faults: &DeidConfigError) -> String {
    faults.0.iter().map(|fault| format!("  {fault}")).collect::<Vec<_>>().join("\n")
}

/// Runs the command and prints what it found.
pub fn deid(order: &Deid) -> Result<CheckStatus, DeidCommandError> {
    let (said, checked) = match &order.action {
        DeidCommand::Check(order) => check(order)?,
        DeidCommand::Preview(order) => (preview(order, io::stdout().is_terminal())?, CheckStatus::Clean),
    };
    // A reader that has gone away wants no more.
    drop(io::stdout().write_all(said.as_bytes()));
    Ok(checked)
}

fn version(order: &FhirVersionArgs) -> Result<FhirVersion, ConfigError> {
    order.fhir_version.as_deref().filter(|text| !text.is_empty()).map(read_version).transpose().map(Option::unwrap_or_default)
}

fn read(path: &Path) -> Result<Vec<u8>, DeidCommandError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") { io::stdin().read_to_end(&mut bytes).map(|_| bytes) } else { std::fs::read(path) };
    read.map_err(|cause| DeidCommandError::Read { path: path.to_owned(), cause })
}

fn configuration(path: &Path, version: FhirVersion) -> Result<DeidConfig, DeidCommandError> {
    let bytes = read(path)?;
    if bytes.len() as u64 > LIMIT_BYTES {
        return Err(DeidCommandError::TooLong(path.to_owned()));
    }
    DeidConfig::parse(&bytes, version).map_err(|faults| DeidCommandError::Faulty { path: path.to_owned(), faults })
}

fn check(order: &DeidCheckArgs) -> Result<(String, CheckStatus), DeidCommandError> {
    let version = version(&order.version)?;
    let known = |name: &String| {
        let kind = ResourceType::named(name).filter(|kind| version.types().contains(*kind));
        kind.ok_or_else(|| DeidCommandError::Type(name.clone()))
    };
    let types: Vec<ResourceType> = order.types.iter().map(known).collect::<Result<_, _>>()?;
    let configuration = configuration(&order.config, version)?;
    let remarks = configuration.lint();
    let mut said: String = remarks.iter().map(|remark| format!("{remark}\n")).collect();
    match configuration.derived_key_names().as_slice() {
        [] => {}
        wanted => said += &format!("{}: empty, so each export makes its own, and one does not join with another\n", wanted.join(", ")),
    }
    for kind in types {
        let untouched = configuration.untouched_elements(kind);
        said += &format!("{}: {} elements that no rule touches are exported as they are\n", kind.as_str(), untouched.len());
        for element in untouched {
            said += &format!("  {} ({})\n", element.path, element.type_name);
        }
    }
    let checked = if remarks.is_empty() { CheckStatus::Clean } else { CheckStatus::HasWarnings };
    said += match checked {
        CheckStatus::Clean => "the configuration can be used\n",
        CheckStatus::HasWarnings => "the configuration can be used; look at the remarks above\n",
    };
    Ok((said, checked))
}

fn preview(order: &DeidPreviewArgs, has_colours: bool) -> Result<String, DeidCommandError> {
    let configuration = configuration(&order.config, version(&order.version)?)?;
    let before: Value = serde_json::from_slice(&read(&order.resource)?)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| DeidCommandError::NoResource(order.resource.clone()))?;
    let text = |name: &str| before.get(name).and_then(Value::as_str);
    let own = || text("id").filter(|_| text("resourceType") == Some("Patient")).map(str::to_owned);
    let patient = order.patient.clone().or_else(own);
    let terms = DeidJobContext { key: random_secret()?.0, today: SystemClock.now().day() };
    let rules = configuration.for_job(&terms);
    let DeidExplanation { steps, after } =
        rules.explain(before.to_string().as_bytes(), patient.as_deref()).map_err(DeidCommandError::Failed)?;
    let after: Value = serde_json::from_slice(&after).unwrap_or_default();
    let mut said = steps.iter().map(|step| format_step(step, has_colours)).collect::<String>();
    said += &format!("\n{}\n", serde_json::to_string_pretty(&after).unwrap_or_default());
    Ok(said)
}

/// Red what was there, green what is there now.
fn format_step(step: &DeidStep, has_colours: bool) -> String {
    let paint = |colour: &str, text: &str| if has_colours { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() };
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    let DeidStep { rule, path, method, place, before, after } = step;
    let title = paint("1", place);
    if before == after {
        return format!("{title}  rule {rule}, {method} `{path}`: stays\n");
    }
    let (before, after) = (paint("31", &value(before)), paint("32", &value(after)));
    format!("{title}  rule {rule}, {method} `{path}`\n  - {before}\n  + {after}\n")
}
