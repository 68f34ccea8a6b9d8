//! Gives waiting exports their turn: first in, first out, as far as there is room.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::job::{Limit, Quotas};
use crate::ports::{Admission, JobStore, TaskQueue};
use crate::vocab::clock::Millis;
use crate::vocab::error::ExportError;
use crate::vocab::ids::TaskId;

/// Looks at this many waiting jobs at a time.
const LOOKS: u16 = 100;

/// Begins waiting jobs until nobody can begin any more; how many began. Each is recorded as begun, then announced
/// (rule P1): the reaper announces whose announcement was lost.
///
/// A caller whose own limit is met is passed over, and keeps its place; whoever comes later does not have to wait for it.
pub async fn admit(jobs: &impl JobStore, queue: &impl TaskQueue, quotas: &Quotas, now: Millis) -> Result<u32, ExportError> {
    let (mut begun, mut full) = (0, BTreeSet::new());
    let mut after = None;
    loop {
        let page = jobs.waiting(after.as_ref(), LOOKS).await?;
        for waiting in &page {
            if full.contains(&waiting.owner.0) {
                continue;
            }
            match jobs.admit(waiting, &quotas.of_client(waiting.client_jobs), now).await? {
                Admission::Begun => {
                    queue.announce(&[TaskId::plan(&waiting.job)], Duration::ZERO).await?;
                    begun += 1;
                }
                Admission::Full(Limit::Global(_)) => return Ok(begun),
                Admission::Full(Limit::PerCaller(_)) => drop(full.insert(waiting.owner.0.clone())),
                Admission::Gone => {}
            }
        }
        match page.into_iter().next_back() {
            Some(last) => after = Some(last),
            None => return Ok(begun),
        }
    }
}

/// The same where the caller has done its own work: a failure is the reaper's to make good.
pub(in crate::flow) async fn admit_after_an_end(jobs: &impl JobStore, queue: &impl TaskQueue, quotas: &Quotas, now: Millis) {
    if let Err(error) = admit(jobs, queue, quotas, now).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "waiting exports did not begin, the reaper will see to it");
    }
}
