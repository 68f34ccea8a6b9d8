//! Cancels an export in any state.

use std::collections::BTreeSet;

use crate::access::Principal;
use crate::job::ExportError;
use crate::job::{Job, JobEvent, Transition};
use crate::ports::{Clock, JobStore, OutputStore};
use crate::vocab::ids::JobId;

use super::end_job::end_job_and_free_space;

/// Cancels a job of the client and deletes its files (rule P10). Returns the job as it was before.
///
/// The end of the job is recorded first, so that no worker can record anything afterwards, unless the disk is full. The reaper deletes files that a worker
/// is still writing or that could not be deleted here.
pub async fn cancel(
    jobs: &impl JobStore,
    output: &impl OutputStore,
    clock: &impl Clock,
    id: &JobId,
    principal: &Principal,
) -> Result<Job, ExportError> {
    let now = clock.now();
    let not_found = ExportError::NotFound("this export");
    let Some(job) = jobs.job(id).await?.filter(|job| job.is_visible_to(principal, now)) else { return Err(not_found) };
    match end_job_and_free_space(jobs, output, &job, (JobEvent::CancelRequested, None), &principal.agent(), now).await? {
        Some(Transition::To(_)) => {}
        Some(Transition::AlreadyDone) | None => return Err(not_found),
    }
    if let Err(error) = output.delete_all_except(&job.folder(), &FileNames::default()).await {
        tracing::warn!(job.id = %id, error = &error as &dyn std::error::Error, "files were not deleted, the reaper will delete them");
    }
    Ok(job)
}
