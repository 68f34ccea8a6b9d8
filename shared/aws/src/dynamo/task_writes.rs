//! The updates of a leased task as conditional writes.

use futures_util::future::try_join_all;
use headrace_core::job::file::{OutputFile, OutputFileName};
use headrace_core::job::task::{Checkpoint, Lease, Release, TaskCompletion, TaskState, TaskUpdate, Work};
use headrace_core::job::{Counters, Job, JobState};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;

use super::items::{self, Item, JOB_SK};
use super::partitions::{count_completed_task, file_list_pk};
use super::transact::{Update, Write};
use super::{ANNOUNCEMENT_TIMEOUT, CLEANUP_DELAY, DynamoJobStore};

/// Extends the lease until `until`, if it does not end then anyway. An update without an extension leaves the index of due items alone.
fn extend_lease(update: Update, lease: &Lease, until: Millis) -> Update {
    if until == lease.until {
        return update;
    }
    update.set("lease_until", items::millis(until)).set("due_shard", items::due_shard(lease.task.task)).set("due_at", items::millis(until))
}

/// Releases the lease, and makes the task due if nobody has leased it a while after `now`, or at the end of its pause.
fn release_lease(update: Update, lease: &Lease, release: &Release, now: Millis) -> Update {
    let due_at = if let Release::Pause { until, .. } = release { *until } else { now + ANNOUNCEMENT_TIMEOUT };
    let update = update
        .set("due_shard", items::due_shard(lease.task.task))
        .set("due_at", items::millis(due_at))
        .set("#state", items::text(TaskState::Open.as_str()))
        .remove("lease_until");
    let update = items::usage_attributes(lease.counters.usage).fold(update, |update, (name, value)| update.set(&name, value));
    let attempts_before = items::number(lease.attempts_since_progress.saturating_sub(1));
    match release {
        // If the attempt has made progress, its last checkpoint has reset the number of attempts.
        Release::Yield => update,
        Release::Stop | Release::Overload => update.set("attempts_since_progress", attempts_before),
        Release::Pause { until, total } => update
            .set("attempts_since_progress", attempts_before)
            .set(items::PAUSED_UNTIL, items::millis(*until))
            .set(items::PAUSED_MILLIS, items::number(u64::try_from(total.as_millis()).unwrap_or(u64::MAX))),
        Release::Fault(fault) => update.set("fault", items::text(fault)),
    }
}

/// Records that the task has made progress: earlier attempts and pauses do not count any more.
fn record_progress(update: Update, lease: &Lease) -> Update {
    let update = update.set("attempts_since_progress", items::number(0_u32));
    if lease.paused.is_zero() { update } else { update.remove(items::PAUSED_MILLIS) }
}

/// Returns the update of a leased task by a checkpoint.
fn checkpoint_update(update: Update, lease: &Lease, checkpoint: &Checkpoint) -> Update {
    let update = record_progress(update, lease)
        .set("cursor_item", items::number(checkpoint.cursor.item))
        .set("cursor_offset", items::number(checkpoint.cursor.offset));
    let update = items::counter_attributes(checkpoint.counters).fold(update, |update, (name, value)| update.set(&name, value));
    let names = lease.names_left_after(&checkpoint.output_files);
    if names == lease.reserved_files { update } else { set_reserved_files(update, &names) }
}

/// Sets the reserved names of a task.
fn set_reserved_files(update: Update, names: &[OutputFileName]) -> Update {
    if names.is_empty() {
        return update.remove(items::RESERVED_FILES);
    }
    update.set(items::RESERVED_FILES, items::reserved_files(names))
}

impl DynamoJobStore {
    /// Returns an update of the task that applies only while the lease holds.
    fn update_under_lease(&self, lease: &Lease) -> Update {
        Update::new(self.task_key(&lease.task.job, lease.task.task))
            .when("#state = :leased AND attempt = :attempt AND fencing_token = :seen_token")
            .name("#state", "state")
            .value(":leased", items::text(TaskState::Leased.as_str()))
            .value(":attempt", items::number(lease.attempt))
            .value(":seen_token", items::number(lease.fencing_token))
            .set("fencing_token", items::number(lease.fencing_token + 1))
    }

    /// Returns the item of an output file.
    fn output_file_item(&self, job: &Job, file: OutputFile) -> Item {
        let mut item = self.output_file_key(job, file.name);
        item.extend(items::summary_attributes(file.summary).map(|(name, value)| (name.to_owned(), value)));
        item.insert("ttl".to_owned(), items::ttl(job));
        item
    }

