//! The behavior that authors of filters rely on, expected by hand from the standard's text. Resources here are R4 unless a test says so.

mod composites;
mod dates;
mod errors;
mod numbers;
mod properties;
mod references;
mod requests;
mod strings;
mod tokens;
mod uris;

use super::*;
use crate::head::MemberIndex;

fn now() -> Instant {
    Instant::parse("2026-11-21T00:00:00Z").unwrap()
}

fn query(text: &str) -> Query {
    Query::parse(text, FhirVersion::R4, now()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn query_error(text: &str) -> QueryError {
    Query::parse(text, FhirVersion::R4, now()).expect_err(text)
}

fn is_found(query: &Query, line: &str) -> bool {
    let mut member_index = MemberIndex::default();
    let resource = Resource::parse(line.as_bytes(), &mut member_index).unwrap_or_else(|error| panic!("{line}: {error}"));
    query.matches(&resource)
}

/// Returns a resource with these members.
fn resource(kind: &str, members: &str) -> String {
    format!(r#"{{"resourceType":"{kind}","id":"1"{}{members}}}"#, if members.is_empty() { "" } else { "," })
}

/// Asserts that a resource of type `kind` with these members matches the parameters `found` and none of `missed`.
fn assert_found(kind: &str, members: &str, found: &[&str], missed: &[&str]) {
    let line = resource(kind, members);
    for (parameters, expected) in [(found, true), (missed, false)] {
        for parameter in parameters {
            assert_eq!(is_found(&query(&format!("{kind}?{parameter}")), &line), expected, "{parameter} {line}");
        }
    }
}
