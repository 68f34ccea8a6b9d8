//! The point at which a test lets a process stop: after a number of changes to the file system.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of changes that are still made. Without a limit all are.
#[derive(Clone, Debug)]
pub(crate) struct FaultPoint(Arc<AtomicU64>);

impl Default for FaultPoint {
    fn default() -> Self {
        Self::after(u64::MAX)
    }
}

impl FaultPoint {
    /// Creates a limit of `changes`.
    pub(crate) fn after(changes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(changes)))
    }

    /// Counts a change. Fails, as everything after it does, if the limit is reached.
    pub(crate) fn pass(&self) -> io::Result<()> {
        let counted = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        counted.map(drop).map_err(|_| io::Error::other("the test stops the process here"))
    }

    /// Returns the number of changes that are left.
    #[cfg(test)]
    pub(crate) fn left(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
