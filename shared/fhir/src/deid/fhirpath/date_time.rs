//! Dates and times with the precision in which they are written.

use std::cmp::Ordering;
use std::fmt;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use time::{Date, Duration, Month, PrimitiveDateTime, Time};

use super::EvaluationError;
use super::quantity::Quantity;

/// A date, a time or both. Components that are not written are unknown, so that comparisons can be unknown as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::deid) struct PartialDateTime {
    kind: DateTimeKind,
    /// Year, month, day, hour, minute, and second in nanoseconds. Components after the first unknown one are unknown. In UTC
    /// if an offset is written.
    components: [Option<i64>; 6],
    /// The offset from UTC in minutes, if it is written.
    offset: Option<i64>,
}

/// The FHIRPath type of a [`PartialDateTime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::deid) enum DateTimeKind {
    Date,
    DateTime,
    Time,
}

impl PartialDateTime {
    /// Parses `2020`, `2020-01`, `2020-01-31` or `2020-01-31T08:00:00.5+01:00`. Seconds and minutes of the time are optional.
    /// A date may have an offset as well, which FHIR forbids and other software writes: `2020-01-31Z`.
    pub(in crate::deid) fn parse(text: &str) -> Option<Self> {
        // FHIRPath writes a dateTime with only a year as `@2020T`.
        let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
        let kind = if time.is_some() { DateTimeKind::DateTime } else { DateTimeKind::Date };
        let (date, date_offset) = split_date_offset(date);
        let (year, month, day) = parse_date(date)?;
        let Some(time) = time.filter(|time| !time.is_empty()) else {
            let components = [Some(i64::from(year)), month.map(i64::from), day.map(i64::from), None, None, None];
            let parsed = Self { kind, components, offset: date_offset };
            return if date_offset.is_some() && day.is_some() { parsed.shifted_to_utc() } else { Some(parsed) };
        };
        if date_offset.is_some() {
            return None;
        }
        let (time, offset) = split_utc_offset(time);
        let [hour, minute, second] = parse_clock(time)?;
        let components = [Some(i64::from(year)), Some(month?.into()), Some(day?.into()), hour, minute, second];
        Self { kind, components, offset }.shifted_to_utc()
    }

    /// Parses `08`, `08:00` or `08:00:00.5`.
    pub(in crate::deid) fn parse_time(text: &str) -> Option<Self> {
        let [hour, minute, second] = parse_clock(text)?;
        Some(Self { kind: DateTimeKind::Time, components: [Some(1), Some(1), Some(1), hour, minute, second], offset: None })
    }

    /// Creates a value from a date in UTC.
    pub(super) fn from_date(date: Date) -> Self {
        let date = [Some(i64::from(date.year())), Some(u8::from(date.month()).into()), Some(date.day().into())];
        Self { kind: DateTimeKind::Date, components: [date[0], date[1], date[2], None, None, None], offset: None }
    }

    /// Creates a value from a date and a time in UTC.
    pub(super) fn from_utc(date: Date, time: Time) -> Self {
        let [year, month, day, ..] = Self::from_date(date).components;
        let [hour, minute, second] = clock_components(time);
        Self { kind: DateTimeKind::DateTime, components: [year, month, day, hour, minute, second], offset: Some(0) }
    }

    /// Creates a time of day.
    pub(super) fn from_time(time: Time) -> Self {
        let [hour, minute, second] = clock_components(time);
        Self { kind: DateTimeKind::Time, components: [Some(1), Some(1), Some(1), hour, minute, second], offset: None }
    }

    /// Returns the value with the type DateTime, which FHIR gives a dateTime without a time as well.
    pub(super) fn into_date_time(self) -> Self {
        Self { kind: DateTimeKind::DateTime, ..self }
    }

    /// Returns true for a time without a date.
    pub(in crate::deid) fn is_time(&self) -> bool {
        self.kind == DateTimeKind::Time
    }

    /// Returns the FHIRPath type.
    pub(super) fn kind(&self) -> DateTimeKind {
        self.kind
    }

