//! What a query is refused for.

use std::fmt;

use super::{CLAUSES, LENGTH_BYTES, VALUES};
use crate::{FhirVersion, ResourceType};

/// A name out of a query, cut to a length that a message can bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(Box<str>);

impl Word {
    /// Names are short; what is longer is no name, and nobody should read all of it.
    const CHARS: usize = 64;

    pub(super) fn of(text: &str) -> Self {
        Self(text.chars().take(Self::CHARS).collect())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0.escape_debug())
    }
}

/// Why a query cannot be used: what is wrong, where, and what to do about it.
///
/// A message names types, parameters and modifiers as the query does, never values: they may be a patient's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Longer than is read.
    #[error("the query is longer than {LENGTH_BYTES} bytes; split it into several _typeFilter parameters")]
    TooLong,
    /// More parameters than are read.
    #[error("the query has more than {CLAUSES} parameters; leave some out")]
    TooManyClauses,
    /// More values than are read.
    #[error("the query has more than {VALUES} values; split it into several _typeFilter parameters")]
    TooManyValues,
    /// No `Type?` at the beginning.
    #[error("a query begins with one resource type and a question mark; write it like Observation?category=laboratory")]
    NoType,
    /// The type is none of the version's.
    #[error("FHIR {} has no resource type {name}; names are case-sensitive", version.as_str())]
    UnknownType {
        /// As the query spells it.
        name: Word,
        /// The version of FHIR that the data is in.
        version: FhirVersion,
    },
    /// A parameter without `=`, without a name or without a value.
    #[error("{kind}: parameter {name} is not of the form name=value; give it a value or leave it out")]
    Form {
        /// The type that is searched.
        kind: ResourceType,
        /// What stands before the `=`.
        name: Word,
    },
    /// A parameter that FHIR does not define for this type.
    #[error("{kind} has no search parameter {name} in FHIR {}{}", version.as_str(), Nearest(nearest))]
    UnknownParameter {
        /// The type that is searched.
        kind: ResourceType,
        /// As the query spells it.
        name: Word,
        /// The version of FHIR that the data is in.
        version: FhirVersion,
        /// Parameters of a similar name.
        nearest: Vec<&'static str>,
    },
    /// A parameter that shapes a page of results, such as `_sort`; Bulk Data forbids these here.
    #[error("{kind}: {name} shapes search results and is not allowed in a _typeFilter; leave it out")]
    ResultParameter {
        /// The type that is searched.
        kind: ResourceType,
        /// As the query spells it.
        name: Word,
    },
    /// `subject.name`, `subject:Patient.name`: other resources would have to be searched.
    #[error("{kind}: chained parameter {name} needs other resources and is not supported; filter by ids instead")]
    Chained {
        /// The type that is searched.
        kind: ResourceType,
        /// As the query spells it.
        name: Word,
    },
    /// `_has`: other resources would have to be searched.
    #[error("{kind}: _has needs other resources and is not supported; filter by ids instead")]
    Has {
        /// The type that is searched.
        kind: ResourceType,
    },
    /// A parameter of FHIR that a filter of single resources cannot answer.
    #[error("{kind}: search parameter {name} is not supported in a _typeFilter; leave it out")]
    NotSupported {
        /// The type that is searched.
        kind: ResourceType,
        /// As the query spells it.
        name: Word,
    },
    /// A modifier that is answered only by terminology or by a hierarchy of resources, such as `:in`.
    #[error("{kind}: {name}:{modifier} needs a terminology service or other resources and is not supported; list the values themselves")]
    NeedsTerminology {
        /// The type that is searched.
        kind: ResourceType,
        /// The parameter.
        name: &'static str,
        /// As FHIR spells it.
        modifier: &'static str,
    },
    /// A modifier that this parameter does not have.
    #[error("{kind}: search parameter {name} has no modifier {modifier}; it has {allowed}")]
    Modifier {
        /// The type that is searched.
        kind: ResourceType,
        /// The parameter.
        name: &'static str,
        /// As the query spells it.
        modifier: Word,
        /// Those that it has.
        allowed: &'static str,
    },
    /// A value that cannot be read.
    #[error("{kind}: value {place} of search parameter {name} {fault}")]
    Value {
        /// The type that is searched.
        kind: ResourceType,
        /// The parameter.
        name: &'static str,
        /// Which of its values, counted from 1.
        place: usize,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing stands there.
    #[error("is empty; write one, or leave out the comma before it")]
    Empty,
    /// A backslash before another character than those that need it.
    #[error(r"has a backslash that escapes nothing; it goes before a comma, $, | or another backslash")]
    Backslash,
    /// Percent-encoded bytes that are no text.
    #[error("is percent-encoded, but not from UTF-8")]
    NotUtf8,
    /// Not `true` or `false`.
    #[error("is neither true nor false")]
    NotABoolean,
    /// Not a date with or without a prefix.
    #[error("is not a date such as 2026, 2026-01, ge2026-01-31 or lt2026-01-31T08:00:00Z")]
    NotADate,
    /// Not a number with or without a prefix.
    #[error("is not a number such as 5.40, gt100 or 1e-3")]
    NotANumber,
    /// Not a quantity with or without a prefix.
    #[error("is not a quantity such as 5.4, 5.4||mg or gt5.4|http://unitsofmeasure.org|mg")]
    NotAQuantity,
    /// Not a token.
    #[error("is not a token: code, system|code, |code or system|")]
    NotAToken,
    /// Not the three parts of `:of-type`.
    #[error("is not an identifier of a type: system|code|value")]
    NotOfType,
    /// Not a reference.
    #[error("is not a reference: an id, Type/id or an absolute URL")]
    NotAReference,
    /// Not as many parts as a composite has.
    #[error("does not have {0} parts with $ between them")]
    Parts(usize),
    /// More than one value where one is taken.
    #[error("is one too many: only one is taken")]
    OneTooMany,
}

struct Nearest<'a>(&'a [&'static str]);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("; the CapabilityStatement lists those it has"),
            names => write!(f, "; similar ones are {}", names.join(", ")),
        }
    }
}
