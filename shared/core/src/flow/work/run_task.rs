//! One attempt at one task: lease it, work, close it or hand it on.

use std::collections::BTreeSet;
use std::time::Duration;

use headrace_fhir::Bases;

use crate::access::Agent;
use crate::job::task::{Lease, LeaseAnswer, Record, Release, Work};
use crate::job::{Job, JobEvent, JobState, Quotas, Reason, ReasonKind, Step};
use crate::ports::{AllPorts, JobStore as _, LeaseSettings, OutputStore as _, TaskQueue, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::{ExportError, SourceError, StoreError};
use crate::vocab::ids::TaskId;

use super::{finish, organize, plan, pump, resolve};
use crate::flow::client::admit::admit_after_an_end;
use crate::flow::look_up::LookUpTerms;

/// How many versions of one resource the operator says that the lake holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LakeVersions {
    /// One of each, and no deletion that says otherwise: each line is believed.
    One,
    /// Mostly one: what is selected is written at once, and the lake is read again if that was wrong.
    #[default]
    Auto,
    /// Many: the lake is surveyed first and then read again.
    Many,
}

/// How a worker works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Leases.
    pub lease: LeaseSettings,
    /// No slice of an object is planned smaller than this, in bytes.
    pub slice_floor_bytes: u64,
    /// Pass over objects whose names promise a type that was not asked for. Off, every object is read and each line's
    /// own `resourceType` decides.
    pub trust_object_names: bool,
    /// What is left over when every task has closed, in bytes, is joined by one worker up to this; more is handed out.
    pub join_limit_bytes: u64,
    /// How many versions of one resource the lake holds.
    pub lake_versions: LakeVersions,
    /// Whether exports below the system's level hold Practitioner, Organization, Location, Medication and Device
    /// resources that exported ones refer to.
    pub adds_referenced: bool,
    /// Whether `_since` does not count for patients who joined the group after it.
    pub adds_new_members: bool,
    /// Which absolute references are to resources of the lake.
    pub bases: Bases,
    /// How many exports may be at work: when one has ended, the next gets its turn.
    pub quotas: Quotas,
    /// How thoroughly the plan looks up who an export is about.
    pub look_up: LookUpTerms,
    /// So many bytes of notes are resolved by one worker. In its memory they are a quarter more.
    pub resolve_bytes: u64,
    /// An organized export holds so many bytes of patients' blocks in a worker's memory.
    pub organize_bytes: u64,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            lease: LeaseSettings::default(),
            slice_floor_bytes: 1 << 20,
            trust_object_names: false,
            join_limit_bytes: 1 << 30,
            lake_versions: LakeVersions::default(),
            adds_referenced: false,
            adds_new_members: false,
            bases: Bases::any(),
            quotas: Quotas::default(),
            look_up: LookUpTerms::default(),
            resolve_bytes: 64 << 20,
            // Beside a file of the default size on its way, and the pieces of buckets that are read.
            organize_bytes: 128 << 20,
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// The task is closed; the lease as it was then, and the job afterwards.
    Closed(Box<Lease>, Box<Job>),
    /// The process is about to be stopped; the task is announced again and goes on from its cursor.
    Yielded(Box<Lease>),
    /// Somebody else works on it, or its turn has not come.
    NotNow,
    /// It was closed before, its job is over, or the lease was lost: nothing was changed (rule P2).
    Gone,
    /// It met a fault and is announced again.
    Retried(String),
    /// The job has failed with this reason (rule P8).
    Failed(Reason),
}

