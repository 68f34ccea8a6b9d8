//! URIs and canonical references.

use super::error::Fault;
use super::grammar::{pieces, unescaped};
use super::place::Accept;
use crate::json::Json;

/// An element that URIs are looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UriElement {
    Uri,
    Canonical,
}

impl UriElement {
    /// By the FHIR type at the end of a path; `None` where no URI can stand.
    pub(super) fn of(ends_in: &str) -> Option<Self> {
        match ends_in {
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
    /// As a plain URI: a `|` in it is part of it.
    whole: Box<str>,
    /// As a canonical: what stands before the `|`, and the version behind it.
    url: Box<str>,
    version: Option<Box<str>>,
}

/// Where a URI has to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Same,
    /// At the URI of the query or under it.
    Below,
    /// At the URI of the query or over it.
    Above,
}

impl UriTest {
    pub(super) fn parse(relation: Relation, value: &str) -> Result<Self, Fault> {
        let whole = unescaped(value)?;
        let mut parts = pieces(value, '|');
        let url = unescaped(parts.next().unwrap_or_default())?;
        let version = parts.next().filter(|version| !version.is_empty()).map(unescaped).transpose()?;
        if url.is_empty() { Err(Fault::Empty) } else { Ok(Self { relation, whole, url, version }) }
    }

    /// Without a version in the query, any version is as good.
    pub(super) fn accepts_canonical(&self, canonical: &str) -> bool {
        let (url, version) = canonical.split_once('|').map_or((canonical, None), |(url, version)| (url, Some(version)));
        self.relates(url, &self.url) && (self.version.is_none() || self.version.as_deref() == version)
    }

    fn relates(&self, found: &str, wanted: &str) -> bool {
        match self.relation {
            Relation::Same => found == wanted,
            Relation::Below => is_at_or_below(found, wanted),
            Relation::Above => is_at_or_below(wanted, found),
        }
    }
}

impl Accept<UriElement> for UriTest {
    fn any_accepts(tests: &[Self], element: UriElement, value: Json<'_>) -> bool {
        value.text().is_some_and(|uri| {
            tests.iter().any(|test| match element {
                UriElement::Uri => test.relates(&uri, &test.whole),
                UriElement::Canonical => test.accepts_canonical(&uri),
            })
        })
    }
}

/// Whether whole path segments of `upper` are the beginning of `lower`.
fn is_at_or_below(lower: &str, upper: &str) -> bool {
    let upper = upper.strip_suffix('/').unwrap_or(upper);
    !upper.is_empty() && lower.strip_prefix(upper).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
