//! From the schedule's event to one run.

use headrace_core::flow::reap::{Reaped, reap};
use headrace_core::job::Quotas;
use headrace_core::ports::{Clock, JobStore, PartStore, Ports, TaskQueue};
use headrace_edge::telemetry::{Metric, count};
use lambda_runtime::Error;

/// What a run needs, for the life of the process. It reads no lake.
pub struct Reaper<J, Q, P, C> {
    ports: Ports<J, Q, (), P, C>,
    quotas: Quotas,
}

impl<J: JobStore, Q: TaskQueue, P: PartStore, C: Clock> Reaper<J, Q, P, C> {
    /// With these ports; `quotas` say how many of the exports that wait may begin.
    pub fn new(jobs: J, queue: Q, parts: P, clock: C, quotas: Quotas) -> Self {
        Self { ports: Ports { jobs, queue, source: (), parts, clock }, quotas }
    }

    /// One run. Fails if nothing could be looked at, so that the schedule's alarm sees it.
    pub async fn handle(&self) -> Result<Reaped, Error> {
        let reaped = reap(&self.ports, &self.quotas).await?;
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
}