/// Runs one attempt. `stop_at` is when it should have handed the task on (rule P7).
///
/// `Err` means that not even the fault could be recorded; the lease then runs out and the reaper announces the task.
pub async fn run_task(ports: &impl AllPorts, task: &TaskId, terms: &WorkerSettings, stop_at: Millis) -> Result<TaskEnd, ExportError> {
    let end = attempt(ports, task, terms, stop_at).await?;
    let has_ended = match &end {
        TaskEnd::Closed(_, job) => !job.state.is_open(),
        TaskEnd::Failed(_) => true,
        TaskEnd::Yielded(_) | TaskEnd::NotNow | TaskEnd::Gone | TaskEnd::Retried(_) => false,
    };
    // A client may have a limit of its own where the deployment has none.
    if has_ended && terms.quotas.waits {
        admit_after_an_end(ports.jobs(), ports.queue(), &terms.quotas, ports.now()).await;
    }
    Ok(end)
}

async fn attempt(ports: &impl AllPorts, task: &TaskId, terms: &WorkerSettings, stop_at: Millis) -> Result<TaskEnd, ExportError> {
    let mut lease = match ports.jobs().lease_task(task, terms.lease, ports.now()).await? {
        LeaseAnswer::Yours(lease) => *lease,
        LeaseAnswer::NotNow => return Ok(TaskEnd::NotNow),
        LeaseAnswer::Gone => return Ok(TaskEnd::Gone),
        LeaseAnswer::Exhausted(fault) => return give_up(ports, task, exhausted(task, terms, fault)).await,
    };
    tracing::debug!(job.id = %task.job, task.id = task.task, attempt = lease.attempt, work = lease.work.as_str(), "leased");
    let worked = match lease.work {
        Work::Plan(_) => plan::plan(ports, &mut lease, terms, stop_at).await,
        Work::Resolve(resolving) => resolve::resolve(ports, &mut lease, terms, resolving).await,
        Work::Organize(organizing) => organize::organize(ports, &mut lease, terms, stop_at, organizing).await,
        Work::Read(_) | Work::Reread(_) | Work::Gather(_) => pump::pump(ports, &mut lease, terms, stop_at).await,
        Work::Finish => finish::finish(ports, &mut lease, terms, stop_at).await,
    };
    let error = match worked {
        Ok(end) => return Ok(end),
        Err(error) => error,
    };
    match fate(&error) {
        Fate::LeaseLost => {
            sweep_after_the_end(ports, &lease.job).await;
            Ok(TaskEnd::Gone)
        }
        Fate::JobFails(kind) => {
            let text = if lease.job.request.anonymization.is_some() { without_names(&error) } else { error.to_string() };
            give_up(ports, task, Reason { kind, text }).await
        }
        Fate::TryAgain => {
            let fault = error.to_string();
            tracing::warn!(job.id = %task.job, task.id = task.task, attempt = lease.attempt, error = &error as &dyn std::error::Error, "an attempt failed");
            let now = ports.now();
            match ports.jobs().record(&mut lease, Record::Release(Release::Fault(fault.clone())), now).await {
                // Also if the very step that seemed to fail has closed the task.
                Err(StoreError::Stale) => return Ok(TaskEnd::Gone),
                released => released?,
            }
            if lease.tries >= terms.lease.tries {
                return give_up(ports, task, exhausted(task, terms, Some(fault))).await;
            }
            ports.queue().announce(std::slice::from_ref(task), pause_after(lease.tries)).await?;
            Ok(TaskEnd::Retried(fault))
        }
    }
}

/// What an error means for the task.
enum Fate {
    LeaseLost,
    JobFails(ReasonKind),
    TryAgain,
}

fn fate(error: &ExportError) -> Fate {
    match error {
        ExportError::Store(StoreError::Stale) => Fate::LeaseLost,
        ExportError::Store(StoreError::Misconfigured { .. }) | ExportError::Source(SourceError::Misconfigured { .. }) => {
            Fate::JobFails(ReasonKind::Misconfigured)
        }
        ExportError::Source(SourceError::Changed { .. }) => Fate::JobFails(ReasonKind::SourceChanged),
        ExportError::Source(SourceError::Unreadable { .. }) => Fate::JobFails(ReasonKind::SourceUnreadable),
        // What the kick-off had no time to see.
        ExportError::NotFound(_) => Fate::JobFails(ReasonKind::NotFound),
        ExportError::Refused(_) => Fate::JobFails(ReasonKind::NotSupported),
        ExportError::NotDeidentified(_) => Fate::JobFails(ReasonKind::NotDeidentified),
        ExportError::Store(StoreError::NotApplied { .. } | StoreError::Unknown { .. } | StoreError::Unreadable { .. })
        | ExportError::Source(SourceError::Unavailable(_))
        | ExportError::TooMany(_) => Fate::TryAgain,
    }
}

