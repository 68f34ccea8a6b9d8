//! Quantities: numbers with a unit of UCUM or of the calendar, such as `5 'mg'` and `89 years`.

use std::cmp::Ordering;
use std::fmt;

use rust_decimal::Decimal;

use super::parse_decimal;

/// A number with a unit.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) struct Quantity {
    pub(in crate::deid) value: Decimal,
    /// The UCUM code, or the name of the calendar's unit in the singular.
    pub(in crate::deid) unit: Box<str>,
    /// True for a unit of the calendar: `1 year` has no fixed number of days.
    is_calendar: bool,
}

/// The units of the calendar in the singular, and the UCUM codes with the same meaning. Equality distinguishes the first two.
const CALENDAR_UNITS: [(&str, &str); 8] = [
    ("year", "a"),
    ("month", "mo"),
    ("week", "wk"),
    ("day", "d"),
    ("hour", "h"),
    ("minute", "min"),
    ("second", "s"),
    ("millisecond", "ms"),
];

/// The unit of a number without one.
const UNITY: &str = "1";

/// The decimal places that comparisons distinguish.
const DECIMAL_PLACES: u32 = 8;

impl Quantity {
    /// Creates a quantity with a UCUM unit.
    pub(in crate::deid) fn new(value: Decimal, unit: &str) -> Self {
        Self { value, unit: unit.into(), is_calendar: false }
    }

    /// Creates a quantity without a unit.
    pub(super) fn unitless(value: Decimal) -> Self {
        Self::new(value, UNITY)
    }

    /// Creates a quantity with a unit of the calendar in the singular or plural; `None` if there is no such unit.
    pub(super) fn of_calendar(value: Decimal, unit: &str) -> Option<Self> {
        let singular = unit.strip_suffix('s').unwrap_or(unit);
        let (unit, _) = CALENDAR_UNITS.iter().find(|(name, _)| *name == singular)?;
        Some(Self { value, unit: (*unit).into(), is_calendar: true })
    }

    /// Parses `5 'mg'`, `5 years` or `5`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
        let (number, unit) = text.split_at_checked(end)?;
        let (value, unit) = (parse_decimal(number)?, unit.trim());
        match unit.strip_prefix('\'') {
            Some(ucum) => Some(Self::new(value, ucum.strip_suffix('\'').filter(|unit| !unit.is_empty())?)),
            None if unit.is_empty() => Some(Self::unitless(value)),
            None => Self::of_calendar(value, unit),
        }
    }

    /// Returns the quantity with another value.
    pub(super) fn with_value(&self, value: Decimal) -> Self {
        Self { value, ..self.clone() }
    }

    /// Compares two quantities; `None` if their units measure different things or are unknown and not the same.
    ///
    /// `calendar_is_ucum`: a `year` is a UCUM `a`, and a `month` a `mo`. This holds for order and equivalence, not for equality.
    pub(super) fn compare(&self, other: &Self, calendar_is_ucum: bool) -> Option<Ordering> {
        let (left, right) = self.aligned(other, calendar_is_ucum)?;
        Some(left.round_dp(DECIMAL_PLACES).cmp(&right.round_dp(DECIMAL_PLACES)))
    }

    /// Adds two quantities, in the unit of the first. `None` if the units do not fit or the sum is out of range.
    pub(super) fn add(&self, other: &Self, sign: Decimal) -> Option<Self> {
        if self.unit == other.unit {
            return Some(self.with_value(self.value.checked_add(other.value.checked_mul(sign)?)?));
        }
        let (left, right) = self.aligned(other, true)?;
        let (factor, _) = canonical_unit(self.ucum(true))?;
        let sum = left.checked_add(right.checked_mul(sign)?)?;
        Some(self.with_value(sum.checked_div(factor)?.normalize()))
    }

    /// Returns the values of two quantities in the same unit.
    fn aligned(&self, other: &Self, calendar_is_ucum: bool) -> Option<(Decimal, Decimal)> {
        let (left, right) = (self.ucum(calendar_is_ucum), other.ucum(calendar_is_ucum));
        if left == right {
            return Some((self.value, other.value));
        }
        let ((left_factor, left_dimension), (right_factor, right_dimension)) = (canonical_unit(left)?, canonical_unit(right)?);
        let values = || Some((self.value.checked_mul(left_factor)?, other.value.checked_mul(right_factor)?));
        if left_dimension == right_dimension { values() } else { None }
    }

    /// Returns the UCUM code of the unit. A calendar's year and month keep their name unless they count as those of UCUM.
    fn ucum(&self, calendar_is_ucum: bool) -> &str {
        let has_name = |(name, _): &&(&str, &str)| *name == &*self.unit;
        match CALENDAR_UNITS.iter().find(has_name).filter(|_| self.is_calendar) {
            Some((name @ ("year" | "month"), _)) if !calendar_is_ucum => name,
            Some((_, ucum)) => ucum,
            None => &self.unit,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_calendar { write!(f, "{} {}", self.value, self.unit) } else { write!(f, "{} '{}'", self.value, self.unit) }
    }
}

