//! Set operations on the queries of a resource type. A resource must match at least one query of the set. An empty set does
//! not restrict the type.
//!
//! A query is treated as the set of its parameters: a resource must match all of them. Therefore two queries can be combined, and one
//! can be shown to be at least as strict as another, without knowledge of what a parameter means. Parameters are compared
//! as text: two spellings of the same condition count as different, which never widens access.

use std::collections::BTreeSet;

/// The maximum length of a query, in bytes. This limit and [`MAX_PARAMETERS`] are far below those of the query compiler, so
/// that every combination of queries can still be enforced.
const MAX_QUERY_BYTES: usize = 2_000;

/// The maximum number of parameters of a query.
const MAX_PARAMETERS: usize = 50;

/// The maximum number of queries of a type. Each query is matched against each resource of the type.
pub(super) const MAX_QUERIES: usize = 20;

/// Splits a query into its parameters with their values, such as `code=1`. Removes duplicates and empty parameters.
fn parameters(query: &str) -> BTreeSet<&str> {
    query.split('&').filter(|parameter| !parameter.is_empty()).collect()
}

/// Joins parameters with `&` to a query.
fn to_query(parameters: &BTreeSet<&str>) -> String {
    parameters.iter().copied().collect::<Vec<_>>().join("&")
}

/// Returns true if a query exceeds neither the maximum size nor the maximum number of parameters.
pub(super) fn is_short_enough(query: &str) -> bool {
    query.len() <= MAX_QUERY_BYTES && parameters(query).len() <= MAX_PARAMETERS
}

/// Sorts the parameters of a query and removes duplicates. Returns `None` if the query has no parameters.
pub(super) fn normalize(query: &str) -> Option<String> {
    Some(to_query(&parameters(query))).filter(|query| !query.is_empty())
}

/// Removes every query that another query makes redundant: what matches `a&b` also matches `a`.
fn remove_redundant(mut queries: Vec<BTreeSet<&str>>) -> Vec<BTreeSet<&str>> {
    queries.sort_by_key(BTreeSet::len);
    let mut kept: Vec<BTreeSet<&str>> = Vec::new();
    for query in queries {
        if !kept.iter().any(|shorter| shorter.is_subset(&query)) {
            kept.push(query);
        }
    }
    kept
}

/// Converts queries to sets of parameters. The empty set of queries becomes a single query without parameters.
fn to_alternatives(queries: &BTreeSet<String>) -> Vec<BTreeSet<&str>> {
    if queries.is_empty() { vec![BTreeSet::new()] } else { queries.iter().map(|query| parameters(query)).collect() }
}

/// Joins each alternative to a query. Alternatives without parameters are left out.
fn from_alternatives(alternatives: &[BTreeSet<&str>]) -> BTreeSet<String> {
    alternatives.iter().filter(|query| !query.is_empty()).map(to_query).collect()
}

/// Returns the queries for the resources that match both sides. Returns `None` if the result exceeds the limits.
pub(super) fn intersection(left: &BTreeSet<String>, right: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let (left, right) = (to_alternatives(left), to_alternatives(right));
    let pairs = left.iter().flat_map(|one| right.iter().map(move |other| one | other));
    let queries = from_alternatives(&remove_redundant(pairs.collect()));
    (queries.len() <= MAX_QUERIES && queries.iter().all(|query| is_short_enough(query))).then_some(queries)
}

/// Returns the queries for the resources that match at least one side.
pub(super) fn union(left: &BTreeSet<String>, right: &BTreeSet<String>) -> BTreeSet<String> {
    from_alternatives(&remove_redundant(to_alternatives(left).into_iter().chain(to_alternatives(right)).collect()))
}

/// Returns true if every resource that matches `narrow` certainly matches `wide`.
pub(super) fn covers(wide: &BTreeSet<String>, narrow: &BTreeSet<String>) -> bool {
    let wide = to_alternatives(wide);
    to_alternatives(narrow).iter().all(|narrow| wide.iter().any(|wide| wide.is_subset(narrow)))
}
