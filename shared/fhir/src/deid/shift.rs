//! `dateShift`: dates moved by a number of days that a key and a name decide.

use time::{Date, Duration, Month};

use super::fhirpath::read_date;
use super::redact::is_too_old;

/// The furthest that a date moves, either way.
const RANGE: i64 = 50;

/// A key, prepared: what it adds to the sum of any name before it.
#[derive(Clone, Copy)]
pub(super) struct ShiftKey {
    factor: i64,
    sum: i64,
}

const STEP: i64 = 131;
const MODULUS: i64 = 2 * RANGE + 1;

impl ShiftKey {
    pub(super) fn new(key: &str) -> Self {
        Self { factor: key.bytes().fold(1, |factor, _| factor * STEP % MODULUS), sum: sum(key) }
    }

    /// By how many days the dates move that belong to `name`.
    ///
    /// The arithmetic is that of the tool that the format comes from, so that with one key both move dates alike: a sum
    /// over the bytes of the name and those of the key behind it.
    pub(super) fn days(self, name: &str) -> i64 {
        (sum(name) * self.factor + self.sum) % MODULUS - RANGE
    }
}

fn sum(text: &str) -> i64 {
    text.bytes().fold(0, |sum, byte| (sum * STEP + i64::from(byte)) % MODULUS)
}

/// The moment on its new day, its time all zeros and its time zone as it was. `None` where no day is written, where the
/// date tells an age that may not be told, and beyond the calendar.
pub(super) fn shift(value: &str, days: i64, today: Date) -> Option<String> {
    let (date, clock) = value.split_once('T').map_or((value, None), |(date, clock)| (date, Some(clock)));
    let (year, month, day) = read_date(date)?;
    let (Some(month), Some(day)) = (month, day) else { return None };
    if is_too_old(year, Some(month), Some(day), today) {
        return None;
    }
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    let moved = date.checked_add(Duration::days(days)).filter(|moved| (1..=9999).contains(&moved.year()))?;
    let mut text = String::with_capacity(value.len());
    put_digits(moved.year().unsigned_abs(), 1000, &mut text);
    text.push('-');
    put_digits(u8::from(moved.month()).into(), 10, &mut text);
    text.push('-');
    put_digits(moved.day().into(), 10, &mut text);
    // Of a time that is not FHIR's nothing stays.
    if let Some((fraction, zone)) = clock.and_then(fraction_and_zone) {
        text.push_str("T00:00:00");
        text.extend(fraction.bytes().map(|byte| if byte == b'.' { '.' } else { '0' }));
        text.push_str(zone);
    }
    Some(text)
}

/// Appends the digits of a number; `highest` is what the first of them counts.
fn put_digits(number: u32, mut highest: u32, text: &mut String) {
    while highest > 0 {
        text.push(char::from_digit(number / highest % 10, 10).unwrap_or_default());
        highest /= 10;
    }
}

/// What stands behind the seconds: `.123`, or nothing, and `Z` or `+01:00`. `None` of what is no time of FHIR's.
fn fraction_and_zone(clock: &str) -> Option<(&str, &str)> {
    let [b'0'..=b'9', b'0'..=b'9', b':', b'0'..=b'9', b'0'..=b'9', b':', b'0'..=b'9', b'0'..=b'9', behind @ ..] = clock.as_bytes() else {
        return None;
    };
    let (_, behind) = clock.split_at_checked(clock.len() - behind.len())?;
    let (fraction, zone) = behind.split_at_checked(behind.find(['Z', '+', '-'])?)?;
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

    #[test]
    fn a_name_moves_dates_as_if_the_key_stood_behind_it() {
        for (name, key) in [("", ""), ("", "dummy"), ("a", ""), ("patient-1", "key"), ("ÆŊŋ", "ßſ♫∅")] {
            assert_eq!(ShiftKey::new(key).days(name), ShiftKey::new("").days(&format!("{name}{key}")), "{name} {key}");
        }
    }

    #[test]
    fn what_is_no_time_of_fhirs_leaves_the_day_only() {
        for clock in ["13:28Z", "13:28:17", "13:28:17.Z", "13:28:17+0100", "1x:28:17Z", "secret"] {
            assert_eq!(shift(&format!("2015-02-07T{clock}"), 1, TODAY).as_deref(), Some("2015-02-08"), "{clock}");
        }
    }

    #[test]
    fn beyond_the_calendar_nothing_moves() {
        assert_eq!(shift("9999-12-31", 1, TODAY), None);
        assert_eq!(shift("9999-12-31", -1, TODAY).as_deref(), Some("9999-12-30"));
        assert_eq!(shift("2015-02-30", 1, TODAY), None);
        assert_eq!(shift("no date", 1, TODAY), None);
    }
}
