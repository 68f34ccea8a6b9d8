//! Decimal numbers with their written precision.

use std::cmp::Ordering;

/// The number `digits * 10^exponent`, which keeps the two decimal places of `5.40`.
///
/// The written precision decides what a search for the number finds. A binary float loses it, and cannot represent 0.1. Decimal
/// types of fixed scale do not distinguish `1e2` from `100`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    digits: i128,
    exponent: i32,
}

/// The number of significant digits that are kept; further digits are cut off. FHIR requires 18. An `i128` has room for these
/// digits, for half a unit and for a sum.
const MAX_DIGITS: usize = 34;

/// The largest absolute value of an exponent.
const MAX_EXPONENT: i32 = 10_000;

impl Decimal {
    /// Parses a number such as `-1.50` or `1e2`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let is_valid = !whole.is_empty() && (number.len() == whole.len() || !fraction.is_empty()) && exponent.abs() <= MAX_EXPONENT;
        if !is_valid {
            return None;
        }
        let (mut digits, mut kept, mut cut) = (0_i128, 0, 0_i32);
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return None;
            }
            if kept == MAX_DIGITS {
                cut = cut.checked_add(1)?;
                continue;
            }
            digits = digits * 10 + i128::from(byte - b'0');
            kept += usize::from(digits != 0);
        }
        let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(cut)?;
        Some(Self { digits: if is_negative { -digits } else { digits }, exponent })
    }

    /// Returns half a unit of the last written digit: `0.05` for `1.5`.
    pub(super) fn half_unit(self) -> Self {
        Self { digits: 5, exponent: self.exponent - 1 }
    }

    /// Returns a tenth of the absolute value.
    pub(super) fn tenth(self) -> Self {
        Self { digits: self.digits.abs(), exponent: self.exponent - 1 }
    }

    /// Returns the negative of the number.
    pub(super) fn negated(self) -> Self {
        Self { digits: -self.digits, ..self }
    }

    /// Returns the sum; `None` if the numbers differ too much in magnitude.
    pub(super) fn checked_add(self, other: Self) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        let digits = self.digits_at(exponent)?.checked_add(other.digits_at(exponent)?)?;
        Some(Self { digits, exponent })
    }

    /// Returns the product; `None` on overflow.
    pub(super) fn checked_mul(self, other: Self) -> Option<Self> {
        Some(Self { digits: self.digits.checked_mul(other.digits)?, exponent: self.exponent.checked_add(other.exponent)? })
    }

    /// Returns the digits of the number if it is written with `exponent`, which must not be greater than its own.
    fn digits_at(self, exponent: i32) -> Option<i128> {
        if self.digits == 0 {
            return Some(0);
        }
        let places = u32::try_from(self.exponent.checked_sub(exponent)?).ok()?;
        self.digits.checked_mul(10_i128.checked_pow(places)?)
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    /// Compares by value, without regard to the written precision.
    fn cmp(&self, other: &Self) -> Ordering {
        if self.exponent < other.exponent {
            return other.cmp(self).reverse();
        }
        match self.digits_at(other.exponent) {
            Some(digits) => digits.cmp(&other.digits),
            // Overflow: the absolute value is greater than that of any number with the other exponent.
            None => self.digits.cmp(&0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn numbers_are_compared_by_value() {
        for (one, other) in [("1", "1.00"), ("1e2", "100"), ("-0", "0.0"), ("12e-1", "1.2"), ("0e999", "0"), ("1E+2", "100")] {
            assert_eq!(decimal(one), decimal(other), "{one} {other}");
        }
        let ordered = ["-1e300", "-2", "-1.9", "-1e-300", "0", "1e-300", "0.1", "0.10000000000000000001", "0.3", "1e300"];
        assert!(ordered.map(decimal).is_sorted_by(|one, other| one < other));
    }

    #[test]
    fn a_text_that_is_not_a_number_is_rejected() {
        for text in ["", "-", ".5", "5.", "1e", "e5", "1,5", "--1", "0x1", "NaN", "1e99999999999", "１", " 1", "1.2.3"] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn sums_and_products_are_exact() {
        assert_eq!(decimal("0.1").checked_add(decimal("0.2")), Some(decimal("0.3")));
        assert_eq!(decimal("-1.5").checked_mul(decimal("0.2")), Some(decimal("-0.3")));
        assert_eq!(decimal("1e9000").checked_add(decimal("1")), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn decimals_sort_like_integers_of_the_same_scale(one: i64, other: i64, places in 0_usize..12) {
            let write = |value: i64| {
                let digits = format!("{:0>width$}", value.unsigned_abs(), width = places + 1);
                let (whole, fraction) = digits.split_at(digits.len() - places);
                let point = if places == 0 { "" } else { "." };
                format!("{}{whole}{point}{fraction}", if value < 0 { "-" } else { "" })
            };
            prop_assert_eq!(decimal(&write(one)).cmp(&decimal(&write(other))), one.cmp(&other));
        }

        #[test]
        fn no_text_causes_a_panic(text in "-?[0-9]{0,50}(\\.[0-9]{0,50})?([eE][+-]?[0-9]{0,12})?|\\PC{0,20}") {
            if let Some(number) = Decimal::parse(&text) {
                prop_assert_eq!(number.cmp(&number), Ordering::Equal);
                let sum = number.checked_add(number.half_unit());
                prop_assert!(sum.is_none_or(|sum| sum >= number));
                let _ = number.checked_mul(number);
            }
        }
    }
}
