//! Accepts an export: resolves the request, prechecks its patients, records the job and announces its plan.
//!
//! An export of the whole system or of all patients is accepted within milliseconds.

use std::time::Duration;

use crate::access::{Agent, Permissions, Principal};
use crate::job::ExportError;
use crate::job::task::PlanInput;
use crate::job::{
    ExportTime, FailureKind, FailureReason, IdempotencyKey, Job, JobEvent, JobSecret, JobSettings, JobState, Quotas, RecordConditions,
    RecordOutcome,
};
use crate::ports::{Clock, JobSecretEncryptor, JobStore, OutputStore, ResourceSource, TaskQueue};
use crate::request::{
    AcceptedRemarks, ExportPolicy, ExportRequest, Parameter, RawKickOff, RequestError, ResolvedConfiguration, ResolvedRequest,
};
use crate::schedule::ScheduleFiring;
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;
use crate::vocab::ids::{JobId, TaskId};
use crate::vocab::lake_settings::LakeWatermark;
use crate::vocab::outcome::IssueCode;

use super::pin_configuration::{PinnedConfiguration, pin_configuration, resolve_configuration};
use super::start_queued::start_queued;
use crate::flow::export_time::determine_export_time;
use crate::flow::resolve_patients::{PatientResolutionSettings, PatientResolver};

/// The largest size of a request in the record of a job, in bytes of JSON.
const REQUEST_LIMIT_BYTES: usize = 64 << 10;

/// A kick-off request and its origin.
#[derive(Clone, Debug)]
pub struct KickOff {
    /// The id of the new job.
    pub id: JobId,
    /// The parameters and headers as they were sent.
    pub raw: RawKickOff,
    /// The client.
    pub principal: Principal,
    /// The FHIR base URL that the client used, without a slash at its end.
    pub base: String,
    /// The full URL of the request.
    pub request_url: String,
    /// The value of the header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The secret from which the keys of a de-identified export are derived.
    pub secret: JobSecret,
    /// The schedule that starts the export, and its change.
    pub firing: Option<ScheduleFiring>,
}

/// The operator's settings for kick-offs.
#[derive(Clone, Copy, Debug)]
pub struct KickOffSettings<'a> {
    /// The limits on what clients may request.
    pub policy: &'a ExportPolicy,
    /// The settings that a new job keeps.
    pub job: JobSettings,
    /// The limits on concurrent exports.
    pub quotas: Quotas,
    /// The moment up to which the lake is complete.
    pub watermark: LakeWatermark,
    /// The limits of the precheck.
    pub patient_resolution: PatientResolutionSettings,
}

/// Accepts an export: records the job and then announces its plan (rule P1), at once or when a slot is free. Returns the job.
///
/// A kick-off that repeats an idempotency key returns the job that the key started. Returns an error if the request is invalid, if
/// the precheck finds within its time limit that the lake cannot answer it, or if the client's own destination cannot be used.
pub async fn kick_off(
    (jobs, queue): (&(impl JobStore + JobSecretEncryptor), &impl TaskQueue),
    stores: (&impl ResourceSource, &impl OutputStore),
    clock: &impl Clock,
    settings: KickOffSettings<'_>,
    kick_off: KickOff,
) -> Result<Job, ExportError> {
    Box::pin(kick_off_or_replacement((jobs, queue), stores, clock, settings, kick_off, |_| None)).await
}

