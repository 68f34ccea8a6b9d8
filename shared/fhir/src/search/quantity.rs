//! Quantities: a number and the unit that it counts.

use super::decimal::Decimal;
use super::error::Fault;
use super::grammar::{pieces, unescaped};
use super::number::{End, Interval, NumberTest, number};
use super::place::Accept;
use crate::json::Json;

/// ISO 4217, the system of a Money's currency.
const CURRENCIES: &str = "urn:iso:std:iso:4217";

/// An element that quantities are looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QuantityElement {
    Quantity,
    Money,
    Range,
    SampledData,
}

impl QuantityElement {
    /// By the FHIR type at the end of a path; `None` where no quantity can stand.
    pub(super) fn of(ends_in: &str) -> Option<Self> {
        match ends_in {
            "Quantity" | "Age" | "Count" | "Distance" | "Duration" | "SimpleQuantity" | "MoneyQuantity" => Some(Self::Quantity),
            "Money" => Some(Self::Money),
            "Range" => Some(Self::Range),
            "SampledData" => Some(Self::SampledData),
            _ => None,
        }
    }
}

/// A quantity of a query: `gt5.4|http://unitsofmeasure.org|mg`. Units are not converted into each other.
#[derive(Clone, Debug)]
pub(super) struct QuantityTest {
    number: NumberTest,
    unit: Unit,
}

#[derive(Clone, Debug)]
enum Unit {
    Any,
    /// `5.4||mg`: the code or the unit as people read it.
    Named(Box<str>),
    /// `5.4|system|mg`
    Coded(Box<str>, Box<str>),
    /// `5.4|system|`
    Of(Box<str>),
}

/// What a Quantity says of its unit.
#[derive(Clone, Copy, Default)]
struct Found<'a> {
    value: Option<Json<'a>>,
    comparator: Option<Json<'a>>,
    unit: Option<Json<'a>>,
    system: Option<Json<'a>>,
    code: Option<Json<'a>>,
}

impl<'a> Found<'a> {
    fn of(quantity: Json<'a>) -> Self {
        let mut found = Self::default();
        for (name, value) in quantity.raw_members() {
            match name {
                "value" => found.value = Some(value),
                "comparator" => found.comparator = Some(value),
                "unit" => found.unit = Some(value),
                "system" => found.system = Some(value),
                // A Money's currency is its code.
                "code" | "currency" => found.code = Some(value),
                _ => {}
            }
        }
        found
    }

    fn number(&self) -> Option<Decimal> {
        self.value.and_then(number)
    }

    /// `<5` stands for everything below 5.
    fn interval(&self) -> Option<Interval> {
        let at = self.number()?;
        let comparator = self.comparator.and_then(Json::text);
        let (open, closed) = (Some(End { at, is_open: true }), Some(End { at, is_open: false }));
        Some(match comparator.as_deref() {
            Some("<") => Interval { low: None, high: open },
            Some("<=") => Interval { low: None, high: closed },
            Some(">") => Interval { low: open, high: None },
            Some(">=") => Interval { low: closed, high: None },
            _ => Interval { low: closed, high: closed },
        })
    }
}

fn is(value: Option<Json<'_>>, wanted: &str) -> bool {
    value.and_then(Json::text).is_some_and(|text| text == wanted)
}

impl QuantityTest {
    pub(super) fn parse(value: &str) -> Result<Self, Fault> {
        let parts = pieces(value, '|').map(unescaped).collect::<Result<Vec<_>, _>>()?;
        let (number, unit) = match <[Box<str>; 3]>::try_from(parts) {
            Ok([number, system, code]) => {
                let unit = match (system.is_empty(), code.is_empty()) {
                    (true, true) => Unit::Any,
                    (true, false) => Unit::Named(code),
                    (false, true) => Unit::Of(system),
                    (false, false) => Unit::Coded(system, code),
                };
                (number, unit)
            }
            Err(parts) => match <[Box<str>; 1]>::try_from(parts) {
                Ok([number]) => (number, Unit::Any),
                Err(_) => return Err(Fault::NotAQuantity),
            },
        };
        Ok(Self { number: NumberTest::parse(&number).map_err(|_| Fault::NotAQuantity)?, unit })
    }

