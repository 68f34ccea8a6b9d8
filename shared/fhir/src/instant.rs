//! The FHIR type `instant`.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// The first instant that FHIR can represent.
const FIRST: OffsetDateTime = datetime!(0001-01-01 00:00 UTC);

/// The last instant that FHIR can represent.
const LAST: OffsetDateTime = datetime!(9999-12-31 23:59:59.999_999_999 UTC);

/// An instant in nanoseconds since 1970 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instant(i128);

/// The error for a text that is not a FHIR instant, dateTime or date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a FHIR instant such as 2026-01-31T08:00:00Z, and not a date such as 2026-01-31, 2026-01 or 2026")]
pub struct InvalidInstant;

impl Instant {
    /// Parses a FHIR `instant`, `dateTime` or `date`.
    ///
    /// * A partial date means its start: `2026-01` is `2026-01-01T00:00:00Z`.
    /// * Seconds and time zone are optional. The default time zone is UTC. Up to nine fractional digits of a second are used.
    /// * An offset may lack its colon or its minutes: `+0100` and `+01` are `+01:00`, as in ISO 8601.
    /// * A space before an offset is read as a plus sign that was not percent-encoded in a query string.
    pub fn parse(text: &str) -> Result<Self, InvalidInstant> {
        if let Some(instant) = parse_usual_form(text.as_bytes()) {
            return Ok(instant);
        }
        if let Ok(date_time) = OffsetDateTime::parse(text, &Rfc3339) {
            return Self::from_date_time(date_time);
        }
        if !text.is_ascii() {
            return Err(InvalidInstant);
        }
        let (date, clock) = match text.split_once('T') {
            Some((date, clock)) if date.len() == 10 => (parse_date(date)?, parse_clock(clock)?),
            Some(_) => return Err(InvalidInstant),
            None => (parse_date(text)?, (Time::MIDNIGHT, UtcOffset::UTC)),
        };
        Self::from_date_time(PrimitiveDateTime::new(date, clock.0).assume_offset(clock.1))
    }

    /// Creates an instant within the years 0001 to 9999 of FHIR. In UTC, an offset can move a date out of these years.
    fn from_date_time(date_time: OffsetDateTime) -> Result<Self, InvalidInstant> {
        Self::from_nanos(date_time.unix_timestamp_nanos()).ok_or(InvalidInstant)
    }

    /// Creates an instant from nanoseconds since 1970 UTC. `None` outside the years 0001 to 9999.
    fn from_nanos(nanos: i128) -> Option<Self> {
        let calendar = FIRST.unix_timestamp_nanos()..=LAST.unix_timestamp_nanos();
        calendar.contains(&nanos).then_some(Self(nanos))
    }

    /// Creates an instant from milliseconds since 1970 UTC. A time after the year 9999 becomes the last instant of that year.
    pub fn from_millis(millis: u64) -> Self {
        Self::try_from_millis(millis).unwrap_or(Self(LAST.unix_timestamp_nanos()))
    }

    /// Creates an instant from milliseconds since 1970 UTC. `None` after the year 9999.
    pub fn try_from_millis(millis: u64) -> Option<Self> {
        Self::from_nanos(i128::from(millis) * 1_000_000)
    }

    /// Returns whole milliseconds since 1970 UTC, rounded down. `None` before 1970.
    pub fn millis(self) -> Option<u64> {
        u64::try_from(self.0.div_euclid(1_000_000)).ok()
    }

    /// Returns nanoseconds since 1970 UTC. Instants before 1677 or after 2262 are clamped to the range of `i64` without its two extreme
    /// values, which therefore can stand for a time that is not known.
    pub fn nanos(self) -> i64 {
        i64::try_from(self.0.clamp((i64::MIN + 1).into(), (i64::MAX - 1).into())).unwrap_or_default()
    }
}

