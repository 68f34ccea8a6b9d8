//! The effect of a parameter's type and modifier on its values.

use super::error::{QueryError, QuotedName};
use super::uri::Relation;
use crate::definitions::{ResourceType, SearchParamType, SearchParameter};

/// The type of a clause's values, which determines how they are parsed and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    Token,
    /// `:text`
    TokenText,
    /// `:of-type`
    OfType,
    StringPrefix,
    /// `:contains`
    StringContains,
    /// `:exact`
    StringExact,
    /// A reference. A modifier such as `:Patient` gives the target type.
    Reference(Option<ResourceType>),
    /// `:identifier`
    ReferenceIdentifier,
    Date,
    Number,
    Quantity,
    Uri(Relation),
}

/// The requirement of a clause: one of its values, none of its values, presence or absence, or the values of a composite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// A match with one of the values.
    Any(ValueType),
    /// `:not`: a match with none of the values.
    NotAny(ValueType),
    /// `:missing`: the element must be absent, or must be present.
    Missing,
    /// A match with all parts of one of the values.
    Composite,
}

impl ValueType {
    /// Returns the type of values without a modifier; `None` for composite and special parameters.
    pub(super) fn without_modifier(param_type: SearchParamType) -> Option<Self> {
        match param_type {
            SearchParamType::Token => Some(Self::Token),
            SearchParamType::String => Some(Self::StringPrefix),
            SearchParamType::Reference => Some(Self::Reference(None)),
            SearchParamType::Date => Some(Self::Date),
            SearchParamType::Number => Some(Self::Number),
            SearchParamType::Quantity => Some(Self::Quantity),
            SearchParamType::Uri => Some(Self::Uri(Relation::Same)),
            SearchParamType::Composite | SearchParamType::Special => None,
        }
    }
}

impl Condition {
    /// Determines the condition from the parameter and its modifier. Fails if the parameter does not support the modifier, or if
    /// it needs a terminology server.
    pub(super) fn from_modifier(
        resource_type: ResourceType,
        parameter: &SearchParameter,
        modifier: Option<&str>,
    ) -> Result<Self, QueryError> {
        use SearchParamType as Type;
        let name = parameter.code;
        let searches_any_of = |types: &[&str]| parameter.paths.iter().any(|path| types.contains(&path.element_type));
        let needs_terminology = |modifier| Err(QueryError::NeedsTerminology { resource_type, name, modifier });
        let unsupported = |modifier| {
            let supported = supported_modifiers(parameter.param_type);
            Err(QueryError::Modifier { resource_type, name, modifier: QuotedName::new(modifier), supported })
        };
        let Some(modifier) = modifier else {
            return Ok(ValueType::without_modifier(parameter.param_type).map_or(Self::Composite, Self::Any));
        };
        match (parameter.param_type, modifier) {
            (Type::Composite | Type::Special, _) => unsupported(modifier),
            (_, "missing") => Ok(Self::Missing),
            (Type::Token, "not") => Ok(Self::NotAny(ValueType::Token)),
            (Type::Token, "text") if searches_any_of(&["Coding", "CodeableConcept", "Identifier"]) => Ok(Self::Any(ValueType::TokenText)),
            (Type::Token, "of-type") if searches_any_of(&["Identifier"]) => Ok(Self::Any(ValueType::OfType)),
            (Type::Token | Type::Reference, "in") => needs_terminology("in"),
            (Type::Token | Type::Reference, "not-in") => needs_terminology("not-in"),
            (Type::Token | Type::Reference, "above") => needs_terminology("above"),
            (Type::Token | Type::Reference, "below") => needs_terminology("below"),
            (Type::String, "contains") => Ok(Self::Any(ValueType::StringContains)),
            (Type::String, "exact") => Ok(Self::Any(ValueType::StringExact)),
            (Type::Reference, "identifier") if searches_any_of(&["Reference"]) => Ok(Self::Any(ValueType::ReferenceIdentifier)),
            // Any other modifier of a reference is the name of a target type.
            (Type::Reference, type_name) => {
                let target = ResourceType::parse(type_name);
                match target.filter(|target| parameter.targets.is_empty() || parameter.targets.contains(target)) {
                    Some(target) => Ok(Self::Any(ValueType::Reference(Some(target)))),
                    None => unsupported(modifier),
                }
            }
            (Type::Uri, "below") => Ok(Self::Any(ValueType::Uri(Relation::Below))),
            (Type::Uri, "above") => Ok(Self::Any(ValueType::Uri(Relation::Above))),
            _ => unsupported(modifier),
        }
    }
}

/// Describes the modifiers that a parameter type supports, for an error message.
fn supported_modifiers(param_type: SearchParamType) -> &'static str {
    match param_type {
        SearchParamType::Token => "`missing` and `not`, with texts also `text`, of identifiers also `of-type`",
        SearchParamType::String => "`missing`, `contains` and `exact`",
        SearchParamType::Reference => "`missing`, `identifier` and the names of the types that it refers to",
        SearchParamType::Date | SearchParamType::Number | SearchParamType::Quantity => "`missing`",
        SearchParamType::Uri => "`missing`, `below` and `above`",
        SearchParamType::Composite | SearchParamType::Special => "none",
    }
}
