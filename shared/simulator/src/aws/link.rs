//! Resources of a process that do one thing after the other: a network link, a processor.

use std::sync::Mutex;
use std::time::Duration;

use crate::lock;

/// A resource that does one thing after the other.
#[derive(Debug, Default)]
pub struct Serial {
    /// The moment at which the last thing ends.
    free_at: Mutex<Duration>,
}

impl Serial {
    /// Adds something that takes this long. Returns the moment at which it ends.
    pub fn add(&self, now: Duration, duration: Duration) -> Duration {
        let mut free_at = lock(&self.free_at);
        *free_at = now.max(*free_at) + duration;
        *free_at
    }
}

/// A link. Transfers follow each other.
#[derive(Debug)]
pub struct NetworkLink {
    bytes_per_second: u64,
    transfers: Serial,
}

impl NetworkLink {
    /// Creates an idle link.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), transfers: Serial::default() }
    }

    /// Adds a transfer. Returns the moment at which it ends.
    pub fn transfer(&self, now: Duration, bytes: u64) -> Duration {
        self.transfers.add(now, transfer_time(bytes, self.bytes_per_second))
    }
}

/// Returns the duration of a transfer.
pub fn transfer_time(bytes: u64, bytes_per_second: u64) -> Duration {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
