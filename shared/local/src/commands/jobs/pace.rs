//! The rate of an export and the time left, from what a server says about its progress.

use std::time::{Duration, Instant};

use crate::client::error::human_duration;
use crate::client::progress::percent;

/// Shortest time of observation from which a rate is computed.
const MIN_OBSERVATION: Duration = Duration::from_secs(2);

/// One answer of the server.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    percent: u64,
    resources: Option<u64>,
}

/// The progress of an export since the first answer.
#[derive(Debug, Default)]
pub(super) struct Pace {
    first: Option<Sample>,
    last: Option<Sample>,
}

impl Pace {
    /// Records the progress text of an answer.
    pub(super) fn observe(&mut self, progress: &str, at: Instant) {
        let sample = Sample { at, percent: percent(progress), resources: resources(progress) };
        // A later phase may begin anew.
        let is_restarted = self.last.is_some_and(|last| last.percent > sample.percent || last.resources > sample.resources);
        // While the server plans, it knows no resources.
        let is_begin = self.first.is_none_or(|first| first.resources.is_none() && sample.resources.is_some());
        if is_begin || is_restarted {
            self.first = Some(sample);
        }
        self.last = Some(sample);
    }

    /// Returns the percentage of the last answer.
    pub(super) fn percent(&self) -> u64 {
        self.last.map_or(0, |last| last.percent)
    }

    /// Describes the rate and the time left, as far as they are known.
    pub(super) fn describe(&self) -> Option<String> {
        let parts: Vec<String> = self.rate().into_iter().chain(self.time_left()).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Returns the first and the last sample, if they are far enough apart.
    fn window(&self) -> Option<(Sample, Sample, Duration)> {
        let (first, last) = (self.first?, self.last?);
        let time = last.at.duration_since(first.at);
        (time >= MIN_OBSERVATION).then_some((first, last, time))
    }

    /// Describes the number of resources per second.
    fn rate(&self) -> Option<String> {
        let (first, last, time) = self.window()?;
        let count = last.resources?.checked_sub(first.resources?)?;
        let per_second = u64::try_from(u128::from(count) * 1_000 / time.as_millis().max(1)).ok()?;
        (per_second > 0).then(|| format!("{} resources/s", indicatif::HumanCount(per_second)))
    }

    /// Describes the time left at the same rate.
    fn time_left(&self) -> Option<String> {
        let (first, last, time) = self.window()?;
        let done = u32::try_from(last.percent.checked_sub(first.percent)?).ok().filter(|done| *done > 0)?;
        let left = u32::try_from(100_u64.checked_sub(last.percent)?).ok()?;
        let left = (time / done).checked_mul(left)?;
        // More digits would be a promise.
        let seconds = left.as_secs().max(1);
        let rounded = if seconds < 60 { seconds.div_ceil(5) * 5 } else { seconds.div_ceil(60) * 60 };
        Some(format!("about {} left", human_duration(Duration::from_secs(rounded))))
    }
}

/// Returns the number before the word "resources".
fn resources(text: &str) -> Option<u64> {
    let before = text.split_once(" resource")?.0;
    before.rsplit(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_follow_from_two_answers() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        pace.observe("planning the export", at(0));
        assert_eq!((pace.percent(), pace.describe()), (0, None));
        pace.observe("0 % done, 0 resources, 9 of 9 tasks left", at(1));
        pace.observe("20 % done, 5000 resources, 7 of 9 tasks left", at(11));
        assert_eq!(pace.describe().unwrap(), "500 resources/s, about 40 s left", "measured from the first answer with resources");
        pace.observe("10 % done, 5000 resources, 2 tasks left to read again", at(12));
        assert_eq!(pace.describe(), None, "a later phase began anew");
        pace.observe("30 % done, 25000 resources, 1 task left to read again", at(22));
        assert_eq!(pace.describe().unwrap(), "2,000 resources/s, about 35 s left");
        pace.observe("31 % done, 25000 resources, finishing", at(112));
        assert_eq!(pace.describe().unwrap(), "200 resources/s, about 6 min left");
    }

    #[test]
    fn resources_are_read_from_the_progress_of_headrace() {
        for (text, expected) in [
            ("45 % done, 1234 resources, finishing", Some(1234)),
            ("1 % done, 1 resource, x", Some(1)),
            ("45% complete", None),
            (" resources", None),
        ] {
            assert_eq!(resources(text), expected, "{text}");
        }
    }
}