    fn accepts(&self, quantity: Json<'_>) -> bool {
        let found = Found::of(quantity);
        found.interval().is_some_and(|interval| self.number.accepts(&interval)) && self.counts(&found)
    }

    fn accepts_money(&self, money: Json<'_>) -> bool {
        let found = Found::of(money);
        let is_counted = match &self.unit {
            Unit::Any => true,
            Unit::Named(code) => is(found.code, code),
            Unit::Coded(system, code) => **system == *CURRENCIES && is(found.code, code),
            Unit::Of(system) => **system == *CURRENCIES,
        };
        is_counted && found.interval().is_some_and(|interval| self.number.accepts(&interval))
    }

    /// A Range's ends are part of it.
    fn accepts_range(&self, range: Json<'_>) -> bool {
        let (low, high) = (range.member("low").map(Found::of), range.member("high").map(Found::of));
        let mut ends = low.iter().chain(&high).peekable();
        let is_counted = ends.peek().is_some() && ends.all(|end| self.counts(end));
        is_counted && self.number.accepts(&Interval::closed(low.and_then(|low| low.number()), high.and_then(|high| high.number())))
    }

    /// Sampled data counts by the least and the greatest of its values.
    fn accepts_samples(&self, samples: Json<'_>) -> bool {
        let Some(origin) = samples.member("origin").map(Found::of) else { return false };
        self.counts(&origin) && bounds(samples, &origin).is_some_and(|bounds| self.number.accepts(&bounds))
    }

    fn counts(&self, found: &Found<'_>) -> bool {
        match &self.unit {
            Unit::Any => true,
            Unit::Named(name) => is(found.code, name) || is(found.unit, name),
            Unit::Coded(system, code) => is(found.code, code) && is(found.system, system),
            Unit::Of(system) => is(found.system, system),
        }
    }
}

impl Accept<QuantityElement> for QuantityTest {
    fn any_accepts(tests: &[Self], element: QuantityElement, value: Json<'_>) -> bool {
        tests.iter().any(|test| match element {
            QuantityElement::Quantity => test.accepts(value),
            QuantityElement::Money => test.accepts_money(value),
            QuantityElement::Range => test.accepts_range(value),
            QuantityElement::SampledData => test.accepts_samples(value),
        })
    }
}

/// A Range of a number parameter, its units aside; `None` without an end.
pub(super) fn range(json: Json<'_>) -> Option<Interval> {
    let end = |name| json.member(name).and_then(|end| Found::of(end).number());
    let (low, high) = (end("low"), end("high"));
    (low.is_some() || high.is_some()).then(|| Interval::closed(low, high))
}

/// `origin + factor * each`; `L` and `U` stand for the limits of what can be measured, `E` for an error.
fn bounds(samples: Json<'_>, origin: &Found<'_>) -> Option<Interval> {
    let limit = |name| samples.member(name).and_then(number);
    let (lowest, highest) = (limit("lowerLimit"), limit("upperLimit"));
    let factor = limit("factor").or_else(|| Decimal::parse("1"))?;
    let origin = origin.number()?;
    let text = samples.member("data")?.text()?;
    let values = text.split_ascii_whitespace().filter_map(|word| match word {
        "E" => None,
        "L" => lowest,
        "U" => highest,
        _ => Decimal::parse(word),
    });
    let mut bounds: Option<(Decimal, Decimal)> = None;
    for value in values.filter_map(|value| value.times(factor)?.plus(origin)) {
        bounds = Some(bounds.map_or((value, value), |(low, high)| (low.min(value), high.max(value))));
    }
    bounds.map(|(low, high)| Interval::closed(Some(low), Some(high)))
}
