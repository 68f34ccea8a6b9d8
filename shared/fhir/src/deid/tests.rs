use serde_json::Value;
use time::macros::date;

use super::*;
use crate::json::Shape;

mod agreement;
mod vectors;

const TODAY: Date = date!(2026 - 11 - 21);

fn terms() -> JobTerms {
    JobTerms { key: [7; 32], today: TODAY }
}

/// A configuration, ready to work on R4.
fn ready(config: &str) -> Deidentifier {
    Deidentification::read(config.as_bytes(), FhirVersion::R4).unwrap().with(&terms())
}

fn apply(deidentifier: &Deidentifier, resource: &str) -> Result<String, DeidFailure> {
    let mut out = Vec::new();
    deidentifier.apply(resource.as_bytes(), None, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap()
}
