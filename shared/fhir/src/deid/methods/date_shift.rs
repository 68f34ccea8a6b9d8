//! `dateShift`: moves dates by a number of days that a key and an id determine.

use time::{Date, Duration, Month};

use super::age_limit::AgeLimit;
use crate::deid::fhirpath::{parse_date, split_date_offset};

/// The maximum offset of a date in days, in either direction.
pub(super) const MAX_DAYS: i64 = 50;

const MULTIPLIER: i64 = 131;
const MODULUS: i64 = 2 * MAX_DAYS + 1;

/// A prepared date shift key: the polynomial hash of an id followed by the key is `hash(id) * factor + sum`.
#[derive(Clone, Copy)]
pub(in crate::deid) struct DateShiftKey {
    factor: i64,
    sum: i64,
}

impl DateShiftKey {
    /// Precomputes what the date shift key contributes to the hash of every id.
    pub(in crate::deid) fn new(key: &str) -> Self {
        Self { factor: key.bytes().fold(1, |factor, _| factor * MULTIPLIER % MODULUS), sum: polynomial_hash(key) }
    }

    /// Returns the offset in days for the dates of an id.
    ///
    /// Microsoft's tool computes the same: a polynomial hash of the id's bytes followed by those of the key. With the same
    /// key both move dates alike.
    pub(in crate::deid) fn offset_days(self, id: &str) -> i64 {
        (polynomial_hash(id) * self.factor + self.sum) % MODULUS - MAX_DAYS
    }
}

/// Returns the polynomial hash of a text's bytes.
fn polynomial_hash(text: &str) -> i64 {
    // The sum over eight bytes does not overflow, so one division suffices for them.
    text.as_bytes().chunks(8).fold(0, |sum, bytes| bytes.iter().fold(sum, |sum, byte| sum * MULTIPLIER + i64::from(*byte)) % MODULUS)
}

/// The outcome of shifting a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::deid) enum ShiftedDate {
    /// The shifted date was appended.
    Appended,
    /// The date can reveal an age over 89.
    OverMaxAge,
    /// The value has no day, is not a date, or would leave the calendar.
    NotPossible,
}

/// Appends a date or dateTime moved by `days`, with all digits of its time set to zero and its time zone unchanged. Appends nothing if that
/// is not allowed or not possible.
pub(in crate::deid) fn shift_date(value: &str, days: i64, age_limit: AgeLimit, out: &mut String) -> ShiftedDate {
    // Only a date with a day can be shifted. It has ten bytes.
    let at_time = value.split_at_checked(10).and_then(|(date, rest)| Some((date, rest.strip_prefix('T')?)));
    // The offset of a date without a time is dropped.
    let (date, time) = at_time.map_or_else(|| (split_date_offset(value).0, None), |(date, time)| (date, Some(time)));
    let Some(shifted) = shifted_date(date, days) else { return ShiftedDate::NotPossible };
    if age_limit.removes_date(shifted) {
        return ShiftedDate::OverMaxAge;
    }
    out.push_str(std::str::from_utf8(&date_digits(shifted)).unwrap_or_default());
    // An invalid time could hold anything, so it is dropped.
    if let Some((fraction, zone)) = time.and_then(split_fraction_and_zone) {
        out.push_str("T00:00:00");
        out.extend(fraction.bytes().map(|byte| if byte == b'.' { '.' } else { '0' }));
        out.push_str(zone);
    }
    ShiftedDate::Appended
}

/// Returns a date moved by `days`; `None` if that is not possible.
fn shifted_date(date: &str, days: i64) -> Option<Date> {
    let (year, month, day) = parse_date(date)?;
    let date = Date::from_calendar_date(year, Month::try_from(month?).ok()?, day?).ok()?;
    date.checked_add(Duration::days(days)).filter(|shifted| (1..=9999).contains(&shifted.year()))
}

/// Returns a date of the years 1 to 9999 as `2015-02-07`.
fn date_digits(date: Date) -> [u8; 10] {
    let year = date.year().unsigned_abs();
    let pair = |number: u8| [b'0' + number / 10 % 10, b'0' + number % 10];
    let year_pair = |number: u32| pair(u8::try_from(number % 100).unwrap_or_default());
    let ([a, b], [c, d], [e, f], [g, h]) = (year_pair(year / 100), year_pair(year), pair(date.month().into()), pair(date.day()));
    [a, b, c, d, b'-', e, f, b'-', g, h]
}

/// Returns the fraction of a second (`.123` or empty) and the time zone (`Z` or `+01:00`) of a FHIR time, or `None` if the
/// time is invalid.
fn split_fraction_and_zone(time: &str) -> Option<(&str, &str)> {
    let [b'0'..=b'9', b'0'..=b'9', b':', b'0'..=b'9', b'0'..=b'9', b':', b'0'..=b'9', b'0'..=b'9', rest @ ..] = time.as_bytes() else {
        return None;
    };
    let (_, rest) = time.split_at_checked(time.len() - rest.len())?;
    let (fraction, zone) = rest.split_at_checked(rest.find(['Z', '+', '-'])?)?;
    let is_fraction = match fraction.as_bytes() {
        [] => true,
        [b'.', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        [_, ..] => false,
    };
    let is_zone = matches!(zone.as_bytes(), [b'Z'] | [b'+' | b'-', b'0'..=b'9', b'0'..=b'9', b':', b'0'..=b'9', b'0'..=b'9']);
    (is_fraction && is_zone).then_some((fraction, zone))
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    const TODAY: Date = date!(2026 - 11 - 21);

    /// Returns a shifted date; `None` if it is not shifted.
    fn shifted(value: &str, days: i64) -> Option<String> {
        let mut out = String::new();
        let is_shifted = shift_date(value, days, AgeLimit::new(TODAY, None), &mut out) == ShiftedDate::Appended;
        is_shifted.then_some(out)
    }

    #[test]
    fn an_offset_depends_on_the_id_followed_by_the_key() {
        for (id, key) in [("", ""), ("", "dummy"), ("a", ""), ("patient-1", "key"), ("ÆŊŋ", "ßſ♫∅")] {
            assert_eq!(DateShiftKey::new(key).offset_days(id), DateShiftKey::new("").offset_days(&format!("{id}{key}")), "{id} {key}");
        }
    }

    #[test]
    fn an_invalid_time_is_dropped() {
        for time in ["13:28Z", "13:28:17", "13:28:17.Z", "13:28:17+0100", "1x:28:17Z", "secret"] {
            assert_eq!(shifted(&format!("2015-02-07T{time}"), 1).as_deref(), Some("2015-02-08"), "{time}");
        }
    }

    #[test]
    fn a_date_does_not_leave_the_calendar() {
        assert_eq!(shifted("9999-12-31", 1), None);
        assert_eq!(shifted("9999-12-31", -1).as_deref(), Some("9999-12-30"));
        assert_eq!(shifted("2015-02-30", 1), None);
        assert_eq!(shifted("no date", 1), None);
        for value in ["2015T02-07", "2015-02-07 T13:28:17Z", "2015-02T13:28:17Z", "T2015-02-07", "T"] {
            assert_eq!(shifted(value, 1), None, "{value}");
        }
        assert_eq!(shifted("2015-02-07Z", 1).as_deref(), Some("2015-02-08"));
    }
}
