//! The time for which a client continues after failures, and the pauses between its attempts.

use std::time::Duration;

use headrace_core::vocab::back_off::doubled_pause;
use headrace_core::vocab::clock::Millis;

use crate::client::error::{ClientError, Failure, Persistence};

/// Longest pause between two attempts that the client chooses itself.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

/// Longest time in which a request that someone waits for is tried again, such as a deletion.
pub(crate) const SHORT_OUTAGE: Duration = Duration::from_secs(20);

/// Number of failures after which a server that demands short pauses for ever gets longer ones.
const PROMPT_ATTEMPTS: u32 = 10;

/// The failures since the last progress of one task: a poll, a download, a deletion.
#[derive(Debug)]
pub(crate) struct Patience {
    /// The longest time in which attempts only fail, without the pauses that the server demands.
    outage: Duration,
    /// The longest sum of the pauses that the server demands.
    longest_demanded: Duration,
    /// Sum of the pauses that the server has demanded.
    demanded: Duration,
    failing_since: Option<Millis>,
    failures: u32,
    doubtful_failures: u32,
}

impl Patience {
    /// Creates the patience of a task that may fail for the duration `outage`, and wait for the duration `longest_demanded` because the
    /// server demands it.
    pub(crate) fn new(outage: Duration, longest_demanded: Duration) -> Self {
        Self { outage, longest_demanded, demanded: Duration::ZERO, failing_since: None, failures: 0, doubtful_failures: 0 }
    }

    /// Forgets the failures, after a success or progress.
    pub(crate) fn restore(&mut self) {
        *self = Self::new(self.outage, self.longest_demanded);
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
            return self.demanded_delay(delay, failure.error, now);
        }
        // A pause that the server demands is no outage.
        let failing_for = now.since(failing_since).saturating_sub(self.demanded);
        if failing_for >= self.outage {
            return Err(ClientError::GaveUp { after: failing_for, cause: Box::new(failure.error) });
        }
        Ok((back_off(self.failures), failure.error))
    }

    /// Returns the pause that the server demands, or the error if it has demanded too much.
    fn demanded_delay(&mut self, delay: Duration, error: ClientError, now: Millis) -> Result<(Duration, ClientError), ClientError> {
        let own_delay = match self.failures.saturating_sub(PROMPT_ATTEMPTS) {
            0 => Duration::ZERO,
            failures => back_off(failures),
        };
        let delay = delay.max(own_delay);
        let sum = self.demanded.saturating_add(delay);
        if sum > self.longest_demanded {
            let (waited, longest, until) = (self.demanded, self.longest_demanded, (now + delay).instant());
            return Err(ClientError::OnlyPauses { waited, longest, until, cause: Box::new(error) });
        }
        self.demanded = sum;
        Ok((delay, error))
    }
}

/// Returns the pause after a number of failures in a row: one second, doubled with each failure, at most five minutes.
fn back_off(failures: u32) -> Duration {
    doubled_pause(Duration::from_secs(1), failures.saturating_sub(1), LONGEST_BACK_OFF)
}

/// Returns the pause after the n-th answer that an export is still running, if the server names none.
pub(crate) fn poll_back_off(polls: u32) -> Duration {
    doubled_pause(Duration::from_secs(1), polls, Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Returns a failure of this persistence.
    fn failure(persistence: Persistence, retry_after: Option<Duration>) -> Failure {
        Failure { error: ClientError::NotConformant("x".into()), persistence, retry_after }
    }

    #[test]
    fn pauses_grow_to_five_minutes_until_the_outage_has_lasted_too_long() {
        let mut patience = Patience::new(HOUR, HOUR);
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
        assert!(now.since(Millis(1_000_000)) >= HOUR);
        assert!(matches!(error, ClientError::GaveUp { .. }), "{error}");
        assert_eq!(back_off(u32::MAX), LONGEST_BACK_OFF);
    }

    #[test]
    fn pauses_that_the_server_demands_are_no_outage_but_their_sum_is_bounded() {
        let mut patience = Patience::new(HOUR, 40 * HOUR);
        let mut now = Millis(0);
        for _ in 0..20 {
            assert_eq!(patience.next_delay(failure(Persistence::Transient, Some(2 * HOUR)), now).unwrap().0, 2 * HOUR);
            now = now + 2 * HOUR;
        }
        // The pauses do not count as an outage, which lasts as long as ever.
        assert!(patience.next_delay(failure(Persistence::Transient, None), now).is_ok());
        let error = patience.next_delay(failure(Persistence::Transient, Some(Duration::from_secs(1))), now).unwrap_err();
        let words = "40 h so far, and now one until 1970-01-02T16:05:00.000Z";
        assert!(error.to_string().contains(words) && matches!(error, ClientError::OnlyPauses { .. }), "{error}");
        patience.restore();
        assert!(patience.next_delay(failure(Persistence::Transient, Some(HOUR)), now).is_ok());
    }

    #[test]
    fn a_server_that_demands_short_pauses_for_ever_is_asked_less_and_less() {
        let mut patience = Patience::new(HOUR, 24 * HOUR);
        let (mut now, mut attempts) = (Millis(0), 0);
        while let Ok((pause, _)) = patience.next_delay(failure(Persistence::Transient, Some(Duration::from_millis(200))), now) {
            now = now + pause;
            attempts += 1;
        }
        assert!(attempts < 400, "{attempts}");
        assert!(now.since(Millis(0)) > 23 * HOUR);
    }

    #[test]
    fn a_server_that_fails_with_and_without_a_time_is_not_asked_for_ever() {
        let mut patience = Patience::new(HOUR, HOUR);
        let (mut now, mut attempts) = (Millis(0), 0_u32);
        while let Ok((pause, _)) =
            patience.next_delay(failure(Persistence::Transient, attempts.is_multiple_of(2).then_some(Duration::from_secs(1))), now)
        {
            now = now + pause;
            attempts += 1;
        }
        assert!(now.since(Millis(0)) <= 3 * HOUR, "{now}");
    }

    #[test]
    fn a_doubtful_failure_is_final_after_its_attempts() {
        let mut patience = Patience::new(HOUR, HOUR);
        let doubtful = || failure(Persistence::Doubtful { attempts: 3 }, None);
        assert!(patience.next_delay(doubtful(), Millis(0)).is_ok());
        assert!(patience.next_delay(doubtful(), Millis(0)).is_ok());
        assert!(patience.next_delay(doubtful(), Millis(0)).is_err());
        patience.restore();
        assert!(patience.next_delay(doubtful(), Millis(0)).is_ok());
        assert!(patience.next_delay(failure(Persistence::Final, None), Millis(0)).is_err());
    }
}
