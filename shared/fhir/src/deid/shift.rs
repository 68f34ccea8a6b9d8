//! `dateShift`: dates moved by a number of days that a key and a name decide.

use time::{Date, Duration, Month};

use super::fhirpath::read_date;
use super::redact::is_too_old;

/// The furthest that a date moves, either way.
const RANGE: i64 = 50;

/// A key, prepared: what it adds to the sum of any name before it.
#[derive(Clone, Copy, Debug)]
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
    let mut text = format!("{:04}-{:02}-{:02}", moved.year(), u8::from(moved.month()), moved.day());
    // Of a time that is not FHIR's nothing stays.
    if let Some((time, zone)) = clock.and_then(time_and_zone) {
        text.push('T');
        text.extend(time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }));
        text.push_str(zone);
    }
    Some(text)
}

/// `08:00:00.123` and `Z` or `+01:00`.
fn time_and_zone(clock: &str) -> Option<(&str, &str)> {
    let (time, zone) = clock.split_at_checked(clock.find(['Z', '+', '-'])?)?;
    let mut form = time.bytes();
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let is_time = b"00:00:00".iter().all(|wanted| match (wanted, form.next()) {
        (b':', Some(byte)) => byte == b':',
        (_, Some(byte)) => is_digit(byte),
        (_, None) => false,
    });
    let is_fraction = match form.next() {
        None => true,
        Some(point) => point == b'.' && form.len() > 0 && form.all(is_digit),
    };
    let is_offset = |offset: &str| match offset.as_bytes() {
        [hour @ .., b':', minute, unit] => hour.len() == 2 && hour.iter().chain([minute, unit]).all(u8::is_ascii_digit),
        _ => false,
    };
    let is_zone = zone == "Z" || zone.get(1..).is_some_and(is_offset);
    (is_time && is_fraction && is_zone).then_some((time, zone))
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
