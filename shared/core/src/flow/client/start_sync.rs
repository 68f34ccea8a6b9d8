//! Starts a synchronization: records the job and announces its plan.

use std::time::Duration;

use crate::access::Agent;
use crate::job::sync::SyncRequest;
use crate::job::task::PlanInput;
use crate::job::{ExportError, Job, JobSettings, RecordConditions};
use crate::ports::{JobStore, TaskQueue};
use crate::request::ExportRequest;
use crate::vocab::clock::Millis;
use crate::vocab::ids::{Caller, JobId, TaskId};

/// Returns the owner of the synchronizations of a lake.
pub fn sync_owner() -> Caller {
    Caller(Caller::SYNC.to_owned())
}

/// Starts a synchronization: records its job and then announces its plan (rule P1). Returns the job.
pub async fn start_sync(
    (jobs, queue): (&impl JobStore, &impl TaskQueue),
    id: JobId,
    request: SyncRequest,
    settings: JobSettings,
    now: Millis,
) -> Result<Job, ExportError> {
    let request_url = request.origin.clone();
    let job = Job { request_url, settings, ..Job::accepted(id, sync_owner(), ExportRequest::default(), now) };
    let plan = PlanInput { sync: Some(Box::new(request)), ..PlanInput::default() };
    jobs.record_job(&job, &plan, &RecordConditions::default(), &Agent::service()).await?;
    queue.announce_sync(&[TaskId::plan(&job.id)], Duration::ZERO).await?;
    Ok(job)
}
