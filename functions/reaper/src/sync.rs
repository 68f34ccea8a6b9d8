//! Starts synchronizations of the lake with its FHIR server.

use headrace_core::flow::upkeep::fire_sync::{SyncSchedule, SyncStart, fire_sync};
use headrace_core::job::ExportError;
use headrace_core::ports::{Clock, JobStore, Ports, ResourceSource, TaskQueue};

/// The starter of synchronizations. It lives as long as the process.
pub struct SyncStarter<J, Q, S, C> {
    ports: Ports<J, Q, S, (), C>,
    schedule: Option<SyncSchedule>,
}

impl<J: JobStore, Q: TaskQueue, S: ResourceSource, C: Clock> SyncStarter<J, Q, S, C> {
    /// Creates the starter. Without a schedule it does nothing.
    pub fn new(ports: Ports<J, Q, S, (), C>, schedule: Option<SyncSchedule>) -> Self {
        Self { ports, schedule }
    }

    /// Starts a synchronization if one is due.
    pub async fn run(&self) -> Result<SyncStart, ExportError> {
        let Some(schedule) = &self.schedule else { return Ok(SyncStart::NotDue) };
        let start = Box::pin(fire_sync(&self.ports, schedule)).await?;
        match &start {
            SyncStart::NotDue => {}
            SyncStart::StillRunning(job) => tracing::debug!(job.id = %job, "a synchronization is due and waits for the one that runs"),
            SyncStart::Started(job) => tracing::info!(job.id = %job, "a synchronization of the lake was started"),
        }
        Ok(start)
    }
}
