//! One scope.

use headrace_fhir::{FhirVersion, Instant, Query, QueryError, ResourceType};

use super::conditions;

/// A scope that can be granted: it reads, and what it is about can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// `None` is every type.
    pub(super) kind: Option<ResourceType>,
    pub(super) query: Option<String>,
    pub(super) syntax: Syntax,
}

/// In which version of SMART a scope is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// 1.0: `.read`, `.*`.
    First,
    /// 2.0: `.rs`.
    Second,
}

/// A scope that does not count here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` {why}")]
pub struct NotGrantable {
    /// The scope without its query, whose values may be a patient's.
    pub word: String,
    /// Why.
    #[source]
    pub why: Why,
}

/// Why a scope does not count here, and what would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The text of all scopes is longer than is read.
    #[error("is longer than the scopes that are read, 16 KiB in all: name types by the wildcard, system/*.rs")]
    TooLong,
    /// `user/…`, `patient/…`, `launch`, `openid`.
    #[error("is not a scope of a system: write it like system/Patient.rs or system/*.rs")]
    NotOfASystem,
    /// Not `system/Type.action`.
    #[error("cannot be read: write it like system/Patient.rs, system/Patient.read or system/Observation.rs?category=laboratory")]
    Form,
    /// The type is none of the version's.
    #[error("is about a type that FHIR {} does not have; names are case-sensitive", .0.as_str())]
    UnknownType(FhirVersion),
    /// It only writes, or it only reads or only searches: an export does both.
    #[error("does not allow both to read and to search, which an export needs: end it in .rs or .read")]
    DoesNotRead,
    /// A query on all types, or in the first syntax.
    #[error("has a query that cannot stand there: queries go with one type and .rs, as in system/Observation.rs?category=laboratory")]
    MisplacedQuery,
    /// The query is longer than is enforced.
    #[error("has a query that is longer than 2000 bytes or has more than 50 parameters")]
    LongQuery,
    /// One query of a type more than are enforced.
    #[error("is one query too many: 20 are the most for one type")]
    ManyQueries,
    /// Nobody could enforce the query.
    #[error("has a query that cannot be enforced: {0}")]
    Query(#[source] QueryError),
}

impl NotGrantable {
    pub(super) fn of(word: &str, why: Why) -> Self {
        let bare = word.split('?').next().unwrap_or_default();
        Self { word: bare.chars().take(100).map(|c| if c.is_ascii_graphic() { c } else { '\u{fffd}' }).collect(), why }
    }
}

impl Word {
    pub(super) fn read(text: &str, version: FhirVersion) -> Result<Self, Why> {
        let scope = text.strip_prefix("system/").ok_or(Why::NotOfASystem)?;
        // What a scope is made of by RFC 6749: it goes into JSON and into headers as it is.
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')) {
            return Err(Why::Form);
        }
        let (scope, query) = scope.split_once('?').map_or((scope, None), |(scope, query)| (scope, Some(query)));
        let (name, action) = scope.split_once('.').ok_or(Why::Form)?;
        let kind = match name {
            "*" => None,
            name => {
                let kind = ResourceType::named(name).filter(|kind| version.types().contains(*kind));
                Some(kind.ok_or(Why::UnknownType(version))?)
            }
        };
        let syntax = syntax(action)?;
        let query = match (query, kind, syntax) {
            (None, _, _) => None,
            (Some(query), Some(kind), Syntax::Second) => Some(enforceable(query, kind, version)?),
            (Some(_), None, _) | (Some(_), _, Syntax::First) => return Err(Why::MisplacedQuery),
        };
        Ok(Self { kind, query, syntax })
    }
}

/// The syntax of what stands behind the dot, if that allows to export.
fn syntax(action: &str) -> Result<Syntax, Why> {
    match action {
        "read" | "*" => return Ok(Syntax::First),
        "write" => return Err(Why::DoesNotRead),
        _ => {}
    }
    // Letters of `cruds`, in this order.
    let mut letters = "cruds".chars();
    if action.is_empty() || !action.chars().all(|letter| letters.any(|next| next == letter)) {
        return Err(Why::Form);
    }
    if action.contains('r') && action.contains('s') { Ok(Syntax::Second) } else { Err(Why::DoesNotRead) }
}

/// The query in order, if a resource can be held to it.
fn enforceable(query: &str, kind: ResourceType, version: FhirVersion) -> Result<String, Why> {
    if !conditions::fits(query) {
        return Err(Why::LongQuery);
    }
    Query::parse(&format!("{kind}?{query}"), version, Instant::from_millis(0)).map_err(Why::Query)?;
    conditions::tidy(query).ok_or(Why::Form)
}
