//! Failures to accept connections.

use std::io;
use std::time::{Duration, Instant};

use super::table::ConnectionTable;
use crate::stores::io_fault::IoFault;

/// First pause after the process has run out of file handles. It doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Longest pause between two tries to accept a connection.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Time between two log lines about the same fault.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The failures since the last accepted connection.
#[derive(Debug, Default)]
pub(super) struct AcceptFaults {
    /// Number of failures that are not in the log yet.
    unlogged: u64,
    last_log: Option<Instant>,
    pause: Duration,
}

impl AcceptFaults {
    /// Records an accepted connection.
    pub(super) fn record_success(&mut self) {
        self.pause = Duration::ZERO;
    }

    /// Handles a failure. If file handles have run out, ends idle connections, which frees some, and waits.
    pub(super) async fn handle(&mut self, error: &io::Error, table: &ConnectionTable) {
        if is_of_peer(error) {
            tracing::debug!(error = %error, "a peer gave up before its connection was accepted");
            return;
        }
        table.free_handles();
        if let Some(failures) = self.count(Instant::now()) {
            let remedy = match IoFault::from_error(error) {
                IoFault::Permanent(reason) => reason,
                IoFault::OutOfSpace | IoFault::Passing => "the system has no memory or no sockets left",
            };
            tracing::warn!(failures, error = %error, "connections cannot be accepted and wait: {remedy}");
        }
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        tokio::time::sleep(self.pause).await;
    }

    /// Counts a failure. Returns the number of failures to log, once in a while.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.unlogged += 1;
        if self.last_log.is_some_and(|last| now.saturating_duration_since(last) < LOG_INTERVAL) {
            return None;
        }
        self.last_log = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

/// Returns true for failures of one connection. The next one may be fine.
fn is_of_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_lasts_is_logged_once_a_minute_with_its_count() {
        let (mut faults, start) = (AcceptFaults::default(), Instant::now());
        assert_eq!(faults.count(start), Some(1));
        for _ in 0..100 {
            assert_eq!(faults.count(start + Duration::from_secs(59)), None);
        }
        assert_eq!(faults.count(start + Duration::from_secs(60)), Some(101));
        assert_eq!(faults.count(start + Duration::from_secs(61)), None);
    }
}
