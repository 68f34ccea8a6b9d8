//! Starts queued exports while slots are free: first in, first out.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::job::ExportError;
use crate::job::{Quota, Quotas};
use crate::ports::{JobStore, QueueStart, TaskQueue};
use crate::vocab::clock::Millis;
use crate::vocab::ids::TaskId;

/// The number of queued jobs read at a time.
const JOBS_PER_PAGE: u16 = 100;

/// Starts queued jobs until no further one can start. Returns the number of jobs started.
///
/// Each job is recorded as started and then announced (rule P1). The reaper repeats an announcement that was lost. A client
/// without a free slot keeps its place in the queue and does not block the clients behind it.
pub async fn start_queued(jobs: &impl JobStore, queue: &impl TaskQueue, quotas: &Quotas, now: Millis) -> Result<u32, ExportError> {
    let (mut started, mut clients_without_slot) = (0, BTreeSet::new());
    let mut after = None;
    loop {
        let page = jobs.queued_jobs(after.as_ref(), JOBS_PER_PAGE).await?;
        for queued in &page {
            if clients_without_slot.contains(&queued.owner.0) {
                continue;
            }
            match jobs.start_queued(queued, &quotas.with_client_quota(queued.client_quota), now).await? {
                QueueStart::Started => {
                    queue.announce(&[TaskId::plan(&queued.job)], Duration::ZERO).await?;
                    started += 1;
                }
                QueueStart::NoSlot(Quota::Global(_)) => return Ok(started),
                QueueStart::NoSlot(Quota::PerCaller(_)) => drop(clients_without_slot.insert(queued.owner.0.clone())),
                QueueStart::NotQueued => {}
            }
        }
        match page.into_iter().next_back() {
            Some(last) => after = Some(last),
            None => return Ok(started),
        }
    }
}

/// Starts queued jobs after another job has ended. A failure is only logged, because the reaper starts them later.
pub(in crate::flow) async fn start_queued_after_end(jobs: &impl JobStore, queue: &impl TaskQueue, quotas: &Quotas, now: Millis) {
    if let Err(error) = start_queued(jobs, queue, quotas, now).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "queued exports were not started, the reaper will start them");
    }
}
