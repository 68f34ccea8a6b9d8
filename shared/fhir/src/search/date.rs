//! Dates. The dates of queries and of elements are time ranges, whose length is the written precision.

use time::{Date, Month};

use super::element_test::ElementTest;
use super::error::ValueError;
use super::prefix::Prefix;
use crate::instant::Instant;
use crate::json::JsonValue;

const SECOND: i128 = 1_000_000_000;
const MINUTE: i128 = 60 * SECOND;
const DAY: i128 = 24 * 60 * MINUTE;

/// The kind of an element that a date search parameter searches. It decides how the element is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DateElementKind {
    Date,
    Period,
    Timing,
}

impl DateElementKind {
    /// Returns how a date search parameter is compared with elements of a FHIR type. `None` if it cannot search that type.
    pub(super) fn from_type(element_type: &str) -> Option<Self> {
        match element_type {
            "date" | "dateTime" | "instant" => Some(Self::Date),
            "Period" => Some(Self::Period),
            "Timing" => Some(Self::Timing),
            _ => None,
        }
    }
}

/// The time from `start` (inclusive) to `end` (exclusive), in nanoseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeRange {
    start: i128,
    end: i128,
}

impl TimeRange {
    /// The range without start and end.
    const ALWAYS: Self = Self { start: i128::MIN, end: i128::MAX };

    /// Parses a `date`, `dateTime` or `instant`: `2026-01` is that month, `…T08:00` that minute. The default time zone is UTC.
    /// A space before an offset is read as a plus sign that was not percent-encoded.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (date, clock) = match text.split_once('T') {
            Some((date, clock)) => (date, Some(clock)),
            None => (text, None),
        };
        let day_number = |year: i32, month: Month, day: u8| {
            let date = Date::from_calendar_date(year, month, day).ok()?;
            Some(i128::from(date.to_julian_day() - 2_440_588))
        };
        let days_range = |first: i128, days: i128| Self { start: first * DAY, end: (first + days) * DAY };
        let (year, rest) = split_digits(date, 4)?;
        let year = i32::from(year);
        let Some(rest) = rest.strip_prefix('-') else {
            let year = days_range(day_number(year, Month::January, 1)?, i128::from(time::util::days_in_year(year)));
            return (rest.is_empty() && clock.is_none()).then_some(year);
        };
        let (month, rest) = split_digits(rest, 2)?;
        let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
        let Some(rest) = rest.strip_prefix('-') else {
            let month = days_range(day_number(year, month, 1)?, i128::from(month.length(year)));
            return (rest.is_empty() && clock.is_none()).then_some(month);
        };
        let (day, rest) = split_digits(rest, 2)?;
        let day = day_number(year, month, u8::try_from(day).ok()?)?;
        if !rest.is_empty() {
            return None;
        }
        match clock {
            Some(clock) => Self::with_time(day * DAY, clock),
            None => Some(days_range(day, 1)),
        }
    }

    /// Parses the time `hh:mm[:ss[.fraction]][zone]` of the day that starts at `midnight`.
    fn with_time(midnight: i128, clock: &str) -> Option<Self> {
        let (hour, rest) = split_digits(clock, 2)?;
        let (minute, mut rest) = split_digits(rest.strip_prefix(':')?, 2)?;
        // Second 60 is a leap second.
        let (mut second, mut fraction, mut length) = (0, 0, MINUTE);
        if let Some(seconds) = rest.strip_prefix(':') {
            (second, rest) = split_digits(seconds, 2)?;
            length = SECOND;
            if let Some(behind) = rest.strip_prefix('.') {
                let count = behind.bytes().take_while(u8::is_ascii_digit).count();
                // Digits beyond nanoseconds are ignored.
                let places = u32::try_from(count.min(9)).ok().filter(|places| *places > 0)?;
                length = SECOND / 10_i128.pow(places);
                fraction = behind.get(..count.min(9))?.parse::<i128>().ok()? * length;
                rest = behind.get(count..)?;
            }
        }
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let clock = i128::from(hour * 60 + minute) * MINUTE + i128::from(second) * SECOND + fraction;
        let start = midnight + clock - Self::parse_zone(rest)?;
        Some(Self { start, end: start + length })
    }

    /// Parses a time zone into its offset in nanoseconds.
    fn parse_zone(text: &str) -> Option<i128> {
        let (is_west, clock) = match text {
            "" | "Z" => return Some(0),
            _ => match text.strip_prefix('-') {
                Some(clock) => (true, clock),
                None => (false, text.strip_prefix(['+', ' '])?),
            },
        };
        let (hour, rest) = split_digits(clock, 2)?;
        let (minute, rest) = split_digits(rest.strip_prefix(':')?, 2)?;
        let zone = i128::from(hour * 60 + minute) * MINUTE;
        (rest.is_empty() && hour <= 14 && minute <= 59).then_some(if is_west { -zone } else { zone })
    }

    /// Parses a JSON string as a date.
    fn from_date(json: JsonValue<'_>) -> Option<Self> {
        Self::parse(&json.text()?)
    }

    /// Returns the range of a Period, up to the end of its last date. An absent start or end is unlimited.
    fn from_period(json: JsonValue<'_>) -> Option<Self> {
        let (mut range, mut has_bound) = (Self::ALWAYS, false);
        for (name, value) in json.members() {
            match &*name {
                "start" => range.start = Self::from_date(value)?.start,
                "end" => range.end = Self::from_date(value)?.end,
                _ => continue,
            }
            has_bound = true;
        }
        has_bound.then_some(range)
    }

    /// Returns the range that spans all events and bounds of a Timing.
    fn from_timing(json: JsonValue<'_>) -> Option<Self> {
        let events = json.member("event").into_iter().flat_map(JsonValue::items).filter_map(Self::from_date);
        let bounds = json.member("repeat").and_then(|repeat| repeat.member("boundsPeriod")).and_then(Self::from_period);
        events.chain(bounds).reduce(|one, other| Self { start: one.start.min(other.start), end: one.end.max(other.end) })
    }
}

