//! Accepts an export: resolve, look who it is about, record, announce. An export of the whole system or of all patients
//! is accepted within milliseconds.

use std::time::Duration;

use crate::access::{Agent, Principal};
use crate::job::anonymization::JobSecret;
use crate::job::task::Planning;
use crate::job::{Conditions, IdempotencyKey, Job, JobEvent, JobState, Limits, Quotas, Reason, ReasonKind, Recorded};
use crate::ports::{Clock, JobStore, OutputStore, ResourceSource, TaskQueue};
use crate::request::{Asked, ExportRequest, Policy, Refusal, Resolved};
use crate::vocab::error::{ExportError, StoreError};
use crate::vocab::ids::{JobId, TaskId};
use crate::vocab::outcome::IssueCode;

use super::admit::admit;
use crate::flow::look_up::{LookUpTerms, Subjects};
use crate::flow::work::deidentify::pin;

/// The most bytes of JSON that a job's record keeps of its request.
const REQUEST_LIMIT_BYTES: usize = 64 << 10;

/// A kick-off and where it came from.
#[derive(Clone, Debug)]
pub struct KickOff {
    /// The new job's name.
    pub id: JobId,
    /// What was asked.
    pub asked: Asked,
    /// By whom.
    pub visitor: Principal,
    /// The FHIR base that the client used, without a slash at its end.
    pub base: String,
    /// The request's full URL.
    pub request_url: String,
    /// The value of the header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// What the job's own keys come from, should it be de-identified.
    pub secret: JobSecret,
}

/// What the operator promises and allows, as a kick-off meets it.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// What may be asked.
    pub policy: &'a Policy,
    /// What jobs are promised.
    pub limits: Limits,
    /// How many may be at work.
    pub quotas: Quotas,
    /// How thoroughly groups and patients are looked up.
    pub look_up: LookUpTerms,
}

/// Records the job, then announces its plan (rule P1), at once or when its turn has come.
///
/// What the lake cannot answer is refused, as far as that shows within the patience of `settings`; and so is an export
/// whose client has a destination of its own that cannot be used.
///
/// A kick-off that has come before under the same key gives the job that it started then.
pub async fn kick_off(
    (jobs, queue): (&impl JobStore, &impl TaskQueue),
    (source, parts): (&impl ResourceSource, &impl OutputStore),
    clock: &impl Clock,
    settings: Settings<'_>,
    kick_off: KickOff,
) -> Result<Job, ExportError> {
    let now = clock.now();
    let Resolved { mut request, patients, is_lenient } =
        ExportRequest::resolve(&kick_off.asked, settings.policy, &kick_off.visitor.reach, now)?;
    let plan = Planning { patients };
    let asked = must_fit(&request)?;
    let key = match &kick_off.idempotency_key {
        Some(header) => {
            let patients = plan.patients.join("\n");
            let same = [kick_off.request_url.as_bytes(), &asked, patients.as_bytes()];
            Some(IdempotencyKey::read(header, &kick_off.visitor.caller, &same)?)
        }
        None => None,
    };
    let subjects = Subjects { job: &kick_off.id, request: &request, patients: &plan.patients, bases: &settings.policy.bases };
    let left_out = subjects.first_look(source, clock, settings.look_up, is_lenient).await?;
    request.ignored.extend(left_out);
    let destination = kick_off.visitor.reach.client.as_ref().and_then(|client| client.destination.clone());
    if let Some(own) = &destination {
        parts.check(Some(own)).await?;
    }
    let pinned = match &request.anonymization {
        None => None,
        Some(asked) => Some(pin(jobs, (parts, destination.as_deref()), (&kick_off.id, &kick_off.secret), asked, request.version).await?),
    };
    let quotas = settings.quotas;
    let client_jobs = kick_off.visitor.reach.client.as_ref().and_then(|client| client.jobs);
    let job = Job {
        state: if quotas.of_client(client_jobs).make_wait() { JobState::Queued } else { JobState::Accepted },
        request_url: request.shown_url(&kick_off.request_url, &kick_off.base),
        base: kick_off.base,
        limits: settings.limits,
        requires_access_token: kick_off.visitor.is_authenticated,
        destination,
        pinned,
        ..Job::accepted(kick_off.id, kick_off.visitor.caller.clone(), request, now)
    };
    let recorded = match jobs.record_job(&job, &plan, &Conditions { quotas, client_jobs, key }, &kick_off.visitor.agent()).await {
        // The answer was lost; whether the job is there can be seen.
        Err(StoreError::Unknown { .. }) if jobs.job(&job.id).await?.is_some() => Recorded::Yes,
        recorded => recorded?,
    };
    let job = match recorded {
        Recorded::Yes => job,
        Recorded::Before(before) => {
            let before = before.map(|before| *before).filter(|before| before.is_visible_to(&kick_off.visitor, now));
            before.ok_or_else(IdempotencyKey::over)?
        }
        Recorded::KeyReused => return Err(IdempotencyKey::reused().into()),
        Recorded::Full(limit) => return Err(ExportError::TooMany(limit)),
    };
    let announced = match job.state {
        // In its turn: others may have waited longer.
        JobState::Queued => admit(jobs, queue, &quotas, now).await.map(drop),
        // Also for a kick-off that comes again: the process that recorded the job may have died over it.
        JobState::Accepted => queue.announce(&[TaskId::plan(&job.id)], Duration::ZERO).await.map_err(ExportError::from),
        JobState::Running | JobState::Complete | JobState::Failed | JobState::Cancelled | JobState::Expired => Ok(()),
    };
    match announced {
        Err(error @ ExportError::Store(StoreError::Misconfigured { .. })) => {
            let reason = Reason { kind: ReasonKind::Misconfigured, text: error.to_string() };
            jobs.end_job(&job.id, JobEvent::GivenUp, Some(reason), &Agent::service(), now).await?;
            Err(error)
        }
        // The job is recorded: the reaper announces what was not seen.
        Err(error) => {
            tracing::warn!(job.id = %job.id, error = &error as &dyn std::error::Error, "the plan was not announced, the reaper will do it");
            Ok(job)
        }
        Ok(()) => Ok(job),
    }
}

/// Refuses what would make the job's record heavy: it is read and written with every task that closes.
fn must_fit(request: &ExportRequest) -> Result<Vec<u8>, Refusal> {
    let asked = serde_json::to_vec(request).unwrap_or_default();
    if asked.len() <= REQUEST_LIMIT_BYTES {
        return Ok(asked);
    }
    let text = format!(
        "the request has {} bytes of types, filters and elements, and {REQUEST_LIMIT_BYTES} are the most; split it into several exports",
        asked.len()
    );
    Err(Refusal { status: 413, code: IssueCode::TooCostly, text, expression: None })
}
