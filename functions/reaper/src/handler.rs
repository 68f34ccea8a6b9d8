//! From the schedule's event to one run.

use headrace_core::flow::upkeep::reap::{Reaped, reap};
use headrace_core::flow::upkeep::seal::{SealTerms, Sealed, seal, unsealed_for};
use headrace_core::job::Quotas;
use headrace_core::ports::{AuditFiles, AuditTrail, Clock, JobStore, OutputStore, Ports, TaskQueue};
use headrace_core::vocab::error::StoreError;
use headrace_edge::telemetry::{Metric, count};
use lambda_runtime::Error;

/// What a run needs, for the life of the process. It reads no lake.
pub struct Reaper<J, Q, P, A, C> {
    ports: Ports<J, Q, (), P, C>,
    audit: A,
    quotas: Quotas,
    seals: SealTerms,
}

impl<J: JobStore + AuditTrail, Q: TaskQueue, P: OutputStore, A: AuditFiles, C: Clock> Reaper<J, Q, P, A, C> {
    /// With these ports; `quotas` say how many of the exports that wait may begin, `seals` how records are sealed.
    pub fn new((jobs, queue): (J, Q), (parts, audit): (P, A), clock: C, quotas: Quotas, seals: SealTerms) -> Self {
        Self { ports: Ports { jobs, queue, source: (), parts, clock }, audit, quotas, seals }
    }

    /// One run: exports first, then records for auditors; neither waits for the other to succeed. Fails if nothing could be
    /// looked at, so that the schedule's alarm sees it.
    pub async fn handle(&self) -> Result<Reaped, Error> {
        let reaped = reap(&self.ports, &self.quotas).await;
        if let Err(error) = self.seal().await {
            // The metric rises until this is mended; then everything is sealed that has piled up.
            tracing::error!(error = &error as &dyn std::error::Error, "records for auditors were not sealed, they wait in the job table");
        }
        let reaped = reaped?;
        let Reaped { announced, admitted, overdue, expired, files_deleted, failed } = reaped;
        if reaped == Reaped::default() {
            tracing::debug!("nothing was due");
        } else {
            tracing::info!(announced, admitted, overdue, expired, files_deleted, failed, "reaped");
        }
        if overdue > 0 {
            count(&[(Metric::JobsFailed, u64::from(overdue))]);
        }
        Ok(reaped)
    }

    async fn seal(&self) -> Result<(), StoreError> {
        let sealed = seal(&self.ports.jobs, &self.audit, &self.ports.clock, self.seals).await;
        let waiting = unsealed_for(&self.ports.jobs, &self.ports.clock).await?;
        count(&[(Metric::AuditUnsealed, waiting.as_secs())]);
        let Sealed { records, files } = sealed?;
        if records > 0 {
            tracing::info!(records, files, "sealed for auditors");
        }
        Ok(())
    }
}
