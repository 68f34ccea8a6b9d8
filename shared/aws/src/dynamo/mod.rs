//! The job table in DynamoDB. Every write that matters is conditional; every write that may have landed unseen is read
//! back before it is called lost.

mod items;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use headrace_core::clock::Millis;
use headrace_core::error::StoreError;
use headrace_core::ids::{JobId, TaskId};
use headrace_core::job::{Job, JobEvent, JobState, Reason, Step};
use headrace_core::part::{Part, PartName, Tail};
use headrace_core::ports::{Due, JobStore, LeaseTerms, Subject, TaskStore};
use headrace_core::task::{Close, Lease, LeaseAnswer, Page, Record, Release, TaskState, Work};

pub use schema::TableSchema;

use crate::errors::Called;
use items::{Attributes, DUE_SHARDS, Item, JOB_SK, StoredTask, WHAT};
use write::{Landed, Update, Write};

/// After a job has ended, late writers may still leave files: when to sweep. Longer than a lease.
const SWEEP_AFTER: Duration = Duration::from_secs(150);

/// How long a recorded announcement may take to be seen before the reaper repeats it.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(60);

/// How often a claim is tried while other tasks take numbers of the same kind.
const CLAIM_TRIES: u32 = 200;

/// The job table.
#[derive(Clone, Debug)]
pub struct DynamoJobStore {
    client: Client,
    table: String,
    called: Called,
}