/// The same, without the names of objects: operators name them, and some by patients. The log has them.
fn without_names(error: &ExportError) -> String {
    tracing::warn!(error = error as &dyn std::error::Error, "a de-identified export fails");
    match error {
        ExportError::Source(SourceError::Changed { .. }) => {
            "an object of the lake was changed or removed after the export had pinned it; start a new export".to_owned()
        }
        ExportError::Source(SourceError::Unreadable { detail, .. }) => {
            format!("an object of the lake cannot be decompressed: {detail}; replace it and start a new export")
        }
        ExportError::Source(SourceError::Misconfigured { .. } | SourceError::Unavailable(_))
        | ExportError::Refused(_)
        | ExportError::TooMany(_)
        | ExportError::NotFound(_)
        | ExportError::NotDeidentified(_)
        | ExportError::Store(_) => error.to_string(),
    }
}

/// 1, 2, 4, … seconds, at most a minute: what failed by overload is not made worse.
fn pause_after(tries: u32) -> Duration {
    Duration::from_secs(1 << tries.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

fn exhausted(task: &TaskId, terms: &WorkerSettings, fault: Option<String>) -> Reason {
    let fault = fault.unwrap_or_else(|| "its process ended without a word".to_owned());
    let text = format!(
        "task {} failed {} times without progress, the last time because {fault}; start a new export, and tell the operator if it fails again",
        task.task, terms.lease.tries
    );
    Reason { kind: ReasonKind::Exhausted, text }
}

/// What this attempt wrote behind the end of its job is nobody's: it goes now, and not when the reaper comes by.
async fn sweep_after_the_end(ports: &impl AllPorts, job: &Job) {
    let swept = match ports.jobs().job(&job.id).await.map(|job| job.map(|job| job.state)) {
        Ok(Some(JobState::Cancelled | JobState::Failed | JobState::Expired)) => ports.parts().sweep(&job.folder(), &BTreeSet::new()).await,
        // Another attempt goes on with it, or has finished it.
        Ok(Some(JobState::Queued | JobState::Accepted | JobState::Running | JobState::Complete) | None) => return,
        Err(error) => Err(error),
    };
    if let Err(error) = swept {
        tracing::warn!(job.id = %job.id, error = &error as &dyn std::error::Error, "late files were not deleted, the reaper will do it");
    }
}

/// Parks the task: its job fails, visibly.
async fn give_up(ports: &impl AllPorts, task: &TaskId, reason: Reason) -> Result<TaskEnd, ExportError> {
    let step = ports.jobs().end_job(&task.job, JobEvent::GivenUp, Some(reason.clone()), &Agent::service(), ports.now()).await?;
    if !matches!(step, Some(Step::To(_))) {
        return Ok(TaskEnd::Gone);
    }
    let message = serde_json::to_string(task).unwrap_or_default();
    if let Err(error) = ports.queue().park(&message).await {
        tracing::warn!(job.id = %task.job, task.id = task.task, error = &error as &dyn std::error::Error, "the parked task was not put aside");
    }
    Ok(TaskEnd::Failed(reason))
}

/// After a task has closed: the last one of a round brings the finish.
pub(super) async fn announce_finish_after_last(queue: &impl TaskQueue, job: &Job) -> Result<(), ExportError> {
    if job.state == JobState::Running && job.open_tasks == 0 {
        queue.announce(&[TaskId::finish(&job.id)], Duration::ZERO).await?;
    }
    Ok(())
}
