//! What a filter's author relies on, expected by hand from the standard's text. Resources here are R4 unless a test says so.

mod composites;
mod dates;
mod numbers;
mod properties;
mod references;
mod refusals;
mod requests;
mod strings;
mod tokens;
mod uris;

use super::*;
use crate::Outline;

fn now() -> Instant {
    Instant::parse("2026-11-21T00:00:00Z").unwrap()
}

fn query(text: &str) -> Query {
    Query::parse(text, FhirVersion::R4, now()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> QueryError {
    Query::parse(text, FhirVersion::R4, now()).expect_err(text)
}

fn is_found(query: &Query, line: &str) -> bool {
    let mut outline = Outline::default();
    let resource = Resource::read(line.as_bytes(), &mut outline).unwrap_or_else(|error| panic!("{line}: {error}"));
    query.matches(&resource)
}

/// A resource with these members.
fn resource(kind: &str, members: &str) -> String {
    format!(r#"{{"resourceType":"{kind}","id":"1"{}{members}}}"#, if members.is_empty() { "" } else { "," })
}

/// Asserts which parameters find a resource of type `kind` with these members, and which do not.
fn assert_found(kind: &str, members: &str, found: &[&str], missed: &[&str]) {
    let line = resource(kind, members);
    for (parameters, expected) in [(found, true), (missed, false)] {
        for parameter in parameters {
            assert_eq!(is_found(&query(&format!("{kind}?{parameter}")), &line), expected, "{parameter} {line}");
        }
    }
}
