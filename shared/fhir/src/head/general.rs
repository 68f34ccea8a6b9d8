//! The head parser for any JSON text. It reports errors.

use serde::de::IgnoredAny;

use super::resource_head::{InvalidResource, ResourceHead};
use crate::definitions::ResourceType;
use crate::instant::Instant;
use crate::json::{JsonType, JsonValue, duplicate_member};

/// Parses the head of a line. Validates the whole line as JSON in which every object has each of its members once.
pub(super) fn parse(text: &str) -> Result<ResourceHead, InvalidResource> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| InvalidResource::NotJson(error.column()))?;
    let json = JsonValue::from_valid(text);
    if json.json_type() != JsonType::Object {
        return Err(InvalidResource::NotAnObject);
    }
    if let Some(duplicate) = duplicate_member(text) {
        return Err(InvalidResource::DuplicateMember(duplicate.offset + 1));
    }
    let name = json.member("resourceType").and_then(JsonValue::text).ok_or(InvalidResource::MissingType)?;
    let resource_type = ResourceType::parse(&name).ok_or(InvalidResource::UnknownType)?;
    let id = json.member("id").and_then(JsonValue::text);
    id.filter(|id| !id.is_empty()).ok_or(InvalidResource::MissingId)?;
    let changed = json.member("meta").and_then(|meta| meta.member("lastUpdated")).and_then(JsonValue::text);
    Ok(ResourceHead { resource_type, last_updated: changed.and_then(|text| Instant::parse(&text).ok()) })
}
