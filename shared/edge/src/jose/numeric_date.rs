//! Points in time in tokens.

use headrace_core::vocab::clock::Millis;
use serde::Deserialize;

/// A NumericDate: seconds since 1970, possibly with a fraction (RFC 7519, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct NumericDate(f64);

impl NumericDate {
    /// Converts to milliseconds. Times before 1970 become 1970, too large ones the largest value: no token is valid then.
    pub fn to_millis(self) -> Millis {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts of floats to integers stop at the type's ends")]
        Millis((self.0 * 1_000.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_parsed_and_one_out_of_range_becomes_the_nearest_limit() {
        let read = |text| serde_json::from_str::<NumericDate>(text).map(|date| date.to_millis().0);
        for (text, millis) in [
            ("1790841600", 1_790_841_600_000),
            ("1790841600.5", 1_790_841_600_500),
            ("-5", 0),
            ("1e300", u64::MAX),
            ("18446744073709551616000", u64::MAX),
            ("-1e300", 0),
        ] {
            assert_eq!(read(text).unwrap(), millis, "{text}");
        }
        for text in ["\"1790841600\"", "null", "[]", "1e999", "NaN"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
