//! References by id, by type and id, or by URL.

use super::element_test::ElementTest;
use super::error::ValueError;
use super::grammar::unescape;
use super::uri::{Relation, UriTest};
use crate::definitions::ResourceType;
use crate::json::JsonValue;

/// The kind of an element that a reference search parameter searches. It decides how the element is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReferenceElementKind {
    Reference,
    Canonical,
}

impl ReferenceElementKind {
    /// Returns how a reference search parameter is compared with elements of a FHIR type. `None` if it cannot search that type.
    pub(super) fn from_type(element_type: &str) -> Option<Self> {
        match element_type {
            "Reference" => Some(Self::Reference),
            "canonical" | "uri" | "url" | "oid" | "uuid" => Some(Self::Canonical),
            _ => None,
        }
    }
}

/// A reference of a query.
///
/// A relative reference also matches absolute references to the resource, because a lake holds the resources of one system;
/// the compartments follow the same rule. An absolute reference matches only that URL.
#[derive(Clone, Debug)]
pub(super) struct ReferenceTest {
    target: Target,
    version: Option<Box<str>>,
    /// The value as a canonical URL.
    canonical: UriTest,
}

/// The target of a reference in a query.
#[derive(Clone, Debug)]
enum Target {
    /// An id, and the type if the query gives one.
    Local(Option<ResourceType>, Box<str>),
    /// A URL or URN.
    Absolute(Box<str>),
}

/// The parts of the text of a reference.
struct ReferenceParts<'a> {
    /// The text without the version.
    whole: &'a str,
    is_absolute: bool,
    /// True if the reference is a URN such as `urn:uuid:…`, neither relative nor a URL.
    is_urn: bool,
    /// The path segment before the id.
    type_name: Option<&'a str>,
    id: &'a str,
    version: Option<&'a str>,
}

impl<'a> ReferenceParts<'a> {
    /// Splits the text of a reference.
    fn split(text: &'a str) -> Self {
        // Splits from the end, because base URLs may contain any segments.
        let versioned = text.rsplit_once('/').and_then(|(before, version)| Some((before.strip_suffix("/_history")?, version)));
        let (whole, version) = versioned.map_or((text, None), |(whole, version)| (whole, Some(version)));
        let (before, id) = whole.rsplit_once('/').map_or((None, whole), |(before, id)| (Some(before), id));
        let type_name = before.map(|before| before.rsplit_once('/').map_or(before, |(_, type_name)| type_name));
        Self { whole, is_absolute: whole.contains(':'), is_urn: whole.starts_with("urn:"), type_name, id, version }
    }
}

impl ReferenceTest {
    /// Parses `23`, `Patient/23`, `Patient/23/_history/2`, `http://example.org/fhir/Patient/23`, `urn:uuid:…` or
    /// `http://example.org/Questionnaire/q|1.0`. `target_type` is the type of the modifier `:Patient`.
    pub(super) fn parse(value: &str, target_type: Option<ResourceType>) -> Result<Self, ValueError> {
        let text = unescape(value)?;
        let parts = ReferenceParts::split(&text);
        let target = if parts.is_absolute {
            Target::Absolute(parts.whole.into())
        } else {
            let own_type = parts.type_name.map(|name| ResourceType::parse(name).ok_or(ValueError::NotAReference)).transpose()?;
            let is_consistent = own_type.is_none_or(|own| target_type.is_none_or(|target| target == own));
            let is_complete =
                !parts.id.is_empty() && parts.whole.matches('/').count() <= 1 && !(parts.type_name.is_none() && parts.version.is_some());
            if !is_consistent || !is_complete {
                return Err(ValueError::NotAReference);
            }
            Target::Local(own_type.or(target_type), parts.id.into())
        };
        Ok(Self { target, version: parts.version.map(Box::from), canonical: UriTest::parse(Relation::Same, value)? })
    }

    /// Returns true if the text of a Reference matches. A version counts only if the query gives one.
    fn matches(&self, reference: &str) -> bool {
        let parts = ReferenceParts::split(reference);
        let is_target = match &self.target {
            Target::Local(resource_type, id) => {
                let has_type = match resource_type {
                    Some(resource_type) => parts.type_name == Some(resource_type.as_str()),
                    None => parts.type_name.is_some(),
                };
                !parts.is_urn && parts.id == &**id && has_type
            }
            Target::Absolute(url) => parts.whole == &**url,
        };
        is_target && (self.version.is_none() || self.version.as_deref() == parts.version)
    }

    /// Returns true if a canonical reference matches. It may be relative.
    fn matches_canonical(&self, text: &str) -> bool {
        let (url, _) = text.split_once('|').unwrap_or((text, ""));
        self.canonical.matches_canonical(text) || self.matches(url)
    }
}

impl ElementTest<ReferenceElementKind> for ReferenceTest {
    fn any_matches(tests: &[Self], kind: ReferenceElementKind, value: JsonValue<'_>) -> bool {
        let matches_text = |text: Option<JsonValue<'_>>| {
            text.and_then(JsonValue::text).is_some_and(|reference| tests.iter().any(|test| test.matches(&reference)))
        };
        match kind {
            ReferenceElementKind::Reference => matches_text(value.member("reference")),
            ReferenceElementKind::Canonical => value.text().is_some_and(|text| tests.iter().any(|test| test.matches_canonical(&text))),
        }
    }
}

/// Returns true if a Reference has a target of this type, by its text or by its member `type`.
pub(super) fn targets_type(reference: JsonValue<'_>, type_name: &str) -> bool {
    let text = reference.member("reference").and_then(JsonValue::text);
    match text.as_deref().map(ReferenceParts::split).and_then(|parts| parts.type_name) {
        Some(own) => own == type_name,
        None => reference.member("type").and_then(JsonValue::text).is_some_and(|own| own == type_name),
    }
}
