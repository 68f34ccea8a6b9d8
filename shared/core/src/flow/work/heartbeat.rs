//! Updates of a leased task, which extend its lease: those of a worker's progress, and heartbeats.

use std::time::Duration;

use crate::job::ExportError;
use crate::job::task::{Lease, TaskUpdate};
use crate::ports::{AllPorts, TaskStore as _};

/// Records an update of the leased task. If a third of the lease is over, the update extends it.
pub(super) async fn update_leased_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    lease_duration: Duration,
    update: TaskUpdate,
) -> Result<(), ExportError> {
    let until = lease.end_after_update(ports.now(), lease_duration);
    Ok(ports.jobs().update_task(lease, update, until).await?)
}

/// Extends the lease if a third of it is over, so that one heartbeat may fail or be late. Does nothing otherwise.
pub(super) async fn send_heartbeat_if_due(ports: &impl AllPorts, lease: &mut Lease, lease_duration: Duration) -> Result<(), ExportError> {
    let until = lease.end_after_update(ports.now(), lease_duration);
    if until != lease.until {
        ports.jobs().update_task(lease, TaskUpdate::Heartbeat, until).await?;
    }
    Ok(())
}
