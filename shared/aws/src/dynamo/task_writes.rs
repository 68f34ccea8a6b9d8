//! The updates of a leased task as conditional writes.

use aws_sdk_dynamodb::types::AttributeValue;
use headrace_core::job::file::{OutputFileName, OutputKind};
use headrace_core::job::task::{Checkpoint, Lease, Release, TaskCompletion, TaskState, TaskUpdate, Work};
use headrace_core::job::{Counters, JobState};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;

use super::items::{self, Attributes, JOB_SK, STORE};
use super::transact::{Update, Write, WriteOutcome};
use super::{ANNOUNCEMENT_TIMEOUT, CLEANUP_DELAY, DynamoJobStore};

/// The largest number of tries to reserve a number while other tasks reserve numbers of the same kind.
const MAX_RESERVE_TRIES: u32 = 200;

/// Returns an update of the task that applies only while the lease holds.
fn update_under_lease(lease: &Lease) -> Update {
    Update::new(items::job_key(&lease.task.job, items::task_sk(lease.task.task)))
        .when("#state = :leased AND attempt = :attempt AND fencing_token = :seen_token")
        .name("#state", "state")
        .value(":leased", items::text(TaskState::Leased.as_str()))
        .value(":attempt", items::number(lease.attempt))
        .value(":seen_token", items::number(lease.fencing_token))
        .set("fencing_token", items::number(lease.fencing_token + 1))
}

/// Returns an update of the task that also extends the lease until `until`.
fn update_and_extend_lease(lease: &Lease, until: Millis) -> Update {
    update_under_lease(lease)
        .set("lease_until", items::millis(until))
        .set("due_shard", items::due_shard(lease.task.task))
        .set("due_at", items::millis(until))
}

/// Returns the writes that record a checkpoint and extend the lease until `until`.
fn checkpoint_writes(lease: &Lease, checkpoint: &Checkpoint, until: Millis) -> Vec<Write> {
    let mut update = update_and_extend_lease(lease, until)
        .set("cursor_item", items::number(checkpoint.cursor.item))
        .set("cursor_offset", items::number(checkpoint.cursor.offset))
        .set("attempts_since_progress", items::number(0_u32));
    for (name, value) in items::counter_attributes(checkpoint.counters) {
        update = update.set(&name, value);
    }
    if checkpoint.output_file.is_some() {
        update = update.remove("reserved_file");
    }
    let mut writes = vec![Write::Update(update)];
    writes.extend(checkpoint.output_file.map(|file| {
        let update = Update::new(items::job_key(&lease.task.job, items::output_file_sk(file.name)))
            .when("task = :task AND attribute_not_exists(crc64)")
            .value(":task", items::number(lease.task.task));
        let attributes = items::summary_attributes(file.summary).into_iter();
        Write::Update(attributes.fold(update, |update, (name, value)| update.set(name, value)))
    }));
    writes.extend(checkpoint.fragments.iter().map(|fragment| {
        let mut item = items::job_key(&lease.task.job, items::fragment_sk(lease.job.round, fragment.name));
        item.extend(items::summary_attributes(fragment.summary).map(|(name, value)| (name.to_owned(), value)));
        item.insert("ttl".into(), items::ttl(&lease.job));
        Write::PutNew(item)
    }));
    writes
}

impl DynamoJobStore {
    /// Reserves the next free number of a kind for the leased task. Numbers have no gaps: a number is reserved only after the one before.
    pub(super) async fn reserve_output_file(&self, lease: &Lease, kind: OutputKind, until: Millis) -> Result<OutputFileName, StoreError> {
        let last = self
            .query()
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":pk", items::job_pk(&lease.task.job))
            .expression_attribute_values(":prefix", items::text(items::output_files_of_kind(kind)))
            .scan_index_forward(false)
            .consistent_read(true)
            .limit(1);
        let last = self.query_page(last).await?;
        let last = last.items().first().and_then(|item| Attributes(item).text("sk").ok()?.rsplit_once('#')?.1.parse::<u32>().ok());
        let first = last.unwrap_or_default() + 1;
        for number in first..first.saturating_add(MAX_RESERVE_TRIES) {
            let name = OutputFileName { kind, number };
            let mut file = items::job_key(&lease.task.job, items::output_file_sk(name));
            file.insert("task".into(), items::number(lease.task.task));
            file.insert("ttl".into(), items::ttl(&lease.job));
            let update = update_and_extend_lease(lease, until).set("reserved_file", items::text(name.to_string()));
            match self.transact(&[Write::Update(update), Write::PutNew(file)]).await? {
                WriteOutcome::Applied => return Ok(name),
                // The lease holds, but another task has reserved the number: try the next one.
                WriteOutcome::ConditionFailed(indexes) if indexes == [1] => {}
                // The lease is lost, or an earlier call, whose answer was lost, has reserved a number.
                WriteOutcome::ConditionFailed(_) => {
                    let stored = self.stored_task(&lease.task).await?;
                    let applied = stored.filter(|task| task.attempt == lease.attempt && task.fencing_token == lease.fencing_token + 1);
                    return applied.and_then(|task| task.reserved_file).ok_or(StoreError::Stale);
                }
            }
        }
        Err(StoreError::NotApplied { store: STORE, cause: "too many tasks reserve file numbers at the same time".into() })
    }
}

