//! URIs and canonical references.

use super::element_test::ElementTest;
use super::error::ValueError;
use super::grammar::{split_unescaped, unescape};
use crate::json::JsonValue;

/// The kind of an element that a URI search parameter searches. It decides how the element is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UriElementKind {
    Uri,
    Canonical,
}

impl UriElementKind {
    /// Returns how a URI search parameter is compared with elements of a FHIR type. `None` if it cannot search that type.
    pub(super) fn from_type(element_type: &str) -> Option<Self> {
        match element_type {
            "uri" | "url" | "oid" | "uuid" => Some(Self::Uri),
            "canonical" => Some(Self::Canonical),
            _ => None,
        }
    }
}

/// A URI of a query.
#[derive(Clone, Debug)]
pub(super) struct UriTest {
    relation: Relation,
    /// The value as a plain URI, in which `|` has no meaning.
    whole: Box<str>,
    /// The part of a canonical URL before the `|`.
    url: Box<str>,
    /// The version behind the `|`.
    version: Option<Box<str>>,
}

/// The relation of the URI of an element to that of the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Same,
    /// The same or a sub-path.
    Below,
    /// The same or a parent path.
    Above,
}

impl UriTest {
    /// Parses a URI or a canonical URL.
    pub(super) fn parse(relation: Relation, value: &str) -> Result<Self, ValueError> {
        let whole = unescape(value)?;
        let mut parts = split_unescaped(value, '|');
        let url = unescape(parts.next().unwrap_or_default())?;
        let version = parts.next().filter(|version| !version.is_empty()).map(unescape).transpose()?;
        if url.is_empty() { Err(ValueError::Empty) } else { Ok(Self { relation, whole, url, version }) }
    }

    /// Returns true if a canonical URL matches. Without a version in the query, any version matches.
    pub(super) fn matches_canonical(&self, canonical: &str) -> bool {
        let (url, version) = canonical.split_once('|').map_or((canonical, None), |(url, version)| (url, Some(version)));
        self.is_related(url, &self.url) && (self.version.is_none() || self.version.as_deref() == version)
    }

    /// Returns true if the URI of an element has the relation to that of the query.
    fn is_related(&self, element: &str, query: &str) -> bool {
        match self.relation {
            Relation::Same => element == query,
            Relation::Below => is_at_or_below(element, query),
            Relation::Above => is_at_or_below(query, element),
        }
    }
}

impl ElementTest<UriElementKind> for UriTest {
    fn any_matches(tests: &[Self], kind: UriElementKind, value: JsonValue<'_>) -> bool {
        value.text().is_some_and(|uri| {
            tests.iter().any(|test| match kind {
                UriElementKind::Uri => test.is_related(&uri, &test.whole),
                UriElementKind::Canonical => test.matches_canonical(&uri),
            })
        })
    }
}

/// Returns true if `lower` is `upper` or continues it with whole path segments.
fn is_at_or_below(lower: &str, upper: &str) -> bool {
    let upper = upper.strip_suffix('/').unwrap_or(upper);
    !upper.is_empty() && lower.strip_prefix(upper).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
