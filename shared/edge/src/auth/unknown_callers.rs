//! Counts the rejected requests of callers that were not authenticated, so that a flood of requests does not become a flood of audit
//! records.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use headrace_core::vocab::clock::Millis;

/// The shortest time between two records of one process.
const RECORD_INTERVAL: Duration = Duration::from_secs(60);

/// The rejected requests of one process. Each record stands for all requests since the record before it.
///
/// Lambda gives a process no time between two requests, so only a request can write a record. The requests after the last record of a
/// process have none. The access log of the gateway has each request.
#[derive(Debug, Default)]
pub(super) struct UnknownCallers(Mutex<Counts>);

/// The requests since the last record.
#[derive(Debug, Default)]
struct Counts {
    recorded_at: Option<Millis>,
    unrecorded: u64,
}

impl UnknownCallers {
    /// Counts a request. Returns the number of requests that a record must stand for now, or `None` if it is not time for a record.
    pub(super) fn count(&self, now: Millis) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.unrecorded = counts.unrecorded.saturating_add(1);
        let is_due = counts.recorded_at.is_none_or(|recorded_at| now >= recorded_at + RECORD_INTERVAL);
        is_due.then(|| {
            counts.recorded_at = Some(now);
            std::mem::take(&mut counts.unrecorded)
        })
    }

    /// Counts `requests` again, because their record could not be written. The next record stands for them.
    pub(super) fn add_again(&self, requests: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.unrecorded = counts.unrecorded.saturating_add(requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_counted_in_one_record_of_a_minute() {
        let callers = UnknownCallers::default();
        let records: Vec<u64> = (0..=3_000).filter_map(|number| callers.count(Millis(number * 100))).collect();
        // 3,001 requests in 300 seconds, the last one exactly at the end.
        assert_eq!(records, [1, 600, 600, 600, 600, 600]);
    }

    #[test]
    fn a_record_that_was_not_written_is_added_to_the_next() {
        let callers = UnknownCallers::default();
        assert_eq!(callers.count(Millis(0)), Some(1));
        callers.add_again(1);
        assert_eq!(callers.count(Millis(59_999)), None);
        assert_eq!(callers.count(Millis(60_000)), Some(3));
    }
}
