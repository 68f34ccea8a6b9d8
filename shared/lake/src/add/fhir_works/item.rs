//! The items of a table: DynamoDB's JSON of a FHIR resource with attributes of FHIR Works on AWS.

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::instant::Instant;
use headrace_fhir::json::{JsonType, JsonValue};
use serde::de::IgnoredAny;

use crate::add::entry::is_usable_id;

/// The deepest nesting of a resource.
const MAX_DEPTH: usize = 100;

/// The attributes that are not part of the resource.
const OWN_ATTRIBUTES: [&str; 7] = ["documentStatus", "lockEndTs", "vid", "_references", "_subscriptionStatus", "_tenantId", "_id"];

/// The members that come first in a resource.
const FIRST_MEMBERS: [&str; 3] = ["resourceType", "id", "meta"];

/// A line of a table's export.
#[derive(Clone, Debug)]
pub(super) enum ItemLine<'a> {
    /// An item.
    Item(TableItem<'a>),
    /// An item that was removed from the table.
    Removed {
        /// True if it was a usable version.
        was_usable: bool,
    },
}

/// The status of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DocumentStatus {
    /// Readable: `AVAILABLE`, `LOCKED` or `PENDING_DELETE`.
    Usable,
    /// Not committed.
    Pending,
    /// Superseded or deleted.
    Deleted,
}

impl DocumentStatus {
    /// Parses the attribute `documentStatus`.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "AVAILABLE" | "LOCKED" | "PENDING_DELETE" => Some(Self::Usable),
            "PENDING" => Some(Self::Pending),
            "DELETED" => Some(Self::Deleted),
            _ => None,
        }
    }
}

/// One version of a resource.
#[derive(Clone, Debug)]
pub(super) struct TableItem<'a> {
    /// The tenant, or empty.
    pub(super) tenant: String,
    pub(super) id: String,
    pub(super) resource_type: ResourceType,
    pub(super) version: u64,
    pub(super) status: DocumentStatus,
    /// The latest time at which the item was certainly written, in milliseconds since 1970.
    pub(super) written_at: u64,
    pub(super) last_updated: Option<Instant>,
    image: JsonValue<'a>,
}

impl<'a> ItemLine<'a> {
    /// Parses a line of a full or incremental export.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|_| "not valid JSON")?;
        let json = JsonValue::from_valid(text);
        let written = json.member("Metadata").and_then(|metadata| metadata.member("WriteTimestampMicros")).and_then(number_text);
        let written_at = written.and_then(|text| text.parse::<u64>().ok()).map_or(0, |micros| micros / 1_000);
        if let Some(image) = json.member("Item").or_else(|| json.member("NewImage")) {
            return TableItem::new(image, written_at).map(Self::Item);
        }
        if json.member("Keys").is_none() {
            return Err("neither an Item nor a change");
        }
        let old = json.member("OldImage").map(|image| TableItem::new(image, written_at)).transpose()?;
        Ok(Self::Removed { was_usable: old.is_some_and(|old| old.status == DocumentStatus::Usable) })
    }
}

