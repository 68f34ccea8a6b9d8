//! What an export must hold, found out simply and slowly.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Result;
use crate::lake;

/// The lake's lines that a system export with these filters has, sorted.
///
/// * `types`: only these; `None` means all.
/// * `since`: only lines whose `meta.lastUpdated` is later, and those without one.
pub fn expected(dir: &Path, types: Option<&[&str]>, since: Option<&str>) -> Result<Vec<Vec<u8>>> {
    let since = since.map(|text| OffsetDateTime::parse(text, &Rfc3339)).transpose()?;
    let mut kept = Vec::new();
    for line in lake::lines(dir)? {
        let resource: Value = serde_json::from_slice(&line)?;
        let kind = kind_of(&resource);
        let changed =
            resource.pointer("/meta/lastUpdated").and_then(Value::as_str).map(|text| OffsetDateTime::parse(text, &Rfc3339)).transpose()?;
        let is_old = since.zip(changed).is_some_and(|(since, changed)| changed <= since);
        if types.is_none_or(|types| types.contains(&kind)) && !is_old {
            kept.push(line);
        }
    }
    kept.sort();
    Ok(kept)
}

/// The types of these lines.
pub fn types(lines: &[Vec<u8>]) -> Result<BTreeSet<String>> {
    lines.iter().map(|line| Ok(kind_of(&serde_json::from_slice(line)?).to_owned())).collect()
}

fn kind_of(resource: &Value) -> &str {
    resource.get("resourceType").and_then(Value::as_str).unwrap_or_default()
}
