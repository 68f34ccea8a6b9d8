//! Moments as FHIR writes them.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// A moment in time, in nanoseconds since 1970 UTC. Ordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instant(i128);

/// The text is not a FHIR instant, dateTime or date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a FHIR instant such as 2026-01-31T08:00:00Z, and not a date such as 2026-01-31, 2026-01 or 2026")]
pub struct InvalidInstant;

impl Instant {
    /// Reads a FHIR `instant`, `dateTime` or `date`.
    ///
    /// * A partial date means its first moment: `2026-01` is `2026-01-01T00:00:00Z`.
    /// * Seconds and zone may be missing (no zone is UTC); up to nine digits of a second's fraction count.
    /// * A blank where the zone's `+` belongs is that plus sign: it was not percent-encoded in a query string.
    pub fn parse(text: &str) -> Result<Self, InvalidInstant> {
        if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
            return Ok(Self(moment.unix_timestamp_nanos()));
        }
        if !text.is_ascii() {
            return Err(InvalidInstant);
        }
        let (date, clock) = match text.split_once('T') {
            Some((date, clock)) if date.len() == 10 => (parse_date(date)?, parse_clock(clock)?),
            Some(_) => return Err(InvalidInstant),
            None => (parse_date(text)?, (Time::MIDNIGHT, UtcOffset::UTC)),
        };
        let moment = PrimitiveDateTime::new(date, clock.0).assume_offset(clock.1);
        Ok(Self(moment.unix_timestamp_nanos()))
    }

    /// The moment this many milliseconds after 1970 UTC.
    pub fn from_millis(millis: u64) -> Self {
        Self(i128::from(millis) * 1_000_000)
    }
}

impl fmt::Display for Instant {
    /// As a FHIR instant in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(self.0).map_err(|_| fmt::Error)?;
        f.write_str(&moment.format(&Rfc3339).map_err(|_| fmt::Error)?)
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
    fn from(moment: Instant) -> Self {
        moment.to_string()
    }
}

/// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`.
fn parse_date(text: &str) -> Result<Date, InvalidInstant> {
    let mut pieces = text.split('-');
    let year = pieces.next().map(|piece| digits(piece, 4)).transpose()?.ok_or(InvalidInstant)?;
    let month = pieces.next().map_or(Ok(1), |piece| digits(piece, 2))?;
    let day = pieces.next().map_or(Ok(1), |piece| digits(piece, 2))?;
    if pieces.next().is_some() {
        return Err(InvalidInstant);
    }
    let month = u8::try_from(month).ok().and_then(|month| Month::try_from(month).ok()).ok_or(InvalidInstant)?;
    let day = u8::try_from(day).map_err(|_| InvalidInstant)?;
    Date::from_calendar_date(i32::from(year), month, day).map_err(|_| InvalidInstant)
}

/// `hh:mm[:ss[.fraction]][zone]`, the zone `Z`, `+hh:mm`, `-hh:mm` or ` hh:mm`.
fn parse_clock(text: &str) -> Result<(Time, UtcOffset), InvalidInstant> {
    let (clock, zone) = match text.find(['Z', '+', '-', ' ']) {
        Some(at) => text.split_at_checked(at).ok_or(InvalidInstant)?,
        None => (text, "Z"),
    };
    let zone = zone.replacen(' ', "+", 1);
    let seconds = if clock.matches(':').count() == 1 { ":00" } else { "" };
    let whole = OffsetDateTime::parse(&format!("2000-01-01T{clock}{seconds}{zone}"), &Rfc3339).map_err(|_| InvalidInstant)?;
    Ok((whole.time(), whole.offset()))
}

fn digits(piece: &str, count: usize) -> Result<u16, InvalidInstant> {
    if piece.len() != count || !piece.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidInstant);
    }
    piece.parse().map_err(|_| InvalidInstant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_one_moment_is_that_moment() {
        let expected = Instant::from_millis(1_420_070_400_000);
        for text in [
            "2015-01-01T00:00:00Z",
            "2015-01-01T00:00:00.000Z",
            "2015-01-01T01:00:00+01:00",
            "2015-01-01T01:00:00 01:00",
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
    fn fractions_order_moments() {
        let earlier = Instant::parse("2015-01-01T00:00:00.123456788Z").unwrap();
        let later = Instant::parse("2015-01-01T00:00:00.123456789Z").unwrap();
        assert!(earlier < later);
    }

    #[test]
    fn a_moment_survives_its_text() {
        let moment = Instant::parse("2015-01-01T00:00:00.123456789+05:00").unwrap();
        assert_eq!(Instant::parse(&moment.to_string()), Ok(moment));
    }

    #[test]
    fn what_is_not_a_moment_is_refused() {
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
