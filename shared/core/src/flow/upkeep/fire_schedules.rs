//! Starts the exports of schedules that are due, and deletes results that a schedule does not keep.
//!
//! A run is the job and the change of the schedule, recorded in one transaction: a process that stops before it has started nothing,
//! and one that stops after it has started the run once. A schedule that cannot start its run says why, and the others run.

use crate::access::{Agent, Origin, Permissions, Principal};
use crate::audit::{AuditAction, AuditOutcome, AuditRecord};
use crate::flow::client::check_schedule::{UnusableClient, client_permissions};
use crate::flow::client::end_job::end_job_and_free_space;
use crate::flow::client::kick_off::{KickOff, KickOffSettings, kick_off_or_replacement};
use crate::job::file_names::FileNames;
use crate::job::{ExportError, Job, JobEvent, JobSecret, JobState};
use crate::ports::{
    AccessStore, AuditTrail, Clock, JobSecretEncryptor, JobStore, OutputStore, Ports, ResourceSource, ScheduleStore, TaskQueue,
};
use crate::request::{AnonymizationConfig, Preferences, RawKickOff, RequestError};
use crate::schedule::{Schedule, ScheduleProblem, ScheduleState, kick_off_url};
use crate::vocab::clock::Millis;
use crate::vocab::error::{SourceError, StoreError};
use crate::vocab::ids::{Caller, JobId};
use crate::vocab::outcome::IssueCode;
use crate::vocab::setting::Setting;

/// The number of runs that did not complete after which the list of a schedule's results is cleaned up.
const MAX_UNKEPT: usize = 20;

/// The parts of a run that do not come from its schedule.
#[derive(Clone, Copy, Debug)]
pub struct RunSettings<'a> {
    /// The operator's settings for kick-offs.
    pub kick_off: KickOffSettings<'a>,
    /// The FHIR base URL that clients use, without a slash at its end. Without it, no run starts.
    pub base: Option<&'a str>,
    /// True if access control is on, so that a schedule needs a client.
    pub requires_client: bool,
    /// Creates the id and the secret of a new job.
    pub new_job: fn() -> Result<(JobId, JobSecret), StoreError>,
}

/// The result of one check of all schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FiredSchedules {
    /// The number of exports started.
    pub started: u32,
    /// The number of runs skipped because the run before was still open.
    pub skipped: u32,
    /// The number of runs that could not be started.
    pub failed: u32,
    /// The number of schedules that stay as they are until the next check, because a store failed or no slot is free.
    pub delayed: u32,
    /// The number of older results deleted.
    pub deleted: u32,
}

/// The start of a run.
enum RunStart {
    /// The export was recorded.
    Started(Box<Job>),
    /// The run before is still open.
    Overlap(JobId),
}

/// Starts the due run of each schedule, and deletes results that it does not keep. A failed schedule does not stop the others.
pub async fn fire_schedules<J, S, O>(
    ports: &Ports<J, impl TaskQueue, S, O, impl Clock>,
    settings: RunSettings<'_>,
) -> Result<FiredSchedules, StoreError>
where
    J: JobStore + JobSecretEncryptor + AccessStore + AuditTrail + ScheduleStore,
    S: ResourceSource,
    O: OutputStore,
{
    let mut fired = FiredSchedules::default();
    for schedule in ports.jobs.schedules().await? {
        let name = schedule.key.name.clone();
        match Box::pin(check_schedule(ports, settings, schedule, &mut fired)).await {
            Ok(()) => {}
            Err(ExportError::Store(StoreError::Stale)) => {
                tracing::debug!(schedule = name.as_str(), "another process has changed the schedule, or has started its run");
            }
            Err(error) => {
                fired.delayed += 1;
                tracing::warn!(
                    schedule = name.as_str(),
                    error = &error as &dyn std::error::Error,
                    "a schedule was not checked completely, the next check will do so"
                );
            }
        }
    }
    Ok(fired)
}

