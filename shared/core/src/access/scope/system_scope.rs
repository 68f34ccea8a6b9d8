//! Parses a single `system/` scope.

use headrace_fhir::definitions::{FhirVersion, ResourceType};
use headrace_fhir::instant::Instant;
use headrace_fhir::search::{Query, QueryError};

use super::conditions;

/// A supported scope: it allows to read, and its types and query are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SystemScope {
    /// The resource type. `None` is the wildcard `*`.
    pub(super) kind: Option<ResourceType>,
    /// The query, with its parameters sorted.
    pub(super) query: Option<String>,
    /// The syntax in which the scope is written.
    pub(super) syntax: Syntax,
}

/// The SMART version of a scope's syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// SMART 1.0: `.read`, `.*`.
    V1,
    /// SMART 2.0: `.rs`.
    V2,
}

/// A scope that this service does not grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{scope}` {reason}")]
pub struct RejectedScope {
    /// The scope without its query, whose values may identify a patient.
    pub scope: String,
    /// The reason.
    #[source]
    pub reason: RejectionReason,
}

/// The reason why a scope is rejected, with a hint to the supported form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectionReason {
    /// The text of all scopes together is too long.
    #[error("is longer than the scopes that are read, 16 KiB in all: name types by the wildcard, system/*.rs")]
    TooLong,
    /// The scope is not a `system/` scope: `user/…`, `patient/…`, `launch`, `openid`.
    #[error("is not a scope of a system: write it like system/Patient.rs or system/*.rs")]
    NotSystem,
    /// The scope does not have the form `system/Type.action`.
    #[error("cannot be read: write it like system/Patient.rs, system/Patient.read or system/Observation.rs?category=laboratory")]
    Malformed,
    /// The type does not exist in this version of FHIR.
    #[error("is about a type that FHIR {} does not have; names are case-sensitive", .0.as_str())]
    UnknownType(FhirVersion),
    /// The action does not allow both to read and to search, which an export requires.
    #[error("does not allow both to read and to search, which an export needs: end it in .rs or .read")]
    DoesNotRead,
    /// A query is combined with the wildcard or with SMART 1.0 syntax.
    #[error(
        "has a query where none is allowed: a query needs a scope of one type that ends in .rs, as in system/Observation.rs?category=laboratory"
    )]
    MisplacedQuery,
    /// The query is too long.
    #[error("has a query that is longer than 2000 bytes or has more than 50 parameters")]
    QueryTooLong,
    /// The type has too many queries.
    #[error("is one query too many: one type can have at most 20")]
    TooManyQueries,
    /// The query cannot be enforced.
    #[error("has a query that cannot be enforced: {0}")]
    Query(#[source] QueryError),
}

impl RejectedScope {
    /// Creates the rejection of the scope `text`. The query is removed, and the rest is shortened and made printable.
    pub(super) fn new(text: &str, reason: RejectionReason) -> Self {
        let without_query = text.split('?').next().unwrap_or_default();
        let scope = without_query.chars().take(100).map(|c| if c.is_ascii_graphic() { c } else { '\u{fffd}' }).collect();
        Self { scope, reason }
    }
}

impl SystemScope {
    /// Parses a single `system/` scope. Returns the reason if it is rejected.
    pub(super) fn parse(text: &str, version: FhirVersion) -> Result<Self, RejectionReason> {
        let scope = text.strip_prefix("system/").ok_or(RejectionReason::NotSystem)?;
        // The characters that RFC 6749 allows in a scope. The text is later written into JSON and headers without escaping.
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')) {
            return Err(RejectionReason::Malformed);
        }
        let (scope, query) = scope.split_once('?').map_or((scope, None), |(scope, query)| (scope, Some(query)));
        let (name, action) = scope.split_once('.').ok_or(RejectionReason::Malformed)?;
        let kind = match name {
            "*" => None,
            name => {
                let kind = ResourceType::parse(name).filter(|kind| version.types().contains(*kind));
                Some(kind.ok_or(RejectionReason::UnknownType(version))?)
            }
        };
        let syntax = parse_action(action)?;
        let query = match (query, kind, syntax) {
            (None, _, _) => None,
            (Some(query), Some(kind), Syntax::V2) => Some(parse_query(query, kind, version)?),
            (Some(_), None, _) | (Some(_), _, Syntax::V1) => return Err(RejectionReason::MisplacedQuery),
        };
        Ok(Self { kind, query, syntax })
    }
}

/// Determines the syntax of an action. Fails if the action does not allow exporting.
fn parse_action(action: &str) -> Result<Syntax, RejectionReason> {
    match action {
        "read" | "*" => return Ok(Syntax::V1),
        "write" => return Err(RejectionReason::DoesNotRead),
        _ => {}
    }
    // SMART 2.0: letters of `cruds`, in this order.
    let mut letters = "cruds".chars();
    if action.is_empty() || !action.chars().all(|letter| letters.any(|next| next == letter)) {
        return Err(RejectionReason::Malformed);
    }
    if action.contains('r') && action.contains('s') { Ok(Syntax::V2) } else { Err(RejectionReason::DoesNotRead) }
}

/// Checks that a query can be enforced and returns it with its parameters sorted.
fn parse_query(query: &str, kind: ResourceType, version: FhirVersion) -> Result<String, RejectionReason> {
    if !conditions::is_short_enough(query) {
        return Err(RejectionReason::QueryTooLong);
    }
    Query::parse(&format!("{kind}?{query}"), version, Instant::from_millis(0)).map_err(RejectionReason::Query)?;
    conditions::normalize(query).ok_or(RejectionReason::Malformed)
}
