//! Tasks, their leases and their fragments.

use std::ops::RangeInclusive;
use std::time::Duration;

use futures_util::try_join;
use headrace_core::access::Agent;
use headrace_core::audit::AuditRecord;
use headrace_core::job::file::Fragment;
use headrace_core::job::task::{Lease, LeaseOutcome, TaskCompletion, TaskSplit, TaskState, TaskUpdate, Work};
use headrace_core::job::{Job, JobState};
use headrace_core::ports::{FragmentSelection, JobStore as _, LeaseSettings, TaskStore};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{JobId, TaskId};

use super::DynamoJobStore;
use super::items::{self, Attributes, StoredTask};
use super::schedules::completion_write;
use super::transact::{Update, Write, WriteOutcome};

impl DynamoJobStore {
    /// Returns the job, or [`StoreError::Stale`] if it has ended (rule P10).
    ///
    /// This is a read and not a condition of every update: a thousand workers that check one item in their transactions would conflict.
    /// What a worker records after a cancellation is in no manifest, and its files are cleaned up.
    async fn open_job(&self, job: &JobId) -> Result<Job, StoreError> {
        self.job(job).await?.filter(|job| job.state.is_open()).ok_or(StoreError::Stale)
    }

    /// Applies an update of a leased task. Returns [`StoreError::Stale`] if the lease does not hold.
    async fn apply_update(&self, lease: &mut Lease, update: &TaskUpdate, until: Millis) -> Result<(), StoreError> {
        let reserved = self.file_names_to_reserve(lease, update).await?;
        let names: Vec<_> = lease.reserved_files.iter().copied().chain(reserved).collect();
        let writes = self.update_writes(lease, update, &names, until)?;
        if self.apply(&writes).await? == WriteOutcome::Applied {
            lease.reserved_files = names;
            return Ok(());
        }
        // The condition also fails if an earlier call, whose answer was lost, has applied the update.
        let stored = self.stored_task(&lease.task).await?;
        let applied = stored.filter(|task| task.attempt == lease.attempt && task.fencing_token == lease.fencing_token + 1);
        lease.reserved_files = applied.ok_or(StoreError::Stale)?.reserved_files;
        Ok(())
    }

    /// Applies the writes of an update of a leased task. A single one is no transaction, which would cost twice as much: if its answer is
    /// lost and the SDK repeats it, the fencing token tells what has happened.
    async fn apply(&self, writes: &[Write]) -> Result<WriteOutcome, StoreError> {
        match writes {
            [Write::Update(update)] => self.update_if(update).await,
            writes => self.transact(writes).await,
        }
    }
}