impl fmt::Display for Instant {
    /// Writes a FHIR instant in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date_time = OffsetDateTime::from_unix_timestamp_nanos(self.0).map_err(|_| fmt::Error)?;
        f.write_str(&date_time.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Instant {
    type Error = InvalidInstant;
    fn try_from(text: String) -> Result<Self, InvalidInstant> {
        Self::parse(&text)
    }
}

impl From<Instant> for String {
    fn from(instant: Instant) -> Self {
        instant.to_string()
    }
}

/// Parses the form that nearly all servers write: `2026-01-31T08:00:00Z`, with or without milliseconds. Returns `None` for any other
/// text, valid or not. Each line of a lake has such a time, and a general parser takes several times as long.
fn parse_usual_form(text: &[u8]) -> Option<Instant> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, rest @ ..] = text else { return None };
    let millis = match rest {
        [b'Z'] => 0,
        [b'.', f1, f2, f3, b'Z'] => number(&[*f1, *f2, *f3])?,
        _ => return None,
    };
    let (year, month, day) = (number(&[*y1, *y2, *y3, *y4])?, number(&[*m1, *m2])?, number(&[*d1, *d2])?);
    let (hour, minute, second) = (number(&[*h1, *h2])?, number(&[*n1, *n2])?, number(&[*s1, *s2])?);
    let is_leap_year = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap_year),
        _ => 31,
    };
    let is_date = year >= 1 && (1..=12).contains(&month) && (1..=days_in_month).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years begin with March here, so that a leap day is the last of its year. 719,468 days pass from then to 1970.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 1 - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(Instant(i128::from(seconds * 1_000 + millis) * 1_000_000))
}

