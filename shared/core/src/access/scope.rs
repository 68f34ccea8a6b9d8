//! SMART scopes of backend services: `system/` scopes (SMART App Launch, "Scopes and Launch Context").
//!
//! Both syntaxes are supported: `system/Observation.read` (SMART 1.0) and `system/Observation.rs?category=laboratory`
//! (SMART 2.0). Scopes that do not allow reading are ignored. A scope that this service cannot enforce is rejected; it is
//! never granted in a wider form.

mod conditions;
mod system_scope;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use headrace_fhir::definitions::{FhirVersion, ResourceType};
use headrace_fhir::instant::Instant;
use headrace_fhir::search::{Query, TypeFilters};
use serde::{Deserialize, Serialize};

pub use system_scope::{RejectedScope, RejectionReason};
use system_scope::{Syntax, SystemScope};

/// The maximum length of a scope parameter, in bytes. The access token that holds the scopes must fit into a header.
const TEXT_BYTES: usize = 16 << 10;

/// The resources that may be read. The default, everything, applies if access control is off.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scopes {
    /// Access to all resources.
    #[default]
    Everything,
    /// Resources of these types. A type with queries is restricted to resources that match at least one of them.
    Only(BTreeMap<ResourceType, BTreeSet<String>>),
}

/// The scopes that a client is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedScopes {
    /// The scopes.
    pub scopes: Scopes,
    /// The text for the token response, in the syntax of the request; in both syntaxes if the request used both.
    pub text: String,
}

impl Scopes {
    /// Returns scopes that allow nothing.
    pub fn none() -> Self {
        Self::Only(BTreeMap::new())
    }

    /// Returns true if no resource may be read.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Everything => false,
            Self::Only(types) => types.is_empty(),
        }
    }

    /// Parses scopes separated by white space. Returns the supported scopes, and the rejected ones with their reasons.
    ///
    /// A registration should have no rejected scopes. A token of another issuer may have many that are not for this service.
    pub fn parse(text: &str, version: FhirVersion) -> (Self, Vec<RejectedScope>) {
        let (requested, rejected) = RequestedScopes::parse(text, version);
        (requested.v1.union(&requested.v2), rejected)
    }

    /// Returns the part of the `requested` scopes that a client with the `registered` scopes may be granted, or `None` if
    /// that is empty.
    ///
    /// * A wildcard is granted as the registered types. If both sides restrict a type by queries, a resource must match a
    ///   query of each side.
    /// * Only SMART 2.0 syntax can express a query. A type that is registered with queries is therefore answered in it.
    pub fn grant(requested: &str, registered: &Self, version: FhirVersion) -> Option<GrantedScopes> {
        let (requested, _) = RequestedScopes::parse(requested, version);
        let (v1, v2) = (requested.v1.intersection(registered), requested.v2.intersection(registered));
        let scopes = v1.union(&v2);
        let (whole_types, restricted_types) = v1.split_by_queries();
        let words = whole_types.to_words("read").into_iter().chain(restricted_types.union(&v2).to_words("rs"));
        let text = words.collect::<Vec<_>>().join(" ");
        (!text.is_empty() && text.len() <= TEXT_BYTES).then_some(GrantedScopes { scopes, text })
    }

    /// Returns the scopes for the resources that both sides allow to read.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Everything, scopes) | (scopes, Self::Everything) => scopes.clone(),
            (Self::Only(left), Self::Only(right)) => {
                let shared = left.iter().filter_map(|(kind, queries)| Some((kind, queries, right.get(kind)?)));
                let types = shared.filter_map(|(kind, left, right)| Some((*kind, conditions::intersection(left, right)?)));
                Self::Only(types.collect())
            }
        }
    }

    /// Returns the scopes for the resources that at least one side allows to read.
    fn union(&self, other: &Self) -> Self {
        let (Self::Only(left), Self::Only(right)) = (self, other) else { return Self::Everything };
        let mut types = left.clone();
        for (kind, queries) in right {
            let joined = match left.get(kind) {
                Some(known) => conditions::union(known, queries),
                None => queries.clone(),
            };
            types.insert(*kind, joined);
        }
        Self::Only(types)
    }

    /// Splits the scopes into the types without queries and the types with queries.
    fn split_by_queries(self) -> (Self, Self) {
        match self {
            Self::Everything => (Self::Everything, Self::none()),
            Self::Only(types) => {
                let (whole, restricted) = types.into_iter().partition(|(_, queries)| queries.is_empty());
                (Self::Only(whole), Self::Only(restricted))
            }
        }
    }

    /// Returns true if these scopes certainly allow reading every resource of the type that matches at least one of `queries`.
    /// No queries stand for all resources of the type.
    pub fn covers(&self, kind: ResourceType, queries: &BTreeSet<String>) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(types) => types.get(&kind).is_some_and(|allowed| conditions::covers(allowed, queries)),
        }
    }

    /// Returns true if at least some resources of the type may be read.
    pub fn allows_type(&self, kind: ResourceType) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(types) => types.contains_key(&kind),
        }
    }

    /// Compiles the filters that a resource of the type must pass to be read. Returns `None` if no resource of the type may
    /// be read. That is also the case if a query can no longer be enforced because the deployment has changed since the
    /// query was granted.
    pub fn type_filters(&self, kind: ResourceType, version: FhirVersion, now: Instant) -> Option<TypeFilters> {
        if !version.types().contains(kind) || !self.allows_type(kind) {
            return None;
        }
        let mut filters = TypeFilters::new();
        for query in self.queries_for(kind) {
            filters.add(Query::parse(&format!("{kind}?{query}"), version, now).ok()?);
        }
        Some(filters)
    }

    /// Iterates over the queries of a resource type. A resource must match at least one of them. Yields nothing if
    /// all resources of the type may be read, and also if none may be read.
    pub fn queries_for(&self, kind: ResourceType) -> impl Iterator<Item = &str> {
        let queries = match self {
            Self::Everything => None,
            Self::Only(types) => types.get(&kind),
        };
        queries.into_iter().flatten().map(String::as_str)
    }

    /// Returns the scopes as a list, such as `system/Patient.read`. Types with queries are always in SMART 2.0 syntax.
    ///
    /// * `action`: the action of types without queries, `read` or `rs`.
    fn to_words(&self, action: &str) -> Vec<String> {
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
    /// Formats the scopes in SMART 2.0 syntax. [`Scopes::parse`] reads the text back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_words("rs").join(" "))
    }
}

