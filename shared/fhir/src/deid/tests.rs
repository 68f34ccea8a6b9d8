use serde_json::Value;
use time::macros::date;

use super::*;
use crate::json::Shape;

mod agreement;
mod configuration;
mod identifiers;
mod lint;
mod methods;
mod paths;
mod rules;
mod vectors;

const TODAY: Date = date!(2026 - 11 - 21);

fn terms() -> JobTerms {
    JobTerms { key: [7; 32], today: TODAY }
}

/// A configuration, ready to work on R4.
fn ready(config: &str) -> Deidentifier {
    Deidentification::read(config.as_bytes(), FhirVersion::R4).unwrap().with(&terms())
}

/// A configuration of rules, each a path and its settings, and of parameters.
fn configuration(rules: &[[&str; 2]], parameters: &str) -> String {
    let rules: Vec<_> = rules.iter().map(|[path, settings]| format!(r#"{{"path":{},{settings}}}"#, Value::from(*path))).collect();
    format!(r#"{{"fhirPathRules":[{}],"parameters":{{{parameters}}}}}"#, rules.join(","))
}

fn apply(deidentifier: &Deidentifier, resource: &str) -> Result<String, DeidFailure> {
    let mut out = Vec::new();
    deidentifier.apply(resource.as_bytes(), None, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap()
}
