//! Limits the requests to a server: how many run at the same time, and how many start in a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The number of successful requests, for each that may run, after which one more may run.
const SUCCESSES_PER_STEP: usize = 16;

/// A limit on the requests to a server that run at the same time.
///
/// A server that is busy halves the number of requests that may run at the same time. It rises again slowly.
pub(crate) struct RequestGate {
    state: Mutex<GateState>,
    has_room: Notify,
    most: usize,
    /// The time between the starts of two requests.
    interval: Duration,
}

/// The running requests and their current limit.
struct GateState {
    limit: usize,
    running: usize,
    successes: usize,
    next_start: Instant,
}

/// A request that runs. It ends when this is dropped.
pub(crate) struct RunningRequest<'g>(&'g RequestGate);

impl RequestGate {
    /// Creates a gate for at most `most` requests at the same time, and `per_second` in a second.
    pub(crate) fn new(most: usize, per_second: Option<u32>) -> Self {
        let state = GateState { limit: most.max(1), running: 0, successes: 0, next_start: Instant::now() };
        let interval = per_second.map_or(Duration::ZERO, |per_second| Duration::from_secs(1) / per_second.max(1));
        Self { state: Mutex::new(state), has_room: Notify::new(), most: most.max(1), interval }
    }

    /// Waits until a request may start.
    pub(crate) async fn enter(&self) -> RunningRequest<'_> {
        loop {
            let mut room = std::pin::pin!(self.has_room.notified());
            // Room that is made from now on is not missed.
            room.as_mut().enable();
            if let Some(start) = self.try_enter() {
                let request = RunningRequest(self);
                // Also a sleep that is over yields once.
                if start > Instant::now() {
                    tokio::time::sleep_until(start).await;
                }
                return request;
            }
            room.await;
        }
    }

    /// Returns the time at which a request may start, or `None` if too many run.
    fn try_enter(&self) -> Option<Instant> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.running >= state.limit {
            return None;
        }
        state.running += 1;
        let start = state.next_start.max(Instant::now());
        state.next_start = start + self.interval;
        Some(start)
    }

    /// Halves the number of requests at the same time, because the server is busy.
    pub(crate) fn slow_down(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.limit = (state.limit / 2).max(1);
        state.successes = 0;
    }

    /// Counts a successful request. Allows one more at the same time after some of them.
    pub(crate) fn count_success(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.successes += 1;
        if state.limit < self.most && state.successes >= SUCCESSES_PER_STEP * state.limit {
            (state.limit, state.successes) = (state.limit + 1, 0);
            self.has_room.notify_one();
        }
    }
}

impl Drop for RunningRequest<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).running -= 1;
        self.0.has_room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_busy_server_gets_fewer_requests_at_the_same_time_and_slowly_more_again() {
        let gate = RequestGate::new(4, None);
        let mut running: Vec<_> = (0..4).filter_map(|_| gate.enter().now_or_never()).collect();
        assert!(running.len() == 4 && gate.enter().now_or_never().is_none());
        gate.slow_down();
        running.truncate(2);
        assert!(gate.enter().now_or_never().is_none());
        running.pop();
        assert!(gate.enter().now_or_never().is_some());
        (0..2 * SUCCESSES_PER_STEP).for_each(|_| gate.count_success());
        running.push(gate.enter().await);
        running.push(gate.enter().await);
        assert!(gate.enter().now_or_never().is_none());
    }

    #[tokio::test]
    async fn the_number_of_requests_per_second_is_limited() {
        let (gate, started) = (RequestGate::new(100, Some(1_000)), Instant::now());
        for _ in 0..21 {
            drop(gate.enter().await);
        }
        assert!(started.elapsed() >= Duration::from_millis(20));
    }
}