/// Accepts an export as [`kick_off`] does, or the one that `replacement` returns for its job instead.
pub async fn kick_off_or_replacement(
    (jobs, queue): (&(impl JobStore + JobSecretEncryptor), &impl TaskQueue),
    stores: (&impl ResourceSource, &impl OutputStore),
    clock: &impl Clock,
    settings: KickOffSettings<'_>,
    mut kick_off: KickOff,
    replacement: impl FnOnce(&Job) -> Option<KickOff> + Send,
) -> Result<Job, ExportError> {
    if kick_off.raw.asks_for_estimate()? {
        // A schedule has asked: a client's request for an estimate does not come here.
        let text = "_estimate=true starts nothing: leave it out";
        return Err(RequestError::new(400, IssueCode::NotSupported, Parameter::Estimate.as_str(), text).into());
    }
    let mut prepared = prepare(jobs, stores, clock, settings, &kick_off).await?;
    if let Some(replacement) = replacement(&prepared.job) {
        kick_off = replacement;
        prepared = prepare(jobs, stores, clock, settings, &kick_off).await?;
    }
    let PreparedJob { job, plan, key, client_quota, .. } = prepared;
    let (quotas, now) = (settings.quotas, job.created_at);
    let conditions = RecordConditions { quotas, client_quota, key, firing: kick_off.firing };
    let job = record(jobs, job, &plan, &conditions, &kick_off.principal, now).await?;
    announce(jobs, queue, &quotas, job, now).await
}

/// A job that is ready to be recorded.
pub(super) struct PreparedJob {
    pub(super) job: Job,
    pub(super) plan: PlanInput,
    /// The time that a plan would take now.
    pub(super) time: ExportTime,
    key: Option<IdempotencyKey>,
    client_quota: Option<u32>,
}

/// Validates a kick-off, and returns its job. Changes nothing.
pub(super) async fn prepare(
    encryptor: &impl JobSecretEncryptor,
    (source, output): (&impl ResourceSource, &impl OutputStore),
    clock: &impl Clock,
    settings: KickOffSettings<'_>,
    kick_off: &KickOff,
) -> Result<PreparedJob, ExportError> {
    let now = clock.now();
    // A client may also name patients by the URL of this server.
    let policy = ExportPolicy { bases: settings.policy.bases.named_and(Some(&kick_off.base)), ..settings.policy.clone() };
    let parse_key = |request: &[u8], patients: &[String]| match &kick_off.idempotency_key {
        Some(header) => {
            let patients = patients.join("\n");
            let fingerprinted = [kick_off.request_url.as_bytes(), request, patients.as_bytes()];
            let registration = kick_off.principal.permissions.registration_id();
            let key = IdempotencyKey::parse(header, &kick_off.principal.caller, &fingerprinted);
            key.map(|key| Some(key.for_registration(registration)))
        }
        None => Ok(None),
    };
    let sent = (&kick_off.id, &kick_off.raw, &kick_off.principal.permissions);
    let (checked, key) = check_request(source, (clock, now), (settings, &policy), sent, parse_key).await?;
    let CheckedKickOff { mut request, patients, time } = checked;
    let plan = PlanInput { patients, ..PlanInput::default() };
    let client = kick_off.principal.permissions.client.as_ref();
    let destination = client.and_then(|client| client.destination.clone());
    if let Some(own) = &destination {
        output.check(Some(own)).await?;
    }
    let pinned_config = match &request.anonymization {
        None => None,
        Some(requested) => {
            let secret = (&kick_off.id, &kick_off.secret);
            let (store, accepted) = ((output, destination.as_deref()), &settings.policy.accepted_remarks);
            let rules = (accepted, &kick_off.principal.permissions);
            Some(pin_configuration(encryptor, store, secret, (requested, &request), rules).await?)
        }
    };
    let pinned_config = pinned_config.map(|PinnedConfiguration { pinned, resolved }| {
        set_configuration(&mut request, resolved);
        pinned
    });
    request.check_deletions()?;
    let client_quota = client.and_then(|client| client.max_exports);
    let job = Job {
        state: if settings.quotas.with_client_quota(client_quota).can_queue() { JobState::Queued } else { JobState::Accepted },
        request_url: request.redacted_url(&kick_off.request_url, &kick_off.base),
        base: kick_off.base.clone(),
        schedule: kick_off.firing.as_ref().map(|firing| firing.key.clone()),
        has_webhook: client.is_some_and(|client| client.webhook.is_some())
            || kick_off.firing.as_ref().is_some_and(|firing| firing.state.webhook.is_some()),
        settings: settings.job,
        requires_access_token: kick_off.principal.is_authenticated,
        destination,
        pinned_config,
        owner_registration: kick_off.principal.permissions.registration_id().cloned(),
        ..Job::accepted(kick_off.id.clone(), kick_off.principal.caller.clone(), request, now)
    };
    Ok(PreparedJob { job, plan, time, key, client_quota })
}