    /// Compares two values; `None` if the order depends on a component or an offset that only one of them has.
    pub(in crate::deid) fn compare(&self, other: &Self) -> Option<Ordering> {
        for (index, (left, right)) in self.components.iter().zip(&other.components).enumerate() {
            let (left, right) = match (left, right) {
                (Some(left), Some(right)) => (*left, *right),
                (None, None) => return Some(Ordering::Equal),
                (Some(_), None) | (None, Some(_)) => return None,
            };
            // Days can be compared without an offset, hours cannot.
            if index == HOUR && self.offset.is_some() != other.offset.is_some() {
                return None;
            }
            // Fractions of a millisecond are ignored.
            let precision = if index == SECOND { NANOS_PER_MILLISECOND } else { 1 };
            match (left / precision).cmp(&(right / precision)) {
                Ordering::Equal => {}
                order @ (Ordering::Less | Ordering::Greater) => return Some(order),
            }
        }
        Some(Ordering::Equal)
    }

    /// Returns true if both have a date, or neither has one.
    pub(in crate::deid) fn is_comparable_with(&self, other: &Self) -> bool {
        self.is_time() == other.is_time()
    }

    /// Adds an amount of time, or subtracts it if `sign` is -1. Amounts are rounded down to what the precision can express: 500 days
    /// after 2020 are 2021. Hours change nothing in a dateTime without a time.
    ///
    /// Fails for a unit that does not measure time of this type, and for a result outside the calendar.
    pub(super) fn add(self, amount: &Quantity, sign: Decimal) -> Result<Self, EvaluationError> {
        let value = amount.value * sign;
        let whole = |number: Decimal| number.trunc().to_i64().ok_or(EvaluationError::Overflow);
        let precision = self.components.iter().flatten().count();
        let shift = match (&*amount.unit, precision) {
            ("year" | "years", _) => Shift::Months(whole(value)?.saturating_mul(12)),
            ("month" | "months", 1) => Shift::Months(whole(value / Decimal::from(12))?.saturating_mul(12)),
            ("month" | "months", _) => Shift::Months(whole(value)?),
            ("week" | "weeks" | "wk", 1) => Shift::Months(whole(value / Decimal::from(52))?.saturating_mul(12)),
            ("week" | "weeks" | "wk", 2) => Shift::Months(whole(value * Decimal::from(7) / Decimal::from(30))?),
            ("week" | "weeks" | "wk", _) => Shift::Nanos(i128::from(whole(value)?) * 7 * NANOS_PER_DAY),
            ("day" | "days" | "d", 1) => Shift::Months(whole(value / Decimal::from(365))?.saturating_mul(12)),
            ("day" | "days" | "d", 2) => Shift::Months(whole(value / Decimal::from(30))?),
            ("day" | "days" | "d", _) => Shift::Nanos(i128::from(whole(value)?) * NANOS_PER_DAY),
            (unit, _) => match nanos_of_clock_unit(unit).filter(|_| self.kind == DateTimeKind::DateTime) {
                None => return Err(EvaluationError::NotATimeUnit),
                Some(_) if precision <= 3 => return Ok(self),
                Some(nanos) => {
                    let nanos = value.checked_mul(Decimal::from(nanos)).and_then(|nanos| nanos.to_i128());
                    Shift::Nanos(nanos.ok_or(EvaluationError::Overflow)?)
                }
            },
        };
        self.shifted(shift).ok_or(EvaluationError::Overflow)
    }

    /// Moves the value; `None` if the result is outside the calendar.
    fn shifted(self, shift: Shift) -> Option<Self> {
        let offset = Duration::minutes(self.offset.unwrap_or(0));
        let local = self.to_date_time()?.checked_add(offset)?;
        let moved = match shift {
            Shift::Months(months) => {
                let total = i64::from(local.year()) * 12 + i64::from(u8::from(local.month())) - 1 + months;
                let year = i32::try_from(total.div_euclid(12)).ok()?;
                let month = Month::try_from(u8::try_from(total.rem_euclid(12) + 1).ok()?).ok()?;
                local.replace_date(Date::from_calendar_date(year, month, local.day().min(month.length(year))).ok()?)
            }
            Shift::Nanos(nanos) => {
                let seconds = i64::try_from(nanos.div_euclid(NANOS_PER_SECOND)).ok()?;
                let rest = i32::try_from(nanos.rem_euclid(NANOS_PER_SECOND)).ok()?;
                local.checked_add(Duration::new(seconds, rest))?
            }
        };
        self.with_date_time(moved.checked_sub(offset)?)
    }

