//! `_elements`: resources reduced to the elements that were asked for.

use std::borrow::Cow;

use crate::{Element, FhirVersion, Json, Resource, ResourceType, Shape};

/// What a reduced resource is tagged with.
const SUBSETTED: &str = r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}"#;

/// What remains of every resource, beside its mandatory elements.
const ALWAYS: [&str; 3] = ["resourceType", "id", "meta"];

/// A parsed `_elements`, compiled for a worker.
///
/// * `Type.element` speaks of one type, `element` of every type, also of those that have no such element: of these the
///   mandatory ones remain. A type of which nothing is said stays whole.
/// * Only root elements can be named. A choice goes by its element's name (`value` keeps `valueQuantity`) or by the name
///   of one of its members.
/// * Bulk Data Access [`crate::IG_VERSION`], kick-off parameter `_elements`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elements {
    /// The root members that remain, by type, sorted by type.
    kept: Vec<(ResourceType, Vec<&'static str>)>,
}

/// Why an `_elements` is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementsError {
    /// Nothing between two commas.
    #[error("_elements names an empty element; give names such as Patient.name or name, separated by single commas")]
    Empty,
    /// More than a root element.
    #[error("_elements cannot name {0:?}: only root elements such as Patient.name or name can be chosen")]
    Nested(String),
    /// No such type in this version.
    #[error("_elements names {name:?}, but FHIR {version} has no such resource type")]
    UnknownType {
        /// The type's name.
        name: String,
        /// The version that was asked.
        version: &'static str,
    },
    /// The type has no such element, or, without a type, no type has.
    #[error("_elements names {name:?}, but FHIR {version} has no such root element")]
    UnknownElement {
        /// The name as it was given.
        name: String,
        /// The version that was asked.
        version: &'static str,
    },
}

impl Elements {
    /// Reads the values of the parameter, each a list with commas, as a server of this FHIR version understands them.
    pub fn parse(values: &[String], version: FhirVersion) -> Result<Self, ElementsError> {
        let names = values.iter().flat_map(|value| value.split(','));
        let asked = names.map(|name| Asked::read(name.trim(), version)).collect::<Result<Vec<_>, _>>()?;
        let named_types = version.types().iter().filter(|kind| asked.iter().any(|one| one.speaks_of(*kind)));
        let tables: Vec<_> = named_types.map(|kind| (kind, version.elements(kind))).collect();
        let is_known = |one: &Asked<'_>| {
            tables.iter().any(|(kind, elements)| one.speaks_of(*kind) && elements.iter().any(|element| one.is_in(element)))
        };
        if let Some(unknown) = asked.iter().find(|one| !is_known(one)) {
            return Err(ElementsError::UnknownElement { name: short(unknown.name), version: version.as_str() });
        }
        let kept = tables.iter().map(|(kind, elements)| {
            let asked: Vec<_> = asked.iter().filter(|one| one.speaks_of(*kind)).collect();
            let members = elements.iter().flat_map(|element| element.members.iter().map(move |member| (element, *member)));
            let remains = members.filter(|(element, member)| element.is_mandatory || asked.iter().any(|one| one.names(element, member)));
            (*kind, ALWAYS.into_iter().chain(remains.map(|(_, member)| member)).collect())
        });
        Ok(Self { kept: kept.collect() })
    }

    /// Writes what is to remain of a resource behind `out`, without a line end, and tags it as SUBSETTED.
    ///
    /// * `false`, and nothing written, if no name of the list speaks of its type: it stays as it is.
    /// * Members keep their order, and their values every byte; only `meta.tag` is added to, and `meta` where it is absent.
    pub fn apply(&self, resource: &Resource<'_>, out: &mut Vec<u8>) -> bool {
        self.write(resource.head.kind, resource.members(), out)
    }

    /// The same of an object that need have no id.
    pub fn apply_to(&self, kind: ResourceType, object: Json<'_>, out: &mut Vec<u8>) -> bool {
        self.write(kind, object.raw_members(), out)
    }

    fn write<'a>(&self, kind: ResourceType, members: impl Iterator<Item = (&'a str, Json<'a>)>, out: &mut Vec<u8>) -> bool {
        let found = self.kept.binary_search_by_key(&kind, |(kind, _)| *kind).ok().and_then(|at| self.kept.get(at));
        let Some((_, kept)) = found else { return false };
        let (mut before, mut is_tagged) = ("{\"", false);
        for (name, value) in members {
            let name = plain_name(name);
            if !kept.contains(&name.strip_prefix('_').unwrap_or(&name)) {
                continue;
            }
            put(out, &[before, &name, "\":"]);
            before = ",\"";
            if name == "meta" {
                put_tagged(value, out);
                is_tagged = true;
            } else {
                put(out, &[value.as_str()]);
            }
        }
        if !is_tagged {
            put(out, &[before, "meta\":"]);
            put_tagged(Json::of_valid("{}"), out);
        }
        put(out, &["}"]);
        true
    }
}

