//! `perturb`: numbers with noise.

use rust_decimal::{Decimal, RoundingStrategy};

use super::fhirpath::decimal;
use super::method::Perturb;

/// A number moved by at most half of the span either way; `chance` says how far. `None` of what is no number that can be
/// computed with.
///
/// Decimals all the way: no digit comes from binary fractions.
pub(super) fn perturb(type_name: &str, value: &str, how: &Perturb, chance: u64) -> Option<String> {
    let number = decimal(value)?;
    let span = if how.is_proportional { how.span.checked_mul(number)? } else { how.span };
    let share = Decimal::from(chance).checked_div(Decimal::from(u64::MAX))?.checked_sub(Decimal::new(5, 1))?;
    let moved = number.checked_add(span.checked_mul(share)?)?;
    let places = if type_name == "decimal" { how.round_to } else { 0 };
    let rounded = moved.round_dp_with_strategy(places, RoundingStrategy::MidpointNearestEven);
    let bounded = match type_name {
        "positiveInt" => rounded.max(Decimal::ONE),
        "unsignedInt" => rounded.max(Decimal::ZERO),
        _ if rounded.is_zero() => Decimal::new(0, rounded.scale()),
        _ => rounded,
    };
    Some(bounded.to_string())
}
