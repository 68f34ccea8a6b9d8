//! Pauses before a call is repeated: they grow, and each is random, so that callers that were rejected together do not retry
//! together ("full jitter").

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::Instant;

/// The upper bound of the first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The upper bound of any pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The time that a function which answers a request waits for an overloaded service.
pub(crate) const REQUEST_PATIENCE: Duration = Duration::from_secs(3);

/// The clock that pauses use: the system's, or the virtual one of a simulation.
pub trait PauseClock: fmt::Debug + Send + Sync {
    /// Returns the time since a fixed moment. It never decreases.
    fn elapsed(&self) -> Duration;

    /// Returns a future that completes when this time has passed.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The system's clock.
#[derive(Debug)]
struct SystemClock;

/// The moment from which [`SystemClock`] counts.
static SYSTEM_START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl PauseClock for SystemClock {
    fn elapsed(&self) -> Duration {
        SYSTEM_START.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Returns the system's clock.
pub(crate) fn system_clock() -> Arc<dyn PauseClock> {
    Arc::new(SystemClock)
}

/// The pauses between the tries of one call.
#[derive(Debug)]
pub(crate) struct Backoff {
    clock: Arc<dyn PauseClock>,
    until: Duration,
    upper_bound: Duration,
}

impl Backoff {
    /// Creates pauses for the tries that begin within `patience` from now.
    #[cfg(any(test, feature = "s3"))]
    pub(crate) fn new(patience: Duration) -> Self {
        Self::with_clock(patience, system_clock())
    }

    /// Creates pauses that use this clock instead of the system's.
    pub(crate) fn with_clock(patience: Duration, clock: Arc<dyn PauseClock>) -> Self {
        Self { until: clock.elapsed() + patience, clock, upper_bound: FIRST_PAUSE }
    }

    /// Pauses before the next try. Returns false, without a pause, if the patience is used up.
    pub(crate) async fn pause(&mut self) -> bool {
        let left = self.until.saturating_sub(self.clock.elapsed());
        let Some(pause) = self.next_pause(left) else { return false };
        self.clock.sleep(pause).await;
        true
    }

    /// Returns the next pause, at most as long as the time that is left. Returns `None` if none is left.
    fn next_pause(&mut self, left: Duration) -> Option<Duration> {
        if left.is_zero() {
            return None;
        }
        let upper_bound = u64::try_from(self.upper_bound.as_millis()).unwrap_or(u64::MAX);
        // A pause of zero would never use up the patience.
        let pause = Duration::from_millis(fastrand::u64(1..=upper_bound)).min(left);
        self.upper_bound = (self.upper_bound * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A third of the default lease.
    const WORKER_PATIENCE: Duration = Duration::from_secs(20);

    /// Returns the pauses of one call.
    fn pauses(patience: Duration) -> Vec<Duration> {
        let (mut backoff, mut left) = (Backoff::new(patience), patience);
        std::iter::from_fn(|| backoff.next_pause(left).inspect(|pause| left -= *pause)).collect()
    }

    #[test]
    fn the_pauses_of_a_call_last_as_long_as_its_patience() {
        for patience in [Duration::ZERO, Duration::from_millis(7), REQUEST_PATIENCE, WORKER_PATIENCE] {
            assert_eq!(pauses(patience).iter().sum::<Duration>(), patience);
        }
    }

    #[test]
    fn callers_that_were_rejected_together_retry_at_different_times() {
        let arrivals = |tries: usize| -> Vec<Duration> {
            let mut arrivals: Vec<_> = (0..300).map(|_| pauses(WORKER_PATIENCE).iter().take(tries).sum()).collect();
            arrivals.sort_unstable();
            arrivals
        };
        // After four tries, no tenth of the callers shares less than a twentieth of the time in which all come back.
        let after_four = arrivals(4);
        let (first, last) = (after_four[0], after_four[299]);
        assert!(after_four.windows(30).all(|tenth| tenth[29] - tenth[0] > (last - first) / 50), "{after_four:?}");
        assert!(last - first > Duration::from_millis(100), "{first:?} {last:?}");
    }

    #[test]
    fn a_workers_patience_allows_at_least_fifteen_tries() {
        assert!((0..100).all(|_| pauses(WORKER_PATIENCE).len() >= 15));
    }
}
