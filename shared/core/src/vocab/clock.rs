//! Points in time.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use headrace_fhir::instant::Instant;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

/// A point in time, in milliseconds since 1970-01-01 UTC. The job table stores it as this number; clients see it as a FHIR
/// `instant` with three fractional digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// Returns the UTC day.
    pub fn day(self) -> time::Date {
        self.to_utc().map_or(time::Date::MIN, OffsetDateTime::date)
    }

    /// Returns the time of day in UTC.
    pub fn time_of_day(self) -> time::Time {
        self.to_utc().map_or(time::Time::MIDNIGHT, OffsetDateTime::time)
    }

    /// Returns the millisecond of an instant. `None` before 1970.
    pub fn from_instant(instant: Instant) -> Option<Self> {
        u64::try_from(instant.nanos().div_euclid(1_000_000)).ok().map(Self)
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

    /// Formats the time in UTC. Returns an empty text if it is out of range.
    fn format(self, format: &[time::format_description::BorrowedFormatItem<'_>]) -> String {
        self.to_utc().and_then(|utc| utc.format(format).ok()).unwrap_or_default()
    }

    /// Converts the time to UTC. `None` if it is out of range.
    fn to_utc(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).ok()
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
}
