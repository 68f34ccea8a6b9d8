//! The job table in DynamoDB. Every write that matters is conditional; every write that may have landed unseen is read
//! back before it is called lost.

mod access;
mod audit;
mod items;
mod lists;
mod quota;
mod schema;
mod steps;
#[cfg(test)]
mod tests;
mod write;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use headrace_core::access::Agent;
use headrace_core::audit::AuditEntry;
use headrace_core::job::anonymization::JobSecret;
use headrace_core::job::task::{Close, Lease, LeaseAnswer, Planning, Record, TaskState, Work};
use headrace_core::job::{Conditions, Job, JobEvent, JobState, Reason, Recorded, Step};
use headrace_core::output::file::{OutputFileName, Part, Tail};
use headrace_core::ports::{DueItem, JobStore, LeaseSettings, Subject, TaskStore};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{JobId, TaskId};

pub use schema::TableSchema;

use crate::errors::Called;
use crate::seal::{self, Sealer};
use items::{Attributes, DUE_SHARDS, Item, JOB_SK, StoredTask, WHAT};
use write::{Landed, Update, Write};

/// After a job has ended, late writers may still leave files: when to sweep. Longer than a lease.
const SWEEP_AFTER: Duration = Duration::from_secs(150);

/// How long a recorded announcement may take to be seen before the reaper repeats it.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(60);

/// How many parts are taken back in one transaction, beside the lease.
const PARTS_PER_DROP: usize = 99;

/// How often a claim is tried while other tasks take numbers of the same kind.
const CLAIM_TRIES: u32 = 200;

/// The job table.
#[derive(Clone, Debug)]
pub struct DynamoJobStore {
    client: Client,
    table: String,
    called: Called,
    sealer: Option<Arc<dyn Sealer>>,
}

impl DynamoJobStore {
    /// The table of this name.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        let table = table.into();
        let called = Called::new(WHAT, "HEADRACE_TABLE", &table);
        Self { client, table, called, sealer: None }
    }

    /// The same table, whose jobs may have secrets.
    #[must_use]
    pub fn with_sealer(self, sealer: impl Sealer + 'static) -> Self {
        Self { sealer: Some(Arc::new(sealer)), ..self }
    }

    async fn get(&self, job: &JobId, sk: String) -> Result<Option<Item>, StoreError> {
        self.get_key(items::key(job, sk)).await
    }

    async fn get_key(&self, key: Item) -> Result<Option<Item>, StoreError> {
        let got = self.client.get_item().table_name(&self.table).set_key(Some(key)).consistent_read(true).send().await;
        Ok(got.map_err(|error| self.called.store_error(error))?.item)
    }

    async fn stored_task(&self, task: &TaskId) -> Result<Option<StoredTask>, StoreError> {
        let item = self.get(&task.job, items::task_sk(task.task)).await?;
        item.map(|item| Attributes(&item).task()).transpose()
    }

    /// All items of a job whose sort key begins so, read page by page.
    async fn begins_with<T>(
        &self,
        job: &JobId,
        prefix: String,
        read: impl Fn(&Item) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                .expression_attribute_values(":pk", items::pk(job))
                .expression_attribute_values(":prefix", items::text(&prefix))
                .consistent_read(true)
                // The embedded engine wants a limit; a page of DynamoDB ends at 1 MB anyway.
                .limit(1_000)
                .set_exclusive_start_key(after)
                .send()
                .await
                .map_err(|error| self.called.store_error(error))?;
            for item in page.items() {
                found.push(read(item)?);
            }
            after = page.last_evaluated_key;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Whether the job still wants work (rule P10). A read and not a condition of each step: a thousand workers that check
    /// one item in their transactions collide. What slips in behind a cancellation is in no manifest and is swept.
    async fn must_be_open(&self, job: &JobId) -> Result<(), StoreError> {
        let is_open = self.job(job).await?.is_some_and(|job| job.state.is_open());
        if is_open { Ok(()) } else { Err(StoreError::Stale) }
    }
}

impl JobStore for DynamoJobStore {
    async fn record_job(&self, job: &Job, plan: &Planning, conditions: &Conditions, by: &Agent) -> Result<Recorded, StoreError> {
        self.record_under_conditions(job, plan, conditions, by).await
    }

    async fn job(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        let item = self.get(id, JOB_SK.to_owned()).await?;
        item.map(|item| Attributes(&item).job()).transpose()
    }

