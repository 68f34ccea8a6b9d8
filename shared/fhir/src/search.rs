//! `_typeFilter`: queries of FHIR's search, compiled once and matched against each resource of a type.
//!
//! A query is matched within one resource: parameters that other resources, a text index or a terminology service would
//! have to answer are refused by name. Everything else of the version's standard parameters is there; the tables say where
//! each looks. R4, "Search" (`search.html`), is what is followed, R5 where R4 is silent.

mod clause;
mod compile;
mod date;
mod decimal;
mod error;
mod grammar;
mod nearest;
mod number;
mod place;
mod prefix;
mod quantity;
mod reading;
mod reference;
mod string;
#[cfg(test)]
mod tests;
mod token;
mod uri;

use std::collections::BTreeMap;

use crate::{FhirVersion, Instant, Resource, ResourceType, SearchParameter, TypeSet};

use clause::Clause;
pub use error::{Fault, QueryError, Word};

/// The longest query that is read, in bytes. Matching costs time on every resource of a lake; a query beyond these bounds
/// is refused rather than slow.
const LENGTH_BYTES: usize = 8_192;

/// The most parameters of one query.
const CLAUSES: usize = 100;

/// The most values of one query, all parameters together.
const VALUES: usize = 1_000;

/// One query, compiled: a resource matches if it meets every clause.
#[derive(Clone, Debug)]
pub struct Query {
    /// The type that it searches.
    pub kind: ResourceType,
    clauses: Vec<Clause>,
}

impl Query {
    /// Reads `Observation?category=laboratory&date=ge2020`; `Observation?` alone matches all of the type.
    ///
    /// * `text`: percent-decoded once, as a server decodes a request. Names and values are decoded once more, for clients
    ///   encode a comma within a query twice: `a%2Cb` is `a,b`, which is either of the two. A comma that is part of a value
    ///   is `\,`.
    /// * `version`: decides which parameters there are.
    /// * `now`: what `ap` before a date relates to. The same text and `now` always give the same query.
    /// * Bulk Data Access [`crate::IG_VERSION`], "`_typeFilter` query parameter"; FHIR R4, "Search".
    pub fn parse(text: &str, version: FhirVersion, now: Instant) -> Result<Self, QueryError> {
        if text.len() > LENGTH_BYTES {
            return Err(QueryError::TooLong);
        }
        let (name, query) = text.trim_start().split_once('?').ok_or(QueryError::NoType)?;
        if name.is_empty() {
            return Err(QueryError::NoType);
        }
        let kind = ResourceType::named(name).filter(|kind| version.types().contains(*kind));
        let kind = kind.ok_or_else(|| QueryError::UnknownType { name: Word::of(name), version })?;
        Ok(Self { kind, clauses: compile::clauses(query, &compile::Scope { kind, version, now })? })
    }

    /// Whether the resource is of the type and meets every clause.
    pub fn matches(&self, resource: &Resource<'_>) -> bool {
        resource.head.kind == self.kind && self.clauses.iter().all(|clause| clause.matches(resource))
    }
}

/// All queries of one type: matching any of them is enough. Made by [`TypeFilters::add`].
#[derive(Clone, Debug)]
pub struct TypeFilter {
    kind: ResourceType,
    queries: Vec<Query>,
}

impl TypeFilter {
    /// The type that it filters.
    pub fn kind(&self) -> ResourceType {
        self.kind
    }

    /// Whether the resource matches any of the queries.
    pub fn matches(&self, resource: &Resource<'_>) -> bool {
        self.queries.iter().any(|query| query.matches(resource))
    }
}

/// All filters of a request.
#[derive(Clone, Debug, Default)]
pub struct TypeFilters(BTreeMap<ResourceType, TypeFilter>);

impl TypeFilters {
    /// No filter: everything matches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a query to its type's.
    pub fn add(&mut self, query: Query) {
        let kind = query.kind;
        self.0.entry(kind).or_insert_with(|| TypeFilter { kind, queries: Vec::new() }).queries.push(query);
    }

    /// Whether there is no filter at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The types that have a filter.
    pub fn kinds(&self) -> TypeSet {
        self.0.keys().copied().collect()
    }

    /// The filter of a type.
    pub fn of(&self, kind: ResourceType) -> Option<&TypeFilter> {
        self.0.get(&kind)
    }

    /// Whether the resource's type has no filter, or the resource matches it.
    pub fn matches(&self, resource: &Resource<'_>) -> bool {
        self.of(resource.head.kind).is_none_or(|filter| filter.matches(resource))
    }
}

/// The queries of one `_typeFilter` parameter, percent-decoded once.
///
/// 2.0.0 and Azure put several into one parameter with commas between them, 3.0.0 puts one, whose values may have commas of
/// their own. So a comma ends a query only if no backslash stands before it and the next text begins like `Type?`.
pub fn split_queries(value: &str) -> Vec<&str> {
    let mut queries = Vec::new();
    let (mut rest, mut searched) = (value, 0);
    while let Some(piece) = rest.get(searched..).and_then(|text| grammar::pieces(text, ',').next()) {
        let comma = searched + piece.len();
        let (query, behind) = (rest.get(..comma), rest.get(comma + 1..));
        match query.zip(behind) {
            Some((query, behind)) if grammar::type_before_query(behind.trim_start()).is_some() => {
                queries.push(query.trim_start());
                (rest, searched) = (behind, 0);
            }
            Some(_) => searched = comma + 1,
            None => break,
        }
    }
    queries.push(rest.trim_start());
    queries
}

/// The parameters that a query on a type can use, sorted by code: for the CapabilityStatement.
pub fn supported_parameters(version: FhirVersion, kind: ResourceType) -> Vec<SearchParameter> {
    let mut parameters = version.search_parameters(kind);
    parameters.retain(compile::is_supported);
    parameters
}
