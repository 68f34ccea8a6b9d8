//! `_elements`: reduces resources to the requested elements.

use std::borrow::Cow;

use crate::definitions::{FhirVersion, ResourceType, RootElement};
use crate::head::Resource;
use crate::json::{JsonType, JsonValue, unescape_name};

/// The tag of a reduced resource.
const SUBSETTED: &str = r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}"#;

/// The members that every reduced resource keeps, besides its mandatory elements.
const ALWAYS_KEPT: [&str; 3] = ["resourceType", "id", "meta"];

/// A compiled `_elements` parameter.
///
/// * `Type.element` applies to one type, `element` to all types. Of a type without such an element, the mandatory elements
///   remain. A type that no name applies to stays complete.
/// * Only root elements can be named. A choice is named by its element (`value` keeps `valueQuantity`) or by one of its
///   JSON members.
/// * Bulk Data Access [`crate::IG_VERSION`], kick-off parameter `_elements`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elements {
    /// The root members that remain, by type, sorted by type.
    kept: Vec<(ResourceType, Vec<&'static str>)>,
}

/// The reason why an `_elements` parameter is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementsError {
    /// A name is empty.
    #[error("_elements names an empty element; give names such as Patient.name or name, separated by single commas")]
    Empty,
    /// A name is not that of a root element.
    #[error("_elements cannot name {0:?}: only root elements such as Patient.name or name can be chosen")]
    Nested(String),
    /// The type is not defined in this version.
    #[error("_elements names {name:?}, but FHIR {version} has no such resource type")]
    UnknownType {
        /// The name of the type.
        name: String,
        /// The FHIR version.
        version: &'static str,
    },
    /// The type does not have the element or, without a type, no type has it.
    #[error("_elements names {name:?}, but FHIR {version} has no such root element")]
    UnknownElement {
        /// The name in the parameter.
        name: String,
        /// The FHIR version.
        version: &'static str,
    },
}

impl Elements {
    /// Parses the values of the parameter, each a comma-separated list, for a FHIR version.
    pub fn parse(values: &[String], version: FhirVersion) -> Result<Self, ElementsError> {
        let names = values.iter().flat_map(|value| value.split(','));
        let names = names.map(|name| ElementName::parse(name.trim(), version)).collect::<Result<Vec<_>, _>>()?;
        let reduced_types = version.types().iter().filter(|resource_type| names.iter().any(|name| name.applies_to(*resource_type)));
        let definitions: Vec<_> = reduced_types.map(|resource_type| (resource_type, version.root_elements(resource_type))).collect();
        let is_defined = |name: &ElementName<'_>| {
            let mut types = definitions.iter().filter(|(resource_type, _)| name.applies_to(*resource_type));
            types.any(|(_, elements)| elements.iter().any(|element| name.matches_element(element)))
        };
        if let Some(unknown) = names.iter().find(|name| !is_defined(name)) {
            return Err(ElementsError::UnknownElement { name: truncate(unknown.name), version: version.as_str() });
        }
        let kept = definitions.iter().map(|(resource_type, elements)| {
            let names: Vec<_> = names.iter().filter(|name| name.applies_to(*resource_type)).collect();
            let members = elements.iter().flat_map(|element| element.members.iter().map(move |member| (element, *member)));
            let kept = members
                .filter(|(element, member)| element.is_mandatory || names.iter().any(|name| name.matches_member(element, member)))
                .map(|(_, member)| member);
            (*resource_type, ALWAYS_KEPT.into_iter().chain(kept).collect())
        });
        Ok(Self { kept: kept.collect() })
    }

    /// Appends the reduced resource to `out`, without a line end, and tags it as SUBSETTED.
    ///
    /// * Returns false and appends nothing if no name applies to the type. The resource then stays as it is.
    /// * Members keep their order and values keep every byte. Only `meta.tag`, and `meta` itself if absent, are added.
    pub fn apply(&self, resource: &Resource<'_>, out: &mut Vec<u8>) -> bool {
        self.write_members(resource.head.resource_type, resource.members(), out)
    }

    /// Appends a reduced object like [`Self::apply`], for an object that does not need an id.
    pub fn apply_to_object(&self, resource_type: ResourceType, object: JsonValue<'_>, out: &mut Vec<u8>) -> bool {
        self.write_members(resource_type, object.members(), out)
    }

    /// Appends an object with those of `members` that remain.
    fn write_members<'a>(
        &self,
        resource_type: ResourceType,
        members: impl Iterator<Item = (Cow<'a, str>, JsonValue<'a>)>,
        out: &mut Vec<u8>,
    ) -> bool {
        let index = self.kept.binary_search_by_key(&resource_type, |(resource_type, _)| *resource_type);
        let Some((_, kept)) = index.ok().and_then(|index| self.kept.get(index)) else { return false };
        let (mut separator, mut is_tagged) = ("{\"", false);
        for (name, value) in members {
            // `_birthDate` holds the id and the extensions of `birthDate`.
            if !kept.contains(&name.strip_prefix('_').unwrap_or(&name)) {
                continue;
            }
            append(out, &[separator, &name, "\":"]);
            separator = ",\"";
            if name == "meta" {
                append_tagged_meta(value, out);
                is_tagged = true;
            } else {
                append(out, &[value.as_str()]);
            }
        }
        if !is_tagged {
            append(out, &[separator, "meta\":"]);
            append_tagged_meta(JsonValue::from_valid("{}"), out);
        }
        append(out, &["}"]);
        true
    }
}

