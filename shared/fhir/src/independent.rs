//! Tables of the same definitions as ours that were derived independently. They are no part of this repository; where they
//! do not lie beside the checkout, there is nothing to compare with.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::FhirVersion;

/// The first word: `patient-compartment`, `search-params`, `types`.
pub(crate) fn table(name: &str, version: FhirVersion) -> Option<Value> {
    let release = match version {
        FhirVersion::R4 => "r4",
        FhirVersion::R4b => "r4b",
        FhirVersion::R5 => "r5",
    };
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tables");
    let text = fs::read(beside.join(format!("{name}-{release}.json"))).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

/// The members of an object.
pub(crate) fn members(json: &Value) -> impl Iterator<Item = (&str, &Value)> {
    json.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}
