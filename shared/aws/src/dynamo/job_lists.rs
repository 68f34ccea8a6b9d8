//! The queue of jobs, and the lists of a client's jobs.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use headrace_core::access::Agent;
use headrace_core::audit::{AuditAction, AuditRecord};
use headrace_core::job::{Job, JobState, Quotas};
use headrace_core::ports::{JobLists, JobPage, JobStore as _, QueueStart, QueuedJob};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, ListCursor, TaskId};

use super::items::{self, Attributes, Item, JOB_SK};
use super::transact::{Update, Write, WriteOutcome};
use super::{ANNOUNCEMENT_TIMEOUT, DynamoJobStore, quota, schema};

/// The number of jobs of a page that are read concurrently.
const CONCURRENT_READS: usize = 16;

/// A sort key before all positions in the queue, which begin with a digit.
const QUEUE_START: &str = "#";

impl JobLists for DynamoJobStore {
    async fn queued_jobs(&self, after: Option<&QueuedJob>, limit: u16) -> Result<Vec<QueuedJob>, StoreError> {
        let after = after.map_or_else(|| QUEUE_START.to_owned(), |after| items::queue_sk(after.queued_at, &after.job));
        let query = self
            .query()
            .key_condition_expression("pk = :pk AND sk > :after")
            .expression_attribute_values(":pk", items::text(items::QUEUE_PK))
            .expression_attribute_values(":after", items::text(after))
            .consistent_read(true)
            .limit(i32::from(limit));
        self.query_page(query).await?.items().iter().map(|item| Attributes(item).queued_job()).collect()
    }

    async fn queue_position(&self, job: &Job) -> Result<u32, StoreError> {
        let query = self
            .query()
            .key_condition_expression("pk = :pk AND sk < :position")
            .filter_expression("caller = :caller")
            .expression_attribute_values(":pk", items::text(items::QUEUE_PK))
            .expression_attribute_values(":position", items::text(items::queue_sk(job.created_at, &job.id)))
            .expression_attribute_values(":caller", items::text(&job.owner.0));
        self.query_count(query).await
    }

    async fn start_queued(&self, queued: &QueuedJob, quotas: &Quotas, now: Millis) -> Result<QueueStart, StoreError> {
        let due_at = now + ANNOUNCEMENT_TIMEOUT;
        let due_update = |key: Item| Update::new(key).set("due_shard", items::due_shard(0)).set("due_at", items::millis(due_at));
        let job = due_update(items::job_key(&queued.job, JOB_SK))
            .when("#state = :from")
            .name("#state", "state")
            .value(":from", items::text(JobState::Queued.as_str()))
            .set("#state", items::text(JobState::Accepted.as_str()));
        let plan = due_update(self.task_key(&queued.job, TaskId::plan(&queued.job).task));
        let position = Write::Delete(items::queue_key(queued.queued_at, &queued.job));
        let record = AuditRecord::from_job_action(now, AuditAction::Start, Agent::service(), (&queued.job, &queued.owner));
        let mut writes = vec![Write::Update(job), Write::Update(plan), position, Write::AuditRecord(Box::new(record))];
        // The event contains the request, which only the job has. The job also says whether there is a webhook for it.
        if let Some(job) = self.job(&queued.job).await? {
            writes.extend(self.event_write(&job, JobState::Accepted, now, None)?);
        }
        let first_counter = writes.len();
        writes.extend(quota::occupy_slot(&queued.owner, quotas));
        match self.transact(&writes).await? {
            WriteOutcome::Applied => Ok(QueueStart::Started),
            WriteOutcome::ConditionFailed(indexes) if indexes.contains(&0) => Ok(QueueStart::NotQueued),
            WriteOutcome::ConditionFailed(indexes) => {
                quota::reached_quota(&indexes, first_counter, &queued.owner, quotas).map(QueueStart::NoSlot).ok_or(StoreError::Stale)
            }
        }
    }

    async fn list_jobs(&self, owner: &Caller, before: Option<&ListCursor>, limit: u16) -> Result<JobPage, StoreError> {
        // The key always has this owner, so that a cursor of another client cannot lead to that client's jobs.
        let start = before.map(|cursor| {
            let mut start: Item = items::job_key(&cursor.id, JOB_SK);
            start.extend([("owner".to_owned(), items::text(&owner.0)), ("created_at".to_owned(), items::millis(cursor.created_at))]);
            start
        });
        let query = self
            .query()
            .index_name(schema::OWNER_INDEX)
            .key_condition_expression("#owner = :owner")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":owner", items::text(&owner.0))
            .scan_index_forward(false)
            .limit(i32::from(limit))
            .set_exclusive_start_key(start);
        let page = self.query_page(query).await?;
        let positions = page.items().iter().map(|item| Attributes(item).list_cursor()).collect::<Result<Vec<_>, _>>()?;
        // The index has keys only, and may still have a job that the table has no longer.
        let jobs: Vec<Option<Job>> = stream::iter(positions)
            .map(|position| async move { self.job(&position.id).await })
            .buffered(CONCURRENT_READS)
            .try_collect()
            .await?;
        let next = page.last_evaluated_key().map(|key| Attributes(key).list_cursor()).transpose()?;
        Ok(JobPage { jobs: jobs.into_iter().flatten().collect(), next })
    }
}
