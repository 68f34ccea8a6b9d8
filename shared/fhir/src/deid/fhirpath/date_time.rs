//! Dates and times with the precision in which they are written.

use std::cmp::Ordering;

use time::{Date, Duration, Month};

/// A date, a time or both. Components that are not written are unknown, so that comparisons can be unknown as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::deid) struct PartialDateTime {
    /// True for a time without a date.
    is_time: bool,
    /// Year, month, day, hour, minute, and second in nanoseconds. Components after the first unknown one are unknown. In UTC
    /// if an offset is written.
    components: [Option<i64>; 6],
}

impl PartialDateTime {
    /// Parses `2020`, `2020-01`, `2020-01-31` or `2020-01-31T08:00:00.5+01:00`. Seconds and minutes of the time are optional.
    pub(in crate::deid) fn parse(text: &str) -> Option<Self> {
        // FHIRPath writes a dateTime with only a year as `@2020T`.
        let (date, time) = text.split_once('T').unwrap_or((text, ""));
        let (year, month, day) = parse_date(date)?;
        let date = [Some(i64::from(year)), month.map(i64::from), day.map(i64::from)];
        let Some((time, offset)) = split_utc_offset(time) else { return Some(Self::from_components(date, [None; 3])) };
        let [hour, minute, second] = parse_clock(time)?;
        // Converting to UTC can change the date.
        let minutes = hour? * 60 + minute.unwrap_or(0) - offset;
        let date = Date::from_calendar_date(year, Month::try_from(month?).ok()?, day?).ok()?;
        let date = date.checked_add(Duration::days(minutes.div_euclid(MINUTES_PER_DAY)))?;
        let date = [Some(date.year().into()), Some(u8::from(date.month()).into()), Some(date.day().into())];
        let minutes = minutes.rem_euclid(MINUTES_PER_DAY);
        Some(Self::from_components(date, [Some(minutes / 60), minute.map(|_| minutes % 60), second]))
    }

    /// Parses `08`, `08:00` or `08:00:00.5`.
    pub(in crate::deid) fn parse_time(text: &str) -> Option<Self> {
        Some(Self { is_time: true, ..Self::from_components([Some(0); 3], parse_clock(text)?) })
    }

    /// Creates a value with a date.
    fn from_components([year, month, day]: [Option<i64>; 3], [hour, minute, second]: [Option<i64>; 3]) -> Self {
        Self { is_time: false, components: [year, month, day, hour, minute, second] }
    }

    /// Compares two values; `None` if the order depends on a component that only one of them has.
    pub(in crate::deid) fn compare(&self, other: &Self) -> Option<Ordering> {
        for (left, right) in self.components.iter().zip(&other.components) {
            match (left, right) {
                (Some(left), Some(right)) if left == right => {}
                (Some(left), Some(right)) => return Some(left.cmp(right)),
                (None, None) => return Some(Ordering::Equal),
                (Some(_), None) | (None, Some(_)) => return None,
            }
        }
        Some(Ordering::Equal)
    }

    /// Returns true if both have a date, or neither has one.
    pub(in crate::deid) fn is_comparable_with(&self, other: &Self) -> bool {
        self.is_time == other.is_time
    }
}

const MINUTES_PER_DAY: i64 = 24 * 60;

/// Parses a date into its year, month and day; the last two are optional. Returns `None` if the date is not in the calendar.
pub(in crate::deid) fn parse_date(text: &str) -> Option<(i32, Option<u8>, Option<u8>)> {
    let mut parts = text.split('-');
    let year = i32::try_from(parse_digits(parts.next()?, 4)?).ok().filter(|year| *year > 0)?;
    let Some(month) = parts.next() else { return Some((year, None, None)) };
    let month = Month::try_from(u8::try_from(parse_digits(month, 2)?).ok()?).ok()?;
    let Some(day) = parts.next() else { return Some((year, Some(month.into()), None)) };
    let day = u8::try_from(parse_digits(day, 2)?).ok()?;
    let is_valid = parts.next().is_none() && (1..=month.length(year)).contains(&day);
    is_valid.then_some((year, Some(month.into()), Some(day)))
}

/// Splits `Z` or `+01:00` from a time. Returns the rest and the offset in minutes, or `None` if the time is empty.
fn split_utc_offset(time: &str) -> Option<(&str, i64)> {
    if time.is_empty() {
        return None;
    }
    let Some(at) = time.rfind(['Z', '+', '-']) else { return Some((time, 0)) };
    let (time, offset) = time.split_at_checked(at)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let minutes = match offset.get(1..).and_then(|offset| offset.split_once(':')) {
        Some((hours, minutes)) => parse_digits(hours, 2).zip(parse_digits(minutes, 2)).map_or(0, |(hours, minutes)| hours * 60 + minutes),
        None => 0,
    };
    Some((time, sign * minutes))
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
