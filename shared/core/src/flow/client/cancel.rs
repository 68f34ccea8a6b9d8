//! Cancels an export in any state.

use std::time::Duration;

use crate::access::Principal;
use crate::job::file_names::FileNames;
use crate::job::folder::Folder;
use crate::job::{ExportError, Job, JobEvent, Transition};
use crate::ports::{Clock, JobStore, OutputStore};
use crate::vocab::error::StoreError;
use crate::vocab::ids::JobId;

use super::end_job::end_job_and_free_space;

/// The time after which a cancellation leaves the rest of the files to the reaper. The function has 29 seconds on AWS, and a part of a folder
/// takes few.
const DELETION_TIME: Duration = Duration::from_secs(15);

/// Cancels a job of the client and deletes its files (rule P10). Returns the job as it was before.
///
/// The end of the job is recorded first, so that no worker can record anything afterwards, unless the disk is full. The reaper deletes files that a worker
/// is still writing, that could not be deleted here, or that are too many.
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
    if let Err(error) = delete_files(output, clock, &job.folder()).await {
        tracing::warn!(job.id = %id, error = &error as &dyn std::error::Error, "files were not deleted, the reaper will delete them");
    }
    Ok(job)
}

/// Deletes the files of a folder until the time for it is up.
async fn delete_files(output: &impl OutputStore, clock: &impl Clock, folder: &Folder) -> Result<(), StoreError> {
    let (stop_at, mut position) = (clock.now() + DELETION_TIME, None::<String>);
    loop {
        position = output.delete_part_except(folder, &FileNames::default(), position.as_deref()).await?.next;
        if position.is_none() || clock.now() >= stop_at {
            return Ok(());
        }
    }
}
