//! Tasks, their leases and their fragments.

use std::ops::RangeInclusive;

use headrace_core::access::Agent;
use headrace_core::audit::AuditRecord;
use headrace_core::job::file::{Fragment, OutputFileName};
use headrace_core::job::task::{Lease, LeaseOutcome, TaskCompletion, TaskState, TaskUpdate, Work};
use headrace_core::job::{Job, JobState};
use headrace_core::ports::{JobStore as _, LeaseSettings, TaskStore};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{JobId, TaskId};

use super::DynamoJobStore;
use super::items::{self, Attributes, StoredTask};
use super::task_writes::{completion_writes, update_writes};
use super::transact::{Update, Write, WriteOutcome};

/// The largest number of output files that one transaction discards, beside the update of the lease.
const DISCARDS_PER_TRANSACTION: usize = 99;

impl DynamoJobStore {
    /// Returns [`StoreError::Stale`] if the job has ended (rule P10).
    ///
    /// This is a read and not a condition of every update: a thousand workers that check one item in their transactions would conflict.
    /// What a worker records after a cancellation is in no manifest, and its files are cleaned up.
    async fn check_job_is_open(&self, job: &JobId) -> Result<(), StoreError> {
        let is_open = self.job(job).await?.is_some_and(|job| job.state.is_open());
        if is_open { Ok(()) } else { Err(StoreError::Stale) }
    }
}

impl TaskStore for DynamoJobStore {
    async fn lease_task(&self, id: &TaskId, settings: LeaseSettings, now: Millis) -> Result<LeaseOutcome, StoreError> {
        let (Some(job), Some(task), Some(work)) = (self.job(&id.job).await?, self.stored_task(id).await?, self.task_work(id).await?) else {
            return Ok(LeaseOutcome::Obsolete);
        };
        if !job.state.is_open() || task.state == TaskState::Completed {
            return Ok(LeaseOutcome::Obsolete);
        }
        let can_start = match work {
            Work::Plan(_) => job.state == JobState::Accepted,
            Work::Read(_) | Work::Resolve(_) | Work::Reread(_) | Work::GroupByPatient(_) | Work::Merge(_) => {
                job.state == JobState::Running && job.has_task(id.task)
            }
            Work::Finalize => job.state == JobState::Running && job.open_tasks == 0,
        };
        let is_held = task.lease_until.is_some_and(|until| until > now);
        if !can_start || is_held {
            return Ok(LeaseOutcome::Unavailable);
        }
        if task.attempts_since_progress >= settings.max_attempts {
            return Ok(LeaseOutcome::Exhausted(task.fault));
        }
        let (attempt, fencing_token) = (task.attempt + 1, task.fencing_token + 1);
        let (attempts_since_progress, until) = (task.attempts_since_progress + 1, now + settings.duration);
        let update = Update::new(items::job_key(&id.job, items::task_sk(id.task)))
            .name("#state", "state")
            .value(":seen", items::text(task.state.as_str()))
            .set("#state", items::text(TaskState::Leased.as_str()))
            .set("attempt", items::number(attempt))
            .set("fencing_token", items::number(fencing_token))
            .set("attempts_since_progress", items::number(attempts_since_progress))
            .set("lease_until", items::millis(until))
            .set("due_shard", items::due_shard(id.task))
            .set("due_at", items::millis(until));
        let update = if task.fencing_token == 0 {
            update.when("#state = :seen AND attribute_not_exists(fencing_token)")
        } else {
            update.when("#state = :seen AND fencing_token = :seen_token").value(":seen_token", items::number(task.fencing_token))
        };
        // If the answer to an applied update is lost, the lease is not used. It expires like the lease of a dead worker.
        if self.update(update).await? != WriteOutcome::Applied {
            return Ok(LeaseOutcome::Unavailable);
        }
        let StoredTask { cursor, reserved_file, counters, export_time, .. } = task;
        Ok(LeaseOutcome::Granted(Box::new(Lease {
            task: id.clone(),
            work,
            job,
            attempt,
            fencing_token,
            attempts_since_progress,
            until,
            cursor,
            reserved_file,
            counters,
            export_time,
        })))
    }

    async fn void_lease(&self, id: &TaskId, now: Millis) -> Result<bool, StoreError> {
        let Some(task) = self.stored_task(id).await?.filter(|task| task.state == TaskState::Leased) else { return Ok(false) };
        let update = Update::new(items::job_key(&id.job, items::task_sk(id.task)))
            .when("#state = :leased AND fencing_token = :seen_token")
            .name("#state", "state")
            .value(":leased", items::text(TaskState::Leased.as_str()))
            .value(":seen_token", items::number(task.fencing_token))
            .set("#state", items::text(TaskState::Open.as_str()))
            // A call of the lease adds 1. A token that is higher by 2 is never taken for the effect of such a call.
            .set("fencing_token", items::number(task.fencing_token + 2))
            .set("attempts_since_progress", items::number(task.attempts_since_progress.saturating_sub(1)))
            .set("due_shard", items::due_shard(id.task))
            .set("due_at", items::millis(now))
            .remove("lease_until");
        Ok(self.update(update).await? == WriteOutcome::Applied)
    }