/// The exponents of meter, gram, second, mole and international unit.
type Dimension = [i8; 5];

/// The prefixes of UCUM as powers of ten.
const PREFIXES: [(&str, i32); 10] =
    [("k", 3), ("h", 2), ("da", 1), ("d", -1), ("c", -2), ("m", -3), ("u", -6), ("n", -9), ("p", -12), ("f", -15)];

/// Common atoms of UCUM: the code, whether prefixes are allowed, the mantissa and decimal places of the factor, the dimension.
const ATOMS: [(&str, bool, i64, u32, Dimension); 23] = [
    ("m", true, 1, 0, [1, 0, 0, 0, 0]),
    ("g", true, 1, 0, [0, 1, 0, 0, 0]),
    ("s", true, 1, 0, [0, 0, 1, 0, 0]),
    ("mol", true, 1, 0, [0, 0, 0, 1, 0]),
    ("eq", true, 1, 0, [0, 0, 0, 1, 0]),
    ("osm", true, 1, 0, [0, 0, 0, 1, 0]),
    ("[iU]", true, 1, 0, [0, 0, 0, 0, 1]),
    ("[IU]", true, 1, 0, [0, 0, 0, 0, 1]),
    ("U", true, 1, 0, [0, 0, -1, 1, 0]),
    ("L", true, 1, 3, [3, 0, 0, 0, 0]),
    ("l", true, 1, 3, [3, 0, 0, 0, 0]),
    ("min", false, 60, 0, [0, 0, 1, 0, 0]),
    ("h", false, 3_600, 0, [0, 0, 1, 0, 0]),
    ("d", false, 86_400, 0, [0, 0, 1, 0, 0]),
    ("wk", false, 604_800, 0, [0, 0, 1, 0, 0]),
    ("mo", false, 2_629_800, 0, [0, 0, 1, 0, 0]),
    ("a", false, 31_557_600, 0, [0, 0, 1, 0, 0]),
    ("Pa", true, 1_000, 0, [-1, 1, -2, 0, 0]),
    ("m[Hg]", true, 133_322_000, 0, [-1, 1, -2, 0, 0]),
    ("[in_i]", false, 254, 4, [1, 0, 0, 0, 0]),
    ("[ft_i]", false, 3_048, 4, [1, 0, 0, 0, 0]),
    ("[lb_av]", false, 45_359_237, 5, [0, 1, 0, 0, 0]),
    ("[oz_av]", false, 28_349_523_125, 9, [0, 1, 0, 0, 0]),
];