impl DynamoJobStore {
    /// The table of this name.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        let table = table.into();
        let called = Called { what: WHAT, setting: "HEADRACE_TABLE", value: table.clone() };
        Self { client, table, called }
    }

    async fn get(&self, job: &JobId, sk: String) -> Result<Option<Item>, StoreError> {
        let got = self.client.get_item().table_name(&self.table).set_key(Some(items::key(job, sk))).consistent_read(true).send().await;
        Ok(got.map_err(|error| self.called.store_error(error))?.item)
    }

    async fn stored_task(&self, task: &TaskId) -> Result<Option<StoredTask>, StoreError> {
        let item = self.get(&task.job, items::task_sk(task.task)).await?;
        item.map(|item| Attributes(&item).task()).transpose()
    }

    async fn work(&self, task: &TaskId) -> Result<Option<Work>, StoreError> {
        let item = self.get(&task.job, items::work_sk(task.task)).await?;
        item.map(|item| Attributes(&item).work()).transpose()
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

    /// The next free number of a kind, reserved for the leased task. Numbers have no gaps: one is taken only when the
    /// one before is.
    async fn claim(&self, lease: &Lease, kind: headrace_core::part::PartKind, until: Millis) -> Result<PartName, StoreError> {
        let last = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":pk", items::pk(&lease.task.job))
            .expression_attribute_values(":prefix", items::text(items::parts_of_kind(kind)))
            .scan_index_forward(false)
            .consistent_read(true)
            .limit(1)
            .send()
            .await
            .map_err(|error| self.called.store_error(error))?;
        let taken = last.items().first().and_then(|item| Attributes(item).text("sk").ok()?.rsplit_once('#')?.1.parse::<u32>().ok());
        let first = taken.unwrap_or_default() + 1;
        for number in first..first.saturating_add(CLAIM_TRIES) {
            let name = PartName { kind, number };
            let mut part = items::key(&lease.task.job, items::part_sk(name));
            part.insert("task".into(), items::number(lease.task.task));
            part.insert("ttl".into(), items::ttl(&lease.job));
            let step = self.lease_step(lease, until).set("claim", items::text(name.to_string()));
            match self.transact(&[Write::Update(step), Write::PutNew(part)]).await? {
                Landed::Yes => return Ok(name),
                // Only the number is taken: try the next.
                Landed::Refused(by) if by == [1] => {}
                Landed::Refused(_) => {
                    let stored = self.stored_task(&lease.task).await?;
                    let landed = stored.filter(|task| task.attempt == lease.attempt && task.step == lease.step + 1);
                    return landed.and_then(|task| task.claim).ok_or(StoreError::Stale);
                }
            }
        }
        Err(StoreError::NotApplied { what: WHAT, cause: "too many tasks claim numbers at once".into() })
    }

    /// Whether the job still wants work (rule P10). A read and not a condition of each step: a thousand workers that check
    /// one item in their transactions collide. What slips in behind a cancellation is in no manifest and is swept.
    async fn must_be_open(&self, job: &JobId) -> Result<(), StoreError> {
        let is_open = self.job(job).await?.is_some_and(|job| job.state.is_open());
        if is_open { Ok(()) } else { Err(StoreError::Stale) }
    }

    /// The task's next step under this lease.
    fn lease_step(&self, lease: &Lease, until: Millis) -> Update {
        self.under_lease(lease)
            .set("step", items::number(lease.step + 1))
            .set("lease_until", items::millis(until))
            .set("due_shard", items::due_shard(lease.task.task))
            .set("due_at", items::millis(until))
    }

    fn under_lease(&self, lease: &Lease) -> Update {
        Update::of(items::key(&lease.task.job, items::task_sk(lease.task.task)))
            .when("#state = :leased AND attempt = :attempt AND step = :step")
            .name("#state", "state")
            .value(":leased", items::text(TaskState::Leased.as_str()))
            .value(":attempt", items::number(lease.attempt))
            .value(":step", items::number(lease.step))
    }

    fn page_writes(&self, lease: &Lease, page: &Page, until: Millis) -> Vec<Write> {
        let mut step = self
            .lease_step(lease, until)
            .set("item", items::number(page.cursor.item))
            .set("offset", items::number(page.cursor.offset))
            .set("tries", items::number(0_u32));
        for (name, value) in items::tally_attributes(page.tally) {
            step = step.set(&name, value);
        }
        if page.part.is_some() {
            step = step.remove("claim");
        }
        let mut writes = vec![Write::Update(step)];
        writes.extend(page.part.map(|part| {
            let written = Update::of(items::key(&lease.task.job, items::part_sk(part.name)))
                .when("task = :task AND attribute_not_exists(crc64)")
                .value(":task", items::number(lease.task.task));
            Write::Update(
                items::content_attributes(part.content).into_iter().fold(written, |update, (name, value)| update.set(name, value)),
            )
        }));
        writes.extend(page.tails.iter().map(|tail| {
            let mut item = items::key(&lease.task.job, items::tail_sk(lease.job.round, tail.name));
            item.extend(items::content_attributes(tail.content).map(|(name, value)| (name.to_owned(), value)));
            item.insert("ttl".into(), items::ttl(&lease.job));
            Write::PutNew(item)
        }));
        writes
    }

    /// The writes of a step other than a claim.
    fn step_writes(&self, lease: &Lease, record: &Record, until: Millis) -> Result<Vec<Write>, StoreError> {
        match record {
            Record::Heartbeat | Record::Claim(_) => Ok(vec![Write::Update(self.lease_step(lease, until))]),
            Record::Tasks(tasks) => {
                let mut writes = vec![Write::Update(self.lease_step(lease, until))];
                for (task, work) in tasks {
                    // The finish is announced by whoever closes the last task, and looked after with the job.
                    let due = (*work != Work::Finish).then_some(until + ANNOUNCED_WITHIN);
                    writes.extend(items::task_items(&lease.job, *task, work, due)?.map(Write::Put));
                }
                Ok(writes)
            }
            Record::Page(page) => Ok(self.page_writes(lease, page, until)),
            Record::Release(release) => {
                let step = self
                    .lease_step(lease, until)
                    .set("due_at", items::millis(until + ANNOUNCED_WITHIN))
                    .set("#state", items::text(TaskState::Open.as_str()))
                    .remove("lease_until");
                let step = match release {
                    // Its last page, if there was one, has reset the tries.
                    Release::Yield => step,
                    Release::Fault(fault) => step.set("fault", items::text(fault)),
                };
                Ok(vec![Write::Update(step)])
            }
        }
    }

    fn close_writes(&self, lease: &Lease, close: &Close) -> Result<[Write; 2], StoreError> {
        let task =
            self.under_lease(lease).set("step", items::number(lease.step + 1)).remove("lease_until").remove("due_shard").remove("due_at");
        let job = Update::of(items::key(&lease.task.job, JOB_SK)).when("#state = :from").name("#state", "state");
        let running = items::text(JobState::Running.as_str());
        let closed = items::text(TaskState::Closed.as_str());
        let (task, job) = match close {
            Close::Planned(planned) => (
                task.set("#state", closed),
                job.value(":from", items::text(JobState::Accepted.as_str()))
                    .set("#state", running)
                    .set("planned", items::json(planned)?)
                    .set("open_tasks", items::number(planned.tasks)),
            ),
            Close::Done => {
                let job = job.value(":from", running).add("open_tasks", AttributeValue::N("-1".into()));
                let counted = items::tally_attributes(lease.tally).into_iter();
                (task.set("#state", closed), counted.fold(job, |job, (name, value)| job.add(&name, value)))
            }
            Close::Regroup(tasks) => (
                task.set("#state", items::text(TaskState::Open.as_str())).set("tries", items::number(0_u32)),
                job.value(":from", running)
                    .set("open_tasks", items::number(*tasks))
                    .set("gather_tasks", items::number(*tasks))
                    .set("round", items::number(lease.job.round + 1)),
            ),
            Close::Finished(now) => (
                task.set("#state", closed),
                job.value(":from", running)
                    .set("#state", items::text(JobState::Complete.as_str()))
                    .set("ended_at", items::millis(*now))
                    .set("due_at", items::millis(*now + SWEEP_AFTER)),
            ),
        };
        Ok([Write::Update(task), Write::Update(job)])
    }
}

