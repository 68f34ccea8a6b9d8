//! Points in time.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use headrace_fhir::instant::Instant;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

/// The last millisecond that FHIR can represent: 9999-12-31T23:59:59.999Z.
const LAST_MILLIS: u64 = 253_402_300_799_999;

/// A point in time, in milliseconds since 1970-01-01 UTC. The job table stores it as this number; clients see it as a FHIR
/// `instant` with three fractional digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// Returns the UTC day.
    pub fn day(self) -> time::Date {
        self.to_utc().date()
    }

    /// Returns the time of day in UTC.
    pub fn time_of_day(self) -> time::Time {
        self.to_utc().time()
    }

    /// Returns the millisecond of an instant. `None` before 1970.
    pub fn from_instant(instant: Instant) -> Option<Self> {
        instant.millis().map(Self)
    }

    /// Formats the time as a FHIR instant: `2026-01-31T08:00:00.000Z`.
    pub fn instant(self) -> String {
        self.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"))
    }

    /// Formats the time for the name of a folder: `20260131T080000`.
    pub fn compact(self) -> String {
        self.format(format_description!("[year][month][day]T[hour][minute][second]"))
    }

    /// Formats the UTC day as a FHIR date: `2026-01-31`.
    pub fn date(self) -> String {
        self.format(format_description!("[year]-[month]-[day]"))
    }

    /// Formats the time as an HTTP date: `Sat, 31 Jan 2026 08:00:00 GMT` (RFC 9110, section 5.6.7).
    pub fn http_date(self) -> String {
        self.format(format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"))
    }

    /// Returns the duration since `earlier`, or zero if `earlier` is later than this time.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Formats the time in UTC.
    fn format(self, format: &[time::format_description::BorrowedFormatItem<'_>]) -> String {
        self.to_utc().format(format).unwrap_or_default()
    }

    /// Converts the time to UTC. A time after the year 9999 becomes the last millisecond of that year.
    fn to_utc(self) -> OffsetDateTime {
        let nanos = i128::from(self.0.min(LAST_MILLIS)) * 1_000_000;
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl Add<Duration> for Millis {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.instant())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_formatted_for_each_of_its_uses() {
        let time = Millis(1_769_846_400_001);
        assert_eq!(time.instant(), "2026-01-31T08:00:00.001Z");
        assert_eq!(time.compact(), "20260131T080000");
        assert_eq!(time.date(), "2026-01-31");
        assert_eq!(time.http_date(), "Sat, 31 Jan 2026 08:00:00 GMT");
    }

    #[test]
    fn a_time_after_the_year_9999_is_formatted_as_its_end() {
        for time in [Millis(LAST_MILLIS), Millis(LAST_MILLIS + 1), Millis(u64::MAX)] {
            assert_eq!((time.instant().as_str(), time.compact().as_str()), ("9999-12-31T23:59:59.999Z", "99991231T235959"));
            assert_eq!((time.date().as_str(), time.http_date().as_str()), ("9999-12-31", "Fri, 31 Dec 9999 23:59:59 GMT"));
            assert_eq!(time.day().year(), 9999);
        }
    }

    #[test]
    fn an_instant_of_any_year_from_1970_on_keeps_its_millisecond() {
        let millis = |text| Millis::from_instant(Instant::parse(text).unwrap());
        assert_eq!(millis("9999-12-31T23:59:59.999Z"), Some(Millis(LAST_MILLIS)));
        assert_eq!((millis("1970-01-01"), millis("1969-12-31T23:59:59.999Z")), (Some(Millis(0)), None));
    }
}
