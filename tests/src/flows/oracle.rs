//! Expected contents of exports, computed by a simple and slow implementation that shares no code with the service.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Result;
use crate::lake;

/// Returns the sorted lines of the lake that a system export with these filters contains.
///
/// * `types`: exported resource types; `None` means all.
/// * `since`: only lines whose `meta.lastUpdated` is later or missing.
pub fn expected_lines(dir: &Path, types: Option<&[&str]>, since: Option<&str>) -> Result<Vec<Vec<u8>>> {
    let since = since.map(|text| OffsetDateTime::parse(text, &Rfc3339)).transpose()?;
    let mut kept = Vec::new();
    for line in lake::lines(dir)? {
        let resource: Value = serde_json::from_slice(&line)?;
        let resource_type = resource_type(&resource);
        let changed =
            resource.pointer("/meta/lastUpdated").and_then(Value::as_str).map(|text| OffsetDateTime::parse(text, &Rfc3339)).transpose()?;
        let is_too_old = since.zip(changed).is_some_and(|(since, changed)| changed <= since);
        if types.is_none_or(|types| types.contains(&resource_type)) && !is_too_old {
            kept.push(line);
        }
    }
    kept.sort();
    Ok(kept)
}

/// Returns the resource types of the lines.
pub fn resource_types(lines: &[Vec<u8>]) -> Result<BTreeSet<String>> {
    lines.iter().map(|line| Ok(resource_type(&serde_json::from_slice(line)?).to_owned())).collect()
}

/// Returns the `resourceType`, or an empty string if it is absent.
fn resource_type(resource: &Value) -> &str {
    resource.get("resourceType").and_then(Value::as_str).unwrap_or_default()
}
