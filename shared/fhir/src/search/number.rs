//! Numbers. An element is an interval, because a Range, a comparator or sampled data stand for many values.

use super::decimal::Decimal;
use super::element_test::ElementTest;
use super::error::ValueError;
use super::prefix::Prefix;
use crate::json::{JsonType, JsonValue};

/// The kind of an element that a number search parameter searches. It decides how the element is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberElementKind {
    Number,
    Range,
}

impl NumberElementKind {
    /// Returns how a number search parameter is compared with elements of a FHIR type. `None` if it cannot search that type.
    pub(super) fn from_type(element_type: &str) -> Option<Self> {
        match element_type {
            "integer" | "decimal" | "positiveInt" | "unsignedInt" | "integer64" => Some(Self::Number),
            "Range" => Some(Self::Range),
            _ => None,
        }
    }
}

/// An end of an interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) value: Decimal,
    /// True if the value itself is outside the interval.
    pub(super) is_exclusive: bool,
}

/// The values that an element stands for. An absent bound is infinite.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) low: Option<Bound>,
    pub(super) high: Option<Bound>,
}

impl Interval {
    /// Creates an interval that includes its bounds.
    pub(super) fn closed(low: Option<Decimal>, high: Option<Decimal>) -> Self {
        let bound = |value| Bound { value, is_exclusive: false };
        Self { low: low.map(bound), high: high.map(bound) }
    }
}

/// A number of a query.
#[derive(Clone, Copy, Debug)]
pub(super) struct NumberTest {
    prefix: Prefix,
    value: Decimal,
    /// The start of the range that is equal to the value, inclusive.
    low: Decimal,
    /// The end of the range that is equal to the value, exclusive.
    high: Decimal,
}

impl NumberTest {
    /// Parses a value such as `gt5.40`.
    ///
    /// `100` is equal to all of [99.5, 100.5), `1e2` to all of [50, 150), as R5 specifies. (R4 specifies [95, 105) for `1e2`,
    /// which is not half a unit of a written digit.)
    pub(super) fn parse(text: &str) -> Result<Self, ValueError> {
        let (prefix, text) = Prefix::split(text);
        Self::with_prefix(prefix, text).ok_or(ValueError::NotANumber)
    }

    /// Parses the number behind a prefix.
    fn with_prefix(prefix: Prefix, text: &str) -> Option<Self> {
        let value = Decimal::parse(text)?;
        let tolerance = match prefix {
            // FHIR's 10 %, but at least the written precision.
            Prefix::Ap => value.half_unit().max(value.tenth()),
            Prefix::Eq | Prefix::Ne | Prefix::Gt | Prefix::Lt | Prefix::Ge | Prefix::Le | Prefix::Sa | Prefix::Eb => value.half_unit(),
        };
        Some(Self { prefix, value, low: value.checked_add(tolerance.negated())?, high: value.checked_add(tolerance)? })
    }

    /// Returns true if the interval of an element matches. Except for `eq`, `ne` and `ap`, the number of the query is exact.
    pub(super) fn matches(&self, interval: &Interval) -> bool {
        let value = &self.value;
        match self.prefix {
            Prefix::Eq => self.contains(interval),
            Prefix::Ne => !self.contains(interval),
            Prefix::Gt => interval.high.is_none_or(|high| high.value > *value),
            Prefix::Ge => interval.high.is_none_or(|high| high.value > *value || (high.value == *value && !high.is_exclusive)),
            Prefix::Lt => interval.low.is_none_or(|low| low.value < *value),
            Prefix::Le => interval.low.is_none_or(|low| low.value < *value || (low.value == *value && !low.is_exclusive)),
            Prefix::Sa => interval.low.is_some_and(|low| low.value > *value || (low.value == *value && low.is_exclusive)),
            Prefix::Eb => interval.high.is_some_and(|high| high.value < *value || (high.value == *value && high.is_exclusive)),
            Prefix::Ap => {
                interval.low.is_none_or(|low| low.value < self.high || (low.value == self.high && !low.is_exclusive))
                    && interval.high.is_none_or(|high| high.value > self.low || (high.value == self.low && !high.is_exclusive))
            }
        }
    }

    /// Returns true if the interval is within the range that is equal to the value.
    fn contains(&self, interval: &Interval) -> bool {
        interval.low.is_some_and(|low| low.value >= self.low)
            && interval.high.is_some_and(|high| high.value < self.high || (high.value == self.high && high.is_exclusive))
    }
}

impl ElementTest<NumberElementKind> for NumberTest {
    fn any_matches(tests: &[Self], kind: NumberElementKind, value: JsonValue<'_>) -> bool {
        let interval = match kind {
            NumberElementKind::Number => parse_number(value).map(|number| Interval::closed(Some(number), Some(number))),
            NumberElementKind::Range => parse_range(value),
        };
        interval.is_some_and(|interval| tests.iter().any(|test| test.matches(&interval)))
    }
}

/// Returns the interval of a Range, without regard to units; `None` if it has neither end.
fn parse_range(range: JsonValue<'_>) -> Option<Interval> {
    let end = |name| range.member(name).and_then(|quantity| quantity.member("value")).and_then(parse_number);
    let (low, high) = (end("low"), end("high"));
    (low.is_some() || high.is_some()).then(|| Interval::closed(low, high))
}

/// Parses a JSON number, or a string with a number: R5 writes 64-bit integers as strings.
pub(super) fn parse_number(json: JsonValue<'_>) -> Option<Decimal> {
    match json.json_type() {
        JsonType::Number => Decimal::parse(json.as_str()),
        JsonType::String => Decimal::parse(&json.text()?),
        JsonType::Object | JsonType::Array | JsonType::Boolean | JsonType::Null => None,
    }
}
