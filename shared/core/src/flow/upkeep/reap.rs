//! Looks after what nobody else looks after: announcements that were lost, attempts that died, jobs whose time is over.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::access::Agent;
use crate::job::{Job, JobEvent, JobState, Quotas, Reason, ReasonKind};
use crate::ports::{Clock, DueItem, JobStore, OutputStore, Ports, Subject, TaskQueue};
use crate::vocab::clock::Millis;
use crate::vocab::error::{ExportError, StoreError};
use crate::vocab::ids::TaskId;

use crate::flow::client::admit::admit;

/// When to look again at something that may be on its way.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Later than anything is due: the year 9999.
const END_OF_TIME: Millis = Millis(253_402_300_799_000);

/// Looks at this many due items of a shard in one run.
const LOOKS: u16 = 100;

/// What one run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Reaped {
    /// Tasks announced again.
    pub announced: u32,
    /// Waiting jobs that were given their turn.
    pub admitted: u32,
    /// Jobs given up because their deadline had passed.
    pub overdue: u32,
    /// Jobs whose files' time was over.
    pub expired: u32,
    /// Files deleted.
    pub files_deleted: u64,
    /// Looks that failed; they stay due.
    pub failed: u32,
}

/// One run over everything that is due, then over the jobs that wait for their turn. What fails stays due for the next run
/// and does not keep the rest from being looked at.
pub async fn reap<S>(
    ports: &Ports<impl JobStore, impl TaskQueue, S, impl OutputStore, impl Clock>,
    quotas: &Quotas,
) -> Result<Reaped, ExportError>
where
    S: Send + Sync,
{
    let now = ports.clock.now();
    let mut reaped = Reaped::default();
    for due in ports.jobs.due(now, LOOKS).await? {
        if let Err(error) = look_at(ports, &due, now, &mut reaped).await {
            reaped.failed += 1;
            tracing::warn!(subject = ?due.subject, error = &error as &dyn std::error::Error, "a look failed, it stays due");
            if matches!(error, ExportError::Store(StoreError::Misconfigured { .. })) {
                // The destination of one client may be gone for good: its jobs must not stand before everybody else's.
                drop(ports.jobs.put_off(&due, Some(now + LOOK_AGAIN)).await);
            }
        }
    }
    match admit(&ports.jobs, &ports.queue, quotas, now).await {
        Ok(admitted) => reaped.admitted = admitted,
        Err(error) => {
            reaped.failed += 1;
            tracing::warn!(error = &error as &dyn std::error::Error, "waiting exports did not begin, they wait for the next run");
        }
    }
    Ok(reaped)
}

/// After a restart of the only process there can be: announces every task of every open job, for its queue was lost with it.
pub async fn recover<S>(ports: &Ports<impl JobStore, impl TaskQueue, S, impl OutputStore, impl Clock>) -> Result<u32, ExportError>
where
    S: Send + Sync,
{
    let mut announced = 0;
    for due in ports.jobs.due(END_OF_TIME, u16::MAX).await? {
        let (id, task) = match due.subject {
            Subject::Job(id) => (id.clone(), TaskId::finish(&id)),
            Subject::Task(task) => (task.job.clone(), task),
        };
        let is_open = ports.jobs.job(&id).await?.is_some_and(|job| job.state.has_slot() && job.has_task(task.task));
        if is_open {
            ports.queue.announce(&[task], Duration::ZERO).await?;
            announced += 1;
        }
    }
    Ok(announced)
}

async fn look_at<S: Send + Sync>(
    ports: &Ports<impl JobStore, impl TaskQueue, S, impl OutputStore, impl Clock>,
    due: &DueItem,
    now: Millis,
    reaped: &mut Reaped,
) -> Result<(), ExportError> {
    match &due.subject {
        Subject::Task(task) => {
            match ports.jobs.job(&task.job).await? {
                Some(job) if job.state.has_slot() && job.has_task(task.task) => {
                    if ports.jobs.put_off(due, Some(now + LOOK_AGAIN)).await? {
                        ports.queue.announce(std::slice::from_ref(task), Duration::ZERO).await?;
                        reaped.announced += 1;
                    }
                }
                // Its plan is still being made, or its round.
                Some(job) if job.awaits_task(task.task) => drop(ports.jobs.put_off(due, Some(now + LOOK_AGAIN)).await?),
                Some(_) | None => drop(ports.jobs.put_off(due, None).await?),
            }
            Ok(())
        }
        Subject::Job(id) => match ports.jobs.job(id).await? {
            None => ports.jobs.put_off(due, None).await.map(drop).map_err(ExportError::from),
            Some(job) => look_at_job(ports, due, &job, now, reaped).await,
        },
    }
}

async fn look_at_job<S: Send + Sync>(
    ports: &Ports<impl JobStore, impl TaskQueue, S, impl OutputStore, impl Clock>,
    due: &DueItem,
    job: &Job,
    now: Millis,
    reaped: &mut Reaped,
) -> Result<(), ExportError> {
    match job.state {
        JobState::Queued | JobState::Accepted | JobState::Running if job.deadline_at() <= now => {
            let hours = job.limits.deadline_seconds.div_ceil(3600);
            let text = if job.state == JobState::Queued {
                format!("the export did not get its turn within {hours} hours, its deadline; start it again when fewer are at work")
            } else {
                format!("the export did not finish within {hours} hours, its deadline; narrow it with _type or _since, or ask the operator")
            };
            let reason = Reason { kind: ReasonKind::Deadline, text };
            ports.jobs.end_job(&job.id, JobEvent::GivenUp, Some(reason), &Agent::service(), now).await?;
            reaped.overdue += 1;
        }
        JobState::Queued | JobState::Accepted | JobState::Running => {
            let is_ready = job.state == JobState::Running && job.open_tasks == 0;
            if ports.jobs.put_off(due, Some(now + LOOK_AGAIN)).await? && is_ready {
                ports.queue.announce(&[TaskId::finish(&job.id)], Duration::ZERO).await?;
                reaped.announced += 1;
            }
        }
        JobState::Complete => match job.expires_at() {
            Some(expiry) if expiry > now => {
                // Once after completion: what a fenced-off attempt wrote late is nobody's.
                let recorded: BTreeSet<_> = ports.jobs.parts(&job.id).await?.iter().map(|part| part.name).collect();
                reaped.files_deleted += ports.parts.sweep(&job.folder(), &recorded).await?;
                ports.jobs.put_off(due, Some(expiry)).await?;
            }
            Some(_) | None => {
                ports.jobs.end_job(&job.id, JobEvent::RetentionOver, None, &Agent::service(), now).await?;
                reaped.files_deleted += ports.parts.sweep(&job.folder(), &BTreeSet::new()).await?;
                reaped.expired += 1;
            }
        },
        JobState::Failed | JobState::Cancelled | JobState::Expired => {
            reaped.files_deleted += ports.parts.sweep(&job.folder(), &BTreeSet::new()).await?;
            ports.jobs.put_off(due, None).await?;
        }
    }
    Ok(())
}
