//! Updates of a leased task, which extend its lease: those of a worker's progress, and heartbeats.

use std::time::Duration;

use crate::job::ExportError;
use crate::job::task::{Lease, Release, TaskUpdate};
use crate::metering::{count, used_until};
use crate::ports::{AllPorts, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;

/// Records an update of the leased task. If a third of the lease is over, the update extends it.
pub(super) async fn update_leased_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    lease_duration: Duration,
    mut update: TaskUpdate,
) -> Result<(), ExportError> {
    let now = ports.now();
    if let TaskUpdate::Checkpoint(checkpoint) = &mut update {
        checkpoint.counters.usage = used_until(now);
    }
    let until = lease.end_after_update(now, lease_duration);
    Ok(ports.jobs().update_task(lease, update, until).await?)
}

/// Ends the lease at `now`, and records what the attempt has used, with the message that announces the task again.
pub(super) async fn release_task(ports: &impl AllPorts, lease: &mut Lease, release: Release, now: Millis) -> Result<(), StoreError> {
    count(|usage| usage.messages += 1);
    lease.counters.usage = used_until(now);
    ports.jobs().update_task(lease, TaskUpdate::Release(release), now).await
}

/// Extends the lease if a third of it is over, so that one heartbeat may fail or be late. Does nothing otherwise.
pub(super) async fn send_heartbeat_if_due(ports: &impl AllPorts, lease: &mut Lease, lease_duration: Duration) -> Result<(), ExportError> {
    let until = lease.end_after_update(ports.now(), lease_duration);
    if until != lease.until {
        ports.jobs().update_task(lease, TaskUpdate::Heartbeat, until).await?;
    }
    Ok(())
}