/// Splits a number of exactly `count` digits from the start of a text.
fn split_digits(text: &str, count: usize) -> Option<(u16, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((is_number.then(|| number.parse().ok())??, rest))
}

/// A date of a query.
#[derive(Clone, Copy, Debug)]
pub(super) struct DateTest {
    prefix: Prefix,
    range: TimeRange,
}

impl DateTest {
    /// Parses a value such as `ge2026-01`. The tolerance of `ap` is a tenth of the distance to `now`.
    pub(super) fn parse(text: &str, now: Instant) -> Result<Self, ValueError> {
        let (prefix, date) = Prefix::split(text);
        let mut range = TimeRange::parse(date).ok_or(ValueError::NotADate)?;
        if prefix == Prefix::Ap {
            let now = TimeRange::parse(&now.to_string()).map_or(range.start, |now| now.start);
            // The written precision is the least tolerance.
            let tolerance = ((now - range.start).abs() / 10).max(range.end - range.start);
            range = TimeRange { start: range.start - tolerance, end: range.end + tolerance };
        }
        Ok(Self { prefix, range })
    }

    /// Returns true if the range of an element matches.
    fn matches(&self, element: &TimeRange) -> bool {
        let query = &self.range;
        let is_within = query.start <= element.start && element.end <= query.end;
        match self.prefix {
            Prefix::Eq => is_within,
            Prefix::Ne => !is_within,
            Prefix::Gt => element.end > query.end,
            Prefix::Lt => element.start < query.start,
            Prefix::Ge => element.end > query.end || is_within,
            Prefix::Le => element.start < query.start || is_within,
            Prefix::Sa => element.start >= query.end,
            Prefix::Eb => element.end <= query.start,
            Prefix::Ap => element.start < query.end && query.start < element.end,
        }
    }
}

impl ElementTest<DateElementKind> for DateTest {
    fn any_matches(tests: &[Self], kind: DateElementKind, value: JsonValue<'_>) -> bool {
        let range = match kind {
            DateElementKind::Date => TimeRange::from_date(value),
            DateElementKind::Period => TimeRange::from_period(value),
            DateElementKind::Timing => TimeRange::from_timing(value),
        };
        range.is_some_and(|range| tests.iter().any(|test| test.matches(&range)))
    }
}
