//! The clock of a client, and its pauses.

use std::future::Future;
use std::time::{Duration, Instant};

use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_edge::system::SystemClock;

/// Longest single sleep. A longer pause looks at the clock in between, because a sleeping laptop stops the timers of the process.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);

/// The time of a client, and its pauses between requests. Tests set it by hand.
pub trait Timer: Clone + Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> Millis;

    /// Waits for this duration.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// The clock of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemTimer;

impl Timer for SystemTimer {
    fn now(&self) -> Millis {
        SystemClock.now()
    }

    async fn sleep(&self, duration: Duration) {
        let (started, until) = (Instant::now(), self.now() + duration);
        // The pause ends by whichever clock is first: one may be set back, the other may stand still.
        loop {
            let left = until.since(self.now()).min(duration.saturating_sub(started.elapsed()));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
        }
    }
}
