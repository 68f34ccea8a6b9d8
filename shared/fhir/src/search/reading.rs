//! What a parameter's type and modifier make of its values.

use super::error::{QueryError, Word};
use super::uri::Relation;
use crate::{ParameterKind, ResourceType, SearchParameter};

/// How the values of a clause are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Token,
    /// `:text`
    TokenText,
    /// `:of-type`
    OfType,
    Begins,
    Contains,
    Exact,
    /// `:Patient` says the type that an id is of.
    Reference(Option<ResourceType>),
    /// `:identifier`
    ReferenceIdentifier,
    Date,
    Number,
    Quantity,
    Uri(Relation),
}

/// What a clause asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Any(Reading),
    NotAny(Reading),
    Missing,
    Composite,
}

impl Reading {
    /// Without a modifier; `None` of a composite and of what has rules of its own.
    pub(super) fn plain(kind: ParameterKind) -> Option<Self> {
        match kind {
            ParameterKind::Token => Some(Self::Token),
            ParameterKind::String => Some(Self::Begins),
            ParameterKind::Reference => Some(Self::Reference(None)),
            ParameterKind::Date => Some(Self::Date),
            ParameterKind::Number => Some(Self::Number),
            ParameterKind::Quantity => Some(Self::Quantity),
            ParameterKind::Uri => Some(Self::Uri(Relation::Same)),
            ParameterKind::Composite | ParameterKind::Special => None,
        }
    }
}

impl Asked {
    pub(super) fn read(kind: ResourceType, parameter: &SearchParameter, modifier: Option<&str>) -> Result<Self, QueryError> {
        use ParameterKind as K;
        let name = parameter.code;
        let ends = |types: &[&str]| parameter.paths.iter().any(|path| types.contains(&path.ends_in));
        let needs_terminology = |modifier| Err(QueryError::NeedsTerminology { kind, name, modifier });
        let refused = |modifier| Err(QueryError::Modifier { kind, name, modifier: Word::of(modifier), allowed: allowed(parameter.kind) });
        let Some(modifier) = modifier else {
            return Ok(Reading::plain(parameter.kind).map_or(Self::Composite, Self::Any));
        };
        match (parameter.kind, modifier) {
            (K::Composite | K::Special, _) => refused(modifier),
            (_, "missing") => Ok(Self::Missing),
            (K::Token, "not") => Ok(Self::NotAny(Reading::Token)),
            (K::Token, "text") if ends(&["Coding", "CodeableConcept", "Identifier"]) => Ok(Self::Any(Reading::TokenText)),
            (K::Token, "of-type") if ends(&["Identifier"]) => Ok(Self::Any(Reading::OfType)),
            (K::Token | K::Reference, "in") => needs_terminology("in"),
            (K::Token | K::Reference, "not-in") => needs_terminology("not-in"),
            (K::Token | K::Reference, "above") => needs_terminology("above"),
            (K::Token | K::Reference, "below") => needs_terminology("below"),
            (K::String, "contains") => Ok(Self::Any(Reading::Contains)),
            (K::String, "exact") => Ok(Self::Any(Reading::Exact)),
            (K::Reference, "identifier") if ends(&["Reference"]) => Ok(Self::Any(Reading::ReferenceIdentifier)),
            (K::Reference, name) => {
                match ResourceType::named(name).filter(|target| parameter.targets.is_empty() || parameter.targets.contains(target)) {
                    Some(target) => Ok(Self::Any(Reading::Reference(Some(target)))),
                    None => refused(modifier),
                }
            }
            (K::Uri, "below") => Ok(Self::Any(Reading::Uri(Relation::Below))),
            (K::Uri, "above") => Ok(Self::Any(Reading::Uri(Relation::Above))),
            _ => refused(modifier),
        }
    }
}

fn allowed(kind: ParameterKind) -> &'static str {
    match kind {
        ParameterKind::Token => "`missing` and `not`, with texts also `text`, of identifiers also `of-type`",
        ParameterKind::String => "`missing`, `contains` and `exact`",
        ParameterKind::Reference => "`missing`, `identifier` and the names of the types that it refers to",
        ParameterKind::Date | ParameterKind::Number | ParameterKind::Quantity => "`missing`",
        ParameterKind::Uri => "`missing`, `below` and `above`",
        ParameterKind::Composite | ParameterKind::Special => "none",
    }
}
