//! Single values: what literals are, and what primitives hold.

use std::borrow::Cow;

use rust_decimal::Decimal;

use super::Moment;

/// A value of one of FHIRPath's own types.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) enum Value<'a> {
    Bool(bool),
    Integer(i64),
    Decimal(Decimal),
    Text(Cow<'a, str>),
    /// A moment and how it is written.
    Moment(Moment, Cow<'a, str>),
}

impl<'a> Value<'a> {
    /// What stands in a primitive of this FHIR type. What cannot be read as that type is a string.
    pub(in crate::deid) fn of(type_name: &str, text: Cow<'a, str>) -> Self {
        let read = match type_name {
            "boolean" => match &*text {
                "true" => Some(Self::Bool(true)),
                "false" => Some(Self::Bool(false)),
                _ => None,
            },
            "integer" | "positiveInt" | "unsignedInt" | "integer64" => text.parse().ok().map(Self::Integer),
            "decimal" => decimal(&text).map(Self::Decimal),
            "date" | "dateTime" | "instant" => Moment::date_time(&text).map(|moment| Self::Moment(moment, text.clone())),
            "time" => Moment::time(&text).map(|moment| Self::Moment(moment, text.clone())),
            _ => None,
        };
        read.unwrap_or(Self::Text(text))
    }

    /// What kind of value it is, for messages.
    pub(in crate::deid) fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Decimal(_) => "a decimal",
            Self::Text(_) => "a string",
            Self::Moment(..) => "a date or time",
        }
    }

    /// As a string.
    pub(in crate::deid) fn text(self) -> Cow<'a, str> {
        match self {
            Self::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Self::Integer(value) => Cow::Owned(value.to_string()),
            Self::Decimal(value) => Cow::Owned(value.to_string()),
            Self::Text(text) | Self::Moment(_, text) => text,
        }
    }

    /// Of a number, the number.
    pub(super) fn number(&self) -> Option<Decimal> {
        match self {
            Self::Integer(value) => Some(Decimal::from(*value)),
            Self::Decimal(value) => Some(*value),
            Self::Bool(_) | Self::Text(_) | Self::Moment(..) => None,
        }
    }
}

/// Reads a number as JSON writes it; digits beyond the 28th place are rounded.
pub(in crate::deid) fn decimal(text: &str) -> Option<Decimal> {
    if text.contains(['e', 'E']) { Decimal::from_scientific(text).ok() } else { text.parse().ok() }
}
