//! The time for which a client continues after failures, and the pauses between its attempts.

use std::time::Duration;

use headrace_core::vocab::clock::Millis;

use crate::client::error::{ClientError, Failure, Persistence};

/// Longest pause between two attempts that the client chooses itself.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

/// Longest time in which a request that someone waits for is tried again, such as a deletion.
pub(crate) const SHORT_OUTAGE: Duration = Duration::from_secs(20);

/// The failures since the last success of one task: a poll, a download, a deletion.
#[derive(Debug)]
pub(crate) struct Patience {
    /// The longest time in which attempts only fail.
    outage: Duration,
    failing_since: Option<Millis>,
    failures: u32,
    doubtful_failures: u32,
}

impl Patience {
    /// Creates the patience of a task that may fail for this duration.
    pub(crate) fn new(outage: Duration) -> Self {
        Self { outage, failing_since: None, failures: 0, doubtful_failures: 0 }
    }

    /// Forgets the failures, after a success or progress.
    pub(crate) fn restore(&mut self) {
        *self = Self::new(self.outage);
    }

    /// Returns the pause before the next attempt, or the error if no other attempt is made.
    pub(crate) fn next_delay(&mut self, failure: Failure, now: Millis) -> Result<(Duration, ClientError), ClientError> {
        let failing_since = *self.failing_since.get_or_insert(now);
        self.failures += 1;
        match failure.persistence {
            Persistence::Final => return Err(failure.error),
            Persistence::Doubtful { attempts } => {
                self.doubtful_failures += 1;
                if self.doubtful_failures >= attempts {
                    return Err(failure.error);
                }
            }
            Persistence::Transient => {}
        }
        if let Some(delay) = failure.retry_after {
            // The server has said when: that is not an outage.
            self.failing_since = None;
            return Ok((delay, failure.error));
        }
        let failing_for = now.since(failing_since);
        if failing_for >= self.outage {
            return Err(ClientError::GaveUp { after: failing_for, cause: Box::new(failure.error) });
        }
        Ok((back_off(self.failures), failure.error))
    }
}

/// Returns the pause after a number of failures in a row: one second, doubled with each failure, at most five minutes.
fn back_off(failures: u32) -> Duration {
    let seconds = 1_u64.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(LONGEST_BACK_OFF)
}

/// Returns the pause after the n-th answer that an export is still running, if the server names none.
pub(crate) fn poll_back_off(polls: u32) -> Duration {
    Duration::from_secs(1 << polls.min(5)).min(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a failure of this persistence.
    fn failure(persistence: Persistence, retry_after: Option<Duration>) -> Failure {
        Failure { error: ClientError::NotConformant("x".into()), persistence, retry_after }
    }

    #[test]
    fn pauses_grow_to_five_minutes_until_the_outage_has_lasted_too_long() {
        let mut patience = Patience::new(Duration::from_secs(3600));
        let (mut now, mut pauses) = (Millis(1_000_000), Vec::new());
        let error = loop {
            match patience.next_delay(failure(Persistence::Transient, None), now) {
                Ok((pause, _)) => {
                    pauses.push(pause.as_secs());
                    now = now + pause;
                }
                Err(error) => break error,
            }
        };
        assert_eq!(pauses.get(..11).unwrap(), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(now.since(Millis(1_000_000)) >= Duration::from_secs(3600));
        assert!(matches!(error, ClientError::GaveUp { .. }), "{error}");
        assert_eq!(back_off(u32::MAX), LONGEST_BACK_OFF);
    }

    #[test]
    fn a_pause_that_the_server_demands_does_not_count_as_an_outage() {
        let mut patience = Patience::new(Duration::from_secs(3600));
        let mut now = Millis(0);
        for _ in 0..20 {
            let pause = Duration::from_secs(7200);
            assert_eq!(patience.next_delay(failure(Persistence::Transient, Some(pause)), now).unwrap().0, pause);
            now = now + pause;
        }
    }

    #[test]
    fn a_doubtful_failure_is_final_after_its_attempts() {
        let mut patience = Patience::new(Duration::from_secs(3600));
        let doubtful = || failure(Persistence::Doubtful { attempts: 3 }, None);
        assert!(patience.next_delay(doubtful(), Millis(0)).is_ok());
        assert!(patience.next_delay(doubtful(), Millis(0)).is_ok());
        assert!(patience.next_delay(doubtful(), Millis(0)).is_err());
        patience.restore();
        assert!(patience.next_delay(doubtful(), Millis(0)).is_ok());
        assert!(patience.next_delay(failure(Persistence::Final, None), Millis(0)).is_err());
    }
}