    async fn end_job(
        &self,
        id: &JobId,
        event: JobEvent,
        reason: Option<Reason>,
        by: &Agent,
        now: Millis,
    ) -> Result<Option<Step>, StoreError> {
        loop {
            let Some(job) = self.job(id).await? else { return Ok(None) };
            let to = match job.state.after(event) {
                Ok(Step::To(state)) => state,
                Ok(Step::Already) => return Ok(Some(Step::Already)),
                Err(_) => return Ok(None),
            };
            let mut update = Update::of(items::key(id, JOB_SK))
                .when("#state = :from")
                .name("#state", "state")
                .value(":from", items::text(job.state.as_str()))
                .set("#state", items::text(to.as_str()))
                .set("due_shard", items::due_shard(0))
                .set("due_at", items::millis(now + SWEEP_AFTER))
                .remove(items::SECRET);
            if to == JobState::Failed {
                update = update.set("ended_at", items::millis(now));
            }
            if let Some(reason) = &reason {
                update = update.set("reason", items::json(reason)?);
            }
            let mut writes = vec![Write::Update(update)];
            writes.extend(AuditEntry::of_end(now, to, by.clone(), &job, reason.as_ref()).map(|entry| Write::Record(Box::new(entry))));
            let landed = if job.state.has_slot() {
                self.transact_and_free(writes, &job.owner).await?
            } else {
                if job.state == JobState::Queued {
                    writes.push(Write::Delete(items::queue_key(job.created_at, id)));
                }
                self.transact(&writes).await?
            };
            match landed {
                Landed::Yes => return Ok(Some(Step::To(to))),
                Landed::Refused(_) => {}
            }
        }
    }

    async fn seal(&self, id: &JobId, secret: &JobSecret) -> Result<Vec<u8>, StoreError> {
        self.sealer.as_ref().ok_or_else(seal::unsealable)?.seal(id, &secret.0).await
    }

    async fn unseal(&self, id: &JobId, sealed: &[u8]) -> Result<JobSecret, StoreError> {
        let opened = self.sealer.as_ref().ok_or_else(seal::unsealable)?.open(id, sealed).await?;
        let wrong = |_| StoreError::Unreadable { what: seal::WHAT, detail: "a secret of another length".to_owned() };
        Ok(JobSecret(opened.try_into().map_err(wrong)?))
    }

    async fn parts(&self, id: &JobId) -> Result<Vec<Part>, StoreError> {
        let parts = self.begins_with(id, "PART#".to_owned(), |item| Attributes(item).part()).await?;
        Ok(parts.into_iter().flatten().collect())
    }

    async fn part(&self, id: &JobId, name: OutputFileName) -> Result<Option<Part>, StoreError> {
        let item = self.get(id, items::part_sk(name)).await?;
        Ok(item.map(|item| Attributes(&item).part()).transpose()?.flatten())
    }

    async fn due(&self, now: Millis, limit: u16) -> Result<Vec<DueItem>, StoreError> {
        let mut found = Vec::new();
        for shard in 0..DUE_SHARDS {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .index_name(schema::DUE_INDEX)
                .key_condition_expression("due_shard = :shard AND due_at <= :now")
                .expression_attribute_values(":shard", items::due_shard(shard))
                .expression_attribute_values(":now", items::millis(now))
                .limit(i32::from(limit))
                .send()
                .await
                .map_err(|error| self.called.store_error(error))?;
            for item in page.items() {
                let (subject, at) = Attributes(item).due()?;
                found.push(DueItem { subject, at });
            }
        }
        found.sort_by_key(|due| due.at);
        Ok(found)
    }

    async fn put_off(&self, due: &DueItem, until: Option<Millis>) -> Result<bool, StoreError> {
        let (key, shard) = match &due.subject {
            Subject::Job(job) => (items::key(job, JOB_SK), 0),
            Subject::Task(task) => (items::key(&task.job, items::task_sk(task.task)), task.task),
        };
        let update = Update::of(key).when("due_at = :seen").value(":seen", items::millis(due.at));
        let update = match until {
            Some(at) => update.set("due_shard", items::due_shard(shard)).set("due_at", items::millis(at)),
            None => update.remove("due_shard").remove("due_at"),
        };
        Ok(self.update(update).await? == Landed::Yes)
    }
}