/// Returns the number that some decimal digits form.
fn number<const N: usize>(digits: &[u8; N]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Parses `YYYY`, `YYYY-MM` or `YYYY-MM-DD`.
fn parse_date(text: &str) -> Result<Date, InvalidInstant> {
    let mut parts = text.split('-');
    let year = parts.next().map(|part| parse_digits(part, 4)).transpose()?.ok_or(InvalidInstant)?;
    let month = parts.next().map_or(Ok(1), |part| parse_digits(part, 2))?;
    let day = parts.next().map_or(Ok(1), |part| parse_digits(part, 2))?;
    if parts.next().is_some() {
        return Err(InvalidInstant);
    }
    let month = u8::try_from(month).ok().and_then(|month| Month::try_from(month).ok()).ok_or(InvalidInstant)?;
    let day = u8::try_from(day).map_err(|_| InvalidInstant)?;
    Date::from_calendar_date(i32::from(year), month, day).map_err(|_| InvalidInstant)
}

/// Parses `hh:mm[:ss[.fraction]][zone]` with a zone `Z`, `+hh:mm`, `+hhmm`, `+hh`, and the same with `-` or a space.
fn parse_clock(text: &str) -> Result<(Time, UtcOffset), InvalidInstant> {
    let (clock, zone) = match text.find(['Z', '+', '-', ' ']) {
        Some(at) => text.split_at_checked(at).ok_or(InvalidInstant)?,
        None => (text, "Z"),
    };
    let mut zone = zone.replacen(' ', "+", 1);
    match zone.len() {
        3 => zone.push_str(":00"),
        5 => zone.insert(3, ':'),
        _ => {}
    }
    let seconds = if clock.matches(':').count() == 1 { ":00" } else { "" };
    let whole = OffsetDateTime::parse(&format!("2000-01-01T{clock}{seconds}{zone}"), &Rfc3339).map_err(|_| InvalidInstant)?;
    Ok((whole.time(), whole.offset()))
}

/// Parses a number of exactly `count` digits.
fn parse_digits(part: &str, count: usize) -> Result<u16, InvalidInstant> {
    if part.len() != count || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidInstant);
    }
    part.parse().map_err(|_| InvalidInstant)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Generates instants in nanoseconds and their FHIR texts.
    fn instants() -> impl Strategy<Value = (i128, String)> {
        let clock = (0_u8..24, 0_u8..60, 0_u8..60, 0_u32..1_000_000_000, 0_usize..10);
        let year = prop_oneof![4 => 0_i32..10_000, 1 => Just(0), 1 => Just(9_999)];
        let month = prop_oneof![2 => 1_u8..13, 1 => Just(1), 1 => Just(12)];
        ((year, month, prop_oneof![1_u8..29, Just(1)]), clock, -14_i32 * 60..14 * 60 + 1).prop_map(
            |((year, month, day), (hour, minute, second, nanos, digits), zone)| {
                let fraction = format!("{nanos:09}");
                let kept = &fraction[..digits];
                let nanos: i128 = format!("{kept:0<9}").parse().unwrap();
                let sign = if zone < 0 { '-' } else { '+' };
                let point = if digits == 0 { "" } else { "." };
                let text = format!(
                    "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{point}{kept}{sign}{:02}:{:02}",
                    zone.abs() / 60,
                    zone.abs() % 60,
                );
                let date = Date::from_calendar_date(year, Month::try_from(month).unwrap(), day).unwrap();
                let days = i128::from(date.to_julian_day() - 2_440_588);
                let minutes = i128::from(hour) * 60 + i128::from(minute) - i128::from(zone);
                ((days * 86_400 + minutes * 60 + i128::from(second)) * 1_000_000_000 + nanos, text)
            },
        )
    }

    #[test]
    fn the_usual_form_is_read_like_any_other() {
        let general = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok().and_then(|time| Instant::from_date_time(time).ok());
        for year in [0, 1, 4, 100, 400, 1600, 1899, 1900, 1969, 1970, 1999, 2000, 2023, 2024, 2100, 9999] {
            for (month, day) in (0..=13).flat_map(|month| (0..=32).map(move |day| (month, day))) {
                let text = format!("{year:04}-{month:02}-{day:02}T23:59:58.123Z");
                assert_eq!(parse_usual_form(text.as_bytes()), general(&text), "{text}");
            }
        }
        for (clock, is_usual) in [
            ("00:00:00Z", true),
            ("23:59:59.000Z", true),
            ("24:00:00Z", false),
            ("23:60:00Z", false),
            ("23:59:60Z", false),
            ("1x:00:00Z", false),
            ("10:00:00.1234Z", false),
            ("10:00:00.Z", false),
            ("10:00:00.12aZ", false),
            ("10:00:00+00:00", false),
        ] {
            let text = format!("2026-01-31T{clock}");
            let usual = parse_usual_form(text.as_bytes());
            assert_eq!(usual.is_some(), is_usual, "{text}");
            assert!(usual.is_none() || usual == general(&text), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn instants_are_ordered_by_time_and_parsed_back_from_their_text(one in instants(), other in instants()) {
            let read = |(_, text): &(i128, String)| Instant::parse(text);
            if let (Ok(first), Ok(second)) = (read(&one), read(&other)) {
                prop_assert_eq!(first.cmp(&second), one.0.cmp(&other.0));
                prop_assert_eq!(Instant::parse(&first.to_string()), Ok(first));
            }
            // An offset can leave the calendar only at its ends.
            let is_inside = one.1.as_str() > "0001-01-03" && one.1.as_str() < "9999-12-31";
            prop_assert!(!is_inside || read(&one).is_ok(), "{}", one.1);
        }

        #[test]
        fn a_partial_date_is_the_start_of_its_period(year in 1_u16..10_000, month in 1_u8..13, day in 1_u8..29) {
            let parse = |text: String| Instant::parse(&text).unwrap();
            prop_assert_eq!(parse(format!("{year:04}")), parse(format!("{year:04}-01-01T00:00:00Z")));
            prop_assert_eq!(parse(format!("{year:04}-{month:02}")), parse(format!("{year:04}-{month:02}-01T00:00:00Z")));
            let whole = parse(format!("{year:04}-{month:02}-{day:02}"));
            prop_assert_eq!(whole, parse(format!("{year:04}-{month:02}-{day:02}T00:00:00.000Z")));
            let in_order = [parse(format!("{year:04}")), parse(format!("{year:04}-{month:02}")), whole];
            prop_assert!(in_order.is_sorted());
        }

        #[test]
        fn no_text_causes_a_panic(text in "[0-9T:Z.+ -]{0,32}|\\PC{0,20}") {
            if let Ok(instant) = Instant::parse(&text) {
                prop_assert_eq!(Instant::parse(&instant.to_string()), Ok(instant));
            }
        }
    }

    #[test]
    fn an_offset_cannot_leave_the_calendar() {
        for text in
            ["0001-01-01T00:00:00+00:01", "0000-01-01T00:00:00Z", "0000", "9999-12-31T23:59:59.999-00:01", "0000-01-01T00:00:00+01:00"]
        {
            assert_eq!(Instant::parse(text), Err(InvalidInstant), "{text}");
        }
        for text in ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"] {
            assert_eq!(Instant::parse(text).map(|instant| instant.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn milliseconds_after_the_calendar_become_its_last_instant() {
        let last = Instant::parse("9999-12-31T23:59:59.999Z").unwrap();
        assert_eq!((last.millis(), Instant::try_from_millis(253_402_300_799_999)), (Some(253_402_300_799_999), Some(last)));
        for millis in [253_402_300_800_000, u64::MAX] {
            assert_eq!(Instant::try_from_millis(millis), None);
            assert_eq!(Instant::from_millis(millis).to_string(), "9999-12-31T23:59:59.999999999Z");
        }
    }

    #[test]
    fn nanoseconds_leave_both_extreme_values_to_unknown_times() {
        let nanos = |text| Instant::parse(text).unwrap().nanos();
        assert_eq!([nanos("0001"), nanos("9999-12-31")], [i64::MIN + 1, i64::MAX - 1]);
        assert_eq!(Instant::parse("1969-12-31T23:59:59Z").unwrap().millis(), None);
    }

    #[test]
    fn all_spellings_of_an_instant_are_equal() {
        let expected = Instant::from_millis(1_420_070_400_000);
        for text in [
            "2015-01-01T00:00:00Z",
            "2015-01-01T00:00:00.000Z",
            "2015-01-01T01:00:00+01:00",
            "2015-01-01T01:00:00 01:00",
            "2015-01-01T01:00:00+0100",
            "2015-01-01T00:00:00.000+0000",
            "2015-01-01T00:00:00+00",
            "2014-12-31T19:00:00-0500",
            "2014-12-31T19:00:00.000-05:00",
            "2015-01-01T00:00Z",
            "2015-01-01T00:00:00",
            "2015-01-01",
            "2015-01",
            "2015",
        ] {
            assert_eq!(Instant::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn fractions_of_a_second_are_compared() {
        let earlier = Instant::parse("2015-01-01T00:00:00.123456788Z").unwrap();
        let later = Instant::parse("2015-01-01T00:00:00.123456789Z").unwrap();
        assert!(earlier < later);
    }

    #[test]
    fn an_instant_is_parsed_back_from_its_text() {
        let instant = Instant::parse("2015-01-01T00:00:00.123456789+05:00").unwrap();
        assert_eq!(Instant::parse(&instant.to_string()), Ok(instant));
    }

    #[test]
    fn an_invalid_instant_is_rejected() {
        for text in [
            "",
            "now",
            "0000-60-01T30:70:80+05:00",
            "2015-13",
            "2015-02-30",
            "15-01-01",
            "2015-1-1",
            "2015-01-01T",
            "2015-01-01T25:00:00Z",
            "2015-01-01T00:00:00+99:00",
            "2015-01T00:00:00Z",
            "2015-01-01T00:00:00Zjunk",
            "２０１５",
            "2015-01-01T00:00:00+1:00",
        ] {
            assert_eq!(Instant::parse(text), Err(InvalidInstant), "{text}");
        }
    }
}
