//! Dates, times and both, as precise as they are written.

use std::cmp::Ordering;

use time::{Date, Duration, Month};

/// A date, a time or both. Parts that are not written are unknown, and so may be how it compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::deid) struct Moment {
    /// Whether it is a time of any day.
    is_time: bool,
    /// Year, month, day, hour, minute, second in nanoseconds: from the largest on, as far as they are known. In UTC where
    /// an offset is written.
    parts: [Option<i64>; 6],
}

impl Moment {
    /// Reads `2020`, `2020-01`, `2020-01-31`, `2020-01-31T08:00:00.5+01:00`, and times without seconds or minutes.
    pub(in crate::deid) fn date_time(text: &str) -> Option<Self> {
        // `@2020T` is how FHIRPath writes a dateTime that knows its year only.
        let (date, clock) = text.split_once('T').unwrap_or((text, ""));
        let (year, month, day) = read_date(date)?;
        let date = [Some(i64::from(year)), month.map(i64::from), day.map(i64::from)];
        let Some((clock, offset)) = split_offset(clock) else { return Some(Self::of(date, [None; 3])) };
        let [hour, minute, second] = read_clock(clock)?;
        let minutes = hour? * 60 + minute.unwrap_or(0) - offset;
        let date = Date::from_calendar_date(year, Month::try_from(month?).ok()?, day?).ok()?;
        let date = date.checked_add(Duration::days(minutes.div_euclid(DAY)))?;
        let date = [Some(date.year().into()), Some(u8::from(date.month()).into()), Some(date.day().into())];
        let minutes = minutes.rem_euclid(DAY);
        Some(Self::of(date, [Some(minutes / 60), minute.map(|_| minutes % 60), second]))
    }

    /// Reads `08`, `08:00` or `08:00:00.5`.
    pub(in crate::deid) fn time(text: &str) -> Option<Self> {
        Some(Self { is_time: true, ..Self::of([Some(0); 3], read_clock(text)?) })
    }

    fn of([year, month, day]: [Option<i64>; 3], [hour, minute, second]: [Option<i64>; 3]) -> Self {
        Self { is_time: false, parts: [year, month, day, hour, minute, second] }
    }

    /// Which of the two is later; `None` where that depends on what one of them does not say.
    pub(in crate::deid) fn compare(&self, other: &Self) -> Option<Ordering> {
        for (one, other) in self.parts.iter().zip(&other.parts) {
            match (one, other) {
                (Some(one), Some(other)) if one == other => {}
                (Some(one), Some(other)) => return Some(one.cmp(other)),
                (None, None) => return Some(Ordering::Equal),
                (Some(_), None) | (None, Some(_)) => return None,
            }
        }
        Some(Ordering::Equal)
    }

    /// Whether both have a date, or neither.
    pub(in crate::deid) fn is_like(&self, other: &Self) -> bool {
        self.is_time == other.is_time
    }
}

/// A day in minutes.
const DAY: i64 = 24 * 60;

/// Year, and month and day where they are written; `None` of what is no date of the calendar.
pub(in crate::deid) fn read_date(text: &str) -> Option<(i32, Option<u8>, Option<u8>)> {
    let mut parts = text.split('-');
    let year = i32::try_from(digits(parts.next()?, 4)?).ok().filter(|year| *year > 0)?;
    let Some(month) = parts.next() else { return Some((year, None, None)) };
    let month = Month::try_from(u8::try_from(digits(month, 2)?).ok()?).ok()?;
    let Some(day) = parts.next() else { return Some((year, Some(month.into()), None)) };
    let day = u8::try_from(digits(day, 2)?).ok()?;
    let is_sound = parts.next().is_none() && (1..=month.length(year)).contains(&day);
    is_sound.then_some((year, Some(month.into()), Some(day)))
}

/// Takes `Z` or `+01:00` off a time and gives it in minutes; `None` where there is no time.
fn split_offset(clock: &str) -> Option<(&str, i64)> {
    if clock.is_empty() {
        return None;
    }
    let Some(at) = clock.rfind(['Z', '+', '-']) else { return Some((clock, 0)) };
    let (clock, offset) = clock.split_at_checked(at)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let minutes = match offset.get(1..).and_then(|offset| offset.split_once(':')) {
        Some((hours, minutes)) => digits(hours, 2).zip(digits(minutes, 2)).map_or(0, |(hours, minutes)| hours * 60 + minutes),
        None => 0,
    };
    Some((clock, sign * minutes))
}

/// Hour, minute and second in nanoseconds.
fn read_clock(text: &str) -> Option<[Option<i64>; 3]> {
    let mut parts = text.split(':');
    let hour = digits(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = match parts.next() {
        Some(minute) => Some(digits(minute, 2).filter(|minute| *minute < 60)?),
        None => None,
    };
    let second = match parts.next() {
        Some(second) => {
            let (whole, fraction) = second.split_once('.').unwrap_or((second, "0"));
            let nanos: String = fraction.chars().chain("000000000".chars()).take(9).collect();
            Some(digits(whole, 2).filter(|second| *second <= 60)? * 1_000_000_000 + digits(&nanos, 9)?)
        }
        None => None,
    };
    parts.next().is_none().then_some([Some(hour), minute, second])
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(one: &str, other: &str) -> Option<Ordering> {
        Moment::date_time(one).unwrap().compare(&Moment::date_time(other).unwrap())
    }

    #[test]
    fn what_is_not_written_may_leave_the_order_open() {
        assert_eq!(compared("1990", "1990-01-01"), None);
        assert_eq!(compared("2000", "1990-01-01"), Some(Ordering::Greater));
        assert_eq!(compared("2010-01-01", "2010-01-01T00:00:00+08:00"), Some(Ordering::Greater), "it is still 2009 in UTC");
        assert_eq!(compared("2009-12-31T16:00:00Z", "2010-01-01T00:00:00+08:00"), Some(Ordering::Equal));
        assert_eq!(compared("2010-01-01T10:00:00.50Z", "2010-01-01T10:00:00.5Z"), Some(Ordering::Equal));
        assert_eq!(compared("2010-01-01T10:00Z", "2010-01-01T10:00:00Z"), None);
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in ["", "20", "2020-1-1", "2020-13", "2021-02-29", "0000", "2020-01-01T25:00:00Z", "2020-01T10:00:00Z", "2020-01-01-01"] {
            assert_eq!(Moment::date_time(text), None, "{text}");
        }
        for text in ["", "8:00", "08:60", "08:00:61", "08:00:00:00"] {
            assert_eq!(Moment::time(text), None, "{text}");
        }
    }
}
