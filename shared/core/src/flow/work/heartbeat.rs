//! The schedule of a worker's heartbeats.

use std::time::Duration;

use crate::job::ExportError;
use crate::job::task::{Lease, TaskUpdate};
use crate::ports::{AllPorts, TaskStore as _};
use crate::vocab::clock::Millis;

/// The schedule of the heartbeats that extend a lease: one every third of its duration, so that one may fail or be late.
pub(super) struct Heartbeat {
    lease_duration: Duration,
    next_at: Millis,
}

impl Heartbeat {
    /// Schedules the first heartbeat of a lease that was extended at `now`.
    pub(super) fn new(lease_duration: Duration, now: Millis) -> Self {
        Self { lease_duration, next_at: now + lease_duration / 3 }
    }

    /// Extends the lease if a heartbeat is due. Does nothing otherwise.
    pub(super) async fn beat(&mut self, ports: &impl AllPorts, lease: &mut Lease) -> Result<(), ExportError> {
        let now = ports.now();
        if now >= self.next_at {
            ports.jobs().update_task(lease, TaskUpdate::Heartbeat, now + self.lease_duration).await?;
            self.reset(now);
        }
        Ok(())
    }

    /// Postpones the next heartbeat, because another update has extended the lease at `now`.
    pub(super) fn reset(&mut self, now: Millis) {
        self.next_at = now + self.lease_duration / 3;
    }
}