impl TaskStore for DynamoJobStore {
    async fn lease_task(&self, id: &TaskId, settings: LeaseSettings, now: Millis) -> Result<LeaseOutcome, StoreError> {
        // The work is read after the task: if a slow attempt gives away a part of it in between, the lease is refused by its fencing token.
        let Some(task) = self.stored_task(id).await? else { return Ok(LeaseOutcome::Obsolete) };
        let (Some(mut job), Some(work)) = try_join!(self.job(&id.job), self.task_work(id))? else { return Ok(LeaseOutcome::Obsolete) };
        if !job.state.is_open() || task.state == TaskState::Completed {
            return Ok(LeaseOutcome::Obsolete);
        }
        let can_start = match work {
            Work::Plan(_) => job.state == JobState::Accepted,
            Work::Read(_)
            | Work::MergeRecords(_)
            | Work::Resolve(_)
            | Work::MergeCorrections(_)
            | Work::Reread(_)
            | Work::SortPatients(_)
            | Work::GroupByPatient(_)
            | Work::Merge(_)
            | Work::Fetch(_)
            | Work::Publish(_) => job.state == JobState::Running && job.has_task(id.task),
            Work::Finalize | Work::FinalizeSync(_) => {
                job = self.add_progress(job).await?;
                // A task that was counted may have been split since the job was read. Then its other part is perhaps not complete.
                job.state == JobState::Running
                    && job.open_tasks == 0
                    && self.job(&id.job).await?.is_some_and(|now| now.tasks_of_round() == job.tasks_of_round())
            }
        };
        let is_held = task.lease_until.is_some_and(|until| until > now);
        let is_paused = task.paused_until.is_some_and(|until| until > now);
        if !can_start || is_held || is_paused {
            return Ok(LeaseOutcome::Unavailable);
        }
        if task.attempts_since_progress >= settings.max_attempts {
            return Ok(LeaseOutcome::Exhausted(task.fault));
        }
        let (attempt, fencing_token) = (task.attempt + 1, task.fencing_token + 1);
        let (attempts_since_progress, until) = (task.attempts_since_progress + 1, now + settings.duration);
        let update = Update::new(self.task_key(&id.job, id.task))
            .name("#state", "state")
            .value(":seen", items::text(task.state.as_str()))
            .set("#state", items::text(TaskState::Leased.as_str()))
            .set("attempt", items::number(attempt))
            .set("fencing_token", items::number(fencing_token))
            .set("attempts_since_progress", items::number(attempts_since_progress))
            .set("lease_until", items::millis(until))
            .set("due_shard", items::due_shard(id.task))
            .set("due_at", items::millis(until));
        let update = if task.paused_until.is_some() { update.remove(items::PAUSED_UNTIL) } else { update };
        let update = if task.fencing_token == 0 {
            update.when("#state = :seen AND attribute_not_exists(fencing_token)")
        } else {
            update.when("#state = :seen AND fencing_token = :seen_token").value(":seen_token", items::number(task.fencing_token))
        };
        // If the answer to an applied update is lost, the lease is not used. It expires like the lease of a dead worker.
        if self.update(update).await? != WriteOutcome::Applied {
            return Ok(LeaseOutcome::Unavailable);
        }
        let StoredTask { cursor, paused, reserved_files, counters, export_time, plan_progress, .. } = task;
        Ok(LeaseOutcome::Granted(Box::new(Lease {
            task: id.clone(),
            work,
            job,
            attempt,
            fencing_token,
            attempts_since_progress,
            paused,
            until,
            cursor,
            reserved_files,
            counters,
            export_time,
            plan_progress,
        })))
    }

    async fn void_lease(&self, id: &TaskId, now: Millis) -> Result<bool, StoreError> {
        let Some(task) = self.stored_task(id).await?.filter(|task| task.state == TaskState::Leased) else { return Ok(false) };
        let update = Update::new(self.task_key(&id.job, id.task))
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
        // A worker asks once in a third of a lease whether its job is still open, and not at every update: a thousand workers read one item.
        if until != lease.until || matches!(update, TaskUpdate::AddTasks(_) | TaskUpdate::Renumber { .. } | TaskUpdate::ListFiles(_)) {
            self.open_job(&lease.task.job).await?;
        }
        self.apply_update(lease, &update, until).await?;
        lease.fencing_token += 1;
        lease.until = until;
        match update {
            TaskUpdate::Checkpoint(checkpoint) => {
                lease.attempts_since_progress = 0;
                lease.paused = Duration::ZERO;
                lease.reserved_files = lease.names_left_after(&checkpoint.output_files);
                lease.cursor = checkpoint.cursor;
                lease.counters = checkpoint.counters;
            }
            TaskUpdate::TakeTime(time) => lease.export_time = Some(time),
            TaskUpdate::ListedUpTo(progress) => {
                lease.attempts_since_progress = 0;
                lease.paused = Duration::ZERO;
                lease.plan_progress = Some(progress);
            }
            TaskUpdate::Heartbeat
            | TaskUpdate::AddTasks(_)
            | TaskUpdate::ReserveFiles(_)
            | TaskUpdate::Renumber { .. }
            | TaskUpdate::ListFiles(_)
            | TaskUpdate::Release(_) => {}
        }
        Ok(())
    }