/// Request of a kick-off that would be accepted.
#[derive(Debug)]
pub struct CheckedKickOff {
    /// Request.
    pub request: ExportRequest,
    /// Ids of the parameter `patient`, sorted and without duplicates.
    pub patients: Vec<String>,
    /// Time that a plan would take now.
    pub time: ExportTime,
}

/// Checks everything that a kick-off without a destination of the client checks, and starts nothing. Returns what was checked, or the error of
/// the kick-off.
pub async fn check_kick_off(
    (source, output): (&impl ResourceSource, &impl OutputStore),
    clock: &impl Clock,
    settings: KickOffSettings<'_>,
    (id, raw, permissions): (&JobId, &RawKickOff, &Permissions),
) -> Result<CheckedKickOff, ExportError> {
    let (policy, now) = (settings.policy, clock.now());
    let (mut checked, ()) = check_request(source, (clock, now), (settings, policy), (id, raw, permissions), |_, _| Ok(())).await?;
    resolve_anonymization((output, None), &mut checked.request, (&policy.accepted_remarks, permissions)).await?;
    Ok(checked)
}

/// Checks what a kick-off checks without the lake: the parameters, and the anonymization configuration that they name with the remarks about
/// it. Starts and stores nothing. For a lake that has yet to be filled.
pub async fn check_parameters(
    output: &impl OutputStore,
    (policy, now): (&ExportPolicy, Millis),
    (raw, permissions): (&RawKickOff, &Permissions),
) -> Result<(), ExportError> {
    let ResolvedRequest { mut request, .. } = ExportRequest::resolve(raw, policy, permissions, now)?;
    serialize_within_limit(&request)?;
    resolve_anonymization((output, None), &mut request, (&policy.accepted_remarks, permissions)).await
}

/// Reads and checks the anonymization configuration that a request names, and checks what depends on it. Stores nothing. `own` is the client's
/// own destination.
pub(super) async fn resolve_anonymization(
    (output, own): (&impl OutputStore, Option<&str>),
    request: &mut ExportRequest,
    (accepted, permissions): (&AcceptedRemarks, &Permissions),
) -> Result<(), ExportError> {
    if let Some(requested) = &request.anonymization {
        let resolved = resolve_configuration((output, own), (requested, &*request), (accepted, permissions)).await?;
        set_configuration(request, resolved);
    }
    Ok(request.check_deletions()?)
}

