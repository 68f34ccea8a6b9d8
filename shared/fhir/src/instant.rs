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
        let nanos = date_time.unix_timestamp_nanos();
        let calendar = FIRST.unix_timestamp_nanos()..=LAST.unix_timestamp_nanos();
        if calendar.contains(&nanos) { Ok(Self(nanos)) } else { Err(InvalidInstant) }
    }

    /// Creates an instant from milliseconds since 1970 UTC.
    pub fn from_millis(millis: u64) -> Self {
        Self(i128::from(millis) * 1_000_000)
    }

    /// Returns nanoseconds since 1970 UTC. Instants before 1677 or after 2262 are clamped to the range of `i64`.
    pub fn nanos(self) -> i64 {
        i64::try_from(self.0.clamp(i64::MIN.into(), i64::MAX.into())).unwrap_or_default()
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
