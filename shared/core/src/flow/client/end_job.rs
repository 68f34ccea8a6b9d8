//! Ends a job, also on a full disk.

use crate::access::Agent;
use crate::job::file_names::FileNames;
use crate::job::{FailureReason, Job, JobEvent, Transition};
use crate::ports::{JobStore, OutputStore};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;

/// Applies an event that ends a job and after which its files are of no use. Returns what [`JobStore::end_job`] returns.
///
/// The end is recorded before files are deleted, so that no worker records anything afterwards. Only if there is no space for the record,
/// the files are deleted first: without that, a full disk could not be freed through the service.
pub async fn end_job_and_free_space(
    jobs: &impl JobStore,
    output: &impl OutputStore,
    job: &Job,
    (event, reason): (JobEvent, Option<FailureReason>),
    agent: &Agent,
    now: Millis,
) -> Result<Option<Transition>, StoreError> {
    match jobs.end_job(&job.id, event, reason.clone(), agent, now).await {
        Err(StoreError::OutOfSpace { .. }) => {
            output.delete_all_except(&job.folder(), &FileNames::default()).await?;
            jobs.end_job(&job.id, event, reason, agent, now).await
        }
        ended => ended,
    }
}