/// Requested scopes, separated by syntax because the response uses the syntax of the request.
struct RequestedScopes {
    v1: Scopes,
    v2: Scopes,
}

impl RequestedScopes {
    /// Parses scopes separated by white space. Returns the supported scopes, and the rejected ones with their reasons.
    fn parse(text: &str, version: FhirVersion) -> (Self, Vec<RejectedScope>) {
        let mut requested = Self { v1: Scopes::none(), v2: Scopes::none() };
        if text.len() > TEXT_BYTES {
            return (requested, vec![RejectedScope { scope: String::new(), reason: RejectionReason::TooLong }]);
        }
        let mut rejected = Vec::new();
        for word in text.split_ascii_whitespace() {
            if let Err(reason) = SystemScope::parse(word, version).and_then(|scope| requested.add(scope)) {
                rejected.push(RejectedScope::new(word, reason));
            }
        }
        (requested, rejected)
    }

    /// Adds a scope to the scopes of its syntax. Fails and adds nothing if the type would then have too many queries.
    fn add(&mut self, SystemScope { kind, query, syntax }: SystemScope) -> Result<(), RejectionReason> {
        let added = kind.map_or(Scopes::Everything, |kind| Scopes::Only(BTreeMap::from([(kind, query.into_iter().collect())])));
        let scopes = match syntax {
            Syntax::V1 => &mut self.v1,
            Syntax::V2 => &mut self.v2,
        };
        let joined = scopes.union(&added);
        if kind.is_some_and(|kind| joined.queries_for(kind).count() > conditions::MAX_QUERIES) {
            return Err(RejectionReason::TooManyQueries);
        }
        *scopes = joined;
        Ok(())
    }
}
