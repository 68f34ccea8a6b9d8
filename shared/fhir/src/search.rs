//! `_typeFilter`: FHIR search queries, compiled once and matched against each resource of a type.
//!
//! A query is matched within one resource. Parameters that need other resources, a text index or a terminology service are
//! rejected by name. All other standard parameters of the FHIR version are supported. The behaviour follows R4, "Search"
//! (`search.html`), and R5 where R4 leaves it open.

mod clause;
mod compile;
mod date;
mod decimal;
mod element_test;
mod error;
mod grammar;
mod matcher;
mod modifier;
mod number;
mod prefix;
mod quantity;
mod reference;
mod similar;
mod string;
#[cfg(test)]
mod tests;
mod token;
mod uri;

use std::collections::BTreeMap;

use crate::definitions::{FhirVersion, ResourceType, SearchParameter, TypeSet};
use crate::head::Resource;
use crate::instant::Instant;

use clause::Clause;
pub use error::{QueryError, QuotedName, ValueError};

/// The greatest length of a query, in bytes. Every resource of a lake is matched, so a query beyond these limits is rejected
/// rather than slow.
const MAX_LENGTH_BYTES: usize = 8_192;

/// The greatest number of parameters in a query.
const MAX_CLAUSES: usize = 100;

/// The greatest number of values in a query, all parameters together.
const MAX_VALUES: usize = 1_000;

/// A compiled query. A resource matches if it matches every clause.
#[derive(Clone, Debug)]
pub struct Query {
    /// The type that is searched.
    pub resource_type: ResourceType,
    clauses: Vec<Clause>,
}

impl Query {
    /// Parses a query such as `Observation?category=laboratory&date=ge2020`. `Observation?` alone matches all resources of the
    /// type.
    ///
    /// * `text` has been percent-decoded once, as a server decodes a request. Names and values are decoded once more, because
    ///   clients encode a comma within a query twice: `a%2Cb` is `a,b`, which means either of the two. A comma that is part of
    ///   a value is `\,`.
    /// * `version` determines the parameters.
    /// * `now` is the reference time of the prefix `ap` of a date. The same text and `now` always give the same query.
    /// * Bulk Data Access [`crate::IG_VERSION`], "`_typeFilter` query parameter"; FHIR R4, "Search".
    pub fn parse(text: &str, version: FhirVersion, now: Instant) -> Result<Self, QueryError> {
        if text.len() > MAX_LENGTH_BYTES {
            return Err(QueryError::TooLong);
        }
        let (name, query) = text.trim_start().split_once('?').ok_or(QueryError::NoType)?;
        if name.is_empty() {
            return Err(QueryError::NoType);
        }
        let resource_type = ResourceType::parse(name).filter(|resource_type| version.types().contains(*resource_type));
        let resource_type = resource_type.ok_or_else(|| QueryError::UnknownType { name: QuotedName::new(name), version })?;
        let context = compile::QueryContext { resource_type, version, now };
        Ok(Self { resource_type, clauses: compile::compile_clauses(query, &context)? })
    }

    /// Returns true if the resource is of the type and matches every clause.
    pub fn matches(&self, resource: &Resource<'_>) -> bool {
        resource.head.resource_type == self.resource_type && self.clauses.iter().all(|clause| clause.matches(resource))
    }
}

/// The queries of one type. A resource has to match one of them. Created by [`TypeFilters::add`].
#[derive(Clone, Debug)]
pub struct TypeFilter {
    resource_type: ResourceType,
    queries: Vec<Query>,
}

impl TypeFilter {
    /// Returns the type that is filtered.
    pub fn resource_type(&self) -> ResourceType {
        self.resource_type
    }

    /// Returns true if the resource matches one of the queries.
    pub fn matches(&self, resource: &Resource<'_>) -> bool {
        self.queries.iter().any(|query| query.matches(resource))
    }
}

/// The filters of a request, by type.
#[derive(Clone, Debug, Default)]
pub struct TypeFilters(BTreeMap<ResourceType, TypeFilter>);

impl TypeFilters {
    /// Creates an empty set of filters, which every resource matches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a query to the filter of its type.
    pub fn add(&mut self, query: Query) {
        let resource_type = query.resource_type;
        self.0.entry(resource_type).or_insert_with(|| TypeFilter { resource_type, queries: Vec::new() }).queries.push(query);
    }

    /// Returns true if there is no filter.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the types that have a filter.
    pub fn types(&self) -> TypeSet {
        self.0.keys().copied().collect()
    }

    /// Returns the filter of a type.
    pub fn for_type(&self, resource_type: ResourceType) -> Option<&TypeFilter> {
        self.0.get(&resource_type)
    }

    /// Returns true if the type of the resource has no filter, or if the resource matches it.
    pub fn matches(&self, resource: &Resource<'_>) -> bool {
        self.for_type(resource.head.resource_type).is_none_or(|filter| filter.matches(resource))
    }
}

/// Splits a `_typeFilter` parameter, percent-decoded once, into its queries.
///
/// In version 2.0.0 and in Azure's API, commas separate the queries of a parameter. In 3.0.0 a parameter is one query, whose values
/// may contain commas. So a comma separates queries only if it is not escaped and the text behind it starts like `Type?`.
pub fn split_queries(value: &str) -> Vec<&str> {
    let mut queries = Vec::new();
    let (mut rest, mut search_start) = (value, 0);
    while let Some(part) = rest.get(search_start..).and_then(|text| grammar::split_unescaped(text, ',').next()) {
        let comma = search_start + part.len();
        let (query, behind) = (rest.get(..comma), rest.get(comma + 1..));
        match query.zip(behind) {
            Some((query, behind)) if grammar::type_before_query(behind.trim_start()).is_some() => {
                queries.push(query.trim_start());
                (rest, search_start) = (behind, 0);
            }
            // The comma belongs to the query: go on behind it.
            Some(_) => search_start = comma + 1,
            None => break,
        }
    }
    queries.push(rest.trim_start());
    queries
}

/// Returns the parameters that a query on a type can use, sorted by code, for the CapabilityStatement.
pub fn supported_parameters(version: FhirVersion, resource_type: ResourceType) -> Vec<SearchParameter> {
    let mut parameters = version.search_parameters(resource_type);
    parameters.retain(compile::is_supported);
    parameters
}
