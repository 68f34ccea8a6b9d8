//! Repairs and cleans up on a schedule: repeats lost announcements, fails overdue jobs, deletes expired files, starts queued jobs.

mod sweep;

use std::time::Duration;

use crate::access::Agent;
use crate::flow::client::end_job::end_job_and_free_space;
use crate::flow::client::start_queued::start_queued;
use crate::job::{ExportError, FailureKind, FailureReason, Job, JobEvent, JobState, Quotas, Transition};
use crate::ports::{Clock, DueItem, DueSubject, JobStore, OutputStore, Ports, TaskQueue, TaskStore};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;
use crate::vocab::ids::TaskId;

use super::END_OF_TIME;
use sweep::{Sweep, sweep_folders};

/// The time after which an item that may still make progress is checked again.
const RECHECK_AFTER: Duration = Duration::from_secs(60);

/// The time after its start at which a run leaves everything that is still due to the next one. A run has 55 seconds on AWS, also for audit
/// records, schedules and events.
const RUN_TIME: Duration = Duration::from_secs(35);

/// The largest number of due items of a shard that one run handles.
const MAX_DUE_ITEMS: u16 = 100;

/// The result of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Reaped {
    /// The number of tasks announced again.
    pub announced: u32,
    /// The number of queued jobs started.
    pub started: u32,
    /// The number of jobs failed because they passed their deadline.
    pub overdue: u32,
    /// The number of jobs whose retention ended.
    pub expired: u32,
    /// The number of files deleted.
    pub files_deleted: u64,
    /// The number of folders whose sweep goes on in the next run.
    pub unfinished: u32,
    /// The number of items that could not be handled. They stay due, or are due again a minute later.
    pub failed: u32,
}

/// Handles everything that is due, then starts queued jobs, and then deletes files: many files keep nothing else waiting. A failed item
/// does not block the others.
pub async fn reap<S>(
    ports: &Ports<impl JobStore, impl TaskQueue, S, impl OutputStore, impl Clock>,
    quotas: &Quotas,
) -> Result<Reaped, ExportError>
where
    S: Send + Sync,
{
    let now = ports.clock.now();
    let stop_at = now + RUN_TIME;
    let (mut reaped, mut sweeps) = (Reaped::default(), Vec::new());
    for due in ports.jobs.due(now, MAX_DUE_ITEMS).await? {
        if ports.clock.now() >= stop_at {
            break;
        }
        match handle_due_item(ports, &due, now, &mut reaped).await {
            Ok(sweep) => sweeps.extend(sweep),
            Err(error) => {
                reaped.failed += 1;
                tracing::warn!(subject = ?due.subject, error = &error as &dyn std::error::Error, "a due item could not be handled, it stays due");
                if matches!(error, ExportError::Store(StoreError::Misconfigured { .. })) {
                    // A client's own destination may be gone for good. Its jobs must not stay in front of all others.
                    drop(ports.jobs.postpone(&due, Some(now + RECHECK_AFTER)).await);
                }
            }
        }
    }
    match start_queued(&ports.jobs, &ports.queue, quotas, now).await {
        Ok(started) => reaped.started = started,
        Err(error) => {
            reaped.failed += 1;
            tracing::warn!(error = &error as &dyn std::error::Error, "queued exports were not started, the next run will start them");
        }
    }
    sweep_folders(ports, sweeps, stop_at, &mut reaped).await;
    Ok(reaped)
}

/// Voids every lease and announces every task of every open job, after the restart of a deployment with one process: its queue was lost
/// with the process, and so were its workers. Leases are not judged by their time, because the clock may have been set back.
/// Returns the number of tasks announced.
pub async fn recover<S>(ports: &Ports<impl TaskStore, impl TaskQueue, S, impl OutputStore, impl Clock>) -> Result<u32, ExportError>
where
    S: Send + Sync,
{
    let mut announced = 0;
    hand_back_leases(&ports.jobs, &ports.clock).await?;
    for due in ports.jobs.due(END_OF_TIME, u16::MAX).await? {
        let (id, task) = match due.subject {
            DueSubject::Job(id) => (id.clone(), TaskId::finalize(&id)),
            DueSubject::Task(task) => (task.job.clone(), task),
        };
        let is_open = ports.jobs.job(&id).await?.is_some_and(|job| job.state.has_slot() && job.has_task(task.task));
        if is_open {
            ports.queue.announce(&[task], Duration::ZERO).await?;
            announced += 1;
        }
    }
    Ok(announced)
}

/// Voids the leases of all tasks, when no worker of a deployment with one process runs: at its start, and when it stops.
/// Returns the number of leases.
pub async fn hand_back_leases(jobs: &impl TaskStore, clock: &impl Clock) -> Result<u32, StoreError> {
    let mut voided = 0;
    for due in jobs.due(END_OF_TIME, u16::MAX).await? {
        if let DueSubject::Task(task) = due.subject {
            voided += u32::from(jobs.void_lease(&task, clock.now()).await?);
        }
    }
    Ok(voided)
}

