//! Numbers: what a resource holds is an interval, for a Range, a comparator or sampled data stand for many values.

use super::decimal::Decimal;
use super::error::Fault;
use super::place::Accept;
use super::prefix::Prefix;
use super::quantity::range;
use crate::json::{Json, Shape};

/// An element that numbers are looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberElement {
    Number,
    Range,
}

impl NumberElement {
    /// By the FHIR type at the end of a path; `None` where no number can stand.
    pub(super) fn of(ends_in: &str) -> Option<Self> {
        match ends_in {
            "integer" | "decimal" | "positiveInt" | "unsignedInt" | "integer64" => Some(Self::Number),
            "Range" => Some(Self::Range),
            _ => None,
        }
    }
}

/// One end of an interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) at: Decimal,
    /// Not part of the interval itself.
    pub(super) is_open: bool,
}

/// The values that a resource's element stands for; an end that is absent is infinite.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) low: Option<End>,
    pub(super) high: Option<End>,
}

impl Interval {
    pub(super) fn closed(low: Option<Decimal>, high: Option<Decimal>) -> Self {
        let end = |at| End { at, is_open: false };
        Self { low: low.map(end), high: high.map(end) }
    }
}

/// A number of a query.
#[derive(Clone, Copy, Debug)]
pub(super) struct NumberTest {
    prefix: Prefix,
    value: Decimal,
    /// What is equal to it: from here on …
    low: Decimal,
    /// … and below there.
    high: Decimal,
}

impl NumberTest {
    /// Reads `gt5.40`.
    ///
    /// `100` is equal to all of [99.5, 100.5), `1e2` to all of [50, 150). (R4's page says [95, 105) of the latter, which
    /// is half a unit of no digit that is written; R5's says as here.)
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let (prefix, text) = Prefix::split(text);
        Self::of(prefix, text).ok_or(Fault::NotANumber)
    }

    fn of(prefix: Prefix, text: &str) -> Option<Self> {
        let value = Decimal::parse(text)?;
        let reach = match prefix {
            // The standard's 10 %, but never less than what is written.
            Prefix::Ap => value.half_unit().max(value.tenth()),
            Prefix::Eq | Prefix::Ne | Prefix::Gt | Prefix::Lt | Prefix::Ge | Prefix::Le | Prefix::Sa | Prefix::Eb => value.half_unit(),
        };
        Some(Self { prefix, value, low: value.plus(reach.negated())?, high: value.plus(reach)? })
    }

    /// Whether an element's values are as the query wants them. But for `eq`, `ne` and `ap` the number of the query is
    /// taken as exact.
    pub(super) fn accepts(&self, found: &Interval) -> bool {
        let value = &self.value;
        match self.prefix {
            Prefix::Eq => self.contains(found),
            Prefix::Ne => !self.contains(found),
            Prefix::Gt => found.high.is_none_or(|high| high.at > *value),
            Prefix::Ge => found.high.is_none_or(|high| high.at > *value || (high.at == *value && !high.is_open)),
            Prefix::Lt => found.low.is_none_or(|low| low.at < *value),
            Prefix::Le => found.low.is_none_or(|low| low.at < *value || (low.at == *value && !low.is_open)),
            Prefix::Sa => found.low.is_some_and(|low| low.at > *value || (low.at == *value && low.is_open)),
            Prefix::Eb => found.high.is_some_and(|high| high.at < *value || (high.at == *value && high.is_open)),
            Prefix::Ap => {
                found.low.is_none_or(|low| low.at < self.high || (low.at == self.high && !low.is_open))
                    && found.high.is_none_or(|high| high.at > self.low || (high.at == self.low && !high.is_open))
            }
        }
    }

    fn contains(&self, found: &Interval) -> bool {
        found.low.is_some_and(|low| low.at >= self.low)
            && found.high.is_some_and(|high| high.at < self.high || (high.at == self.high && high.is_open))
    }
}

impl Accept<NumberElement> for NumberTest {
    fn any_accepts(tests: &[Self], element: NumberElement, value: Json<'_>) -> bool {
        let interval = match element {
            NumberElement::Number => number(value).map(|number| Interval::closed(Some(number), Some(number))),
            NumberElement::Range => range(value),
        };
        interval.is_some_and(|interval| tests.iter().any(|test| test.accepts(&interval)))
    }
}

/// The number that a JSON value is; R5 writes its 64-bit integers as strings.
pub(super) fn number(json: Json<'_>) -> Option<Decimal> {
    match json.shape() {
        Shape::Number => Decimal::parse(json.as_str()),
        Shape::Text => Decimal::parse(&json.text()?),
        Shape::Object | Shape::Array | Shape::Bool | Shape::Null => None,
    }
}
