//! The content of a JSON file beside files of lines: it may have resources, which would be missing in the lake.

use std::fmt;
use std::io::{BufRead as _, BufReader};

use headrace_core::vocab::byte_order_mark::BYTE_ORDER_MARK;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::add::AddError;
use crate::add::input::InputFile;

/// The types of resources that say something about an export or a server, and are no data of it.
const TYPES_WITHOUT_DATA: [&str; 2] = ["CapabilityStatement", "OperationOutcome"];

/// The number of characters of a text that are kept.
const TEXT_CHARS: usize = 64;

/// A summary of a JSON value.
#[derive(Debug, Default)]
pub(super) struct JsonContent {
    is_object: bool,
    is_null: bool,
    /// The beginning of a text.
    text: Option<String>,
    /// The type, if the value is a resource.
    resource_type: Option<String>,
    /// True if a value within this one has a `resourceType`.
    has_resources: bool,
}

impl JsonContent {
    /// Reads a file. Fails if it is not one JSON value.
    pub(super) fn read(file: &InputFile) -> Result<Self, AddError> {
        let failed = |cause| file.read_error(cause);
        let mut reader = BufReader::new(file.open(&std::sync::Arc::default()).map_err(failed)?);
        if reader.fill_buf().map_err(failed)?.starts_with(BYTE_ORDER_MARK) {
            reader.consume(BYTE_ORDER_MARK.len());
        }
        serde_json::from_reader(reader).map_err(|error| AddError::Input {
            file: file.name.clone(),
            reason: format!("it is not JSON, or it was cut off: line {}, column {}", error.line(), error.column()),
        })
    }

    /// Returns true for an object without a resource, and for a resource that is no data of an export.
    pub(super) fn is_without_data(&self) -> bool {
        match self.resource_type.as_deref() {
            Some(kind) => TYPES_WITHOUT_DATA.contains(&kind),
            None => self.is_object && !self.has_resources,
        }
    }

    /// Adds a member of an object.
    fn add_member(&mut self, name: &str, value: Self) {
        if name != "resourceType" {
            self.has_resources |= value.has_resources || value.resource_type.is_some();
        } else if value.text.is_some() {
            self.resource_type = value.text;
        } else {
            // A database may write a type as an object. Programs write null if there is none.
            self.has_resources |= !value.is_null;
        }
    }
}

impl<'de> Deserialize<'de> for JsonContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

/// A visitor of a JSON value, which keeps little of it: files may be large.
struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = JsonContent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<JsonContent, E> {
        Ok(JsonContent::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<JsonContent, E> {
        Ok(JsonContent::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<JsonContent, E> {
        Ok(JsonContent::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<JsonContent, E> {
        Ok(JsonContent::default())
    }

    fn visit_unit<E>(self) -> Result<JsonContent, E> {
        Ok(JsonContent { is_null: true, ..JsonContent::default() })
    }

    fn visit_str<E>(self, text: &str) -> Result<JsonContent, E> {
        Ok(JsonContent { text: Some(text.chars().take(TEXT_CHARS).collect()), ..JsonContent::default() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<JsonContent, A::Error> {
        let mut content = JsonContent::default();
        while let Some(item) = items.next_element::<JsonContent>()? {
            content.has_resources |= item.has_resources || item.resource_type.is_some();
        }
        Ok(content)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<JsonContent, A::Error> {
        let mut content = JsonContent { is_object: true, ..JsonContent::default() };
        while let Some((name, value)) = members.next_entry::<String, JsonContent>()? {
            content.add_member(&name, value);
        }
        Ok(content)
    }
}