/// Announces a due task again, or handles a due job. Counts in `reaped` what was done. Returns the folder that is to be swept, if there is one.
async fn handle_due_item<S: Send + Sync>(
    ports: &Ports<impl JobStore, impl TaskQueue, S, impl OutputStore, impl Clock>,
    due: &DueItem,
    now: Millis,
    reaped: &mut Reaped,
) -> Result<Option<Sweep>, ExportError> {
    match &due.subject {
        DueSubject::Task(task) => {
            match ports.jobs.job(&task.job).await? {
                Some(job) if job.state.has_slot() && job.has_task(task.task) => {
                    if ports.jobs.postpone(due, Some(now + RECHECK_AFTER)).await? {
                        announce(&ports.queue, &job, task).await?;
                        reaped.announced += 1;
                    }
                }
                // The plan, or the round of the task, is still being recorded. It announces the task itself.
                Some(job) if job.awaits_task(task.task) => drop(ports.jobs.postpone(due, Some(now + RECHECK_AFTER)).await?),
                Some(_) | None => drop(ports.jobs.postpone(due, None).await?),
            }
            Ok(None)
        }
        DueSubject::Job(id) => match ports.jobs.job(id).await? {
            None => {
                ports.jobs.postpone(due, None).await?;
                Ok(None)
            }
            Some(job) => handle_due_job(ports, due, &job, now, reaped).await,
        },
    }
}

/// Announces a task in the queue of its job's kind.
async fn announce(queue: &impl TaskQueue, job: &Job, task: &TaskId) -> Result<(), StoreError> {
    let tasks = std::slice::from_ref(task);
    if job.is_sync() { queue.announce_sync(tasks, Duration::ZERO).await } else { queue.announce(tasks, Duration::ZERO).await }
}

/// Handles a due job according to its state: fails an overdue job, announces a lost finalize task, or expires a complete job. Counts in
/// `reaped` what was done. Returns the sweep of the folder of an ended job.
async fn handle_due_job<S: Send + Sync>(
    ports: &Ports<impl JobStore, impl TaskQueue, S, impl OutputStore, impl Clock>,
    due: &DueItem,
    job: &Job,
    now: Millis,
    reaped: &mut Reaped,
) -> Result<Option<Sweep>, ExportError> {
    match job.state {
        JobState::Queued | JobState::Accepted | JobState::Running if job.deadline_at() <= now => {
            let hours = job.settings.deadline_seconds.div_ceil(3600);
            let text = if job.is_sync() {
                format!("the synchronization did not finish within {hours} hours, its deadline; see whether the FHIR server answers")
            } else if job.state == JobState::Queued {
                format!("the export was not started within {hours} hours, its deadline; start it again when fewer exports are running")
            } else {
                format!("the export did not finish within {hours} hours, its deadline; narrow it with _type or _since, or ask the operator")
            };
            let reason = FailureReason { kind: FailureKind::Deadline, text };
            let failed = (JobEvent::Failed, Some(reason));
            end_job_and_free_space(&ports.jobs, &ports.output, job, failed, &Agent::service(), now).await?;
            reaped.overdue += 1;
            Ok(None)
        }
        JobState::Queued | JobState::Accepted | JobState::Running => {
            // Tasks are due on their own. The job only has to be moved on if the announcement of its finalize task was lost.
            let job = ports.jobs.with_progress(job.clone()).await?;
            let can_finalize = job.state == JobState::Running && job.open_tasks == 0;
            if ports.jobs.postpone(due, Some(now + RECHECK_AFTER)).await? && can_finalize {
                announce(&ports.queue, &job, &TaskId::finalize(&job.id)).await?;
                reaped.announced += 1;
            }
            Ok(None)
        }
        JobState::Complete => match job.expires_at() {
            // Once after completion: files that an attempt wrote after it had lost its lease are not recorded.
            Some(expiry) if expiry > now => Ok(Some(Sweep::new(due, job, Some(expiry)))),
            Some(_) | None => {
                let expired = (JobEvent::RetentionExpired, None);
                let ended = end_job_and_free_space(&ports.jobs, &ports.output, job, expired, &Agent::service(), now).await?;
                // Of several processes that end the job, one sweeps its folder.
                let is_expired = matches!(ended, Some(Transition::To(_)));
                reaped.expired += u32::from(is_expired);
                Ok(is_expired.then(|| Sweep::of_expired(due, job)))
            }
        },
        JobState::Failed | JobState::Cancelled | JobState::Expired => Ok(Some(Sweep::new(due, job, None))),
    }
}
