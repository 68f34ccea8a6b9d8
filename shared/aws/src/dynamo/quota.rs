//! Counters of active jobs, and the recording of a job within the quotas.
//!
//! A job occupies a slot in the transaction that makes it [`JobState::Accepted`], and frees it in the one that ends it. Its state is a
//! condition of both, so that it is counted once, even if a call is repeated.
//!
//! An export is counted for its client and for all clients together. A synchronization of the lake is no export: it has a counter of its
//! own, so that it takes no slot of one.

use aws_sdk_dynamodb::types::AttributeValue;
use headrace_core::access::Agent;
use headrace_core::audit::AuditRecord;
use headrace_core::job::task::{PlanInput, Work};
use headrace_core::job::{IdempotencyKey, Job, JobState, Quota, Quotas, RecordConditions, RecordOutcome};
use headrace_core::ports::JobStore as _;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, TaskId};

use super::items::{self, Attributes};
use super::schedules::firing_write;
use super::transact::{Update, Write, WriteOutcome};
use super::{ANNOUNCEMENT_TIMEOUT, DynamoJobStore};

/// The attribute with the number of active jobs.
const ACTIVE_JOBS: &str = "active_jobs";

/// The largest number of tries to record a job while DynamoDB is deleting the idempotency key that conflicts with it.
const MAX_RECORD_TRIES: u32 = 3;

/// Returns the increment of a counter, with the condition that it is below the limit. Without an owner, this is the counter of all jobs.
fn increment(owner: Option<&Caller>, limit: Option<u32>) -> Write {
    let update = Update::new(items::quota_key(owner)).add(ACTIVE_JOBS, items::number(1_u32));
    Write::Update(match limit {
        None => update,
        // A counter that does not exist yet is below every limit except zero.
        Some(0) => update.when("active_jobs < :limit").value(":limit", items::number(0_u32)),
        Some(limit) => update.when("attribute_not_exists(active_jobs) OR active_jobs < :limit").value(":limit", items::number(limit)),
    })
}

/// Returns the decrement of a counter, with the condition that it is above zero.
fn decrement(owner: Option<&Caller>) -> Write {
    let minus_one = AttributeValue::N("-1".to_owned());
    let update = Update::new(items::quota_key(owner)).add(ACTIVE_JOBS, minus_one);
    Write::Update(update.when("active_jobs > :zero").value(":zero", items::number(0_u32)))
}

/// Returns the counters that count a job of this owner. `None` is that of all exports.
fn counters(owner: &Caller) -> Vec<Option<&Caller>> {
    if owner.is_sync() { vec![Some(owner)] } else { vec![None, Some(owner)] }
}

/// Returns the writes that count a job against the quotas that apply to its owner. They fail if a quota is reached.
pub(super) fn occupy_slot(owner: &Caller, quotas: &Quotas) -> Vec<Write> {
    let limit = |counter: Option<&Caller>| if counter.is_none() { quotas.global } else { quotas.per_caller };
    counters(owner).into_iter().map(|counter| increment(counter, limit(counter))).collect()
}

/// Returns the quota that was reached, if a condition of [`occupy_slot`] has failed. `first` is the index of its first write.
pub(super) fn reached_quota(failed: &[usize], first: usize, owner: &Caller, quotas: &Quotas) -> Option<Quota> {
    let reached = |(index, counter): (usize, Option<&Caller>)| {
        let quota = if counter.is_none() { quotas.global.map(Quota::Global) } else { quotas.per_caller.map(Quota::PerCaller) };
        quota.filter(|_| failed.contains(&index))
    };
    (first..).zip(counters(owner)).find_map(reached)
}

impl DynamoJobStore {
    /// Applies these writes, decrements the counters of the owner's jobs, and changes the schedule of the job if it is still there, in one transaction.
    pub(super) async fn transact_and_free_slot(
        &self,
        mut writes: Vec<Write>,
        owner: &Caller,
        schedule: Option<Write>,
    ) -> Result<WriteOutcome, StoreError> {
        let first_optional = writes.len();
        writes.extend(counters(owner).into_iter().map(decrement));
        let schedule_index = writes.len();
        writes.extend(schedule);
        loop {
            match self.transact(&writes).await? {
                // Somebody has deleted or reset a counter, or removed the schedule. The job ends all the same, and the counter does not
                // go below zero.
                WriteOutcome::ConditionFailed(indexes) if indexes.iter().all(|index| *index >= first_optional) => {
                    if indexes.iter().any(|index| *index < schedule_index) {
                        tracing::warn!(
                            "the counter of running exports was lower than their number: somebody has changed it in the job table; it stays at zero or above"
                        );
                    }
                    indexes.iter().rev().for_each(|index| drop(writes.remove(*index)));
                }
                outcome @ (WriteOutcome::Applied | WriteOutcome::ConditionFailed(_)) => return Ok(outcome),
            }
        }
    }