/// Returns the writes of an update, except of [`TaskUpdate::ReserveFile`].
pub(super) fn update_writes(lease: &Lease, update: &TaskUpdate, until: Millis) -> Result<Vec<Write>, StoreError> {
    match update {
        TaskUpdate::Heartbeat | TaskUpdate::ReserveFile(_) => Ok(vec![Write::Update(update_and_extend_lease(lease, until))]),
        TaskUpdate::TakeTime(time) => Ok(vec![Write::Update(update_and_extend_lease(lease, until).set("export_time", items::json(time)?))]),
        TaskUpdate::AddTasks(tasks) => {
            let mut writes = vec![Write::Update(update_and_extend_lease(lease, until))];
            for (task, work) in tasks {
                // The finalize task is announced after the last other task. If that is lost, the reaper finds the job.
                let due = (*work != Work::Finalize).then_some(until + ANNOUNCEMENT_TIMEOUT);
                writes.extend(items::task_items(&lease.job, *task, work, due)?.map(Write::Put));
            }
            Ok(writes)
        }
        TaskUpdate::Checkpoint(checkpoint) => Ok(checkpoint_writes(lease, checkpoint, until)),
        TaskUpdate::Release(release) => {
            let update = update_and_extend_lease(lease, until)
                .set("due_at", items::millis(until + ANNOUNCEMENT_TIMEOUT))
                .set("#state", items::text(TaskState::Open.as_str()))
                .remove("lease_until");
            let update = match release {
                // If the attempt has made progress, its last checkpoint has reset the number of attempts.
                Release::Yield => update,
                Release::Stop | Release::Overload => {
                    update.set("attempts_since_progress", items::number(lease.attempts_since_progress.saturating_sub(1)))
                }
                Release::Fault(fault) => update.set("fault", items::text(fault)),
            };
            Ok(vec![Write::Update(update)])
        }
    }
}

/// Returns the writes that complete a task: of the task and of its job.
pub(super) fn completion_writes(lease: &Lease, completion: &TaskCompletion) -> Result<[Write; 2], StoreError> {
    let task = update_under_lease(lease).remove("lease_until").remove("due_shard").remove("due_at");
    let job = Update::new(items::job_key(&lease.task.job, JOB_SK)).when("#state = :from").name("#state", "state");
    let running = items::text(JobState::Running.as_str());
    let completed = items::text(TaskState::Completed.as_str());
    let (task, job) = match completion {
        TaskCompletion::Planned(planned) => (
            task.set("#state", completed),
            job.value(":from", items::text(JobState::Accepted.as_str()))
                .set("#state", running)
                .set("planned", items::json(planned)?)
                .set("open_tasks", items::number(planned.tasks)),
        ),
        TaskCompletion::Done => {
            let job = job.value(":from", running).add("open_tasks", AttributeValue::N("-1".into()));
            let counters = items::counter_attributes(lease.counters);
            (task.set("#state", completed), counters.fold(job, |job, (name, value)| job.add(&name, value)))
        }
        TaskCompletion::NextRound(round) => {
            let job = job
                .value(":from", running)
                .set("open_tasks", items::number(round.tasks))
                .set("round_tasks", items::number(round.tasks))
                .set("phase", items::text(round.phase.as_str()))
                .set("first_unmerged_round", items::number(round.first_unmerged_round))
                .set("round", items::number(lease.job.round + 1));
            // The changes that arrived late stay: they are counted while versions are resolved, not while the lake is read again.
            let counters = items::counter_attributes(Counters::default()).filter(|_| round.resets_counters);
            (
                // The finalize task stays open, and runs again after the round.
                task.set("#state", items::text(TaskState::Open.as_str())).set("attempts_since_progress", items::number(0_u32)),
                counters.fold(job, |job, (name, value)| job.set(&name, value)),
            )
        }
        TaskCompletion::JobComplete(now) => (
            task.set("#state", completed),
            job.value(":from", running)
                .set("#state", items::text(JobState::Complete.as_str()))
                .set("ended_at", items::millis(*now))
                .set("due_at", items::millis(*now + CLEANUP_DELAY))
                .remove(items::ENCRYPTED_SECRET),
        ),
    };
    Ok([Write::Update(task), Write::Update(job)])
}
