//! Equality, equivalence and order of values, as in the FHIRPath engine of Microsoft's tool.

use std::cmp::Ordering;

use rust_decimal::{Decimal, RoundingStrategy};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use super::quantity::Quantity;
use super::{EvaluationError, Value};

/// The decimal places that comparisons distinguish.
const DECIMAL_PLACES: u32 = 8;

/// Evaluates `=` for two values; `None` if it depends on a component that only one of two dates has.
///
/// Values of different types are not equal. Numbers are compared with quantities as numbers without a unit.
pub(super) fn values_equal(left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
    if let Some((left, right)) = as_quantities(left, right) {
        return left.compare(&right, false).map(Ordering::is_eq);
    }
    match (left, right) {
        (Value::DateTime(left, _), Value::DateTime(right, _)) if left.is_comparable_with(right) => Some(left.compare(right)?.is_eq()),
        (Value::String(left), Value::String(right)) => Some(left == right),
        (Value::Boolean(left), Value::Boolean(right)) => Some(left == right),
        _ => Some(numbers(left, right).is_some_and(|(left, right)| left.round_dp(DECIMAL_PLACES) == right.round_dp(DECIMAL_PLACES))),
    }
}

/// Evaluates `~` for two values. Ignores the case, the diacritics and the kind of whitespace of strings, and compares numbers
/// with the precision of the less precise one.
pub(super) fn values_equivalent(left: &Value<'_>, right: &Value<'_>) -> bool {
    if let Some((left, right)) = as_quantities(left, right) {
        return left.compare(&right, true) == Some(Ordering::Equal);
    }
    match (left, right) {
        (Value::String(left), Value::String(right)) => left == right || fold(left) == fold(right),
        (Value::Integer(left), Value::Integer(right)) => left == right,
        _ => match numbers(left, right) {
            Some((left, right)) => {
                let places = left.normalize().scale().min(right.normalize().scale());
                let round = |number: Decimal| number.round_dp_with_strategy(places, RoundingStrategy::MidpointNearestEven);
                round(left) == round(right)
            }
            None => values_equal(left, right) == Some(true),
        },
    }
}

/// Compares two values for an ordering operator; `None` if the order is unknown. Fails for values that have no common order.
pub(super) fn compare_values(left: &Value<'_>, right: &Value<'_>) -> Result<Option<Ordering>, EvaluationError> {
    if let Some((left, right)) = as_quantities(left, right) {
        return Ok(left.compare(&right, true));
    }
    match (left, right) {
        (Value::String(left), Value::String(right)) => Ok(Some(left.cmp(right))),
        (Value::DateTime(left, _), Value::DateTime(right, _)) if left.is_comparable_with(right) => Ok(left.compare(right)),
        _ => match numbers(left, right) {
            Some((left, right)) => Ok(Some(left.round_dp(DECIMAL_PLACES).cmp(&right.round_dp(DECIMAL_PLACES)))),
            None => Err(EvaluationError::Incomparable(left.type_description(), right.type_description())),
        },
    }
}

/// Returns two numbers as decimals.
fn numbers(left: &Value<'_>, right: &Value<'_>) -> Option<(Decimal, Decimal)> {
    left.as_decimal().zip(right.as_decimal())
}

/// Returns both values as quantities if one of them is a quantity and the other one a quantity or a number.
fn as_quantities(left: &Value<'_>, right: &Value<'_>) -> Option<(Quantity, Quantity)> {
    let quantity = |value: &Value<'_>| match value {
        Value::Quantity(quantity) => Some(quantity.clone()),
        Value::Boolean(_) | Value::Integer(_) | Value::Decimal(_) | Value::String(_) | Value::DateTime(..) => {
            value.as_decimal().map(Quantity::unitless)
        }
    };
    let is_one = matches!(left, Value::Quantity(_)) || matches!(right, Value::Quantity(_));
    if is_one { quantity(left).zip(quantity(right)) } else { None }
}

/// Removes case, diacritics and the kind of whitespace from a text. Letters with strokes and ligatures become those that the
/// Unicode collation gives the same primary weight.
fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.nfd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
        match c {
            c if c.is_whitespace() => folded.push(' '),
            'ß' => folded.push_str("ss"),
            'æ' => folded.push_str("ae"),
            'œ' => folded.push_str("oe"),
            'ø' => folded.push('o'),
            'đ' => folded.push('d'),
            'ł' => folded.push('l'),
            'ħ' => folded.push('h'),
            'ı' => folded.push('i'),
            // Characters without a weight: the soft hyphen, marks of direction and joiners.
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => {}
            c if c.is_control() => {}
            c => folded.push(c),
        }
    }
    folded
}
