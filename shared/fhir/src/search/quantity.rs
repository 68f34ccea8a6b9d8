//! Quantities: a number and its unit.

use super::decimal::Decimal;
use super::element_test::ElementTest;
use super::error::ValueError;
use super::grammar::{split_unescaped, unescape};
use super::number::{Bound, Interval, NumberTest, parse_number};
use crate::json::JsonValue;

/// ISO 4217, the code system of a Money's currency.
const CURRENCY_SYSTEM: &str = "urn:iso:std:iso:4217";

/// The kind of an element that a quantity search parameter searches. It decides how the element is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QuantityElementKind {
    Quantity,
    Money,
    Range,
    SampledData,
}

impl QuantityElementKind {
    /// Returns how a quantity search parameter is compared with elements of a FHIR type. `None` if it cannot search that type.
    pub(super) fn from_type(element_type: &str) -> Option<Self> {
        match element_type {
            "Quantity" | "Age" | "Count" | "Distance" | "Duration" | "SimpleQuantity" | "MoneyQuantity" => Some(Self::Quantity),
            "Money" => Some(Self::Money),
            "Range" => Some(Self::Range),
            "SampledData" => Some(Self::SampledData),
            _ => None,
        }
    }
}

/// A quantity of a query: `gt5.4|http://unitsofmeasure.org|mg`. Units are not converted.
#[derive(Clone, Debug)]
pub(super) struct QuantityTest {
    number: NumberTest,
    unit: Unit,
}

/// The unit in a query.
#[derive(Clone, Debug)]
enum Unit {
    Any,
    /// `5.4||mg`: a code or a human-readable unit.
    CodeOrText(Box<str>),
    /// `5.4|system|mg`
    SystemAndCode(Box<str>, Box<str>),
    /// `5.4|system|`
    System(Box<str>),
}

/// The members of a Quantity or a Money.
#[derive(Clone, Copy, Default)]
struct QuantityMembers<'a> {
    value: Option<JsonValue<'a>>,
    comparator: Option<JsonValue<'a>>,
    unit: Option<JsonValue<'a>>,
    system: Option<JsonValue<'a>>,
    code: Option<JsonValue<'a>>,
}

impl<'a> QuantityMembers<'a> {
    /// Reads the members of a Quantity or a Money.
    fn read(quantity: JsonValue<'a>) -> Self {
        let mut members = Self::default();
        for (name, value) in quantity.members() {
            match &*name {
                "value" => members.value = Some(value),
                "comparator" => members.comparator = Some(value),
                "unit" => members.unit = Some(value),
                "system" => members.system = Some(value),
                // The currency of a Money takes the place of the code.
                "code" | "currency" => members.code = Some(value),
                _ => {}
            }
        }
        members
    }

    /// Returns the numeric value.
    fn number(&self) -> Option<Decimal> {
        self.value.and_then(parse_number)
    }

    /// Returns the interval that the value and the comparator stand for: `<5` is everything below 5.
    fn interval(&self) -> Option<Interval> {
        let value = self.number()?;
        let comparator = self.comparator.and_then(JsonValue::text);
        let exclusive = Some(Bound { value, is_exclusive: true });
        let inclusive = Some(Bound { value, is_exclusive: false });
        Some(match comparator.as_deref() {
            Some("<") => Interval { low: None, high: exclusive },
            Some("<=") => Interval { low: None, high: inclusive },
            Some(">") => Interval { low: exclusive, high: None },
            Some(">=") => Interval { low: inclusive, high: None },
            _ => Interval { low: inclusive, high: inclusive },
        })
    }
}

/// Returns true if the value is this string.
fn has_text(value: Option<JsonValue<'_>>, expected: &str) -> bool {
    value.and_then(JsonValue::text).is_some_and(|text| text == expected)
}

impl QuantityTest {
    /// Parses `number` or `number|system|code`.
    pub(super) fn parse(value: &str) -> Result<Self, ValueError> {
        let parts = split_unescaped(value, '|').map(unescape).collect::<Result<Vec<_>, _>>()?;
        let (number, unit) = match <[Box<str>; 3]>::try_from(parts) {
            Ok([number, system, code]) => {
                let unit = match (system.is_empty(), code.is_empty()) {
                    (true, true) => Unit::Any,
                    (true, false) => Unit::CodeOrText(code),
                    (false, true) => Unit::System(system),
                    (false, false) => Unit::SystemAndCode(system, code),
                };
                (number, unit)
            }
            Err(parts) => match <[Box<str>; 1]>::try_from(parts) {
                Ok([number]) => (number, Unit::Any),
                Err(_) => return Err(ValueError::NotAQuantity),
            },
        };
        Ok(Self { number: NumberTest::parse(&number).map_err(|_| ValueError::NotAQuantity)?, unit })
    }