impl<'a> TableItem<'a> {
    /// Reads the attributes of an item.
    fn new(image: JsonValue<'a>, written_at: u64) -> Result<Self, &'static str> {
        let text = |name| image.member(name).and_then(|value| value.member("S")).and_then(JsonValue::text);
        let kind = text("resourceType").ok_or("no resourceType")?;
        let resource_type = ResourceType::parse(&kind).ok_or("a resourceType that FHIR does not define")?;
        let tenant = text("_tenantId").unwrap_or_default().into_owned();
        let key = text("id").ok_or("no id")?;
        let own_id = text("_id");
        let id = own_id.as_deref().or_else(|| key.strip_prefix(&tenant)?.strip_prefix('|').filter(|_| !tenant.is_empty())).unwrap_or(&key);
        if !is_usable_id(id) {
            return Err("an id that cannot be part of a reference");
        }
        // Deployments before version 1.2 have texts.
        let version = image.member("vid").and_then(|value| number_text(value).or_else(|| value.member("S")?.text()));
        let version = version.and_then(|text| text.parse().ok()).ok_or("no vid")?;
        let status = text("documentStatus").and_then(|text| DocumentStatus::parse(&text)).ok_or("no documentStatus that is known")?;
        let locked = image.member("lockEndTs").and_then(number_text).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        let meta = image.member("meta").and_then(|meta| meta.member("M")?.member("lastUpdated")?.member("S")?.text());
        Ok(Self {
            id: id.to_owned(),
            tenant,
            resource_type,
            version,
            status,
            written_at: written_at.max(locked),
            last_updated: meta.and_then(|text| Instant::parse(&text).ok()),
            image,
        })
    }

    /// Returns true if the item is a Binary whose data is in a bucket of its own.
    pub(super) fn needs_binary_data(&self) -> bool {
        let has_data = ["data", "content"].iter().any(|name| self.image.member(name).is_some());
        self.resource_type == ResourceType::BINARY && !has_data
    }

    /// Appends the resource to `out`, with `data` as the data of a Binary. Numbers keep their digits.
    pub(super) fn write_resource(&self, out: &mut Vec<u8>, data: Option<&str>) -> Result<(), &'static str> {
        out.extend_from_slice(
            format!("{{\"resourceType\":\"{}\",\"id\":{}", self.resource_type, serde_json::Value::from(self.id.as_str())).as_bytes(),
        );
        let mut add = |name: &str, value: JsonValue<'_>| {
            out.extend_from_slice(format!(",{}:", serde_json::Value::from(name)).as_bytes());
            write_value(value, out, 0)
        };
        if let Some(meta) = self.image.member("meta") {
            add("meta", meta)?;
        }
        for (name, value) in self.image.members() {
            if !OWN_ATTRIBUTES.contains(&&*name) && !FIRST_MEMBERS.contains(&&*name) {
                add(&name, value)?;
            }
        }
        if let Some(data) = data {
            out.extend_from_slice(format!(",\"data\":\"{data}\"").as_bytes());
        }
        out.push(b'}');
        Ok(())
    }
}

