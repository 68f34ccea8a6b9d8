//! Takes an export back, at any moment of its life.

use std::collections::BTreeSet;

use crate::access::Principal;
use crate::job::{Job, JobEvent, Step};
use crate::ports::{Clock, JobStore, OutputStore};
use crate::vocab::error::ExportError;
use crate::vocab::ids::JobId;

/// Cancels the caller's own job and deletes its files (rule P10).
///
/// The end is recorded first: from then on no worker can record anything. Files that a worker still writes, or that
/// could not be deleted now, are swept by the reaper.
pub async fn cancel(
    jobs: &impl JobStore,
    parts: &impl OutputStore,
    clock: &impl Clock,
    id: &JobId,
    visitor: &Principal,
) -> Result<Job, ExportError> {
    let now = clock.now();
    let absent = ExportError::NotFound("this export");
    let Some(job) = jobs.job(id).await?.filter(|job| job.is_visible_to(visitor, now)) else { return Err(absent) };
    match jobs.end_job(id, JobEvent::CancelAsked, None, &visitor.agent(), now).await? {
        Some(Step::To(_)) => {}
        Some(Step::Already) | None => return Err(absent),
    }
    if let Err(error) = parts.sweep(&job.folder(), &BTreeSet::new()).await {
        tracing::warn!(job.id = %id, error = &error as &dyn std::error::Error, "files were not deleted, the reaper will do it");
    }
    Ok(job)
}
