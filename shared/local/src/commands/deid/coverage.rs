//! `headrace deid check --coverage` and `--json`: what the rules do to each element, for people and for programs.

use std::collections::BTreeMap;

use headrace_core::request::RemarkNames;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::deid::{ChangingDraws, CoveredElement, DeidConfig, DeidCoverage, DeidRemark, DeidTreatment};
use indicatif::HumanCount;
use serde_json::{Value, json};

/// The number of kept elements that are named.
const MAX_EXAMPLES: usize = 3;

/// Formats the coverage of resource types as text. Elements that remain come first, and of these free text.
pub(super) fn format_coverage(coverage: &[DeidCoverage]) -> String {
    coverage.iter().map(format_type).collect()
}

/// Says how many elements that may identify somebody are kept: texts that people write, and identifiers.
pub(super) fn format_kept(coverage: &[DeidCoverage]) -> String {
    let is_kept_text = |element: &&CoveredElement| element.treatment.keeps() && element.has_free_text;
    let kept_in = |coverage: &DeidCoverage| -> Vec<String> {
        let texts: Vec<&String> = coverage.elements.iter().filter(is_kept_text).map(|element| &element.path).collect();
        // A number such as `Coverage.subscriberId` is a text as well.
        let is_in = |path: &str, text: &str| path.strip_prefix(text).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let is_counted = |path: &&String| texts.iter().any(|text| is_in(path, text));
        let identifiers = coverage.identifiers_beside_id.iter().filter(|path| !is_counted(path));
        texts.iter().copied().chain(identifiers).cloned().collect()
    };
    // Elements of patients are the best examples.
    let (patients, others): (Vec<_>, Vec<_>) = coverage.iter().partition(|coverage| coverage.resource_type == ResourceType::PATIENT);
    let kept: Vec<String> = patients.into_iter().chain(others).flat_map(kept_in).collect();
    let coverage_hint = "--coverage lists what the rules do to each element";
    if kept.is_empty() {
        return format!("Valid does not mean safe: codes and dates can identify somebody, too; {coverage_hint}");
    }
    let examples: Vec<&str> = kept.iter().take(MAX_EXAMPLES).map(String::as_str).collect();
    let (count, noun) = (HumanCount(kept.len() as u64), if kept.len() == 1 { "element" } else { "elements" });
    format!(
        "Valid does not mean safe: it keeps {count} {noun} with names, addresses, identifiers or free text, such as {}; {coverage_hint}",
        examples.join(", ")
    )
}

/// Formats the coverage of one type.
fn format_type(coverage: &DeidCoverage) -> String {
    let mut text = format!("{}\n", coverage.resource_type.as_str());
    let is_kept_text = |element: &&CoveredElement| element.treatment.keeps() && element.has_free_text;
    for (title, has_text) in [(", free text", true), ("", false)] {
        for treatment in DeidTreatment::ALL.into_iter().filter(|treatment| treatment.keeps()) {
            let matches = |element: &&CoveredElement| element.treatment == treatment && is_kept_text(element) == has_text;
            text += &format_group(&format!("{}{title}", treatment.description()), coverage.elements.iter().filter(matches));
        }
    }
    if !coverage.identifiers_beside_id.is_empty() {
        text += "  identifiers that are kept although the id is not\n";
        text.extend(coverage.identifiers_beside_id.iter().map(|path| format!("    {path}\n")));
    }
    for treatment in DeidTreatment::ALL.into_iter().filter(|treatment| !treatment.keeps()) {
        text += &format_group(treatment.description(), coverage.elements.iter().filter(|element| element.treatment == treatment));
    }
    if !coverage.conditional_rules.is_empty() {
        let numbers: Vec<String> = coverage.conditional_rules.iter().map(usize::to_string).collect();
        text += &format!("  rules that apply only where a condition is true, and are left out above: {}\n", numbers.join(", "));
    }
    text
}

/// Formats the elements with one treatment; nothing if there are none.
fn format_group<'c>(title: &str, elements: impl Iterator<Item = &'c CoveredElement>) -> String {
    let lines: String = elements
        .map(|element| {
            let rule = element.rule_number.map(|number| format!(", rule {number}")).unwrap_or_default();
            format!("    {} ({}{rule})\n", element.path, element.type_name)
        })
        .collect();
    if lines.is_empty() { lines } else { format!("  {title}\n{lines}") }
}

/// Formats the remarks, and the coverage if it was asked for, as JSON.
pub(super) fn format_json(
    configuration: &DeidConfig,
    (remarks, names): (&[DeidRemark], &RemarkNames),
    coverage: Option<&[DeidCoverage]>,
) -> String {
    let remarks_json = |remarks: &[DeidRemark]| Value::Array(remarks.iter().map(|remark| remark_json(remark, names)).collect());
    let mut report = BTreeMap::from([
        ("remarks", remarks_json(remarks)),
        ("derivedKeys", json!(configuration.derived_key_names())),
        ("changingDraws", json!(configuration.changing_draws().map(draws_name))),
        ("incrementRemarks", remarks_json(&configuration.increment_remarks())),
    ]);
    if let Some(coverage) = coverage {
        report.insert("coverage", Value::Array(coverage.iter().map(coverage_json).collect()));
    }
    format!("{}\n", serde_json::to_string_pretty(&report).unwrap_or_default())
}

/// Returns the name of the reason why exports have other shifts or noise, so that a client with fixed configurations gets none.
fn draws_name(draws: ChangingDraws) -> &'static str {
    match draws {
        ChangingDraws::MissingKeys => "missing-keys",
        ChangingDraws::EncryptedIds => "encrypted-ids",
    }
}

/// Returns a remark as JSON. `name` is what `--accept-remarks` takes.
fn remark_json(remark: &DeidRemark, names: &RemarkNames) -> Value {
    json!({
        "name": names.name(remark),
        "severity": remark.severity.as_str(),
        "code": remark.code.as_str(),
        "rule": remark.rule_number,
        "path": remark.path,
        "reason": remark.reason,
        "remedy": remark.remedy,
    })
}

/// Returns the coverage of a type as JSON.
fn coverage_json(coverage: &DeidCoverage) -> Value {
    let element = |element: &CoveredElement| {
        json!({
            "path": element.path,
            "type": element.type_name,
            "treatment": element.treatment.as_str(),
            "rule": element.rule_number,
            "freeText": element.has_free_text,
        })
    };
    json!({
        "type": coverage.resource_type.as_str(),
        "elements": coverage.elements.iter().map(element).collect::<Vec<_>>(),
        "identifiersBesideId": coverage.identifiers_beside_id,
        "conditionalRules": coverage.conditional_rules,
    })
}