/// Checks one schedule: deletes older results, then starts the run that is due. Counts in `fired` what was done.
async fn check_schedule<J, S, O>(
    ports: &Ports<J, impl TaskQueue, S, O, impl Clock>,
    settings: RunSettings<'_>,
    schedule: Schedule,
    fired: &mut FiredSchedules,
) -> Result<(), ExportError>
where
    J: JobStore + JobSecretEncryptor + AccessStore + AuditTrail + ScheduleStore,
    S: ResourceSource,
    O: OutputStore,
{
    let now = ports.clock.now();
    if schedule.state.is_ahead_of(now) {
        let name = schedule.key.name.as_str();
        tracing::warn!(schedule = name, until = %schedule.state.handled_until, "the clock was wrong when the schedule ran last: it continues from now on");
        let state = ScheduleState { handled_until: now, ..schedule.state.clone() };
        return replace(&ports.jobs, Schedule { state, ..schedule }).await.map(drop);
    }
    let schedule = match schedule.without_future_base(now) {
        Some(changed) => {
            let name = changed.key.name.as_str();
            tracing::warn!(schedule = name, "the clock was ahead when the schedule ran last: its next run exports everything");
            replace(&ports.jobs, changed).await?
        }
        None => schedule,
    };
    let schedule = delete_older_results(ports, schedule, now, fired).await?;
    let Some(due_at) = schedule.due_at(now) else { return Ok(()) };
    let (text, is_overlap) = match start_run(ports, settings, &schedule, (due_at, now)).await {
        Ok(RunStart::Started(job)) => {
            tracing::info!(schedule = schedule.key.name.as_str(), job.id = %job.id, owner = job.owner.0, due_at = %due_at, "a scheduled export was started");
            fired.started += 1;
            return Ok(());
        }
        Ok(RunStart::Overlap(open)) => {
            fired.skipped += 1;
            (format!("skipped, because the run before it, the export {open}, had not ended"), true)
        }
        Err(error) if is_temporary(&error) => return Err(error),
        Err(error) => {
            fired.failed += 1;
            record_rejection(&ports.jobs, &schedule, &error, now).await?;
            (error.to_string(), false)
        }
    };
    tracing::error!(schedule = schedule.key.name.as_str(), due_at = %due_at, reason = text, "a scheduled export was not started");
    replace(&ports.jobs, schedule.with_problem(ScheduleProblem { due_at, found_at: now, is_overlap, text })).await.map(drop)
}

/// Writes a changed schedule. Returns it with its new revision, or [`StoreError::Stale`] if another process has changed it.
async fn replace(store: &impl ScheduleStore, schedule: Schedule) -> Result<Schedule, ExportError> {
    if store.put_schedule(&schedule, Some(schedule.revision)).await? {
        Ok(Schedule { revision: schedule.revision + 1, ..schedule })
    } else {
        Err(StoreError::Stale.into())
    }
}

/// Starts a run, unless the one before is open.
async fn start_run<J, S, O>(
    ports: &Ports<J, impl TaskQueue, S, O, impl Clock>,
    settings: RunSettings<'_>,
    schedule: &Schedule,
    (due_at, now): (Millis, Millis),
) -> Result<RunStart, ExportError>
where
    J: JobStore + JobSecretEncryptor + AccessStore + AuditTrail + ScheduleStore,
    S: ResourceSource,
    O: OutputStore,
{
    if let Some(run) = &schedule.state.last_run
        && ports.jobs.job(&run.job).await?.is_some_and(|job| job.state.is_open())
    {
        return Ok(RunStart::Overlap(run.job.clone()));
    }
    let base = settings.base.ok_or_else(no_base_url)?;
    let principal = principal(&ports.jobs, schedule, settings.requires_client).await?;
    let new_job = (settings.new_job)()?;
    let run_of = |schedule: &Schedule| run_request(schedule, base, &principal, &new_job, (due_at, now));
    let full_run = |job: &Job| {
        let configuration = job.request.anonymization.as_ref().and_then(AnonymizationConfig::content);
        let changed = schedule.without_changed_base(&job.id, configuration)?;
        let name = changed.key.name.as_str();
        tracing::warn!(
            schedule = name,
            job.id = %job.id,
            "the anonymization configuration or its keys have changed since the last complete run: this run exports everything"
        );
        Some(run_of(&changed))
    };
    let (queues, stores) = ((&ports.jobs, &ports.queue), (&ports.source, &ports.output));
    let job = Box::pin(kick_off_or_replacement(queues, stores, &ports.clock, settings.kick_off, run_of(schedule), full_run)).await?;
    Ok(RunStart::Started(Box::new(job)))
}

/// Returns the kick-off of a run.
fn run_request(
    schedule: &Schedule,
    base: &str,
    principal: &Principal,
    (id, secret): &(JobId, JobSecret),
    (due_at, now): (Millis, Millis),
) -> KickOff {
    let (level, parameters) = (schedule.definition.level.clone(), schedule.parameters());
    let preferences = Preferences { is_lenient: schedule.definition.is_lenient, ..Preferences::default() };
    KickOff {
        request_url: kick_off_url(base, &level, &parameters),
        raw: RawKickOff { level, preferences, parameters },
        principal: principal.clone(),
        base: base.to_owned(),
        idempotency_key: None,
        secret: *secret,
        firing: Some(schedule.firing(id, due_at, now)),
        id: id.clone(),
    }
}

/// Returns the error for a deployment whose base URL is not set.
fn no_base_url() -> StoreError {
    let remedy = format!("{} is not set: a schedule has no request from which the server could take its URL", Setting::BaseUrl);
    StoreError::Misconfigured { remedy, cause: "no base URL".into() }
}