/// A name in the parameter.
struct ElementName<'a> {
    /// The whole name.
    name: &'a str,
    /// The type before the dot, if there is one.
    resource_type: Option<ResourceType>,
    /// The element, without the type.
    element: &'a str,
}

impl<'a> ElementName<'a> {
    /// Parses `Type.element` or `element`.
    fn parse(name: &'a str, version: FhirVersion) -> Result<Self, ElementsError> {
        if name.is_empty() {
            return Err(ElementsError::Empty);
        }
        let Some((first, element)) = name.split_once('.') else { return Ok(Self { name, resource_type: None, element: name }) };
        let is_type = first.starts_with(|letter: char| letter.is_ascii_uppercase());
        if !is_type || element.contains('.') {
            return Err(ElementsError::Nested(truncate(name)));
        }
        let resource_type = ResourceType::parse(first).filter(|resource_type| version.types().contains(*resource_type));
        match resource_type {
            Some(_) => Ok(Self { name, resource_type, element }),
            None => Err(ElementsError::UnknownType { name: truncate(name), version: version.as_str() }),
        }
    }

    /// Returns true if the name applies to resources of this type.
    fn applies_to(&self, resource_type: ResourceType) -> bool {
        self.resource_type.is_none_or(|own| own == resource_type)
    }

    /// Returns true if the name matches a member of the element.
    fn matches_element(&self, element: &RootElement) -> bool {
        element.members.iter().any(|member| self.matches_member(element, member))
    }

    /// Returns true if the name matches this member of the element.
    fn matches_member(&self, element: &RootElement, member: &str) -> bool {
        // FHIR's definitions write a choice as `value[x]`.
        let is_choice = || !element.members.contains(&element.name) && self.element.strip_suffix("[x]") == Some(element.name);
        self.element == element.name || self.element == member || is_choice()
    }
}

/// Truncates a name for an error message.
fn truncate(name: &str) -> String {
    name.chars().take(64).collect()
}

/// Appends `texts` to `out`.
fn append(out: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
}

/// Appends `meta` with the tag SUBSETTED.
fn append_tagged_meta(meta: JsonValue<'_>, out: &mut Vec<u8>) {
    // A `meta` that is not an object is replaced.
    let Some(open) = meta.as_str().strip_suffix('}') else { return append(out, &["{\"tag\":[", SUBSETTED, "]}"]) };
    let Some(tags) = meta.member("tag") else {
        let comma = if meta.members().next().is_some() { "," } else { "" };
        return append(out, &[open, comma, "\"tag\":[", SUBSETTED, "]}"]);
    };
    if tags.items().any(is_subsetted) {
        return append(out, &[meta.as_str()]);
    }
    let mut separator = "{\"";
    let mut members = meta.members();
    while let Some((name, value)) = members.next_raw() {
        append(out, &[separator, name, "\":"]);
        separator = ",\"";
        match value.as_str().strip_suffix(']') {
            _ if unescape_name(name) != "tag" => append(out, &[value.as_str()]),
            Some(open) => append(out, &[open, if value.items().next().is_some() { "," } else { "" }, SUBSETTED, "]"]),
            // A single tag becomes a list. A tag of another type is replaced.
            None if value.json_type() == JsonType::Object => append(out, &["[", value.as_str(), ",", SUBSETTED, "]"]),
            None => append(out, &["[", SUBSETTED, "]"]),
        }
    }
    append(out, &["}"]);
}

/// Returns true if the tag is SUBSETTED.
fn is_subsetted(tag: JsonValue<'_>) -> bool {
    let has_text = |name, expected: &str| tag.member(name).and_then(JsonValue::text).is_some_and(|text| text == expected);
    has_text("code", "SUBSETTED") && has_text("system", "http://terminology.hl7.org/CodeSystem/v3-ObservationValue")
}

#[cfg(test)]
mod tests;
