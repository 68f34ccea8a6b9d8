//! The steps of a leased task as conditional writes.

use aws_sdk_dynamodb::types::AttributeValue;
use headrace_core::job::task::{Close, Lease, Page, Record, Release, TaskState, Work};
use headrace_core::job::{JobState, Tally};
use headrace_core::output::file::{OutputFileName, OutputKind};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;

use super::items::{self, Attributes, JOB_SK, WHAT};
use super::write::{Landed, Update, Write};
use super::{ANNOUNCED_WITHIN, CLAIM_TRIES, DynamoJobStore, SWEEP_AFTER};

impl DynamoJobStore {
    /// The next free number of a kind, reserved for the leased task. Numbers have no gaps: one is taken only when the
    /// one before is.
    pub(super) async fn claim(&self, lease: &Lease, kind: OutputKind, until: Millis) -> Result<OutputFileName, StoreError> {
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
            let name = OutputFileName { kind, number };
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
    pub(super) fn step_writes(&self, lease: &Lease, record: &Record, until: Millis) -> Result<Vec<Write>, StoreError> {
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

    pub(super) fn close_writes(&self, lease: &Lease, close: &Close) -> Result<[Write; 2], StoreError> {
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
            Close::Regroup(regroup) => {
                let job = job
                    .value(":from", running)
                    .set("open_tasks", items::number(regroup.tasks))
                    .set("round_tasks", items::number(regroup.tasks))
                    .set("phase", items::text(regroup.phase.as_str()))
                    .set("tails_from", items::number(regroup.tails_from))
                    .set("round", items::number(lease.job.round + 1));
                let counted = items::tally_attributes(Tally::default()).into_iter().filter(|_| regroup.is_fresh);
                (
                    task.set("#state", items::text(TaskState::Open.as_str())).set("tries", items::number(0_u32)),
                    counted.fold(job, |job, (name, value)| job.set(&name, value)),
                )
            }
            Close::Finished(now) => (
                task.set("#state", closed),
                job.value(":from", running)
                    .set("#state", items::text(JobState::Complete.as_str()))
                    .set("ended_at", items::millis(*now))
                    .set("due_at", items::millis(*now + SWEEP_AFTER))
                    .remove(items::SECRET),
            ),
        };
        Ok([Write::Update(task), Write::Update(job)])
    }
}
