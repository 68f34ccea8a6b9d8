//! Starts synchronizations of the lake with its FHIR server.

use headrace_core::flow::upkeep::fire_sync::{SyncSchedule, SyncStart, fire_sync};
use headrace_core::job::ExportError;
use headrace_core::ports::{Clock, JobStore, Ports, ResourceSource, TaskQueue};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;

/// The starter of synchronizations. It lives as long as the process.
pub struct SyncStarter<J, Q, S, C> {
    ports: Ports<J, Q, S, (), C>,
    schedule: Option<SyncSchedule>,
    new_id: fn() -> Result<JobId, StoreError>,
}

impl<J: JobStore, Q: TaskQueue, S: ResourceSource, C: Clock> SyncStarter<J, Q, S, C> {
    /// Creates the starter. Without a schedule it does nothing. `new_id` creates ids of jobs.
    pub fn new(ports: Ports<J, Q, S, (), C>, schedule: Option<SyncSchedule>, new_id: fn() -> Result<JobId, StoreError>) -> Self {
        Self { ports, schedule, new_id }
    }

    /// Starts a synchronization if one is due.
    pub async fn run(&self) -> Result<SyncStart, ExportError> {
        let Some(schedule) = &self.schedule else { return Ok(SyncStart::NotDue) };
        let start = Box::pin(fire_sync(&self.ports, schedule, self.new_id)).await?;
        match &start {
            SyncStart::NotDue | SyncStart::StartedByAnother => {}
            SyncStart::StillRunning(job) => tracing::debug!(job.id = %job, "a synchronization is due and waits for the one that runs"),
            SyncStart::Started(job) => tracing::info!(job.id = %job, "a synchronization of the lake was started"),
        }
        Ok(start)
    }
}
