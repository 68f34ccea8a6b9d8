//! Accepts an export: resolve, record, announce. Nothing else, so that it answers within milliseconds.

use std::time::Duration;

use crate::error::{ExportError, StoreError};
use crate::ids::{Caller, JobId, TaskId};
use crate::job::{Job, JobEvent, Limits, Reason, ReasonKind};
use crate::ports::{Clock, JobStore, TaskQueue};
use crate::request::{Asked, ExportRequest, Policy, Resolved};
use crate::task::Planning;

/// A kick-off and where it came from.
#[derive(Clone, Debug)]
pub struct KickOff {
    /// The new job's name.
    pub id: JobId,
    /// What was asked.
    pub asked: Asked,
    /// By whom.
    pub caller: Caller,
    /// The FHIR base that the client used, without a slash at its end.
    pub base: String,
    /// The request's full URL.
    pub request_url: String,
    /// Whether file requests will need the caller's credentials.
    pub requires_access_token: bool,
}

/// Records the job, then announces its plan (rule P1).
pub async fn kick_off(
    jobs: &impl JobStore,
    queue: &impl TaskQueue,
    clock: &impl Clock,
    (policy, limits): (&Policy, Limits),
    kick_off: KickOff,
) -> Result<Job, ExportError> {
    let now = clock.now();
    let Resolved { request, patients } = ExportRequest::resolve(&kick_off.asked, policy, now)?;
    let job = Job {
        request_url: kick_off.request_url,
        base: kick_off.base,
        limits,
        requires_access_token: kick_off.requires_access_token,
        ..Job::accepted(kick_off.id, kick_off.caller, request, now)
    };
    match jobs.record_job(&job, &Planning { patients }).await {
        // The answer was lost; whether the job is there can be seen.
        Err(StoreError::Unknown { .. }) if jobs.job(&job.id).await?.is_some() => {}
        recorded => recorded?,
    }
    match queue.announce(&[TaskId::plan(&job.id)], Duration::ZERO).await {
        Err(error @ StoreError::Misconfigured { .. }) => {
            let reason = Reason { kind: ReasonKind::Misconfigured, text: error.to_string() };
            jobs.end_job(&job.id, JobEvent::GivenUp, Some(reason), now).await?;
            Err(error.into())
        }
        // The job is recorded: the reaper announces what was not seen.
        Err(error) => {
            tracing::warn!(job.id = %job.id, error = &error as &dyn std::error::Error, "the plan was not announced, the reaper will do it");
            Ok(job)
        }
        Ok(()) => Ok(job),
    }
}
