//! Heartbeats of a worker.

use std::time::Duration;

use crate::job::ExportError;
use crate::job::task::{Lease, TaskUpdate};
use crate::ports::{AllPorts, TaskStore as _};

/// Extends the lease if a third of it is over, so that one heartbeat may fail or be late. Does nothing otherwise.
pub(super) async fn beat(ports: &impl AllPorts, lease: &mut Lease, lease_duration: Duration) -> Result<(), ExportError> {
    let until = lease.end_after_update(ports.now(), lease_duration);
    if until != lease.until {
        ports.jobs().update_task(lease, TaskUpdate::Heartbeat, until).await?;
    }
    Ok(())
}