    /// Stores a new job if the quotas and its idempotency key allow it.
    pub(super) async fn record_new_job(
        &self,
        job: &Job,
        plan: &PlanInput,
        conditions: &RecordConditions,
        agent: &Agent,
    ) -> Result<RecordOutcome, StoreError> {
        let RecordConditions { quotas, client_quota, key, firing } = conditions;
        let quotas = &quotas.with_client_quota(*client_quota);
        let partition = self.task_partition(&job.id, TaskId::plan(&job.id).task);
        let event = self.event_write(job, job.state, job.created_at, None)?;
        let writes = new_job_writes(job, (plan, &partition), conditions, (agent, event))?;
        let first_counter = writes.len() - if job.state.has_slot() { counters(&job.owner).len() } else { 0 };
        let firing_index = firing.as_ref().map(|_| first_counter - 1);
        for _ in 0..MAX_RECORD_TRIES {
            let indexes = match self.transact(&writes).await {
                Ok(WriteOutcome::Applied) => return Ok(RecordOutcome::Recorded),
                Ok(WriteOutcome::ConditionFailed(indexes)) => indexes,
                Err(StoreError::Unknown { store, cause }) => {
                    // Job ids are random, so an existing item is this job. Without it, the client must not hear that it was recorded.
                    let recorded = self.job(&job.id).await.is_ok_and(|job| job.is_some());
                    return if recorded { Ok(RecordOutcome::Recorded) } else { Err(StoreError::Unknown { store, cause }) };
                }
                Err(error) => return Err(error),
            };
            if self.job(&job.id).await?.is_some() {
                return Ok(RecordOutcome::Recorded);
            }
            if firing_index.is_some_and(|index| indexes.contains(&index)) {
                return Ok(RecordOutcome::ScheduleChanged);
            }
            if let Some(key) = key
                && let Some(outcome) = self.outcome_of_key(key).await?
            {
                return Ok(outcome);
            }
            if let Some(quota) = reached_quota(&indexes, first_counter, &job.owner, quotas) {
                return Ok(RecordOutcome::NoSlot(quota));
            }
        }
        Err(StoreError::Stale)
    }

    /// Returns the outcome for a repeated idempotency key. Returns `None` if the key is new.
    async fn outcome_of_key(&self, key: &IdempotencyKey) -> Result<Option<RecordOutcome>, StoreError> {
        let Some(item) = self.get_key(items::idempotency_key(&key.digest)).await? else { return Ok(None) };
        let attributes = Attributes(&item);
        if attributes.text("fingerprint")? != key.fingerprint {
            return Ok(Some(RecordOutcome::KeyReused));
        }
        let id = JobId::parse(attributes.text("job")?).map_err(|_| Attributes::unreadable("job"))?;
        Ok(Some(RecordOutcome::Duplicate(self.job(&id).await?.map(Box::new))))
    }
}

/// Returns the writes of a new job: the job, its plan, its audit record, event and idempotency key, its position in the queue, the change of
/// its schedule, or the increments of its counters. The change of the schedule and then the increments come last. `partition` is that of the plan task.
fn new_job_writes(
    job: &Job,
    (plan, partition): (&PlanInput, &str),
    RecordConditions { quotas, client_quota, key, firing }: &RecordConditions,
    (agent, event): (&Agent, Option<Write>),
) -> Result<Vec<Write>, StoreError> {
    let due_at = job.created_at + ANNOUNCEMENT_TIMEOUT;
    let mut item = items::job_item(job)?;
    item.extend([("due_shard".to_owned(), items::due_shard(0)), ("due_at".to_owned(), items::millis(due_at))]);
    // The plan of a queued job is not due, because it cannot run yet.
    let plan_due_at = (job.state != JobState::Queued).then_some(due_at);
    let plan_task = (TaskId::plan(&job.id).task, &Work::Plan(plan.clone()));
    let [task, work] = items::task_items(job, plan_task, partition, plan_due_at)?;
    let record = AuditRecord::from_kick_off(agent.clone(), job);
    let mut writes = vec![Write::PutNew(item), Write::PutNew(task), Write::PutNew(work), Write::AuditRecord(Box::new(record))];
    writes.extend(event);
    writes.extend(key.as_ref().map(|key| Write::PutNew(items::idempotency_item(key, job))));
    if job.state == JobState::Queued {
        writes.push(Write::PutNew(items::queue_item(job, *client_quota)));
    }
    writes.extend(firing.as_ref().map(firing_write).transpose()?);
    if job.state.has_slot() {
        writes.extend(occupy_slot(&job.owner, &quotas.with_client_quota(*client_quota)));
    }
    Ok(writes)
}