    /// Converts components that are written with an offset to UTC.
    fn shifted_to_utc(self) -> Option<Self> {
        self.with_date_time(self.to_date_time()?.checked_sub(Duration::minutes(self.offset.unwrap_or(0)))?)
    }

    /// Returns the earliest date and time with these components.
    fn to_date_time(self) -> Option<PrimitiveDateTime> {
        let [year, month, day, hour, minute, second] = self.components;
        let month = Month::try_from(u8::try_from(month.unwrap_or(1)).ok()?).ok()?;
        let date = Date::from_calendar_date(i32::try_from(year?).ok()?, month, u8::try_from(day.unwrap_or(1)).ok()?).ok()?;
        let midnight = PrimitiveDateTime::new(date, Time::MIDNIGHT);
        let clock = Duration::minutes(hour.unwrap_or(0) * 60 + minute.unwrap_or(0)) + Duration::nanoseconds(second.unwrap_or(0));
        midnight.checked_add(clock)
    }

    /// Replaces the components that are known; `None` if the year has no four digits.
    fn with_date_time(self, moved: PrimitiveDateTime) -> Option<Self> {
        let date = Self::from_utc(moved.date(), moved.time()).components;
        let mut components = self.components;
        for (component, new) in components.iter_mut().zip(date) {
            *component = component.and(new);
        }
        (1..=9999).contains(&moved.year()).then_some(Self { components, ..self })
    }
}

/// A change of a date.
#[derive(Clone, Copy)]
enum Shift {
    Months(i64),
    Nanos(i128),
}

