//! `perturb`: adds noise to numbers.

use rust_decimal::{Decimal, RoundingStrategy};

use crate::deid::config::PerturbSettings;
use crate::deid::fhirpath::parse_decimal;

/// Moves a number by at most half of the span in either direction. `noise` determines the position within the span.
///
/// Returns `None` if the value is not a number or exceeds the range of decimal arithmetic. Floating point is avoided, since it
/// would add digits.
pub(in crate::deid) fn perturb(type_name: &str, value: &str, settings: &PerturbSettings, noise: u64) -> Option<String> {
    let number = parse_decimal(value)?;
    let span = if settings.is_proportional { settings.span.checked_mul(number)? } else { settings.span };
    // Between -0.5 and 0.5.
    let share = Decimal::from(noise).checked_div(Decimal::from(u64::MAX))?.checked_sub(Decimal::new(5, 1))?;
    let moved = number.checked_add(span.checked_mul(share)?)?;
    let rounded = moved.round_dp_with_strategy(settings.decimal_places(type_name), RoundingStrategy::MidpointNearestEven);
    let valid = match type_name {
        "positiveInt" => rounded.max(Decimal::ONE),
        "unsignedInt" => rounded.max(Decimal::ZERO),
        // Avoids a negative zero.
        _ if rounded.is_zero() => Decimal::new(0, rounded.scale()),
        _ => rounded,
    };
    Some(valid.to_string())
}
