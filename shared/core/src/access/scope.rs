//! What may be read (SMART App Launch, "Scopes and Launch Context", as far as it concerns `system/` scopes).
//!
//! Both syntaxes are understood: `system/Observation.read` (1.0) and `system/Observation.rs?category=laboratory` (2.0).
//! Only what reads counts. A scope that this service cannot hold to is not granted, never widened.

mod conditions;
#[cfg(test)]
mod tests;
mod word;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use headrace_fhir::{FhirVersion, Instant, Query, ResourceType, TypeFilters};
use serde::{Deserialize, Serialize};

use crate::request::ExportRequest;

pub use word::{NotGrantable, Why};
use word::{Syntax, Word};

/// The longest text of scopes that is read, in bytes. A token has to fit into a header.
const TEXT_BYTES: usize = 16 << 10;

/// What may be read. The default is everything: where there is no access control.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scopes {
    /// Every resource.
    #[default]
    Everything,
    /// Resources of these types: all of a type, or, where there are queries, those that match one of them.
    Only(BTreeMap<ResourceType, BTreeSet<String>>),
}

/// What a client is granted of what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What it may read.
    pub scopes: Scopes,
    /// The same as the token endpoint answers it: in the syntax that was asked in, in both if both were.
    pub text: String,
}

impl Scopes {
    /// Not a single resource.
    pub fn nothing() -> Self {
        Self::Only(BTreeMap::new())
    }

    /// Whether not a single resource may be read.
    pub fn are_nothing(&self) -> bool {
        match self {
            Self::Everything => false,
            Self::Only(types) => types.is_empty(),
        }
    }

    /// Reads scopes with blanks between them, and says of each that does not count why. A registration should have none
    /// of those; a token of somebody else's may have many that are not for this service.
    pub fn of_text(text: &str, version: FhirVersion) -> (Self, Vec<NotGrantable>) {
        let (asked, refused) = Asked::read(text, version);
        (asked.first.or(&asked.second), refused)
    }

    /// What of `requested` may be granted to a client that is `registered` for so much; `None` if that is nothing.
    ///
    /// * Of a wildcard, what is registered. Of a type under several queries, what one of them matches; where the
    ///   registration has queries as well, both must match.
    /// * Only the second syntax can say a query: what is registered with one is answered in it.
    pub fn granted(requested: &str, registered: &Self, version: FhirVersion) -> Option<Granted> {
        let (asked, _) = Asked::read(requested, version);
        let (first, second) = (asked.first.and(registered), asked.second.and(registered));
        let scopes = first.or(&second);
        let (plain, conditioned) = first.split();
        let words = plain.words("read").into_iter().chain(conditioned.or(&second).words("rs"));
        let text = words.collect::<Vec<_>>().join(" ");
        (!text.is_empty() && text.len() <= TEXT_BYTES).then_some(Granted { scopes, text })
    }

    /// What both allow to read.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Everything, scopes) | (scopes, Self::Everything) => scopes.clone(),
            (Self::Only(here), Self::Only(there)) => {
                let shared = here.iter().filter_map(|(kind, queries)| Some((kind, queries, there.get(kind)?)));
                let met = shared.filter_map(|(kind, here, there)| Some((*kind, conditions::both(here, there)?)));
                Self::Only(met.collect())
            }
        }
    }

    /// What one of them allows to read.
    fn or(&self, other: &Self) -> Self {
        let (Self::Only(here), Self::Only(there)) = (self, other) else { return Self::Everything };
        let mut types = here.clone();
        for (kind, queries) in there {
            let joined = match here.get(kind) {
                Some(known) => conditions::either(known, queries),
                None => queries.clone(),
            };
            types.insert(*kind, joined);
        }
        Self::Only(types)
    }

    /// What is allowed without a query, and what with one.
    fn split(self) -> (Self, Self) {
        match self {
            Self::Everything => (Self::Everything, Self::nothing()),
            Self::Only(types) => {
                let (plain, conditioned) = types.into_iter().partition(|(_, queries)| queries.is_empty());
                (Self::Only(plain), Self::Only(conditioned))
            }
        }
    }

    /// Whether everything that a request exports may be read. A query of the request's own counts only if it was set by
    /// scopes: that one stays as it was.
    pub fn cover(&self, request: &ExportRequest) -> bool {
        let types = match self {
            Self::Everything => return true,
            Self::Only(types) => types,
        };
        request.types_read().into_iter().all(|kind| {
            let limits = request.limits_of(kind).map(str::to_owned).collect();
            types.get(&kind).is_some_and(|queries| conditions::cover(queries, &limits))
        })
    }

    /// Whether resources of this type may be read, all or some.
    pub fn allow(&self, kind: ResourceType) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(types) => types.contains_key(&kind),
        }
    }

    /// What a resource of this type must match to be read; `None` if no such resource may be. A query that cannot be
    /// enforced, because the deployment has changed since it was granted, allows nothing.
    pub fn filters_on(&self, kind: ResourceType, version: FhirVersion, now: Instant) -> Option<TypeFilters> {
        if !version.types().contains(kind) || !self.allow(kind) {
            return None;
        }
        let mut filters = TypeFilters::new();
        for query in self.queries_on(kind) {
            filters.add(Query::parse(&format!("{kind}?{query}"), version, now).ok()?);
        }
        Some(filters)
    }

    /// The queries one of which a resource of this type must match to be read; none if all of the type, or nothing of it,
    /// may be.
    pub fn queries_on(&self, kind: ResourceType) -> impl Iterator<Item = &str> {
        let queries = match self {
            Self::Everything => None,
            Self::Only(types) => types.get(&kind),
        };
        queries.into_iter().flatten().map(String::as_str)
    }

    fn words(&self, action: &str) -> Vec<String> {
        let types = match self {
            Self::Everything => return vec![format!("system/*.{action}")],
            Self::Only(types) => types,
        };
        let mut words = Vec::new();
        for (kind, queries) in types {
            if queries.is_empty() {
                words.push(format!("system/{kind}.{action}"));
            }
            words.extend(queries.iter().map(|query| format!("system/{kind}.rs?{query}")));
        }
        words
    }
}

impl fmt::Display for Scopes {
    /// In the second syntax; [`Scopes::of_text`] reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words("rs").join(" "))
    }
}

/// What is asked for, by the syntax in which it is.
struct Asked {
    first: Scopes,
    second: Scopes,
}

impl Asked {
    fn read(text: &str, version: FhirVersion) -> (Self, Vec<NotGrantable>) {
        let mut asked = Self { first: Scopes::nothing(), second: Scopes::nothing() };
        if text.len() > TEXT_BYTES {
            return (asked, vec![NotGrantable { word: String::new(), why: Why::TooLong }]);
        }
        let mut refused = Vec::new();
        for text in text.split_ascii_whitespace() {
            if let Err(why) = Word::read(text, version).and_then(|word| asked.add(word)) {
                refused.push(NotGrantable::of(text, why));
            }
        }
        (asked, refused)
    }

    fn add(&mut self, Word { kind, query, syntax }: Word) -> Result<(), Why> {
        let scopes = kind.map_or(Scopes::Everything, |kind| Scopes::Only(BTreeMap::from([(kind, query.into_iter().collect())])));
        let side = match syntax {
            Syntax::First => &mut self.first,
            Syntax::Second => &mut self.second,
        };
        let joined = side.or(&scopes);
        if kind.is_some_and(|kind| joined.queries_on(kind).count() > conditions::QUERIES) {
            return Err(Why::ManyQueries);
        }
        *side = joined;
        Ok(())
    }
}