impl TaskStore for DynamoJobStore {
    async fn lease_task(&self, id: &TaskId, terms: LeaseSettings, now: Millis) -> Result<LeaseAnswer, StoreError> {
        let (Some(job), Some(task), Some(work)) = (self.job(&id.job).await?, self.stored_task(id).await?, self.work(id).await?) else {
            return Ok(LeaseAnswer::Gone);
        };
        if !job.state.is_open() || task.state == TaskState::Closed {
            return Ok(LeaseAnswer::Gone);
        }
        let its_turn = match work {
            Work::Plan(_) => job.state == JobState::Accepted,
            Work::Read(_) | Work::Resolve(_) | Work::Reread(_) | Work::Organize(_) | Work::Gather(_) => {
                job.state == JobState::Running && job.has_task(id.task)
            }
            Work::Finish => job.state == JobState::Running && job.open_tasks == 0,
        };
        let is_held = task.lease_until.is_some_and(|until| terms.is_held(until, now));
        if !its_turn || is_held {
            return Ok(LeaseAnswer::NotNow);
        }
        if task.tries >= terms.tries {
            return Ok(LeaseAnswer::Exhausted(task.fault));
        }
        let (attempt, step, tries, until) = (task.attempt + 1, task.step + 1, task.tries + 1, now + terms.length);
        let mut update = Update::of(items::key(&id.job, items::task_sk(id.task)))
            .name("#state", "state")
            .value(":seen", items::text(task.state.as_str()))
            .set("#state", items::text(TaskState::Leased.as_str()))
            .set("attempt", items::number(attempt))
            .set("step", items::number(step))
            .set("tries", items::number(tries))
            .set("lease_until", items::millis(until))
            .set("due_shard", items::due_shard(id.task))
            .set("due_at", items::millis(until));
        update = if task.step == 0 {
            update.when("#state = :seen AND attribute_not_exists(step)")
        } else {
            update.when("#state = :seen AND step = :step").value(":step", items::number(task.step))
        };
        // An attempt whose answer was lost is not taken up again: its lease runs out like a dead worker's.
        if self.update(update).await? != Landed::Yes {
            return Ok(LeaseAnswer::NotNow);
        }
        let StoredTask { cursor, claim, tally, .. } = task;
        Ok(LeaseAnswer::Yours(Box::new(Lease { task: id.clone(), work, job, attempt, step, tries, until, cursor, claim, tally })))
    }

    async fn record(&self, lease: &mut Lease, record: Record, until: Millis) -> Result<(), StoreError> {
        self.must_be_open(&lease.task.job).await?;
        if let Record::Claim(kind) = record {
            lease.claim = Some(self.claim(lease, kind, until).await?);
        } else {
            let writes = self.step_writes(lease, &record, until)?;
            if self.transact(&writes).await? != Landed::Yes {
                let stored = self.stored_task(&lease.task).await?;
                let has_landed = stored.is_some_and(|task| task.attempt == lease.attempt && task.step == lease.step + 1);
                if !has_landed {
                    return Err(StoreError::Stale);
                }
            }
        }
        lease.step += 1;
        lease.until = until;
        if let Record::Page(page) = record {
            lease.tries = 0;
            lease.cursor = page.cursor;
            lease.tally = page.tally;
            if page.part.is_some() {
                lease.claim = None;
            }
        }
        Ok(())
    }

    async fn close_task(&self, lease: &Lease, close: Close) -> Result<Job, StoreError> {
        let writes = self.close_writes(lease, &close)?;
        let landed = match close {
            Close::Finished(now) => {
                let entry = AuditEntry::of_end(now, JobState::Complete, Agent::service(), &lease.job, None);
                let writes = writes.into_iter().chain(entry.map(|entry| Write::Record(Box::new(entry)))).collect();
                self.transact_and_free(writes, &lease.job.owner).await?
            }
            Close::Planned(_) | Close::Done | Close::Regroup(_) => self.transact(&writes).await?,
        };
        if landed != Landed::Yes {
            let stored = self.stored_task(&lease.task).await?;
            let has_landed =
                stored.is_some_and(|task| task.attempt == lease.attempt && task.step == lease.step + 1 && task.state != TaskState::Leased);
            if !has_landed {
                return Err(StoreError::Stale);
            }
        }
        self.job(&lease.task.job).await?.ok_or(StoreError::Stale)
    }

    async fn work(&self, task: &TaskId) -> Result<Option<Work>, StoreError> {
        let item = self.get(&task.job, items::work_sk(task.task)).await?;
        item.map(|item| Attributes(&item).work()).transpose()
    }

    async fn tails(&self, id: &JobId, rounds: RangeInclusive<u32>) -> Result<Vec<Tail>, StoreError> {
        let mut tails = Vec::new();
        for round in rounds {
            tails.extend(self.begins_with(id, items::tails_of_round(round), |item| Attributes(item).tail()).await?);
        }
        tails.sort_by_key(|tail| tail.name);
        Ok(tails)
    }

    async fn drop_parts(&self, lease: &mut Lease, until: Millis) -> Result<Vec<OutputFileName>, StoreError> {
        let names = self.begins_with(&lease.task.job, "PART#".to_owned(), |item| Attributes(item).part_name()).await?;
        // Last ones first: what an interrupted call leaves has no gaps either.
        for batch in names.rchunks(PARTS_PER_DROP) {
            self.must_be_open(&lease.task.job).await?;
            let drops = batch.iter().map(|name| Write::Delete(items::key(&lease.task.job, items::part_sk(*name))));
            let step = self.step_writes(lease, &Record::Heartbeat, until)?;
            if self.transact(&step.into_iter().chain(drops).collect::<Vec<_>>()).await? != Landed::Yes {
                return Err(StoreError::Stale);
            }
            lease.step += 1;
            lease.until = until;
        }
        Ok(names)
    }
}
