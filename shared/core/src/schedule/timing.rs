//! The times of a schedule: a cron expression in a time zone, or an interval.
//!
//! `cronexpr` parses expressions and finds the next local time; the change between standard time and daylight saving time is handled
//! here. A local time that is skipped runs once, as long after midnight as on other days; one that occurs twice runs at its first
//! occurrence. The time zones are those that the program was built with, so that a run does not depend on files of its machine.

use std::sync::LazyLock;
use std::time::Duration;

use cronexpr::MakeTimestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::vocab::clock::Millis;
use crate::vocab::iso_duration::{format_iso_duration, parse_iso_duration};

/// The shortest interval: the reaper of a deployment runs once a minute.
const MIN_INTERVAL: Duration = Duration::from_secs(60);

/// The longest interval.
const MAX_INTERVAL: Duration = Duration::from_secs(366 * 86_400);

/// The time zone of a cron expression without one.
const DEFAULT_ZONE: &str = "UTC";

/// The number of fields of a cron expression.
const CRON_FIELDS: usize = 5;

/// The time before a moment in which a local time can lie that occurs after it, because it was skipped: twice the longest change of
/// a clock.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(5);

/// The time zones of the IANA database.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The times of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timing {
    /// Local times that match a cron expression.
    Cron {
        /// The expression of five fields.
        expression: String,
        /// The name of the time zone.
        zone: String,
    },
    /// A fixed interval, counted from the time at which the schedule was added.
    Interval {
        /// The interval in seconds.
        seconds: u64,
    },
}

/// The error for times that a schedule cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTiming {
    /// The text is neither an expression nor an interval.
    #[error("`{0}` is not a time of a schedule: write cron(0 2 * * *), or an interval such as PT6H or P1D")]
    Unknown(String),
    /// The expression has another number of fields.
    #[error(
        "`{0}` does not have five fields: minute, hour, day of month, month, day of week, such as cron(0 2 * * *); there are no \
         seconds and no years"
    )]
    Fields(String),
    /// The expression is invalid.
    #[error(
        "`{0}` is not a cron expression: minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT, \
         each with *, lists, ranges and steps"
    )]
    Expression(String),
    /// No day matches the expression.
    #[error("`{0}` never fires: no date has this day, month and day of week")]
    Never(String),
    /// The time zone does not exist.
    #[error("`{0}` is not a time zone of the IANA database, such as Europe/Berlin")]
    Zone(String),
    /// The interval is too short or too long.
    #[error("the interval {0} is not between a minute (PT1M) and 366 days (P366D)")]
    Interval(String),
    /// An interval has a time zone.
    #[error("an interval has no time zone: leave out the zone, or write cron(…)")]
    IntervalWithZone,
}

impl Timing {
    /// Parses the times of a schedule: `cron(0 2 * * *)`, in the time zone or in UTC, or an ISO 8601 duration such as `PT6H`. `now` is
    /// the time from which an expression must fire.
    pub fn parse(every: &str, zone: Option<&str>, now: Millis) -> Result<Self, InvalidTiming> {
        let every = every.trim();
        if let Some(fields) = every.strip_prefix("cron(").and_then(|rest| rest.strip_suffix(')')) {
            return Self::parse_cron(fields, zone.unwrap_or(DEFAULT_ZONE), now);
        }
        let interval = parse_iso_duration(every).ok_or_else(|| InvalidTiming::Unknown(every.to_owned()))?;
        if zone.is_some() {
            return Err(InvalidTiming::IntervalWithZone);
        }
        if !(MIN_INTERVAL..=MAX_INTERVAL).contains(&interval) {
            return Err(InvalidTiming::Interval(every.to_owned()));
        }
        Ok(Self::Interval { seconds: interval.as_secs() })
    }

    /// Parses the fields of a cron expression and its time zone.
    fn parse_cron(fields: &str, zone: &str, now: Millis) -> Result<Self, InvalidTiming> {
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let expression = fields.join(" ");
        if fields.len() != CRON_FIELDS {
            return Err(InvalidTiming::Fields(expression));
        }
        let known = ZONES.get(zone).map_err(|_| InvalidTiming::Zone(zone.to_owned()))?;
        let zone = known.iana_name().unwrap_or(zone).to_owned();
        if cronexpr::parse_crontab(&in_utc(&expression)).is_err() {
            return Err(InvalidTiming::Expression(expression));
        }
        if next_match(&expression, &zone, now).is_none() {
            return Err(InvalidTiming::Never(expression));
        }
        Ok(Self::Cron { expression, zone })
    }

    /// Returns the first time after `after`. Intervals count from `anchor`. Returns `None` if there is none.
    pub fn next_after(&self, after: Millis, anchor: Millis) -> Option<Millis> {
        match self {
            Self::Cron { expression, zone } => next_match(expression, zone, after),
            Self::Interval { seconds } => {
                let length = seconds.checked_mul(1_000)?;
                let passed = after.0.saturating_sub(anchor.0).checked_div(length)?;
                Some(Millis(anchor.0.checked_add(length.checked_mul(passed + 1)?)?))
            }
        }
    }

    /// Returns the text that [`Self::parse`] accepts, without the time zone.
    pub fn every(&self) -> String {
        match self {
            Self::Cron { expression, .. } => format!("cron({expression})"),
            Self::Interval { seconds } => format_iso_duration(Duration::from_secs(*seconds)),
        }
    }

    /// Returns the time zone of a cron expression.
    pub fn zone(&self) -> Option<&str> {
        match self {
            Self::Cron { zone, .. } => Some(zone),
            Self::Interval { .. } => None,
        }
    }
}

/// Returns the expression with the time zone in which local times are compared: in UTC none is skipped or occurs twice.
fn in_utc(expression: &str) -> String {
    format!("{expression} UTC")
}

/// Returns the first moment after `after` whose local time matches the expression. Returns `None` if there is none, or if the
/// expression or the zone is invalid.
fn next_match(expression: &str, zone: &str, after: Millis) -> Option<Millis> {
    let crontab = cronexpr::parse_crontab(&in_utc(expression)).ok()?;
    let zone = ZONES.get(zone).ok()?;
    let after = Timestamp::from_millisecond(i64::try_from(after.0).ok()?).ok()?;
    let mut local = TimeZone::UTC.to_timestamp(zone.to_datetime(after)).ok()?.checked_sub(LOOK_BACK).ok()?;
    let mut first: Option<Timestamp> = None;
    while let Ok(next) = crontab.find_next(MakeTimestamp(local)) {
        local = next.timestamp();
        // A skipped local time occurs later than local times after it, so these may be earlier.
        if first.is_some_and(|first| next.datetime() > zone.to_datetime(first)) {
            break;
        }
        let moment = zone.to_ambiguous_timestamp(next.datetime()).compatible().ok()?;
        if moment > after {
            first = Some(first.map_or(moment, |first| first.min(moment)));
        }
    }
    first.and_then(|first| u64::try_from(first.as_millisecond()).ok()).map(Millis)
}
