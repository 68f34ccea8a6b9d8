//! Evaluates functions of a single value.

use std::borrow::Cow;

use rust_decimal::prelude::{FromPrimitive as _, ToPrimitive as _};
use rust_decimal::{Decimal, RoundingStrategy};

use super::{EvalResult, EvaluationError, PartialDateTime, Quantity, Value, to_integer};
use crate::deid::fhirpath::functions::ValueFunction;
use crate::deid::fhirpath::parse_decimal;

/// Evaluates a function of a single value; `None` if the value or an operand has no result. `operand` evaluates an argument.
pub(super) fn call_value_function<'t>(
    value: Value<'t>,
    function: &ValueFunction,
    operand: &dyn Fn(usize) -> EvalResult<Option<Value<'t>>>,
) -> EvalResult<Option<Value<'t>>> {
    use ValueFunction as F;
    // Dates count as strings, so that cases can generalize them by cutting off parts.
    let text = |name| match &value {
        Value::String(text) | Value::DateTime(_, text) => Ok(text.as_ref()),
        Value::Boolean(_) | Value::Integer(_) | Value::Decimal(_) | Value::Quantity(_) => {
            Err(EvaluationError::NoFunction(name, value.type_description()))
        }
    };
    let number = |name| value.as_decimal().ok_or(EvaluationError::NoFunction(name, value.type_description()));
    let other = |index| Ok(operand(index)?.map(Value::into_text));
    let count = |index| match operand(index)? {
        Some(Value::Integer(count)) => Ok(Some(count)),
        Some(value) => Err(EvaluationError::NotAnInteger(value.type_description())),
        None => Ok(None),
    };
    let owned = |text: String| Some(Value::String(text.into()));
    Ok(match function {
        F::StartsWith => compare_text(text("startsWith")?, other(0)?, |text, other| text.starts_with(other)),
        F::EndsWith => compare_text(text("endsWith")?, other(0)?, |text, other| text.ends_with(other)),
        F::Contains => compare_text(text("contains")?, other(0)?, |text, other| text.contains(other)),
        F::Matches(pattern) => Some(Value::Boolean(pattern.0.is_match(text("matches")?))),
        F::ReplaceMatches(pattern) => match other(1)? {
            Some(other) => owned(pattern.0.replace_all(text("replaceMatches")?, &pattern.rust_replacement(&other)).into_owned()),
            None => None,
        },
        F::Replace => match (other(0)?, other(1)?) {
            (Some(old), Some(new)) => owned(text("replace")?.replace(&*old, &new)),
            (None, _) | (_, None) => None,
        },
        F::Substring => {
            let text = text("substring")?;
            let length = text.chars().count();
            let start = count(0)?.and_then(|start| usize::try_from(start).ok()).filter(|start| *start < length);
            let count = count(1)?.map_or(length, |count| usize::try_from(count).unwrap_or(0));
            start.and_then(|start| owned(text.chars().skip(start).take(count).collect()))
        }
        F::IndexOf => {
            let text = text("indexOf")?;
            other(0)?.map(|other| {
                let before = text.find(&*other).and_then(|at| text.get(..at));
                Value::Integer(before.and_then(|before| i64::try_from(before.chars().count()).ok()).unwrap_or(-1))
            })
        }
        F::Length => Some(Value::Integer(i64::try_from(text("length")?.chars().count()).unwrap_or(i64::MAX))),
        F::Lower => owned(text("lower")?.to_lowercase()),
        F::Upper => owned(text("upper")?.to_uppercase()),
        F::Trim => owned(text("trim")?.trim().to_owned()),
        F::ToString => Some(Value::String(value.into_text())),
        F::ToInteger => match &value {
            Value::Boolean(value) => Some(Value::Integer((*value).into())),
            Value::Integer(value) => Some(Value::Integer(*value)),
            Value::String(text) => text.parse().ok().map(Value::Integer),
            Value::Decimal(_) | Value::DateTime(..) | Value::Quantity(_) => None,
        },
        F::ToDecimal => match &value {
            Value::Boolean(value) => Some(Value::Decimal(Decimal::from(u8::from(*value)))),
            Value::Integer(_) | Value::Decimal(_) => value.as_decimal().map(Value::Decimal),
            Value::String(text) => parse_decimal(text).map(Value::Decimal),
            Value::DateTime(..) | Value::Quantity(_) => None,
        },
        F::ToBoolean => match value.into_text().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" | "1.0" => Some(Value::Boolean(true)),
            "false" | "f" | "no" | "n" | "0" | "0.0" => Some(Value::Boolean(false)),
            _ => None,
        },
        F::ToDate => {
            let text = text("toDate")?;
            parse_date_time(text.split_once('T').map_or(text, |(date, _)| date), PartialDateTime::parse)
        }
        F::ToDateTime => parse_date_time(text("toDateTime")?, PartialDateTime::parse),
        F::ToTime => parse_date_time(text("toTime")?, PartialDateTime::parse_time),
        F::ToQuantity => match &value {
            Value::Integer(_) | Value::Decimal(_) => value.as_decimal().map(Quantity::unitless).map(Value::Quantity),
            Value::String(text) => Quantity::parse(text).map(Value::Quantity),
            Value::Quantity(quantity) => Some(Value::Quantity(quantity.clone())),
            Value::Boolean(_) | Value::DateTime(..) => None,
        },
        F::ConvertsTo(conversion) => {
            // Conversions of a type that they do not accept have no result.
            let converted = call_value_function(value, conversion, operand).unwrap_or(None);
            Some(Value::Boolean(converted.is_some()))
        }
        F::Exp => from_float(float(number("exp")?)?.exp()),
        F::Ln => from_float(float(number("ln")?)?.ln()),
        F::Log => match operand(0)?.and_then(|base| base.as_decimal()) {
            Some(base) => from_float(float(number("log")?)?.log(float(base)?)),
            None => None,
        },
        F::Power => match operand(0)?.and_then(|exponent| exponent.as_decimal()) {
            Some(exponent) => from_float(float(number("power")?)?.powf(float(exponent)?)),
            None => None,
        },
        F::Sqrt => from_float(float(number("sqrt")?)?.sqrt()),
        F::Abs => match &value {
            Value::Integer(number) => Some(Value::Integer(number.checked_abs().ok_or(EvaluationError::Overflow)?)),
            Value::Decimal(number) => Some(Value::Decimal(number.abs())),
            Value::Quantity(quantity) => Some(Value::Quantity(quantity.with_value(quantity.value.abs()))),
            Value::Boolean(_) | Value::String(_) | Value::DateTime(..) => {
                return Err(EvaluationError::NoFunction("abs", value.type_description()));
            }
        },
        F::Ceiling => Some(to_integer(number("ceiling")?.ceil())?),
        F::Floor => Some(to_integer(number("floor")?.floor())?),
        F::Truncate => Some(to_integer(number("truncate")?.trunc())?),
        F::Round => {
            let places = count(0)?.and_then(|places| u32::try_from(places).ok()).unwrap_or(0);
            let rounded = number("round")?.round_dp_with_strategy(places, RoundingStrategy::MidpointNearestEven);
            Some(Value::Decimal(rounded))
        }
    })
}

/// Compares a text with an operand; `None` if the operand is empty.
fn compare_text<'t>(text: &str, other: Option<Cow<'_, str>>, predicate: fn(&str, &str) -> bool) -> Option<Value<'t>> {
    other.map(|other| Value::Boolean(predicate(text, &other)))
}

/// Parses a text as a date, a time or both.
fn parse_date_time<'t>(text: &str, parse: fn(&str) -> Option<PartialDateTime>) -> Option<Value<'t>> {
    parse(text).map(|date_time| Value::DateTime(date_time, text.to_owned().into()))
}

/// Converts a number to floating point, for functions without an exact result.
fn float(number: Decimal) -> EvalResult<f64> {
    number.to_f64().ok_or(EvaluationError::Overflow)
}

/// Converts a result in floating point; `None` if it is not a number, like the root of -1.
fn from_float<'t>(number: f64) -> Option<Value<'t>> {
    Decimal::from_f64(number).map(Value::Decimal)
}