    /// Returns the writes of a checkpoint beside the update of the task: its output files and its fragments.
    fn checkpoint_files(&self, lease: &Lease, checkpoint: &Checkpoint) -> Vec<Write> {
        let partition = self.task_partition(&lease.task.job, lease.task.task);
        let fragments = checkpoint.fragments.iter().map(|fragment| {
            let mut item = items::plain_key(&partition, &items::fragment_sk(lease.job.round, fragment.name));
            item.extend(items::summary_attributes(fragment.summary).map(|(name, value)| (name.to_owned(), value)));
            item.insert("ttl".to_owned(), items::ttl(&lease.job));
            item
        });
        let output_files = checkpoint.output_files.iter().map(|file| self.output_file_item(&lease.job, *file));
        output_files.chain(fragments).map(Write::PutNew).collect()
    }

    /// Reserves the next numbers of the update's kinds, if it reserves any. The update records the numbers in the task, so that the next
    /// attempt uses them, too.
    pub(super) async fn file_names_to_reserve(&self, lease: &Lease, update: &TaskUpdate) -> Result<Vec<OutputFileName>, StoreError> {
        let TaskUpdate::ReserveFiles(kinds) = update else { return Ok(Vec::new()) };
        try_join_all(kinds.iter().map(|kind| self.next_file_name(&lease.job, *kind))).await
    }

    /// Returns the writes of an update. `reserved` are the names that [`TaskUpdate::ReserveFiles`] leaves in the task.
    pub(super) fn update_writes(
        &self,
        lease: &Lease,
        update: &TaskUpdate,
        reserved: &[OutputFileName],
        until: Millis,
    ) -> Result<Vec<Write>, StoreError> {
        let task = self.update_under_lease(lease);
        let (task, others) = match update {
            TaskUpdate::Heartbeat => (extend_lease(task, lease, until), Vec::new()),
            TaskUpdate::TakeTime(time) => (extend_lease(task, lease, until).set("export_time", items::json(time)?), Vec::new()),
            TaskUpdate::ListedUpTo(progress) => {
                let task = record_progress(extend_lease(task, lease, until), lease);
                (task.set("plan_progress", items::json(progress)?), Vec::new())
            }
            TaskUpdate::ReserveFiles(_) => (set_reserved_files(extend_lease(task, lease, until), reserved), Vec::new()),
            TaskUpdate::AddTasks(tasks) => {
                let mut items = Vec::new();
                for (task, work) in tasks {
                    // The finalize task is announced after the last other task. If that is lost, the reaper finds the job.
                    let due = (!work.is_finalize()).then_some(until + ANNOUNCEMENT_TIMEOUT);
                    let partition = self.task_partition(&lease.task.job, *task);
                    items.extend(items::task_items(&lease.job, (*task, work), &partition, due)?.map(Write::Put));
                }
                (extend_lease(task, lease, until), items)
            }
            TaskUpdate::Checkpoint(checkpoint) => {
                (checkpoint_update(extend_lease(task, lease, until), lease, checkpoint), self.checkpoint_files(lease, checkpoint))
            }
            TaskUpdate::Renumber { file, number } => {
                let renumbered = OutputFile { name: OutputFileName { number: *number, ..file.name }, ..*file };
                let put = Write::PutNew(self.output_file_item(&lease.job, renumbered));
                (extend_lease(task, lease, until), vec![put, Write::Delete(self.output_file_key(&lease.job, file.name))])
            }
            TaskUpdate::ListFiles(part) => {
                let mut item = items::plain_key(&file_list_pk(&lease.task.job), &items::file_list_sk(part.number));
                item.extend([("files".to_owned(), items::text(part.text())), ("ttl".to_owned(), items::ttl(&lease.job))]);
                (extend_lease(task, lease, until), vec![Write::Put(item)])
            }
            TaskUpdate::Release(release) => (release_lease(task, lease, release, until), Vec::new()),
        };
        Ok(std::iter::once(Write::Update(task)).chain(others).collect())
    }

