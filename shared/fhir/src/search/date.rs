//! Dates: both sides are spans of time, as long as they are precise.

use time::{Date, Month};

use super::error::Fault;
use super::place::Accept;
use super::prefix::Prefix;
use crate::Instant;
use crate::json::Json;

const SECOND: i128 = 1_000_000_000;
const MINUTE: i128 = 60 * SECOND;
const DAY: i128 = 24 * 60 * MINUTE;

/// An element that dates are looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DateElement {
    Date,
    Period,
    Timing,
}

impl DateElement {
    /// By the FHIR type at the end of a path; `None` where no date can stand.
    pub(super) fn of(ends_in: &str) -> Option<Self> {
        match ends_in {
            "date" | "dateTime" | "instant" => Some(Self::Date),
            "Period" => Some(Self::Period),
            "Timing" => Some(Self::Timing),
            _ => None,
        }
    }
}

/// From `start` until before `end`, in nanoseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: i128,
    end: i128,
}

impl Span {
    /// Without beginning and end.
    const ALWAYS: Self = Self { start: i128::MIN, end: i128::MAX };

    /// What a `date`, `dateTime` or `instant` stands for: `2026-01` is that month, `…T08:00` that minute. Without a zone it
    /// is UTC; a blank where the zone's `+` belongs is that plus sign, which was not percent-encoded.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (date, clock) = match text.split_once('T') {
            Some((date, clock)) => (date, Some(clock)),
            None => (text, None),
        };
        let day_number = |year: i32, month: Month, day: u8| {
            let date = Date::from_calendar_date(year, month, day).ok()?;
            Some(i128::from(date.to_julian_day() - 2_440_588))
        };
        let of_days = |first: i128, days: i128| Self { start: first * DAY, end: (first + days) * DAY };
        let (year, rest) = digits(date, 4)?;
        let year = i32::from(year);
        let Some(rest) = rest.strip_prefix('-') else {
            let year = of_days(day_number(year, Month::January, 1)?, i128::from(time::util::days_in_year(year)));
            return (rest.is_empty() && clock.is_none()).then_some(year);
        };
        let (month, rest) = digits(rest, 2)?;
        let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
        let Some(rest) = rest.strip_prefix('-') else {
            let month = of_days(day_number(year, month, 1)?, i128::from(month.length(year)));
            return (rest.is_empty() && clock.is_none()).then_some(month);
        };
        let (day, rest) = digits(rest, 2)?;
        let day = day_number(year, month, u8::try_from(day).ok()?)?;
        if !rest.is_empty() {
            return None;
        }
        match clock {
            Some(clock) => Self::of_clock(day * DAY, clock),
            None => Some(of_days(day, 1)),
        }
    }

    /// `hh:mm[:ss[.fraction]][zone]` of the day that begins at `midnight`.
    fn of_clock(midnight: i128, clock: &str) -> Option<Self> {
        let (hour, rest) = digits(clock, 2)?;
        let (minute, mut rest) = digits(rest.strip_prefix(':')?, 2)?;
        // 60 is a leap second.
        let (mut second, mut fraction, mut length) = (0, 0, MINUTE);
        if let Some(seconds) = rest.strip_prefix(':') {
            (second, rest) = digits(seconds, 2)?;
            length = SECOND;
            if let Some(behind) = rest.strip_prefix('.') {
                let count = behind.bytes().take_while(u8::is_ascii_digit).count();
                // Below a nanosecond nothing is told apart.
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
        let start = midnight + clock - Self::zone(rest)?;
        Some(Self { start, end: start + length })
    }

    fn zone(text: &str) -> Option<i128> {
        let (is_west, clock) = match text {
            "" | "Z" => return Some(0),
            _ => match text.strip_prefix('-') {
                Some(clock) => (true, clock),
                None => (false, text.strip_prefix(['+', ' '])?),
            },
        };
        let (hour, rest) = digits(clock, 2)?;
        let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
        let zone = i128::from(hour * 60 + minute) * MINUTE;
        (rest.is_empty() && hour <= 14 && minute <= 59).then_some(if is_west { -zone } else { zone })
    }

    fn of_text(json: Json<'_>) -> Option<Self> {
        Self::parse(&json.text()?)
    }

    /// A Period lasts to the end of what its last date names, and for ever on a side that is absent.
    fn of_period(json: Json<'_>) -> Option<Self> {
        let (mut span, mut is_said) = (Self::ALWAYS, false);
        for (name, value) in json.raw_members() {
            match name {
                "start" => span.start = Self::of_text(value)?.start,
                "end" => span.end = Self::of_text(value)?.end,
                _ => continue,
            }
            is_said = true;
        }
        is_said.then_some(span)
    }

    /// A Timing counts by its outer limits: all of its events and its bounds.
    fn of_timing(json: Json<'_>) -> Option<Self> {
        let events = json.member("event").into_iter().flat_map(Json::items).filter_map(Self::of_text);
        let bounds = json.member("repeat").and_then(|repeat| repeat.member("boundsPeriod")).and_then(Self::of_period);
        events.chain(bounds).reduce(|one, other| Self { start: one.start.min(other.start), end: one.end.max(other.end) })
    }
}

/// A number of exactly so many digits at the beginning, and the rest.
fn digits(text: &str, count: usize) -> Option<(u16, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((is_number.then(|| number.parse().ok())??, rest))
}

/// A date of a query.
#[derive(Clone, Copy, Debug)]
pub(super) struct DateTest {
    prefix: Prefix,
    wanted: Span,
}

impl DateTest {
    /// Reads `ge2026-01`; what is approximately a date depends on how long ago it is.
    pub(super) fn parse(text: &str, now: Instant) -> Result<Self, Fault> {
        let (prefix, date) = Prefix::split(text);
        let mut wanted = Span::parse(date).ok_or(Fault::NotADate)?;
        if prefix == Prefix::Ap {
            let now = Span::parse(&now.to_string()).map_or(wanted.start, |now| now.start);
            let reach = ((now - wanted.start).abs() / 10).max(wanted.end - wanted.start);
            wanted = Span { start: wanted.start - reach, end: wanted.end + reach };
        }
        Ok(Self { prefix, wanted })
    }

    fn accepts(&self, found: &Span) -> bool {
        let wanted = &self.wanted;
        let is_within = wanted.start <= found.start && found.end <= wanted.end;
        match self.prefix {
            Prefix::Eq => is_within,
            Prefix::Ne => !is_within,
            Prefix::Gt => found.end > wanted.end,
            Prefix::Lt => found.start < wanted.start,
            Prefix::Ge => found.end > wanted.end || is_within,
            Prefix::Le => found.start < wanted.start || is_within,
            Prefix::Sa => found.start >= wanted.end,
            Prefix::Eb => found.end <= wanted.start,
            Prefix::Ap => found.start < wanted.end && wanted.start < found.end,
        }
    }
}

impl Accept<DateElement> for DateTest {
    fn any_accepts(tests: &[Self], element: DateElement, value: Json<'_>) -> bool {
        let span = match element {
            DateElement::Date => Span::of_text(value),
            DateElement::Period => Span::of_period(value),
            DateElement::Timing => Span::of_timing(value),
        };
        span.is_some_and(|span| tests.iter().any(|test| test.accepts(&span)))
    }
}
