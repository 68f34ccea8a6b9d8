//! The errors of a query.

use std::fmt;

use super::{MAX_CLAUSES, MAX_LENGTH_BYTES, MAX_VALUES};
use crate::definitions::{FhirVersion, ResourceType};

/// A name from a query, quoted and truncated for an error message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotedName(Box<str>);

impl QuotedName {
    /// Length limit. FHIR has no longer name.
    const MAX_CHARS: usize = 64;

    /// Truncates `text` to the length limit.
    pub(super) fn new(text: &str) -> Self {
        Self(text.chars().take(Self::MAX_CHARS).collect())
    }
}

impl fmt::Display for QuotedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0.escape_debug())
    }
}

/// The reason why a query cannot be used. The message says what is wrong, where, and what to do.
///
/// Messages quote types, parameters and modifiers, but never values, which may identify a patient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The query is too long.
    #[error("the query is longer than {MAX_LENGTH_BYTES} bytes; split it into several _typeFilter parameters")]
    TooLong,
    /// The query has too many parameters.
    #[error("the query has more than {MAX_CLAUSES} parameters; leave some out")]
    TooManyClauses,
    /// The query has too many values.
    #[error("the query has more than {MAX_VALUES} values; split it into several _typeFilter parameters")]
    TooManyValues,
    /// The query does not start with `Type?`.
    #[error("a query begins with one resource type and a question mark; write it like Observation?category=laboratory")]
    NoType,
    /// The FHIR version does not define the resource type.
    #[error("FHIR {} has no resource type {name}; names are case-sensitive", version.as_str())]
    UnknownType {
        /// The name in the query.
        name: QuotedName,
        /// The FHIR version of the data.
        version: FhirVersion,
    },
    /// A parameter has no `=`, no name or no value.
    #[error("{resource_type}: parameter {name} is not of the form name=value; give it a value or leave it out")]
    Form {
        /// The type that is searched.
        resource_type: ResourceType,
        /// The text before the `=`.
        name: QuotedName,
    },
    /// FHIR does not define the parameter for this type.
    #[error("{resource_type} has no search parameter {name} in FHIR {}{}", version.as_str(), SimilarNames(similar))]
    UnknownParameter {
        /// The type that is searched.
        resource_type: ResourceType,
        /// The name in the query.
        name: QuotedName,
        /// The FHIR version of the data.
        version: FhirVersion,
        /// Parameters with similar names.
        similar: Vec<&'static str>,
    },
    /// The parameter controls a page of results, such as `_sort`. Bulk Data does not allow these in a filter.
    #[error("{resource_type}: {name} shapes search results and is not allowed in a _typeFilter; leave it out")]
    ResultParameter {
        /// The type that is searched.
        resource_type: ResourceType,
        /// The name in the query.
        name: QuotedName,
    },
    /// The parameter is chained and needs other resources: `subject.name`, `subject:Patient.name`.
    #[error("{resource_type}: chained parameter {name} needs other resources and is not supported; filter by ids instead")]
    Chained {
        /// The type that is searched.
        resource_type: ResourceType,
        /// The name in the query.
        name: QuotedName,
    },
    /// `_has` needs other resources.
    #[error("{resource_type}: _has needs other resources and is not supported; filter by ids instead")]
    Has {
        /// The type that is searched.
        resource_type: ResourceType,
    },
    /// A filter of single resources cannot answer the parameter.
    #[error("{resource_type}: search parameter {name} is not supported in a _typeFilter; leave it out")]
    NotSupported {
        /// The type that is searched.
        resource_type: ResourceType,
        /// The name in the query.
        name: QuotedName,
    },
    /// The modifier needs a terminology service or a hierarchy of resources, such as `:in`.
    #[error(
        "{resource_type}: {name}:{modifier} needs a terminology service or other resources and is not supported; list the values themselves"
    )]
    NeedsTerminology {
        /// The type that is searched.
        resource_type: ResourceType,
        /// The parameter.
        name: &'static str,
        /// The modifier.
        modifier: &'static str,
    },
    /// The parameter does not have the modifier.
    #[error("{resource_type}: search parameter {name} has no modifier {modifier}; it has {supported}")]
    Modifier {
        /// The type that is searched.
        resource_type: ResourceType,
        /// The parameter.
        name: &'static str,
        /// The name in the query.
        modifier: QuotedName,
        /// The modifiers that the parameter has.
        supported: &'static str,
    },
    /// A value is invalid.
    #[error("{resource_type}: value {position} of search parameter {name} {error}")]
    Value {
        /// The type that is searched.
        resource_type: ResourceType,
        /// The parameter.
        name: &'static str,
        /// The position of the value, counted from 1.
        position: usize,
        /// The error of the value.
        error: ValueError,
    },
}

/// The error of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The value is empty.
    #[error("is empty; write one, or leave out the comma before it")]
    Empty,
    /// A backslash precedes a character that needs no escape.
    #[error(r"has a backslash that escapes nothing; it goes before a comma, $, | or another backslash")]
    Backslash,
    /// The percent-encoded bytes are not UTF-8.
    #[error("is percent-encoded, but does not decode to UTF-8")]
    NotUtf8,
    /// The value is not `true` or `false`.
    #[error("is neither true nor false")]
    NotABoolean,
    /// The value is not a date with an optional prefix.
    #[error("is not a date such as 2026, 2026-01, ge2026-01-31 or lt2026-01-31T08:00:00Z")]
    NotADate,
    /// The value is not a number with an optional prefix.
    #[error("is not a number such as 5.40, gt100 or 1e-3")]
    NotANumber,
    /// The value is not a quantity with an optional prefix.
    #[error("is not a quantity such as 5.4, 5.4||mg or gt5.4|http://unitsofmeasure.org|mg")]
    NotAQuantity,
    /// The value is not a token.
    #[error("is not a token: code, system|code, |code or system|")]
    NotAToken,
    /// The value of `:of-type` does not have three parts.
    #[error("is not an identifier of a type: system|code|value")]
    NotOfType,
    /// The value is not a reference.
    #[error("is not a reference: an id, Type/id or an absolute URL")]
    NotAReference,
    /// The value does not have as many parts as the composite has components.
    #[error("does not have {0} parts with $ between them")]
    Parts(usize),
    /// The parameter takes only one value.
    #[error("is one too many; :missing takes one value")]
    OneTooMany,
}

/// The end of a message about an unknown parameter: similar names, if there are any.
struct SimilarNames<'a>(&'a [&'static str]);

impl fmt::Display for SimilarNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("; the CapabilityStatement lists the supported ones"),
            names => write!(f, "; similar ones are {}", names.join(", ")),
        }
    }
}