/// Returns the principal of a schedule: its client, with the permissions that it is registered for now.
async fn principal(clients: &impl AccessStore, schedule: &Schedule, requires_client: bool) -> Result<Principal, ExportError> {
    let origin = Origin { schedule: Some(schedule.key.name.clone()), ..Origin::default() };
    let forbidden = |text: String| ExportError::from(RequestError::new(403, IssueCode::Forbidden, "client", text));
    let Some(id) = &schedule.definition.client else {
        if requires_client {
            let text = "the schedule has no client, and this server requires access tokens: add it again with --client";
            return Err(forbidden(text.to_owned()));
        }
        let caller = Caller(Caller::LOCAL.to_owned());
        return Ok(Principal { caller, is_authenticated: false, permissions: Permissions::default(), origin });
    };
    let permissions = client_permissions(clients, id).await?.map_err(|problem| match problem {
        UnusableClient::Unknown => forbidden(format!("the client `{}` of the schedule is not registered any more", id.0)),
        UnusableClient::Disabled => forbidden(format!("the client `{}` of the schedule is disabled", id.0)),
    })?;
    Ok(Principal { caller: id.clone(), is_authenticated: requires_client, permissions, origin })
}

/// Returns true if the same run may be started at the next check: no slot was free, or a store or the lake did not answer.
fn is_temporary(error: &ExportError) -> bool {
    match error {
        ExportError::QuotaReached(_) => true,
        ExportError::Rejected(_) | ExportError::NotFound(_) | ExportError::Remarked(_) | ExportError::NotDeidentified(_) => false,
        ExportError::Store(error) => match error {
            StoreError::NotApplied { .. }
            | StoreError::Overloaded { .. }
            | StoreError::Unknown { .. }
            | StoreError::Stale
            | StoreError::OutOfSpace { .. } => true,
            StoreError::Misconfigured { .. } | StoreError::Unreadable { .. } => false,
        },
        ExportError::Source(error) => match error {
            SourceError::Overloaded(_)
            | SourceError::Unavailable(_)
            | SourceError::OriginUnavailable(_)
            | SourceError::OriginBusy { .. } => true,
            SourceError::Changed { .. }
            | SourceError::Unreadable { .. }
            | SourceError::Misconfigured { .. }
            | SourceError::Archived { .. } => false,
        },
    }
}

/// Records in the audit trail that a run was rejected. An error that the client did not cause is in the log alone.
async fn record_rejection(trail: &impl AuditTrail, schedule: &Schedule, error: &ExportError, now: Millis) -> Result<(), ExportError> {
    let ExportError::Rejected(rejected) = error else { return Ok(()) };
    let id = format!("{}-{}", schedule.key.id, schedule.revision);
    let agent = Agent::schedule(&schedule.key.name);
    let record = AuditRecord::new(id, now, AuditAction::KickOff, agent, AuditOutcome::Rejected(rejected.status));
    let record = AuditRecord { issue: Some(rejected.code), owner: schedule.definition.client.clone(), ..record };
    Ok(trail.add_record(&record).await?)
}

/// Deletes the older results of a schedule after a newer run has completed, as a client deletes an export. Returns the schedule with the
/// results that are left.
async fn delete_older_results<J: JobStore + ScheduleStore, S>(
    ports: &Ports<J, impl TaskQueue, S, impl OutputStore, impl Clock>,
    schedule: Schedule,
    now: Millis,
    fired: &mut FiredSchedules,
) -> Result<Schedule, ExportError>
where
    S: Send + Sync,
{
    let Some(keep) = schedule.definition.keep.and_then(|keep| usize::try_from(keep).ok()) else { return Ok(schedule) };
    let newest = schedule.complete_run.as_ref().map(|run| run.job.clone());
    if schedule.state.pruned_after == newest && schedule.state.kept.len() <= keep + MAX_UNKEPT {
        return Ok(schedule);
    }
    let (mut kept, mut complete) = (Vec::new(), 0);
    for id in schedule.state.kept.iter().rev() {
        let Some(job) = ports.jobs.job(id).await? else { continue };
        if job.state == JobState::Complete {
            complete += 1;
            if complete > keep {
                delete_result(ports, &schedule, &job, now).await?;
                fired.deleted += 1;
                continue;
            }
        } else if !job.state.is_open() {
            continue;
        }
        kept.push(id.clone());
    }
    kept.reverse();
    let state = ScheduleState { kept, pruned_after: newest, ..schedule.state.clone() };
    replace(&ports.jobs, Schedule { state, ..schedule }).await
}

/// Deletes the result of a run. Of a large one, it deletes the files of one part of the folder. The sweep of the reaper deletes the rest, and
/// files that cannot be deleted here.
async fn delete_result<J: JobStore, S: Send + Sync>(
    ports: &Ports<J, impl TaskQueue, S, impl OutputStore, impl Clock>,
    schedule: &Schedule,
    job: &Job,
    now: Millis,
) -> Result<(), ExportError> {
    let agent = Agent::schedule(&schedule.key.name);
    end_job_and_free_space(&ports.jobs, &ports.output, job, (JobEvent::CancelRequested, None), &agent, now).await?;
    if let Err(error) = ports.output.delete_part_except(&job.folder(), &FileNames::default(), None).await {
        tracing::warn!(job.id = %job.id, error = &error as &dyn std::error::Error, "files were not deleted, the reaper will delete them");
    }
    tracing::info!(schedule = schedule.key.name.as_str(), job.id = %job.id, "an older result of a schedule was deleted");
    Ok(())
}