    async fn update_task(&self, lease: &mut Lease, update: TaskUpdate, until: Millis) -> Result<(), StoreError> {
        self.check_job_is_open(&lease.task.job).await?;
        if let TaskUpdate::ReserveFile(kind) = update {
            lease.reserved_file = Some(self.reserve_output_file(lease, kind, until).await?);
        } else {
            let writes = update_writes(lease, &update, until)?;
            if self.transact(&writes).await? != WriteOutcome::Applied {
                // The condition also fails if an earlier call, whose answer was lost, has applied the update.
                let stored = self.stored_task(&lease.task).await?;
                let is_applied = stored.is_some_and(|task| task.attempt == lease.attempt && task.fencing_token == lease.fencing_token + 1);
                if !is_applied {
                    return Err(StoreError::Stale);
                }
            }
        }
        lease.fencing_token += 1;
        lease.until = until;
        match update {
            TaskUpdate::Checkpoint(checkpoint) => {
                lease.attempts_since_progress = 0;
                lease.cursor = checkpoint.cursor;
                lease.counters = checkpoint.counters;
                if checkpoint.output_file.is_some() {
                    lease.reserved_file = None;
                }
            }
            TaskUpdate::TakeTime(time) => lease.export_time = Some(time),
            TaskUpdate::Heartbeat | TaskUpdate::AddTasks(_) | TaskUpdate::ReserveFile(_) | TaskUpdate::Release(_) => {}
        }
        Ok(())
    }

    async fn complete_task(&self, lease: &Lease, completion: TaskCompletion) -> Result<Job, StoreError> {
        let writes = completion_writes(lease, &completion)?;
        let outcome = match completion {
            TaskCompletion::JobComplete(now) => {
                let record = AuditRecord::from_job_end(now, JobState::Complete, Agent::service(), &lease.job, None);
                let writes = writes.into_iter().chain(record.map(|record| Write::AuditRecord(Box::new(record)))).collect();
                self.transact_and_free_slot(writes, &lease.job.owner).await?
            }
            TaskCompletion::Planned(_) | TaskCompletion::Done | TaskCompletion::NextRound(_) => self.transact(&writes).await?,
        };
        if outcome != WriteOutcome::Applied {
            let stored = self.stored_task(&lease.task).await?;
            let is_applied = stored.is_some_and(|task| {
                task.attempt == lease.attempt && task.fencing_token == lease.fencing_token + 1 && task.state != TaskState::Leased
            });
            if !is_applied {
                return Err(StoreError::Stale);
            }
        }
        self.job(&lease.task.job).await?.ok_or(StoreError::Stale)
    }

    async fn task_work(&self, task: &TaskId) -> Result<Option<Work>, StoreError> {
        let item = self.get(&task.job, items::work_sk(task.task)).await?;
        item.map(|item| Attributes(&item).work()).transpose()
    }

    async fn fragments(&self, id: &JobId, rounds: RangeInclusive<u32>) -> Result<Vec<Fragment>, StoreError> {
        let mut fragments = Vec::new();
        for round in rounds {
            fragments.extend(self.query_job_items(id, items::fragments_of_round(round), |item| Attributes(item).fragment()).await?);
        }
        fragments.sort_by_key(|fragment| fragment.name);
        Ok(fragments)
    }

    async fn discard_output_files(&self, lease: &mut Lease, until: Millis) -> Result<Vec<OutputFileName>, StoreError> {
        let job = &lease.task.job;
        let names = self.query_job_items(job, items::OUTPUT_FILES.to_owned(), |item| Attributes(item).output_file_name()).await?;
        // The last files go first, so that the numbers that an interrupted call leaves have no gaps.
        for batch in names.rchunks(DISCARDS_PER_TRANSACTION) {
            self.check_job_is_open(&lease.task.job).await?;
            let deletes = batch.iter().map(|name| Write::Delete(items::job_key(&lease.task.job, items::output_file_sk(*name))));
            let heartbeat = update_writes(lease, &TaskUpdate::Heartbeat, until)?;
            if self.transact(&heartbeat.into_iter().chain(deletes).collect::<Vec<_>>()).await? != WriteOutcome::Applied {
                return Err(StoreError::Stale);
            }
            lease.fencing_token += 1;
            lease.until = until;
        }
        Ok(names)
    }
}
