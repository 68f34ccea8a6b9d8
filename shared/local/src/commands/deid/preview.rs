//! `headrace deid preview`: what each rule does to one resource.

use headrace_core::ports::Clock as _;
use headrace_core::vocab::byte_order_mark::without_byte_order_mark;
use headrace_edge::system::SystemClock;
use headrace_fhir::deid::{DeidExplanation, DeidStep, Deidentified};
use headrace_fhir::head::{MemberIndex, Resource};
use headrace_fhir::json::JsonValue;

use super::DeidCommandError;
use super::inputs::{ExportRules, KeyedConfiguration, check_standard_input, read_file};
use crate::cli::DeidPreviewArgs;
use crate::terminal::{printable, printable_json, printable_lines};

/// Formats the steps of a de-identification and the resulting resource.
///
/// The file is read and the result is written by the code of an export, so that both always agree: about numbers, escapes, the
/// patient of a resource, and files that are not resources.
pub(super) fn preview(args: &DeidPreviewArgs, use_colors: bool) -> Result<String, DeidCommandError> {
    check_standard_input(&[&args.config, &args.resource], &args.keys)?;
    let configuration = KeyedConfiguration::read(&args.config, &args.keys, &args.version)?;
    let time = args.time.transaction_time.unwrap_or_else(|| SystemClock.now());
    let rules = configuration.for_export(time, args.base_urls.bases()?)?;
    if args.patient.is_some() && !rules.deidentifier.needs_patient_id() {
        return Err(DeidCommandError::UnusedPatient);
    }
    let bytes = read_file(&args.resource)?;
    // The reader of a lake drops a byte order mark, too.
    let line = without_byte_order_mark(&bytes);
    Resource::parse(line, &mut MemberIndex::default())
        .map_err(|reason| DeidCommandError::InvalidResource { path: args.resource.clone(), reason })?;
    let patient = args.patient.clone().or_else(|| rules.patient_of(line));
    let mut exported = Vec::new();
    let result = rules.deidentifier.deidentify(line, patient.as_deref(), &mut exported).map_err(DeidCommandError::Failed)?;
    let mut output = match result {
        Deidentified::Complete => format_steps(&explain(&rules, line, patient.as_deref())?, use_colors),
        Deidentified::TypeOnly(failure) => printable_lines(&format!("only the type is exported: {failure}\n")).into_owned(),
    };
    let exported = String::from_utf8_lossy(&exported);
    output += &format!("\n{}\n", printable_json(&JsonValue::from_valid(&exported).to_pretty()));
    Ok(output)
}

/// Returns the steps of a de-identification.
fn explain(rules: &ExportRules, line: &[u8], patient: Option<&str>) -> Result<DeidExplanation, DeidCommandError> {
    rules.deidentifier.explain(line, patient).map_err(DeidCommandError::Failed)
}

/// Formats all steps.
fn format_steps(explanation: &DeidExplanation, use_colors: bool) -> String {
    let mut text: String = explanation.steps.iter().map(|step| format_step(step, use_colors)).collect();
    if !explanation.is_exact {
        text += "\nthe steps above do not explain the resource below; report this fault\n";
    }
    text
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