impl JobStore for DynamoJobStore {
    async fn record_job(&self, job: &Job) -> Result<(), StoreError> {
        let due = job.created_at + ANNOUNCED_WITHIN;
        let mut item = items::job_item(job)?;
        item.extend([("due_shard".to_owned(), items::due_shard(0)), ("due_at".to_owned(), items::millis(due))]);
        let [task, work] = items::task_items(job, TaskId::plan(&job.id).task, &Work::Plan, Some(due))?;
        match self.transact(&[Write::PutNew(item), Write::PutNew(task), Write::PutNew(work)]).await? {
            Landed::Yes => Ok(()),
            // Its name is random: what is there is this job, written by a call whose answer was lost.
            Landed::Refused(_) => self.job(&job.id).await?.map(drop).ok_or(StoreError::Stale),
        }
    }

    async fn job(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        let item = self.get(id, JOB_SK.to_owned()).await?;
        item.map(|item| Attributes(&item).job()).transpose()
    }

    async fn end_job(&self, id: &JobId, event: JobEvent, reason: Option<Reason>, now: Millis) -> Result<Option<Step>, StoreError> {
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
                .set("due_at", items::millis(now + SWEEP_AFTER));
            if to == JobState::Failed {
                update = update.set("ended_at", items::millis(now));
            }
            if let Some(reason) = &reason {
                update = update.set("reason", items::json(reason)?);
            }
            match self.update(update).await? {
                Landed::Yes => return Ok(Some(Step::To(to))),
                Landed::Refused(_) => {}
            }
        }
    }

    async fn parts(&self, id: &JobId) -> Result<Vec<Part>, StoreError> {
        let parts = self.begins_with(id, "PART#".to_owned(), |item| Attributes(item).part()).await?;
        Ok(parts.into_iter().flatten().collect())
    }

    async fn part(&self, id: &JobId, name: PartName) -> Result<Option<Part>, StoreError> {
        let item = self.get(id, items::part_sk(name)).await?;
        Ok(item.map(|item| Attributes(&item).part()).transpose()?.flatten())
    }

    async fn due(&self, now: Millis, limit: u16) -> Result<Vec<Due>, StoreError> {
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
                found.push(Due { subject, at });
            }
        }
        found.sort_by_key(|due| due.at);
        Ok(found)
    }

    async fn put_off(&self, due: &Due, until: Option<Millis>) -> Result<bool, StoreError> {
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
    async fn lease_task(&self, id: &TaskId, terms: LeaseTerms, now: Millis) -> Result<LeaseAnswer, StoreError> {
        let (Some(job), Some(task), Some(work)) = (self.job(&id.job).await?, self.stored_task(id).await?, self.work(id).await?) else {
            return Ok(LeaseAnswer::Gone);
        };
        if !job.state.is_open() || task.state == TaskState::Closed {
            return Ok(LeaseAnswer::Gone);
        }
        let its_turn = match work {
            Work::Plan => job.state == JobState::Accepted,
            Work::Read(_) | Work::Gather(_) => job.state == JobState::Running && job.has_task(id.task),
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
        if self.transact(&writes).await? != Landed::Yes {
            let stored = self.stored_task(&lease.task).await?;
            let has_landed =
                stored.is_some_and(|task| task.attempt == lease.attempt && task.step == lease.step + 1 && task.state != TaskState::Leased);
            if !has_landed {
                return Err(StoreError::Stale);
            }
        }
        self.job(&lease.task.job).await?.ok_or(StoreError::Stale)
    }

    async fn tails(&self, id: &JobId, round: u32) -> Result<Vec<Tail>, StoreError> {
        let mut tails = self.begins_with(id, items::tails_of_round(round), |item| Attributes(item).tail()).await?;
        tails.sort_by_key(|tail| tail.name);
        Ok(tails)
    }
}