impl fmt::Display for PartialDateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset.unwrap_or(0);
        let local = self.to_date_time().and_then(|utc| utc.checked_add(Duration::minutes(offset))).ok_or(fmt::Error)?;
        let [_, month, day, hour, minute, second] = self.components;
        if self.kind != DateTimeKind::Time {
            write!(f, "{:04}", local.year())?;
            if month.is_some() {
                write!(f, "-{:02}", u8::from(local.month()))?;
            }
            if day.is_some() {
                write!(f, "-{:02}", local.day())?;
            }
            if hour.is_some() {
                f.write_str("T")?;
            }
        }
        if hour.is_some() {
            write!(f, "{:02}", local.hour())?;
        }
        if minute.is_some() {
            write!(f, ":{:02}", local.minute())?;
        }
        if second.is_some() {
            write!(f, ":{:02}", local.second())?;
            let fraction = format!("{:09}", local.nanosecond());
            let fraction = fraction.trim_end_matches('0');
            if !fraction.is_empty() {
                write!(f, ".{fraction}")?;
            }
        }
        match self.offset {
            Some(0) if hour.is_some() => f.write_str("Z"),
            Some(minutes) if hour.is_some() => {
                let sign = if minutes < 0 { '-' } else { '+' };
                write!(f, "{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The indexes of components.
const HOUR: usize = 3;
const SECOND: usize = 5;

const NANOS_PER_MILLISECOND: i64 = 1_000_000;
const NANOS_PER_SECOND: i128 = 1_000_000_000;
const NANOS_PER_DAY: i128 = 86_400 * NANOS_PER_SECOND;

/// Returns the length of a unit that is shorter than a day in nanoseconds.
fn nanos_of_clock_unit(unit: &str) -> Option<i64> {
    Some(match unit {
        "hour" | "hours" | "h" => 3_600_000_000_000,
        "minute" | "minutes" | "min" => 60_000_000_000,
        "second" | "seconds" | "s" => 1_000_000_000,
        "millisecond" | "milliseconds" | "ms" => NANOS_PER_MILLISECOND,
        _ => return None,
    })
}

/// Returns the hour, the minute, and the second in nanoseconds.
fn clock_components(time: Time) -> [Option<i64>; 3] {
    let nanos = i64::from(time.second()) * 1_000_000_000 + i64::from(time.nanosecond());
    [Some(time.hour().into()), Some(time.minute().into()), Some(nanos)]
}

/// Splits `Z` or `+01:00` from a date. Returns the offset in minutes, or `None` if the date has none.
pub(in crate::deid) fn split_date_offset(text: &str) -> (&str, Option<i64>) {
    if let Some(date) = text.strip_suffix('Z') {
        return (date, Some(0));
    }
    // The last hyphen of `2020-01-31` does not begin an offset, which ends with `:00`.
    match text.len().checked_sub(6).and_then(|at| text.split_at_checked(at)) {
        Some((date, offset)) if offset.contains(':') => match parse_offset(offset) {
            Some(minutes) => (date, Some(minutes)),
            None => (text, None),
        },
        Some(_) | None => (text, None),
    }
}

/// Parses `+01:00` into minutes.
fn parse_offset(offset: &str) -> Option<i64> {
    let sign = match offset.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    Some(sign * (parse_digits(hours, 2)? * 60 + parse_digits(minutes, 2)?))
}

/// Parses a date into its year, month and day; the last two are optional. Returns `None` if the date is not in the calendar.
pub(in crate::deid) fn parse_date(text: &str) -> Option<(i32, Option<u8>, Option<u8>)> {
    let (year, month, day) = match *text.as_bytes() {
        [a, b, c, d] => ([a, b, c, d], None, None),
        [a, b, c, d, b'-', e, f] => ([a, b, c, d], Some([e, f]), None),
        [a, b, c, d, b'-', e, f, b'-', g, h] => ([a, b, c, d], Some([e, f]), Some([g, h])),
        _ => return None,
    };
    let [century, year_of_century] = [[year[0], year[1]], [year[2], year[3]]].map(parse_pair);
    let year = i32::from(century?) * 100 + i32::from(year_of_century?);
    if year == 0 {
        return None;
    }
    let Some(month) = month else { return Some((year, None, None)) };
    let month = Month::try_from(parse_pair(month)?).ok()?;
    let Some(day) = day else { return Some((year, Some(month.into()), None)) };
    let day = parse_pair(day).filter(|day| (1..=month.length(year)).contains(day))?;
    Some((year, Some(month.into()), Some(day)))
}

/// Parses a number with exactly two digits.
fn parse_pair([tens, ones]: [u8; 2]) -> Option<u8> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + (ones - b'0'))
}

/// Splits `Z` or `+01:00` from a time. Returns the rest and the offset in minutes, or `None` if the time has no offset.
fn split_utc_offset(time: &str) -> (&str, Option<i64>) {
    let Some(at) = time.rfind(['Z', '+', '-']) else { return (time, None) };
    let Some((clock, offset)) = time.split_at_checked(at) else { return (time, None) };
    (clock, Some(parse_offset(offset).unwrap_or(0)))
}

/// Parses a time into its hour, minute, and second in nanoseconds.
fn parse_clock(text: &str) -> Option<[Option<i64>; 3]> {
    let mut parts = text.split(':');
    let hour = parse_digits(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = match parts.next() {
        Some(minute) => Some(parse_digits(minute, 2).filter(|minute| *minute < 60)?),
        None => None,
    };
    let second = match parts.next() {
        Some(second) => {
            let (whole, fraction) = second.split_once('.').unwrap_or((second, "0"));
            let nanos: String = fraction.chars().chain("000000000".chars()).take(9).collect();
            Some(parse_digits(whole, 2).filter(|second| *second <= 60)? * 1_000_000_000 + parse_digits(&nanos, 9)?)
        }
        None => None,
    };
    parts.next().is_none().then_some([Some(hour), minute, second])
}

/// Parses a number with exactly `count` digits.
fn parse_digits(text: &str, count: usize) -> Option<i64> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses two dates and compares them.
    fn compare(left: &str, right: &str) -> Option<Ordering> {
        PartialDateTime::parse(left).unwrap().compare(&PartialDateTime::parse(right).unwrap())
    }

    #[test]
    fn a_comparison_is_unknown_if_it_depends_on_a_missing_component() {
        assert_eq!(compare("1990", "1990-01-01"), None);
        assert_eq!(compare("2000", "1990-01-01"), Some(Ordering::Greater));
        assert_eq!(compare("2010-01-01", "2010-01-01T00:00:00+08:00"), Some(Ordering::Greater), "it is still 2009 in UTC");
        assert_eq!(compare("2009-12-31T16:00:00Z", "2010-01-01T00:00:00+08:00"), Some(Ordering::Equal));
        assert_eq!(compare("2010-01-01T10:00:00.50Z", "2010-01-01T10:00:00.5Z"), Some(Ordering::Equal));
        assert_eq!(compare("2010-01-01T10:00Z", "2010-01-01T10:00:00Z"), None);
        assert_eq!(compare("2010-01-01T10:00:00Z", "2010-01-01T10:00:00"), None, "only one has an offset");
        assert_eq!(compare("2010-01-01T10:00:00Z", "2010-01-02T10:00:00"), Some(Ordering::Less), "days differ");
    }

    #[test]
    fn amounts_of_time_are_added_with_the_precision_of_the_date() {
        for (date, amount, sign, expected) in [
            ("2026-11-29", "89 years", -1, "1937-11-29"),
            ("2024-02-29", "1 year", -1, "2023-02-28"),
            ("2024-03-31", "1 month", -1, "2024-02-29"),
            ("2024-03-31", "2 weeks", 1, "2024-04-14"),
            ("2024-03-31", "1.9 days", 1, "2024-04-01"),
            ("2024", "500 days", 1, "2025"),
            ("2024-03", "45 days", 1, "2024-04"),
            ("2024-03", "13 months", 1, "2025-04"),
            ("2024-03-31T23:30:00+01:00", "1 hour", 1, "2024-04-01T00:30:00+01:00"),
            ("2024-03-31T23:30:00Z", "1 month", 1, "2024-04-30T23:30:00Z"),
            ("2024-03-31T10:00", "90 minutes", 1, "2024-03-31T11:30"),
            ("2024-03-31T10:00:00.5Z", "250 'ms'", 1, "2024-03-31T10:00:00.75Z"),
        ] {
            let amount = Quantity::parse(amount).unwrap();
            let found = PartialDateTime::parse(date).unwrap().add(&amount, Decimal::from(sign)).unwrap();
            assert_eq!(found.to_string(), expected, "{date} {amount}");
        }
        let add = |date: &str, amount: &str| PartialDateTime::parse(date).unwrap().add(&Quantity::parse(amount).unwrap(), Decimal::ONE);
        assert_eq!(add("2024-03-31", "1 hour"), Err(EvaluationError::NotATimeUnit), "a date has no hours");
        assert_eq!(add("2024-03-31T10:00:00Z", "1 'a'"), Err(EvaluationError::NotATimeUnit));
        assert_eq!(add("9999-03-31", "1 year"), Err(EvaluationError::Overflow));
    }

    #[test]
    fn a_date_can_have_an_offset() {
        assert_eq!(compare("2001-01-01Z", "2001-01-01"), Some(Ordering::Equal));
        assert_eq!(compare("2001-01-01+08:00", "2000-12-31"), Some(Ordering::Equal));
        assert_eq!(split_date_offset("2001-01-01"), ("2001-01-01", None));
        assert_eq!(split_date_offset("2001-01-01-05:00"), ("2001-01-01", Some(-300)));
    }

    #[test]
    fn invalid_dates_and_times_are_rejected() {
        for text in ["", "20", "2020-1-1", "2020-13", "2021-02-29", "0000", "2020-01-01T25:00:00Z", "2020-01T10:00:00Z", "2020-01-01-01"] {
            assert_eq!(PartialDateTime::parse(text), None, "{text}");
        }
        for text in ["", "8:00", "08:60", "08:00:61", "08:00:00:00"] {
            assert_eq!(PartialDateTime::parse_time(text), None, "{text}");
        }
    }
}
