//! The partitions of a job.
//!
//! DynamoDB writes about a thousand units a second to one partition key. The items of a job that its tasks write are therefore spread over
//! several, and no item is written by all tasks: completed tasks are counted in up to [`MAX_ROUND_COUNTERS`] items, which are summed when
//! the progress is read. The item of the job itself changes once a round.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use futures_util::future::try_join_all;
use headrace_core::job::file::{OutputFileName, OutputKind};
use headrace_core::job::{Counters, Job, JobState};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;

use super::DynamoJobStore;
use super::items::{self, Attributes, Item};
use super::transact::Update;
use super::usage;

/// The number of partitions of a job on AWS: at 1,000 units a second each, more than the busiest second of five thousand workers needs.
pub(super) const PARTITIONS: u32 = 16;

/// The largest number of counters of a round. A thousand tasks that complete at the same time seldom meet in one of them.
const MAX_ROUND_COUNTERS: u32 = 128;

/// The number of partitions that hold the counters of a round, if it has as many: at 1,000 units a second each, a thousand tasks can complete
/// within half a second.
const COUNTER_PARTITIONS: u32 = 4;

/// The number of tasks for which a round has one more counter. A small export has a single counter, which is read at once.
const TASKS_PER_COUNTER: u32 = 32;

/// The attribute with the number of completed tasks of a counter.
const COMPLETED: &str = "completed";

/// Returns the number of counters of the job's current round. Tasks that are split do not change it, so that every worker counts a task in the
/// same counter.
pub(super) fn round_counter_count(job: &Job) -> u32 {
    job.initial_tasks_of_round().div_ceil(TASKS_PER_COUNTER).clamp(1, MAX_ROUND_COUNTERS)
}

/// Returns the number of the counter that counts a task of the job's current round.
fn round_counter(job: &Job, task: u32) -> u32 {
    job.index_in_round(task) % round_counter_count(job)
}

/// Returns the number of tasks of the job's current round that this counter counts.
fn tasks_of_counter(job: &Job, counter: u32) -> u32 {
    job.tasks_of_round().saturating_sub(counter).div_ceil(round_counter_count(job))
}

/// Returns the primary key of a counter of the job's current round.
fn round_counter_key(job: &Job, counter: u32) -> Item {
    items::plain_key(&counters_pk(&job.id, counter), &items::round_counter_sk(job.round, counter))
}

/// Returns the partition of a counter of a job.
fn counters_pk(job: &JobId, counter: u32) -> String {
    format!("JOB#{job}#COUNTERS{}", counter % COUNTER_PARTITIONS)
}

/// Returns the partition of the list of a job's files.
pub(super) fn file_list_pk(job: &JobId) -> String {
    format!("JOB#{job}#FILES")
}

/// Returns the update that counts a completed task of the job's current round, with the task's counters.
pub(super) fn count_completed_task(job: &Job, task: u32, counters: Counters) -> Update {
    let update =
        Update::new(round_counter_key(job, round_counter(job, task))).add(COMPLETED, items::number(1_u32)).set("ttl", items::ttl(job));
    items::counter_attributes(counters).fold(update, |update, (name, value)| update.add(&name, value))
}

impl DynamoJobStore {
    /// Returns one of the partitions of a job, the same for equal numbers.
    fn partition(&self, job: &JobId, number: u32) -> String {
        format!("JOB#{job}#{:02}", number % self.partitions)
    }

    /// Returns all partitions of a job that hold tasks, output files and fragments.
    pub(super) fn all_partitions(&self, job: &JobId) -> impl Iterator<Item = String> + use<'_> {
        let job = job.clone();
        (0..self.partitions).map(move |number| self.partition(&job, number))
    }

    /// Returns the partition of a task, its work and its fragments.
    pub(super) fn task_partition(&self, job: &JobId, task: u32) -> String {
        self.partition(job, task)
    }

    /// Returns the primary key of a task's state.
    pub(super) fn task_key(&self, job: &JobId, task: u32) -> Item {
        items::plain_key(&self.task_partition(job, task), &items::task_sk(task))
    }

    /// Returns the primary key of an output file of a job.
    pub(super) fn output_file_key(&self, job: &Job, name: OutputFileName) -> Item {
        items::plain_key(&self.partition(&job.id, name.number), &items::output_file_sk(job.files_since_round, name))
    }

    /// Reserves the name with the next number of a kind. One unconditional update: reservations never conflict.
    ///
    /// If the answer of an applied update is lost, a number is left out, and [`headrace_core::flow`] closes the gap at the end.
    pub(super) async fn next_file_name(&self, job: &Job, kind: OutputKind) -> Result<OutputFileName, StoreError> {
        let key = items::plain_key(&format!("JOB#{}#{}", job.id, kind.as_str()), &items::file_numbers_sk(job.files_since_round));
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key))
            .update_expression("SET #ttl = :ttl ADD #last :one")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_names("#last", "last_number")
            .expression_attribute_values(":ttl", items::ttl(job))
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .return_values(ReturnValue::UpdatedNew)
            .set_return_consumed_capacity(usage::wanted_capacity());
        let updated = self.repeat(|| update.clone().send()).await?;
        usage::count_write(updated.consumed_capacity.as_ref());
        let number = Attributes(&updated.attributes.unwrap_or_default()).count("last_number")?;
        Ok(OutputFileName { kind, number })
    }

    /// Adds to a running job what the tasks of its current round have completed. Adds the counters alone to a failed one, which nobody has
    /// summed at its end.
    pub(super) async fn add_progress(&self, mut job: Job) -> Result<Job, StoreError> {
        if !matches!(job.state, JobState::Running | JobState::Failed) {
            return Ok(job);
        }
        let partitions = round_counter_count(&job).min(COUNTER_PARTITIONS);
        let id = &job.id;
        let queries = (0..partitions).map(|partition| async move {
            self.query_partition(&counters_pk(id, partition), items::round_counters(job.round), |item| Attributes(item).round_counter())
                .await
        });
        let counters = try_join_all(queries).await?.concat();
        let completed: u32 = counters.iter().map(|(completed, _)| completed).sum();
        if job.state == JobState::Running {
            job.open_tasks = job.tasks_of_round().saturating_sub(completed);
        }
        job.counters = counters.into_iter().fold(job.counters, |sum, (_, counters)| sum.plus(counters));
        Ok(job)
    }

    /// Adds the progress to a job after one of its tasks was completed. Reads all counters only if that of the task is complete, so that
    /// the last task of each counter reads them all and the others one.
    pub(super) async fn add_progress_after(&self, mut job: Job, task: u32) -> Result<Job, StoreError> {
        let counter = round_counter(&job, task);
        if round_counter_count(&job) > 1 {
            let item = self.get_key(round_counter_key(&job, counter)).await?.unwrap_or_default();
            let (completed, counters) = Attributes(&item).round_counter()?;
            if completed < tasks_of_counter(&job, counter) {
                job.open_tasks = tasks_of_counter(&job, counter) - completed;
                job.counters = job.counters.plus(counters);
                return Ok(job);
            }
        }
        self.add_progress(job).await
    }
}
