//! Counters of jobs at work, and the recording of a job under them.
//!
//! A job is counted in the transaction that makes it [`JobState::Accepted`] and no longer in the one that ends it. Its own
//! state is a condition of both, so it is counted once, whoever comes twice.

use aws_sdk_dynamodb::types::AttributeValue;
use headrace_core::access::Agent;
use headrace_core::audit::AuditEntry;
use headrace_core::job::task::{Planning, Work};
use headrace_core::job::{Conditions, IdempotencyKey, Job, JobState, Limit, Quotas, Recorded};
use headrace_core::ports::JobStore as _;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, TaskId};

use super::items::{self, Attributes};
use super::write::{Landed, Update, Write};
use super::{ANNOUNCED_WITHIN, DynamoJobStore};

/// How many jobs are at work, of a caller or of all.
const AT_WORK: &str = "at_work";

/// How often recording is tried while DynamoDB forgets the key that stands in its way.
const KEY_TRIES: u32 = 3;

/// One job more on a counter, if it is below the limit.
fn raise(owner: Option<&Caller>, limit: Option<u32>) -> Write {
    let update = Update::of(items::limit_key(owner)).add(AT_WORK, items::number(1_u32));
    Write::Update(match limit {
        None => update,
        // A missing counter is below any limit but this.
        Some(0) => update.when("at_work < :limit").value(":limit", items::number(0_u32)),
        Some(limit) => update.when("attribute_not_exists(at_work) OR at_work < :limit").value(":limit", items::number(limit)),
    })
}

/// One job less on a counter.
fn lower(owner: Option<&Caller>) -> Write {
    let less = AttributeValue::N("-1".to_owned());
    Write::Update(Update::of(items::limit_key(owner)).add(AT_WORK, less).when("at_work > :none").value(":none", items::number(0_u32)))
}

/// One job more on both counters.
pub(super) fn raises(owner: &Caller, quotas: &Quotas) -> [Write; 2] {
    [raise(None, quotas.global), raise(Some(owner), quotas.per_caller)]
}

/// The limit that refused [`raises`] whose first write was the `first` of its transaction.
pub(super) fn met(refused: &[usize], first: usize, quotas: &Quotas) -> Option<Limit> {
    let is_refused = |index| refused.contains(&index);
    let global = quotas.global.filter(|_| is_refused(first)).map(Limit::Global);
    global.or_else(|| quotas.per_caller.filter(|_| is_refused(first + 1)).map(Limit::PerCaller))
}

impl DynamoJobStore {
    /// These writes, and one job less on both counters.
    pub(super) async fn transact_and_free(&self, mut writes: Vec<Write>, owner: &Caller) -> Result<Landed, StoreError> {
        let own = writes.len();
        writes.extend([lower(None), lower(Some(owner))]);
        loop {
            match self.transact(&writes).await? {
                // A counter that somebody has deleted or reset: no job hangs for that, and it does not fall below zero.
                Landed::Refused(by) if by.iter().all(|index| *index >= own) => {
                    tracing::warn!("a counter of jobs at work was lower than it should be");
                    by.iter().rev().for_each(|index| drop(writes.remove(*index)));
                }
                landed @ (Landed::Yes | Landed::Refused(_)) => return Ok(landed),
            }
        }
    }

    pub(super) async fn record_under_conditions(
        &self,
        job: &Job,
        plan: &Planning,
        conditions: &Conditions,
        by: &Agent,
    ) -> Result<Recorded, StoreError> {
        let Conditions { quotas, client_jobs, key } = conditions;
        let quotas = &quotas.of_client(*client_jobs);
        let writes = first_writes(job, plan, conditions, by)?;
        let counters = writes.len() - if job.state.has_slot() { 2 } else { 0 };
        for _ in 0..KEY_TRIES {
            let Landed::Refused(by) = self.transact(&writes).await? else { return Ok(Recorded::Yes) };
            // Its name is random: what is there is this job, written by a call whose answer was lost.
            if self.job(&job.id).await?.is_some() {
                return Ok(Recorded::Yes);
            }
            if let Some(key) = key
                && let Some(before) = self.started_before(key).await?
            {
                return Ok(before);
            }
            if let Some(limit) = met(&by, counters, quotas) {
                return Ok(Recorded::Full(limit));
            }
        }
        Err(StoreError::Stale)
    }

    /// What the key has started; `None` if it has started nothing.
    async fn started_before(&self, key: &IdempotencyKey) -> Result<Option<Recorded>, StoreError> {
        let Some(item) = self.get_key(items::idempotency_key(&key.digest)).await? else { return Ok(None) };
        let attributes = Attributes(&item);
        if attributes.text("fingerprint")? != key.fingerprint {
            return Ok(Some(Recorded::KeyReused));
        }
        let id = JobId::parse(attributes.text("job")?).map_err(|_| Attributes::unreadable("job"))?;
        Ok(Some(Recorded::Before(self.job(&id).await?.map(Box::new))))
    }
}

/// The job and its plan, its key, then its place in the queue or on both counters: those come last.
fn first_writes(
    job: &Job,
    plan: &Planning,
    Conditions { quotas, client_jobs, key }: &Conditions,
    by: &Agent,
) -> Result<Vec<Write>, StoreError> {
    let due = job.created_at + ANNOUNCED_WITHIN;
    let mut item = items::job_item(job)?;
    item.extend([("due_shard".to_owned(), items::due_shard(0)), ("due_at".to_owned(), items::millis(due))]);
    // The plan of a job that waits is nobody's to look at.
    let plan_due = (job.state != JobState::Queued).then_some(due);
    let [task, work] = items::task_items(job, TaskId::plan(&job.id).task, &Work::Plan(plan.clone()), plan_due)?;
    let entry = AuditEntry::of_kick_off(by.clone(), job);
    let mut writes = vec![Write::PutNew(item), Write::PutNew(task), Write::PutNew(work), Write::Record(Box::new(entry))];
    writes.extend(key.as_ref().map(|key| Write::PutNew(items::key_item(key, job))));
    if job.state == JobState::Queued {
        writes.push(Write::PutNew(items::queue_item(job, *client_jobs)));
    }
    if job.state.has_slot() {
        writes.extend(raises(&job.owner, &quotas.of_client(*client_jobs)));
    }
    Ok(writes)
}
