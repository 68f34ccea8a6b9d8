//! The queries of one type, one of which a resource must match: no query at all is no condition.
//!
//! A query is taken for the set of its parameters, all of which must match. So two can be put together, and one can be
//! told to ask for no less than another, without knowing what a parameter means. Names are compared as they are written:
//! two spellings of the same condition are two, which never allows more.

use std::collections::BTreeSet;

/// The longest query, in bytes, and the most parameters of one: far below what the matcher takes, so that whatever is put
/// together here can be enforced.
const QUERY_BYTES: usize = 2_000;
const PARAMETERS: usize = 50;

/// The most queries of one type: each is matched against every resource of it.
pub(super) const QUERIES: usize = 20;

fn parameters(query: &str) -> BTreeSet<&str> {
    query.split('&').filter(|parameter| !parameter.is_empty()).collect()
}

fn written(parameters: &BTreeSet<&str>) -> String {
    parameters.iter().copied().collect::<Vec<_>>().join("&")
}

/// Whether a query is short enough.
pub(super) fn fits(query: &str) -> bool {
    query.len() <= QUERY_BYTES && parameters(query).len() <= PARAMETERS
}

/// A query, its parameters in order and each once; `None` if it has none.
pub(super) fn tidy(query: &str) -> Option<String> {
    Some(written(&parameters(query))).filter(|query| !query.is_empty())
}

/// Leaves out every query that another one makes idle: what matches `a&b` matches `a`.
fn shortest(mut queries: Vec<BTreeSet<&str>>) -> Vec<BTreeSet<&str>> {
    queries.sort_by_key(BTreeSet::len);
    let mut kept: Vec<BTreeSet<&str>> = Vec::new();
    for query in queries {
        if !kept.iter().any(|shorter| shorter.is_subset(&query)) {
            kept.push(query);
        }
    }
    kept
}

/// As alternatives; no query at all is one that asks for nothing.
fn alternatives(queries: &BTreeSet<String>) -> Vec<BTreeSet<&str>> {
    if queries.is_empty() { vec![BTreeSet::new()] } else { queries.iter().map(|query| parameters(query)).collect() }
}

fn set(alternatives: &[BTreeSet<&str>]) -> BTreeSet<String> {
    alternatives.iter().filter(|query| !query.is_empty()).map(written).collect()
}

/// What matches both; `None` if that cannot be said in queries that are short and few enough.
pub(super) fn both(here: &BTreeSet<String>, there: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let (here, there) = (alternatives(here), alternatives(there));
    let pairs = here.iter().flat_map(|one| there.iter().map(move |other| one | other));
    let queries = set(&shortest(pairs.collect()));
    (queries.len() <= QUERIES && queries.iter().all(|query| fits(query))).then_some(queries)
}

/// What matches one of them.
pub(super) fn either(here: &BTreeSet<String>, there: &BTreeSet<String>) -> BTreeSet<String> {
    set(&shortest(alternatives(here).into_iter().chain(alternatives(there)).collect()))
}

/// Whether whatever matches `narrow` certainly matches `wide`.
pub(super) fn cover(wide: &BTreeSet<String>, narrow: &BTreeSet<String>) -> bool {
    let wide = alternatives(wide);
    alternatives(narrow).iter().all(|narrow| wide.iter().any(|wide| wide.is_subset(narrow)))
}
