//! Starts a synchronization: records the job and announces its plan.

use std::time::Duration;

use crate::access::Agent;
use crate::job::sync::SyncRequest;
use crate::job::task::PlanInput;
use crate::job::{ExportError, IdempotencyKey, Job, JobSettings, Quotas, RecordConditions, RecordOutcome};
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
    stores: (&impl JobStore, &impl TaskQueue),
    id: JobId,
    request: SyncRequest,
    settings: JobSettings,
    now: Millis,
) -> Result<Job, ExportError> {
    let (job, _) = record_sync(stores, id, request, RecordConditions::default(), (settings, now)).await?;
    Ok(job)
}

/// Starts the synchronization that is due at this time, unless it was started before, or another one is running: a lake has one FHIR
/// server, which is read by one synchronization at a time. Returns its job if it was started by this call.
pub async fn start_due_sync(
    stores: (&impl JobStore, &impl TaskQueue),
    id: JobId,
    (request, due_at): (SyncRequest, Millis),
    settings: JobSettings,
    now: Millis,
) -> Result<Option<Job>, ExportError> {
    let key = Some(IdempotencyKey::from_due_time(&sync_owner(), due_at));
    let quotas = Quotas { per_caller: Some(1), ..Quotas::default() };
    let conditions = RecordConditions { quotas, key, ..RecordConditions::default() };
    let (job, outcome) = record_sync(stores, id, request, conditions, (settings, now)).await?;
    Ok(Some(job).filter(|_| outcome == RecordOutcome::Recorded))
}

/// Records the job of a synchronization, and announces its plan.
async fn record_sync(
    (jobs, queue): (&impl JobStore, &impl TaskQueue),
    id: JobId,
    request: SyncRequest,
    conditions: RecordConditions,
    (settings, now): (JobSettings, Millis),
) -> Result<(Job, RecordOutcome), ExportError> {
    let request_url = request.origin.clone();
    let job = Job { request_url, settings, ..Job::accepted(id, sync_owner(), ExportRequest::default(), now) };
    let plan = PlanInput { sync: Some(Box::new(request)), ..PlanInput::default() };
    let outcome = jobs.record_job(&job, &plan, &conditions, &Agent::service()).await?;
    if outcome != RecordOutcome::Recorded {
        return Ok((job, outcome));
    }
    queue.announce_sync(&[TaskId::plan(&job.id)], Duration::ZERO).await?;
    Ok((job, outcome))
}