/// Resolves a request, and checks the watermark and the patients of its export. Returns what was checked, and the result of `parse_key`.
///
/// * `policy`: that of the settings, with the URLs by which the client may name this server.
/// * `parse_key`: called with the JSON of the request, and the patients, as the client sent them. The precheck then adds ignored patients to
///   the request, and they may be others when the client repeats it.
async fn check_request<K>(
    source: &impl ResourceSource,
    (clock, now): (&impl Clock, Millis),
    (settings, policy): (KickOffSettings<'_>, &ExportPolicy),
    (id, raw, permissions): (&JobId, &RawKickOff, &Permissions),
    parse_key: impl FnOnce(&[u8], &[String]) -> Result<K, RequestError>,
) -> Result<(CheckedKickOff, K), ExportError> {
    let ResolvedRequest { mut request, patients, is_lenient } = ExportRequest::resolve(raw, policy, permissions, now)?;
    let key = parse_key(&serialize_within_limit(&request)?, &patients)?;
    // A missing or wrong watermark fails here, by name. The plan takes the time anew, because it may run much later.
    let time = determine_export_time(source, settings.watermark, now).await?;
    let resolver = PatientResolver { job: id, request: &request, patients: &patients, bases: &settings.policy.bases };
    let ignored = resolver.precheck(source, (clock, time.transaction_time), settings.patient_resolution, is_lenient).await?;
    request.ignored.extend(ignored);
    Ok((CheckedKickOff { request, patients, time }, key))
}

/// Adds the results of the checks of an anonymization configuration to the request that names it.
fn set_configuration(request: &mut ExportRequest, resolved: ResolvedConfiguration) {
    request.anonymization = request.anonymization.take().map(|requested| requested.with_resolved(resolved));
}

/// Stores the job. Returns it, or the earlier job that was started under the same idempotency key.
async fn record(
    jobs: &impl JobStore,
    job: Job,
    plan: &PlanInput,
    conditions: &RecordConditions,
    principal: &Principal,
    now: Millis,
) -> Result<Job, ExportError> {
    let outcome = match jobs.record_job(&job, plan, conditions, &principal.agent()).await {
        // The answer was lost, but the job id is new: if the job exists, this call has recorded it.
        Err(StoreError::Unknown { .. }) if jobs.job(&job.id).await?.is_some() => RecordOutcome::Recorded,
        outcome => outcome?,
    };
    match outcome {
        RecordOutcome::Recorded => Ok(job),
        RecordOutcome::Duplicate(earlier) => {
            let earlier = earlier.map(|earlier| *earlier).filter(|earlier| earlier.is_visible_to(principal, now));
            Ok(earlier.ok_or_else(IdempotencyKey::job_gone)?)
        }
        RecordOutcome::KeyReused => Err(IdempotencyKey::reused().into()),
        RecordOutcome::NoSlot(quota) => Err(ExportError::QuotaReached(quota)),
        RecordOutcome::ScheduleChanged => Err(StoreError::Stale.into()),
    }
}

/// Announces the plan of the recorded job. Returns the job, also if the reaper has to repeat the announcement.
async fn announce(jobs: &impl JobStore, queue: &impl TaskQueue, quotas: &Quotas, job: Job, now: Millis) -> Result<Job, ExportError> {
    let announced = match job.state {
        // The queue is first in, first out: jobs that were queued earlier start first.
        JobState::Queued => start_queued(jobs, queue, quotas, now).await.map(drop),
        // This includes a repeated kick-off: the process that recorded the job may have died before it announced the plan.
        JobState::Accepted => queue.announce(&[TaskId::plan(&job.id)], Duration::ZERO).await.map_err(ExportError::from),
        JobState::Running | JobState::Complete | JobState::Failed | JobState::Cancelled | JobState::Expired => Ok(()),
    };
    match announced {
        Ok(()) => Ok(job),
        // A wrong setting does not heal, so the reaper could not announce the plan either.
        Err(error @ ExportError::Store(StoreError::Misconfigured { .. })) => {
            let reason = FailureReason { kind: FailureKind::Misconfigured, text: error.to_string() };
            jobs.end_job(&job.id, JobEvent::Failed, Some(reason), &Agent::service(), now).await?;
            Err(error)
        }
        Err(error) => {
            tracing::warn!(job.id = %job.id, error = &error as &dyn std::error::Error, "the plan was not announced, the reaper will announce it");
            Ok(job)
        }
    }
}

/// Serializes the request. Rejects a large one, because the record of a job is read and written whenever one of its tasks completes.
fn serialize_within_limit(request: &ExportRequest) -> Result<Vec<u8>, RequestError> {
    let json = serde_json::to_vec(request).unwrap_or_default();
    if json.len() <= REQUEST_LIMIT_BYTES {
        return Ok(json);
    }
    let text = format!(
        "the types, filters and elements of the request have {} bytes, more than the limit of {REQUEST_LIMIT_BYTES}; split the request into several exports",
        json.len()
    );
    Err(RequestError { status: 413, code: IssueCode::TooCostly, text, expression: None })
}
