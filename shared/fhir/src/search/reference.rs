//! References: by id, by type and id, or by URL.

use super::error::Fault;
use super::grammar::unescaped;
use super::place::Accept;
use super::uri::{Relation, UriTest};
use crate::ResourceType;
use crate::json::Json;

/// An element that references are looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReferenceElement {
    Reference,
    Canonical,
}

impl ReferenceElement {
    /// By the FHIR type at the end of a path; `None` where no reference can stand.
    pub(super) fn of(ends_in: &str) -> Option<Self> {
        match ends_in {
            "Reference" => Some(Self::Reference),
            "canonical" | "uri" | "url" | "oid" | "uuid" => Some(Self::Canonical),
            _ => None,
        }
    }
}

/// A reference of a query.
///
/// A relative one finds the resource also where it is referred to by URL: a lake holds one system's resources, and the
/// compartments see it the same way. An absolute one finds that URL alone.
#[derive(Clone, Debug)]
pub(super) struct ReferenceTest {
    target: Target,
    version: Option<Box<str>>,
    /// The same as a canonical reference.
    canonical: UriTest,
}

#[derive(Clone, Debug)]
enum Target {
    /// An id, and the type if it is said.
    Local(Option<ResourceType>, Box<str>),
    /// A URL or URN.
    Absolute(Box<str>),
}

/// A reference as text, cut up.
struct Parts<'a> {
    /// Without the version.
    whole: &'a str,
    is_absolute: bool,
    /// Neither relative nor a URL: `urn:uuid:…`.
    is_urn: bool,
    /// The last segment but one.
    kind: Option<&'a str>,
    id: &'a str,
    version: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        // From the end, for that is where they differ.
        let versioned = text.rsplit_once('/').and_then(|(before, version)| Some((before.strip_suffix("/_history")?, version)));
        let (whole, version) = versioned.map_or((text, None), |(whole, version)| (whole, Some(version)));
        let (before, id) = whole.rsplit_once('/').map_or((None, whole), |(before, id)| (Some(before), id));
        let kind = before.map(|before| before.rsplit_once('/').map_or(before, |(_, kind)| kind));
        Self { whole, is_absolute: whole.contains(':'), is_urn: whole.starts_with("urn:"), kind, id, version }
    }
}

impl ReferenceTest {
    /// Reads `23`, `Patient/23`, `Patient/23/_history/2`, `http://example.org/fhir/Patient/23`, `urn:uuid:…` or
    /// `http://example.org/Questionnaire/q|1.0`. `kind` is the type that `:Patient` asks for.
    pub(super) fn parse(value: &str, kind: Option<ResourceType>) -> Result<Self, Fault> {
        let text = unescaped(value)?;
        let parts = Parts::of(&text);
        let target = if parts.is_absolute {
            Target::Absolute(parts.whole.into())
        } else {
            let written = parts.kind.map(|name| ResourceType::named(name).ok_or(Fault::NotAReference)).transpose()?;
            let is_one = written.is_none_or(|written| kind.is_none_or(|kind| kind == written));
            let is_whole =
                !parts.id.is_empty() && parts.whole.matches('/').count() <= 1 && !(parts.kind.is_none() && parts.version.is_some());
            if !is_one || !is_whole {
                return Err(Fault::NotAReference);
            }
            Target::Local(written.or(kind), parts.id.into())
        };
        Ok(Self { target, version: parts.version.map(Box::from), canonical: UriTest::parse(Relation::Same, value)? })
    }

    /// Whether a Reference's text is the one wanted. A version counts only where the query names one.
    fn accepts(&self, reference: &str) -> bool {
        let found = Parts::of(reference);
        let is_there = match &self.target {
            Target::Local(kind, id) => {
                !found.is_urn && found.id == &**id && kind.is_none_or(|kind| found.kind == Some(kind.as_str())) && found.kind.is_some()
            }
            Target::Absolute(url) => found.whole == &**url,
        };
        is_there && (self.version.is_none() || self.version.as_deref() == found.version)
    }

    /// A canonical reference may be relative too.
    fn accepts_canonical(&self, text: &str) -> bool {
        let (url, _) = text.split_once('|').unwrap_or((text, ""));
        self.canonical.accepts_canonical(text) || self.accepts(url)
    }
}

impl Accept<ReferenceElement> for ReferenceTest {
    fn any_accepts(tests: &[Self], element: ReferenceElement, value: Json<'_>) -> bool {
        let any_accepts =
            |text: Option<Json<'_>>| text.and_then(Json::text).is_some_and(|reference| tests.iter().any(|test| test.accepts(&reference)));
        match element {
            ReferenceElement::Reference => any_accepts(value.member("reference")),
            ReferenceElement::Canonical => value.text().is_some_and(|text| tests.iter().any(|test| test.accepts_canonical(&text))),
        }
    }
}

/// Whether a Reference is to a resource of this type, as far as it says.
pub(super) fn is_to(reference: Json<'_>, kind: &str) -> bool {
    let text = reference.member("reference").and_then(Json::text);
    match text.as_deref().map(Parts::of).and_then(|parts| parts.kind) {
        Some(found) => found == kind,
        None => reference.member("type").and_then(Json::text).is_some_and(|found| found == kind),
    }
}