/// Converts a UCUM unit to a factor of base units and their exponents; `None` if a part of it is unknown.
fn canonical_unit(unit: &str) -> Option<(Decimal, Dimension)> {
    let (mut factor, mut dimension) = (Decimal::ONE, Dimension::default());
    let mut rest = unit;
    let mut divides = false;
    loop {
        let end = rest.find(['.', '/']).unwrap_or(rest.len());
        let (part, after) = rest.split_at_checked(end)?;
        let exponent_at = part.rfind(|c: char| !c.is_ascii_digit() && c != '-').map_or(0, |at| at + 1);
        let (symbol, exponent) = part.split_at_checked(exponent_at)?;
        // A part without letters is a number: `1`, or the `10` of `mmol/10.L`, which are not powers.
        let (base, exponent) = match symbol {
            "" if part.is_empty() && divides => return None,
            "" if part.is_empty() => ((Decimal::ONE, Dimension::default()), 1),
            "" => ((part.parse().ok()?, Dimension::default()), 1),
            symbol => (canonical_symbol(symbol)?, if exponent.is_empty() { 1 } else { exponent.parse::<i8>().ok()? }),
        };
        let exponent = if divides { exponent.checked_neg()? } else { exponent };
        for _ in 0..exponent.unsigned_abs() {
            factor = if exponent < 0 { factor.checked_div(base.0)? } else { factor.checked_mul(base.0)? };
        }
        for (total, own) in dimension.iter_mut().zip(base.1) {
            *total = total.checked_add(own.checked_mul(exponent)?)?;
        }
        let Some(operator) = after.chars().next() else { return Some((factor, dimension)) };
        divides = operator == '/';
        rest = after.get(1..)?;
    }
}

/// Converts a UCUM symbol, with or without a prefix.
fn canonical_symbol(symbol: &str) -> Option<(Decimal, Dimension)> {
    let atom = |code: &str, needs_prefix: bool| {
        let found = ATOMS.iter().find(|(known, takes_prefix, ..)| *known == code && (*takes_prefix || !needs_prefix));
        found.map(|(_, _, mantissa, places, dimension)| (Decimal::new(*mantissa, *places), *dimension))
    };
    if symbol == "%" {
        return Some((Decimal::new(1, 2), Dimension::default()));
    }
    atom(symbol, false).or_else(|| {
        PREFIXES.iter().find_map(|(prefix, power)| {
            let (factor, dimension) = atom(symbol.strip_prefix(prefix)?, true)?;
            let scale = Decimal::from_scientific(&format!("1e{power}")).ok()?;
            Some((factor.checked_mul(scale)?, dimension))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares two quantities in text.
    fn compare(left: &str, right: &str, calendar_is_ucum: bool) -> Option<Ordering> {
        Quantity::parse(left).unwrap().compare(&Quantity::parse(right).unwrap(), calendar_is_ucum)
    }

    #[test]
    fn quantities_with_different_units_of_the_same_dimension_are_compared() {
        for (left, right, expected) in [
            ("1 'g'", "1000 'mg'", Some(Ordering::Equal)),
            ("1 'mg/dL'", "10 'mg/L'", Some(Ordering::Equal)),
            ("120 'mm[Hg]'", "10 'kPa'", Some(Ordering::Greater)),
            ("1 'kg/m2'", "1 'kg.m-2'", Some(Ordering::Equal)),
            ("80 '%'", "0.8", Some(Ordering::Equal)),
            ("5 'mg'", "5 'mL'", None),
            ("5 'x'", "4 'x'", Some(Ordering::Greater)),
            ("5 'x'", "5 'y'", None),
            ("5 '/min'", "5 '/h'", Some(Ordering::Greater)),
            ("1 week", "7 days", Some(Ordering::Equal)),
            ("1 day", "24 'h'", Some(Ordering::Equal)),
        ] {
            assert_eq!(compare(left, right, false), expected, "{left} {right}");
        }
    }

    #[test]
    fn a_calendar_year_is_a_ucum_year_except_for_equality() {
        assert_eq!(compare("1 year", "1 'a'", false), None);
        assert_eq!(compare("1 years", "1 'a'", true), Some(Ordering::Equal));
        assert_eq!(compare("2 months", "1 month", false), Some(Ordering::Greater));
    }

    #[test]
    fn texts_that_are_not_quantities_are_rejected() {
        for text in ["", "x", "5 mg", "5 ''", "5 'mg", "5 'mg' x", "--5"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
        assert_eq!(Quantity::parse("5.0 years").unwrap().to_string(), "5.0 year");
        assert_eq!(Quantity::parse("-5 'mg'").unwrap().to_string(), "-5 'mg'");
    }
}
