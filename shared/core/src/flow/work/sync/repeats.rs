//! Logs what is read again, at once and with the reason. `headrace sync` shows these lines at the terminal.

use headrace_fhir::definitions::ResourceType;

use crate::job::task::Lease;

/// Logs that resources of a type are read again.
///
/// * `name`: the name of what is read again, such as `the window up to 2026-01-31T08:00:00.000Z`.
pub(super) fn log_repeat(lease: &Lease, kind: ResourceType, name: &str, reason: &str) {
    tracing::warn!(job.id = %lease.job.id, task.id = lease.task.task, kind = %kind, reason, "{kind}: {name} is read again");
}
