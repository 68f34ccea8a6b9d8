//! Jobs in their order: the queue, and the jobs of one caller.

use aws_sdk_dynamodb::types::Select;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use headrace_core::access::Agent;
use headrace_core::audit::{AuditEntry, Deed};
use headrace_core::job::{Job, JobState, Quotas};
use headrace_core::ports::{Admission, JobLists, JobPage, JobStore as _, Waiting};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, ListCursor, TaskId};

use super::items::{self, Attributes, Item, JOB_SK};
use super::write::{Landed, Update, Write};
use super::{ANNOUNCED_WITHIN, DynamoJobStore, quota, schema};

/// So many jobs of a page are read at the same time.
const READS: usize = 16;

/// Before every place in the queue, for those are digits.
const QUEUE_BEGIN: &str = "#";

impl JobLists for DynamoJobStore {
    async fn waiting(&self, after: Option<&Waiting>, limit: u16) -> Result<Vec<Waiting>, StoreError> {
        let behind = after.map_or_else(|| QUEUE_BEGIN.to_owned(), |after| items::queue_sk(after.since, &after.job));
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND sk > :behind")
            .expression_attribute_values(":pk", items::text(items::QUEUE_PK))
            .expression_attribute_values(":behind", items::text(behind))
            .consistent_read(true)
            .limit(i32::from(limit))
            .send()
            .await
            .map_err(|error| self.called.store_error(error))?;
        page.items().iter().map(|item| Attributes(item).waiting()).collect()
    }

    async fn waiting_before(&self, job: &Job) -> Result<u32, StoreError> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression("pk = :pk AND sk < :place")
                .filter_expression("caller = :caller")
                .expression_attribute_values(":pk", items::text(items::QUEUE_PK))
                .expression_attribute_values(":place", items::text(items::queue_sk(job.created_at, &job.id)))
                .expression_attribute_values(":caller", items::text(&job.owner.0))
                .select(Select::Count)
                .limit(1_000)
                .set_exclusive_start_key(after)
                .send()
                .await
                .map_err(|error| self.called.store_error(error))?;
            count += u32::try_from(page.count()).unwrap_or_default();
            after = page.last_evaluated_key;
            if after.is_none() {
                return Ok(count);
            }
        }
    }

    async fn admit(&self, waiting: &Waiting, quotas: &Quotas, now: Millis) -> Result<Admission, StoreError> {
        let due = now + ANNOUNCED_WITHIN;
        let seen_by_then =
            |sk: String| Update::of(items::key(&waiting.job, sk)).set("due_shard", items::due_shard(0)).set("due_at", items::millis(due));
        let job = seen_by_then(JOB_SK.to_owned())
            .when("#state = :from")
            .name("#state", "state")
            .value(":from", items::text(JobState::Queued.as_str()))
            .set("#state", items::text(JobState::Accepted.as_str()));
        let plan = seen_by_then(items::task_sk(TaskId::plan(&waiting.job).task));
        let place = Write::Delete(items::queue_key(waiting.since, &waiting.job));
        let entry = AuditEntry::of_job(now, Deed::Begin, Agent::service(), (&waiting.job, &waiting.owner));
        let mut writes = vec![Write::Update(job), Write::Update(plan), place, Write::Record(Box::new(entry))];
        let counters = writes.len();
        writes.extend(quota::raises(&waiting.owner, quotas));
        match self.transact(&writes).await? {
            Landed::Yes => Ok(Admission::Begun),
            Landed::Refused(by) if by.contains(&0) => Ok(Admission::Gone),
            Landed::Refused(by) => quota::met(&by, counters, quotas).map(Admission::Full).ok_or(StoreError::Stale),
        }
    }

    async fn jobs_of(&self, owner: &Caller, before: Option<&ListCursor>, limit: u16) -> Result<JobPage, StoreError> {
        // Within this owner's part of the index, whatever the cursor says.
        let start = before.map(|cursor| {
            let mut start: Item = items::key(&cursor.id, JOB_SK);
            start.extend([("owner".to_owned(), items::text(&owner.0)), ("created_at".to_owned(), items::millis(cursor.created_at))]);
            start
        });
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(schema::OWNER_INDEX)
            .key_condition_expression("#owner = :owner")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":owner", items::text(&owner.0))
            .scan_index_forward(false)
            .limit(i32::from(limit))
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|error| self.called.store_error(error))?;
        let places = page.items().iter().map(|item| Attributes(item).list_cursor()).collect::<Result<Vec<_>, _>>()?;
        // The index has keys only; what the table no longer has is forgotten.
        let jobs: Vec<Option<Job>> =
            stream::iter(places).map(|place| async move { self.job(&place.id).await }).buffered(READS).try_collect().await?;
        let next = page.last_evaluated_key().map(|key| Attributes(key).list_cursor()).transpose()?;
        Ok(JobPage { jobs: jobs.into_iter().flatten().collect(), next })
    }
}