/// Returns the text of a number attribute.
fn number_text(value: JsonValue<'_>) -> Option<std::borrow::Cow<'_, str>> {
    value.member("N").and_then(JsonValue::text)
}

/// Appends an attribute value as plain JSON.
fn write_value(value: JsonValue<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), &'static str> {
    if depth > MAX_DEPTH {
        return Err("nested too deeply");
    }
    let mut members = value.members();
    let (Some((kind, content)), None) = (members.next(), members.next()) else {
        return Err("an attribute that does not have exactly one type");
    };
    match (&*kind, content.json_type()) {
        ("S", JsonType::String) | ("BOOL", JsonType::Boolean) => out.extend_from_slice(content.as_str().as_bytes()),
        ("N", JsonType::String) => {
            let text = content.text().unwrap_or_default();
            let is_number = serde_json::from_str::<IgnoredAny>(&text).is_ok() && JsonValue::from_valid(&text).number().is_some();
            if !is_number {
                return Err("an attribute of type N that is not a number");
            }
            out.extend_from_slice(text.trim().as_bytes());
        }
        ("NULL", _) => out.extend_from_slice(b"null"),
        ("M", JsonType::Object) => {
            out.push(b'{');
            for (index, (name, member)) in content.members().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                out.extend_from_slice(format!("{comma}{}:", serde_json::Value::from(&*name)).as_bytes());
                write_value(member, out, depth + 1)?;
            }
            out.push(b'}');
        }
        ("L", JsonType::Array) => {
            out.push(b'[');
            for (index, item) in content.items().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(item, out, depth + 1)?;
            }
            out.push(b']');
        }
        _ => return Err("an attribute of a type that FHIR Works does not use"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Converts a line to a resource.
    fn convert(line: &str) -> Result<String, &'static str> {
        match ItemLine::parse(line.as_bytes())? {
            ItemLine::Item(item) => {
                let mut out = Vec::new();
                item.write_resource(&mut out, None)?;
                Ok(String::from_utf8(out).unwrap())
            }
            ItemLine::Removed { .. } => Err("removed"),
        }
    }

    /// Returns an item with further attributes.
    fn item(attributes: &str) -> String {
        format!(
            r#"{{"Item":{{"vid":{{"N":"2"}},"active":{{"BOOL":true}},"id":{{"S":"p"}},"documentStatus":{{"S":"AVAILABLE"}},"lockEndTs":{{"N":"1700000000000"}},
            "_references":{{"L":[{{"S":"Patient/1"}}]}},"resourceType":{{"S":"Patient"}}{attributes}}}}}"#
        )
    }

    #[test]
    fn an_item_becomes_a_resource_with_the_digits_of_its_numbers() {
        let line = item(
            r#","meta":{"M":{"versionId":{"S":"2"},"lastUpdated":{"S":"2026-01-31T08:00:00.000Z"}}},"x":{"L":[{"N":"1.10"},{"N":"-0"},{"N":"1E+5"},{"NULL":true},{"L":[]},{"M":{}}]},"n\"":{"S":"a\"b\\\u00e9"}"#,
        );
        let expected = r#"{"resourceType":"Patient","id":"p","meta":{"versionId":"2","lastUpdated":"2026-01-31T08:00:00.000Z"},"active":true,"x":[1.10,-0,1E+5,null,[],{}],"n\"":"a\"b\\\u00e9"}"#;
        assert_eq!(convert(&line).unwrap(), expected);
    }

    #[test]
    fn the_id_of_a_tenant_is_the_one_behind_the_bar() {
        let line = item(r#","_tenantId":{"S":"t1"}"#).replace(r#""id":{"S":"p"}"#, r#""id":{"S":"t1|p"}"#);
        let Ok(ItemLine::Item(parsed)) = ItemLine::parse(line.as_bytes()) else { panic!("an item") };
        assert_eq!((parsed.tenant.as_str(), parsed.id.as_str(), parsed.version), ("t1", "p", 2));
        let line = item("").replace(r#""vid":{"N":"2"}"#, r#""vid":{"S":"12"}"#);
        let Ok(ItemLine::Item(parsed)) = ItemLine::parse(line.as_bytes()) else { panic!("an item") };
        assert_eq!((parsed.tenant.as_str(), parsed.version, parsed.written_at), ("", 12, 1_700_000_000_000));
    }

    #[test]
    fn a_line_that_is_not_an_item_is_rejected_with_the_reason() {
        for (line, reason) in [
            ("{".to_owned(), "not valid JSON"),
            ("{}".to_owned(), "neither an Item nor a change"),
            (item("").replace("Patient\"}", "Dog\"}"), "a resourceType that FHIR does not define"),
            (item("").replace("AVAILABLE", "GONE"), "no documentStatus that is known"),
            (item("").replace(r#"{"S":"p"}"#, r#"{"S":"../p"}"#), "an id that cannot be part of a reference"),
            (item("").replace(r#"{"N":"2"}"#, r#"{"N":"x"}"#), "no vid"),
            (item(r#","x":{"N":"1 or 1"}"#), "an attribute of type N that is not a number"),
            (item(r#","x":{"N":"true"}"#), "an attribute of type N that is not a number"),
            (item(r#","x":{"SS":["a"]}"#), "an attribute of a type that FHIR Works does not use"),
            (item(r#","x":{"S":"a","N":"1"}"#), "an attribute that does not have exactly one type"),
            (item(&format!(r#","x":{}{}"#, r#"{"L":["#.repeat(60), "]}".repeat(60))), ""),
        ] {
            let converted = convert(&line);
            assert!(
                converted == Err(reason) || reason.is_empty() && converted.is_ok() || converted == Err("not valid JSON"),
                "{converted:?} {line}"
            );
        }
    }

    #[test]
    fn a_removed_item_shows_whether_it_was_usable() {
        let old = item("").replace("\"Item\"", "\"OldImage\"");
        let removed = |old: &str| {
            let line = old.replacen('{', r#"{"Keys":{"id":{"S":"p"},"vid":{"N":"2"}},"#, 1);
            matches!(ItemLine::parse(line.as_bytes()), Ok(ItemLine::Removed { was_usable: true }))
        };
        assert!(removed(&old) && !removed(&old.replace("AVAILABLE", "PENDING")));
        assert!(matches!(ItemLine::parse(br#"{"Keys":{}}"#), Ok(ItemLine::Removed { was_usable: false })));
    }
}