    /// Returns true if a Quantity matches.
    fn matches_quantity(&self, quantity: JsonValue<'_>) -> bool {
        let members = QuantityMembers::read(quantity);
        members.interval().is_some_and(|interval| self.number.matches(&interval)) && self.matches_unit(&members)
    }

    /// Returns true if a Money matches.
    fn matches_money(&self, money: JsonValue<'_>) -> bool {
        let members = QuantityMembers::read(money);
        let matches_currency = match &self.unit {
            Unit::Any => true,
            Unit::CodeOrText(code) => has_text(members.code, code),
            Unit::SystemAndCode(system, code) => **system == *CURRENCY_SYSTEM && has_text(members.code, code),
            Unit::System(system) => **system == *CURRENCY_SYSTEM,
        };
        matches_currency && members.interval().is_some_and(|interval| self.number.matches(&interval))
    }

    /// Returns true if a Range matches. Its ends are inclusive.
    fn matches_range(&self, range: JsonValue<'_>) -> bool {
        let (low, high) = (range.member("low").map(QuantityMembers::read), range.member("high").map(QuantityMembers::read));
        let mut ends = low.iter().chain(&high).peekable();
        let matches_units = ends.peek().is_some() && ends.all(|end| self.matches_unit(end));
        matches_units && self.number.matches(&Interval::closed(low.and_then(|low| low.number()), high.and_then(|high| high.number())))
    }

    /// Returns true if a SampledData matches, by its least and its greatest value.
    fn matches_samples(&self, samples: JsonValue<'_>) -> bool {
        let Some(origin) = samples.member("origin").map(QuantityMembers::read) else { return false };
        self.matches_unit(&origin) && sampled_interval(samples, &origin).is_some_and(|interval| self.number.matches(&interval))
    }

    /// Returns true if the unit matches.
    fn matches_unit(&self, members: &QuantityMembers<'_>) -> bool {
        match &self.unit {
            Unit::Any => true,
            Unit::CodeOrText(text) => has_text(members.code, text) || has_text(members.unit, text),
            Unit::SystemAndCode(system, code) => has_text(members.code, code) && has_text(members.system, system),
            Unit::System(system) => has_text(members.system, system),
        }
    }
}

impl ElementTest<QuantityElementKind> for QuantityTest {
    fn any_matches(tests: &[Self], kind: QuantityElementKind, value: JsonValue<'_>) -> bool {
        tests.iter().any(|test| match kind {
            QuantityElementKind::Quantity => test.matches_quantity(value),
            QuantityElementKind::Money => test.matches_money(value),
            QuantityElementKind::Range => test.matches_range(value),
            QuantityElementKind::SampledData => test.matches_samples(value),
        })
    }
}

/// Returns the interval of a SampledData. Each sample stands for `origin + factor * sample`. `L` and `U` stand for the limits of
/// detection, `E` for an error.
fn sampled_interval(samples: JsonValue<'_>, origin: &QuantityMembers<'_>) -> Option<Interval> {
    let number = |name| samples.member(name).and_then(parse_number);
    let (lower_limit, upper_limit) = (number("lowerLimit"), number("upperLimit"));
    let factor = number("factor").or_else(|| Decimal::parse("1"))?;
    let origin = origin.number()?;
    let text = samples.member("data")?.text()?;
    let values = text.split_ascii_whitespace().filter_map(|word| match word {
        "E" => None,
        "L" => lower_limit,
        "U" => upper_limit,
        _ => Decimal::parse(word),
    });
    let mut bounds: Option<(Decimal, Decimal)> = None;
    for value in values.filter_map(|value| value.checked_mul(factor)?.checked_add(origin)) {
        bounds = Some(bounds.map_or((value, value), |(low, high)| (low.min(value), high.max(value))));
    }
    bounds.map(|(low, high)| Interval::closed(Some(low), Some(high)))
}