/// One name of the list.
struct Asked<'a> {
    /// As it was given.
    name: &'a str,
    kind: Option<ResourceType>,
    element: &'a str,
}

impl<'a> Asked<'a> {
    fn read(name: &'a str, version: FhirVersion) -> Result<Self, ElementsError> {
        if name.is_empty() {
            return Err(ElementsError::Empty);
        }
        let Some((first, element)) = name.split_once('.') else { return Ok(Self { name, kind: None, element: name }) };
        let is_type = first.starts_with(|letter: char| letter.is_ascii_uppercase());
        if !is_type || element.contains('.') {
            return Err(ElementsError::Nested(short(name)));
        }
        let kind = ResourceType::named(first).filter(|kind| version.types().contains(*kind));
        match kind {
            Some(_) => Ok(Self { name, kind, element }),
            None => Err(ElementsError::UnknownType { name: short(name), version: version.as_str() }),
        }
    }

    fn speaks_of(&self, kind: ResourceType) -> bool {
        self.kind.is_none_or(|named| named == kind)
    }

    fn is_in(&self, element: &Element) -> bool {
        element.members.iter().any(|member| self.names(element, member))
    }

    /// Whether it names this member of the element.
    fn names(&self, element: &Element, member: &str) -> bool {
        // The definitions write a choice as `value[x]`.
        let is_choice = || !element.members.contains(&element.name) && self.element.strip_suffix("[x]") == Some(element.name);
        self.element == element.name || self.element == member || is_choice()
    }
}

/// A name as an error quotes it.
fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

/// A member's name, its escapes undone.
pub(crate) fn plain_name(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    serde_json::from_str(&format!("\"{raw}\"")).map_or(Cow::Borrowed(raw), Cow::Owned)
}

fn put(out: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
}

/// Writes `meta` with the tag.
fn put_tagged(meta: Json<'_>, out: &mut Vec<u8>) {
    // What is no object is no `meta`.
    let Some(open) = meta.as_str().strip_suffix('}') else { return put(out, &["{\"tag\":[", SUBSETTED, "]}"]) };
    let Some(tags) = meta.member("tag") else {
        let comma = if meta.members().next().is_some() { "," } else { "" };
        return put(out, &[open, comma, "\"tag\":[", SUBSETTED, "]}"]);
    };
    if tags.items().any(is_subsetted) {
        return put(out, &[meta.as_str()]);
    }
    let mut before = "{\"";
    for (name, value) in meta.raw_members() {
        put(out, &[before, name, "\":"]);
        before = ",\"";
        match value.as_str().strip_suffix(']') {
            _ if plain_name(name) != "tag" => put(out, &[value.as_str()]),
            Some(open) => put(out, &[open, if value.items().next().is_some() { "," } else { "" }, SUBSETTED, "]"]),
            None if value.shape() == Shape::Object => put(out, &["[", value.as_str(), ",", SUBSETTED, "]"]),
            None => put(out, &["[", SUBSETTED, "]"]),
        }
    }
    put(out, &["}"]);
}

fn is_subsetted(tag: Json<'_>) -> bool {
    let is_text = |name, wanted: &str| tag.member(name).and_then(Json::text).is_some_and(|text| text == wanted);
    is_text("code", "SUBSETTED") && is_text("system", "http://terminology.hl7.org/CodeSystem/v3-ObservationValue")
}

#[cfg(test)]
mod tests;
