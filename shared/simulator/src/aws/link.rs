//! A network link with a fixed speed.

use std::sync::Mutex;
use std::time::Duration;

use crate::lock;

/// A link. Transfers follow each other.
#[derive(Debug)]
pub struct NetworkLink {
    bytes_per_second: u64,
    /// The moment at which the last transfer ends.
    free_at: Mutex<Duration>,
}

impl NetworkLink {
    /// Creates an idle link.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::default() }
    }

    /// Adds a transfer. Returns the moment at which it ends.
    pub fn transfer(&self, now: Duration, bytes: u64) -> Duration {
        let mut free_at = lock(&self.free_at);
        *free_at = now.max(*free_at) + transfer_time(bytes, self.bytes_per_second);
        *free_at
    }
}

/// Returns the duration of a transfer.
pub fn transfer_time(bytes: u64, bytes_per_second: u64) -> Duration {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
