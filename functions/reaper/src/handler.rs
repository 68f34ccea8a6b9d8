//! Handles the scheduled event.

use headrace_core::flow::upkeep::reap::{Reaped, reap};
use headrace_core::flow::upkeep::seal::{SealSettings, Sealed, backlog_age, seal};
use headrace_core::job::Quotas;
use headrace_core::ports::{AuditFiles, AuditTrail, Clock, JobStore, NoFeed, OutputStore, Ports, TaskQueue};
use headrace_core::vocab::error::StoreError;
use headrace_edge::telemetry::{Metric, record_metrics};
use lambda_runtime::Error;

/// The handler for the upkeep of jobs, files and audit records. It lives as long as the process and does not read the lake.
pub struct ReaperHandler<J, Q, P, A, C> {
    ports: Ports<J, Q, (), P, C>,
    audit: A,
    quotas: Quotas,
    seal_settings: SealSettings,
}

impl<J: JobStore + AuditTrail, Q: TaskQueue, P: OutputStore, A: AuditFiles, C: Clock> ReaperHandler<J, Q, P, A, C> {
    /// Creates the handler. `quotas` limit how many queued exports start; `seal_settings` control the sealing of audit records.
    pub fn new((jobs, queue): (J, Q), (output, audit): (P, A), clock: C, quotas: Quotas, seal_settings: SealSettings) -> Self {
        Self { ports: Ports { jobs, queue, source: (), output, clock, feed: NoFeed }, audit, quotas, seal_settings }
    }

    /// Runs once: exports first, then audit records. A failure of one does not stop the other. Fails if due items could not be
    /// read, so that the alarm for failed runs rings.
    pub async fn handle(&self) -> Result<Reaped, Error> {
        let reaped = Box::pin(reap(&self.ports, &self.quotas)).await;
        if let Err(error) = self.seal().await {
            // The metric of the backlog rises until sealing works again. Then the whole backlog is sealed.
            tracing::error!(error = &error as &dyn std::error::Error, "audit records were not sealed and stay in the job table");
        }
        let reaped = reaped?;
        let Reaped { announced, started, overdue, expired, files_deleted, unfinished, failed } = reaped;
        if reaped == Reaped::default() {
            tracing::debug!("nothing was due");
        } else {
            tracing::info!(announced, started, overdue, expired, files_deleted, unfinished, failed, "reaped");
        }
        if overdue > 0 {
            record_metrics(&[(Metric::JobsFailed, u64::from(overdue))]);
        }
        Ok(reaped)
    }

    /// Seals audit records and records the age of those that are left as a metric, also if sealing fails.
    async fn seal(&self) -> Result<(), StoreError> {
        let sealed = seal(&self.ports.jobs, &self.audit, &self.ports.clock, self.seal_settings).await;
        let backlog_age = backlog_age(&self.ports.jobs, &self.ports.clock).await?;
        record_metrics(&[(Metric::AuditBacklogAgeSeconds, backlog_age.as_secs())]);
        let Sealed { records, files } = sealed?;
        if records > 0 {
            tracing::info!(records, files, "audit records sealed");
        }
        Ok(())
    }
}
