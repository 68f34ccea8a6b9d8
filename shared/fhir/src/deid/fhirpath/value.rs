//! FHIRPath values: those of literals and of primitive elements.

use std::borrow::Cow;

use rust_decimal::Decimal;

use super::PartialDateTime;
use super::quantity::Quantity;

/// A value of a FHIRPath type.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) enum Value<'a> {
    Boolean(bool),
    Integer(i64),
    Decimal(Decimal),
    String(Cow<'a, str>),
    /// A date, a time or both, and its text.
    DateTime(PartialDateTime, Cow<'a, str>),
    Quantity(Quantity),
}

impl<'a> Value<'a> {
    /// Creates the value of a primitive element from its FHIR type and its text. Text that is invalid for the type becomes a
    /// string.
    pub(in crate::deid) fn from_primitive(type_name: &str, text: Cow<'a, str>) -> Self {
        let parsed = match type_name {
            "boolean" => match &*text {
                "true" => Some(Self::Boolean(true)),
                "false" => Some(Self::Boolean(false)),
                _ => None,
            },
            "integer" | "positiveInt" | "unsignedInt" | "integer64" => text.parse().ok().map(Self::Integer),
            "decimal" => parse_decimal(&text).map(Self::Decimal),
            "date" => PartialDateTime::parse(&text).map(|date| Self::DateTime(date, text.clone())),
            "dateTime" | "instant" => {
                PartialDateTime::parse(&text).map(|date_time| Self::DateTime(date_time.into_date_time(), text.clone()))
            }
            "time" => PartialDateTime::parse_time(&text).map(|time| Self::DateTime(time, text.clone())),
            _ => None,
        };
        parsed.unwrap_or(Self::String(text))
    }

    /// Describes the value's type in error messages, such as `an integer`.
    pub(in crate::deid) fn type_description(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Decimal(_) => "a decimal",
            Self::String(_) => "a string",
            Self::DateTime(..) => "a date or time",
            Self::Quantity(_) => "a quantity",
        }
    }

    /// Converts the value to its text, such as `true`, `1.50` or `2026-01-31`. Dates and times keep their original text.
    pub(in crate::deid) fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Boolean(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Self::Integer(value) => Cow::Owned(value.to_string()),
            Self::Decimal(value) => Cow::Owned(value.to_string()),
            Self::String(text) | Self::DateTime(_, text) => text,
            Self::Quantity(quantity) => Cow::Owned(quantity.to_string()),
        }
    }

    /// Creates a date or time whose text follows from its components.
    pub(super) fn from_date_time(date_time: PartialDateTime) -> Self {
        Self::DateTime(date_time, Cow::Owned(date_time.to_string()))
    }

    /// Returns an integer or a decimal as a decimal, or `None` for other types.
    pub(super) fn as_decimal(&self) -> Option<Decimal> {
        match self {
            Self::Integer(value) => Some(Decimal::from(*value)),
            Self::Decimal(value) => Some(*value),
            Self::Boolean(_) | Self::String(_) | Self::DateTime(..) | Self::Quantity(_) => None,
        }
    }
}

/// Parses a JSON number. Digits after the 28th decimal place are rounded.
pub(in crate::deid) fn parse_decimal(text: &str) -> Option<Decimal> {
    if text.contains(['e', 'E']) { Decimal::from_scientific(text).ok() } else { text.parse().ok() }
}
