//! Definitions that were derived independently from the same packages, for comparison with ours. They are not part of this
//! repository. Without them beside the checkout, the comparisons are skipped.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::definitions::FhirVersion;

/// Reads an independent table: `patient-compartment`, `search-params` or `types`. Returns `None` if it is not available.
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

/// Returns the members of an object.
pub(crate) fn members(json: &Value) -> impl Iterator<Item = (&str, &Value)> {
    json.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}