    async fn split_task(&self, lease: &mut Lease, split: TaskSplit, until: Millis) -> Result<Option<TaskId>, StoreError> {
        let job = self.open_job(&lease.task.job).await?;
        let new_task = TaskId { job: job.id.clone(), task: job.next_task_of_round() };
        let TaskSplit { kept, given } = split;
        let writes = self.split_writes(lease, &job, (&kept, new_task.task, &given), until)?;
        if self.transact(&writes).await? != WriteOutcome::Applied {
            let stored = self.stored_task(&lease.task).await?.filter(|task| task.attempt == lease.attempt).ok_or(StoreError::Stale)?;
            if stored.fencing_token == lease.fencing_token && stored.state == TaskState::Leased {
                // The lease holds, so the condition on the job did not: another task was split.
                return Ok(None);
            }
            // The condition also fails if an earlier call, whose answer was lost, has applied the split.
            let is_applied =
                stored.fencing_token == lease.fencing_token + 1 && self.task_work(&new_task).await?.is_some_and(|work| work == given);
            if !is_applied {
                return Err(StoreError::Stale);
            }
        }
        lease.fencing_token += 1;
        lease.until = until;
        lease.work = kept;
        Ok(Some(new_task))
    }

    async fn complete_task(&self, lease: &Lease, completion: TaskCompletion) -> Result<Job, StoreError> {
        let job = self.open_job(&lease.task.job).await?;
        let writes = self.completion_writes(lease, &completion)?;
        let outcome = match &completion {
            TaskCompletion::JobComplete(now) => {
                let record = AuditRecord::from_job_end(*now, JobState::Complete, Agent::service(), &lease.job, None);
                let event = self.event_write(&lease.job, JobState::Complete, *now, None)?;
                let writes = writes.into_iter().chain(record.map(|record| Write::AuditRecord(Box::new(record)))).chain(event).collect();
                let schedule = completion_write(&lease.job, *now)?;
                self.transact_and_free_slot(writes, &lease.job.owner, schedule).await?
            }
            TaskCompletion::Planned(planned) => {
                let planned_job = Job { planned: Some(*planned), ..lease.job.clone() };
                let event = self.event_write(&planned_job, JobState::Running, planned.time.planned_at, None)?;
                self.transact(&writes.into_iter().chain(event).collect::<Vec<_>>()).await?
            }
            TaskCompletion::Done | TaskCompletion::NextRound(_) => self.transact(&writes).await?,
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
        match completion {
            TaskCompletion::Done => self.add_progress_after(job, lease.task.task).await,
            TaskCompletion::Planned(_) | TaskCompletion::NextRound(_) | TaskCompletion::JobComplete(_) => {
                self.job(&lease.task.job).await?.ok_or(StoreError::Stale)
            }
        }
    }

    async fn task_work(&self, task: &TaskId) -> Result<Option<Work>, StoreError> {
        let key = items::plain_key(&self.task_partition(&task.job, task.task), &items::work_sk(task.task));
        self.get_key(key).await?.map(|item| Attributes(&item).work()).transpose()
    }

    async fn fragments(&self, id: &JobId, rounds: RangeInclusive<u32>, selection: &FragmentSelection) -> Result<Vec<Fragment>, StoreError> {
        let keys = items::fragment_sk_range(&rounds, selection);
        if rounds.is_empty() || keys.first() > keys.last() {
            // DynamoDB rejects an empty range.
            return Ok(Vec::new());
        }
        let found = self.query_partitions(id, &keys, |item| Attributes(item).fragment()).await?;
        let is_selected = |(round, fragment): &(u32, Fragment)| rounds.contains(round) && selection.contains(fragment.name);
        let mut fragments: Vec<Fragment> = found.into_iter().filter(is_selected).map(|(_, fragment)| fragment).collect();
        fragments.sort_unstable_by_key(|fragment| fragment.name);
        Ok(fragments)
    }
}
