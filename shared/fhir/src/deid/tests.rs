use serde_json::Value;
use time::macros::date;

use super::config::Method;
use super::*;
use crate::json::JsonType;

mod addresses;
mod bundles;
mod changing_draws;
mod conditions;
mod configuration;
mod engine_agreement;
mod explanations;
mod identifiers;
mod impossible_rules;
mod items;
mod known_dates;
mod lint;
mod methods;
mod paths;
mod rules;
mod samples;
mod vectors;

const TODAY: Date = date!(2026 - 11 - 21);

const NOON: time::Time = time::macros::time!(12:00);

/// Returns the inputs of a job.
fn job() -> DeidJobContext {
    DeidJobContext { key: [7; 32], today: TODAY, time: NOON }
}

/// Returns a de-identifier for R4 with a configuration.
fn deidentifier(config: &str) -> Deidentifier {
    DeidConfig::parse(config.as_bytes(), FhirVersion::R4).unwrap().for_job(&job())
}

/// Returns a configuration. Each rule is a path and its settings.
fn configuration(rules: &[[&str; 2]], parameters: &str) -> String {
    let rules: Vec<_> = rules.iter().map(|[path, settings]| format!(r#"{{"path":{},{settings}}}"#, Value::from(*path))).collect();
    format!(r#"{{"fhirPathRules":[{}],"parameters":{{{parameters}}}}}"#, rules.join(","))
}

/// Returns the rules of the sample for a study that redact dates which readers know. They precede the rules that shift all dates.
fn known_date_rules() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/samples/anonymization/study.json");
    let sample = DeidConfig::parse(&std::fs::read(path).unwrap(), FhirVersion::R4).unwrap();
    let rules = sample.config.rules.iter().skip_while(|rule| rule.path != "ActivityDefinition.nodesByType('dateTime')");
    let rules = rules.take_while(|rule| rule.path != "nodesByType('date')").filter(|rule| matches!(rule.method, Method::Redact));
    let mut paths: Vec<String> = rules.map(|rule| rule.path.clone()).collect();
    // The sample redacts all of these elements.
    let of_data_types = [
        "nodesByType('Annotation').time",
        "nodesByType('Attachment').creation",
        "nodesByType('ContactPoint').period",
        "nodesByType('Identifier').period",
    ];
    paths.extend(of_data_types.map(str::to_owned));
    paths
}

/// Runs a de-identifier on a resource without a patient.
fn deidentify(deidentifier: &Deidentifier, resource: &str) -> Result<String, DeidFailure> {
    let mut out = Vec::new();
    deidentifier.deidentify(resource.as_bytes(), None, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

/// Parses JSON, with or without a byte order mark.
fn parse_json(text: &str) -> Value {
    serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap()
}
