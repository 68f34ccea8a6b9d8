//! Time, as a value.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

/// Milliseconds since 1970 UTC: what the job table keeps and a FHIR `instant` of three digits shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// The day on which it is, in UTC.
    pub fn day(self) -> time::Date {
        self.moment().map_or(time::Date::MIN, OffsetDateTime::date)
    }

    /// As a FHIR instant: `2026-01-31T08:00:00.000Z`.
    pub fn instant(self) -> String {
        self.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"))
    }

    /// As a folder's name: `20260131T080000`.
    pub fn compact(self) -> String {
        self.format(format_description!("[year][month][day]T[hour][minute][second]"))
    }

    /// As a FHIR date: `2026-01-31`.
    pub fn date(self) -> String {
        self.format(format_description!("[year]-[month]-[day]"))
    }

    /// As an HTTP date: `Sat, 31 Jan 2026 08:00:00 GMT` (RFC 9110, section 5.6.7).
    pub fn http_date(self) -> String {
        self.format(format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"))
    }

    /// The time from `earlier` to this; zero if that lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    fn format(self, form: &[time::format_description::BorrowedFormatItem<'_>]) -> String {
        self.moment().and_then(|moment| moment.format(form).ok()).unwrap_or_default()
    }

    fn moment(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).ok()
    }
}

impl Add<Duration> for Millis {
    type Output = Self;
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_millis()).unwrap_or(u64::MAX)))
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
    fn one_moment_in_its_spellings() {
        let moment = Millis(1_769_846_400_001);
        assert_eq!(moment.instant(), "2026-01-31T08:00:00.001Z");
        assert_eq!(moment.compact(), "20260131T080000");
        assert_eq!(moment.date(), "2026-01-31");
        assert_eq!(moment.http_date(), "Sat, 31 Jan 2026 08:00:00 GMT");
    }
}