    /// Returns the writes of a split: of the leased task, of its job, which has another task then, and of the new task. `job` is the job as it
    /// was just read.
    pub(super) fn split_writes(
        &self,
        lease: &Lease,
        job: &Job,
        (kept, new_task, given): (&Work, u32, &Work),
        until: Millis,
    ) -> Result<Vec<Write>, StoreError> {
        let partition = self.task_partition(&job.id, lease.task.task);
        // The tasks of round 0 are counted for the whole job, because later rounds need the number of all that have read the lake.
        let (attribute, seen) = match job.round {
            0 => (items::SPLIT_TASKS, job.split_tasks),
            _ => (items::ROUND_SPLIT_TASKS, job.round_split_tasks),
        };
        let job_update = Update::new(items::job_key(&job.id, JOB_SK))
            .name("#state", "state")
            .value(":running", items::text(JobState::Running.as_str()))
            .set(attribute, items::number(seen + 1));
        // The round is no condition: it does not end before the leased task is complete.
        let job_update = match seen {
            0 => job_update.when(&format!("#state = :running AND attribute_not_exists({attribute})")),
            seen => job_update.when(&format!("#state = :running AND {attribute} = :seen")).value(":seen", items::number(seen)),
        };
        // An attempt at the plan or the finalize task that died may have left a task of this number, which is replaced.
        let due = Some(until + ANNOUNCEMENT_TIMEOUT);
        let new_items = items::task_items(job, (new_task, given), &self.task_partition(&job.id, new_task), due)?;
        let writes = [
            Write::Update(extend_lease(self.update_under_lease(lease), lease, until)),
            Write::Update(job_update),
            Write::Put(items::work_item(job, (lease.task.task, kept), &partition)?),
        ];
        Ok(writes.into_iter().chain(new_items.map(Write::Put)).collect())
    }

    /// Returns the writes that complete a task: of the task, and of its job or of a counter of its round.
    pub(super) fn completion_writes(&self, lease: &Lease, completion: &TaskCompletion) -> Result<[Write; 2], StoreError> {
        let task = self.update_under_lease(lease).remove("lease_until").remove("due_shard").remove("due_at");
        let job = Update::new(items::job_key(&lease.task.job, JOB_SK)).when("#state = :from").name("#state", "state");
        let running = items::text(JobState::Running.as_str());
        let completed = items::text(TaskState::Completed.as_str());
        let set_counters =
            |job: Update, counters| items::counter_attributes(counters).fold(job, |job, (name, value)| job.set(&name, value));
        let (task, other) = match completion {
            TaskCompletion::Planned(planned) => (
                task.set("#state", completed),
                items::usage_attributes(lease.counters.usage).fold(
                    job.value(":from", items::text(JobState::Accepted.as_str()))
                        .set("#state", running)
                        .set("planned", items::json(planned)?),
                    |job, (name, value)| job.set(&name, value),
                ),
            ),
            TaskCompletion::Done => (task.set("#state", completed), count_completed_task(&lease.job, lease.task.task, lease.counters)),
            TaskCompletion::NextRound(round) => {
                let next = lease.job.round + 1;
                let job = job
                    .value(":from", running)
                    .set("round_tasks", items::number(round.tasks))
                    .set("phase", items::text(round.phase.as_str()))
                    .set("first_unmerged_round", items::number(round.first_unmerged_round))
                    .set("round", items::number(next))
                    .remove(items::ROUND_SPLIT_TASKS);
                let job = if round.starts_over { job.set("files_since_round", items::number(next)) } else { job };
                // The finalize task stays open, and runs again after the round. What it has used so far is now part of the job's usage.
                let task = task.set("#state", items::text(TaskState::Open.as_str())).set("attempts_since_progress", items::number(0_u32));
                let task = lease.counters.usage.named().fold(task, |task, (name, _)| task.remove(name));
                (task, set_counters(job, counters_after_round(lease, round.starts_over)))
            }
            TaskCompletion::JobComplete(now) => {
                let job = job
                    .value(":from", running)
                    .set("#state", items::text(JobState::Complete.as_str()))
                    .set("ended_at", items::millis(*now))
                    .set("due_at", items::millis(*now + CLEANUP_DELAY))
                    .remove(items::ENCRYPTED_SECRET);
                (task.set("#state", completed), set_counters(job, counters_of_job(lease)))
            }
        };
        Ok([Write::Update(task), Write::Update(other)])
    }
}

/// Returns the counters of the job, to which the leased finalize task adds what it has used itself.
fn counters_of_job(lease: &Lease) -> Counters {
    let counters = lease.job.counters;
    Counters { usage: counters.usage.plus(lease.counters.usage), ..counters }
}

/// Returns the counters with which the round after that of the leased finalize task begins: the sum of all rounds so far.
fn counters_after_round(lease: &Lease, starts_over: bool) -> Counters {
    let counters = counters_of_job(lease);
    // The counts for notices stay: the first reading alone counts them. What was used, was used.
    if starts_over { Counters { notices: counters.notices, usage: counters.usage, ..Counters::default() } } else { counters }
}
