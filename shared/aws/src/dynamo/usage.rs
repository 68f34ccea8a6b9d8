//! Counts the calls to the table and the capacity that they consume, for the attempt that makes them.
//!
//! The table itself says what a call has consumed. It does not say it of a call that fails.

use aws_sdk_dynamodb::types::{ConsumedCapacity, ReturnConsumedCapacity};
use headrace_core::metering::{count, counts_capacity};

/// Returns what a call asks for: the consumed capacity, if it is counted.
pub(super) fn wanted_capacity() -> Option<ReturnConsumedCapacity> {
    counts_capacity().then_some(ReturnConsumedCapacity::Total)
}

/// Counts a call.
pub(super) fn count_request() {
    count(|usage| usage.table_requests += 1);
}

/// Counts the capacity of a read.
pub(super) fn count_read(consumed: Option<&ConsumedCapacity>) {
    let units = consumed.map_or(0.0, units);
    count(|usage| usage.half_read_units += to_count(2.0 * units));
}

/// Counts the capacity of a write, of the table and its indexes.
pub(super) fn count_write<'a>(consumed: impl IntoIterator<Item = &'a ConsumedCapacity>) {
    let units = consumed.into_iter().map(units).sum();
    count(|usage| usage.write_units += to_count(units));
}

/// Returns the units of a table and its indexes.
fn units(consumed: &ConsumedCapacity) -> f64 {
    consumed.capacity_units.unwrap_or_default()
}

/// Converts units to a count, rounded up. Units are halves at the least.
#[expect(clippy::cast_possible_truncation, reason = "a call consumes some thousand units at most, and none below zero")]
fn to_count(units: f64) -> u64 {
    units.max(0.0).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_counted_in_whole_numbers() {
        for (units, expected) in [(0.0, 0), (0.5, 1), (1.0, 1), (12.0, 12), (-1.0, 0)] {
            assert_eq!(to_count(units), expected, "{units}");
        }
    }
}
