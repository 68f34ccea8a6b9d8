//! The items of the job table, their keys and attributes.
//!
//! A job has one item for itself, and one per task, task's work, output file and fragment, spread over several partitions
//! ([`super::partitions`]). Other partitions hold counters of active jobs, the queue, schedules, idempotency keys, registrations, keys
//! of tokens, and audit records.

mod attributes;
mod keys;
mod values;

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use headrace_core::audit::AuditRecord;
use headrace_core::job::file::{FileSummary, OutputFileName};
use headrace_core::job::task::{TaskState, Work};
use headrace_core::job::{Counters, IdempotencyKey, Job, JobSettings, PinnedConfig, Usage};
use headrace_core::request::ExportRequest;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::RegistrationId;
use headrace_core::vocab::schedule_key::ScheduleKey;
use serde::{Deserialize, Serialize};

pub(super) use attributes::{Attributes, StoredTask};
pub(super) use keys::{
    AUDIT_PK, AUDIT_UNKNOWN_PK, DUE_SHARDS, JOB_SK, OUTBOX_PK, QUEUE_PK, SCHEDULES_PK, UNDELIVERED_PK, audit_chain_key, audit_key,
    audit_sk, due_shard, file_list_sk, file_numbers_sk, fragment_sk, fragment_sk_range, idempotency_key, job_key, output_file_sk,
    output_files_since, plain_key, queue_key, queue_sk, quota_key, round_counter_sk, round_counters, task_sk, work_sk,
};
pub(super) use values::{json, millis, number, text, ttl, ttl_seconds};

/// The attributes of an item, or its key alone.
pub(super) type Item = HashMap<String, AttributeValue>;

/// The name of the table in errors.
pub(super) const STORE: &str = "the job table";

/// The attribute of a job with the number of tasks that took over a part of another one in round 0.
pub(super) const SPLIT_TASKS: &str = "split_tasks";

/// The attribute of a job with the number of tasks that took over a part of another one in the current round, if it is not round 0.
pub(super) const ROUND_SPLIT_TASKS: &str = "round_split_tasks";

/// The attribute with the end of the pause of a task that is not leased.
pub(super) const PAUSED_UNTIL: &str = "paused_until";

/// The attribute with the time that a task has spent in pauses since it last made progress, in milliseconds.
pub(super) const PAUSED_MILLIS: &str = "paused_millis";

/// The attribute with the reserved names of output files of a task.
pub(super) const RESERVED_FILES: &str = "reserved_files";

/// The attribute with a job's encrypted secret. It is removed when the job ends.
pub(super) const ENCRYPTED_SECRET: &str = "encrypted_secret";

/// The attribute of an ended job with the position up to which its folder is swept. It is removed when the job moves to another state.
pub(super) const SWEPT_TO: &str = "swept_to";

/// The part of a job that does not change after it was recorded.
#[derive(Serialize, Deserialize)]
struct JobDefinition {
    request: ExportRequest,
    request_url: String,
    base: String,
    settings: JobSettings,
    requires_access_token: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner_registration: Option<RegistrationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<ScheduleKey>,
    /// True if the owner or the schedule has a webhook.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    has_webhook: bool,
}

/// Returns the item of a job, without the time at which it is due.
pub(super) fn job_item(job: &Job) -> Result<Item, StoreError> {
    let definition = JobDefinition {
        request: job.request.clone(),
        request_url: job.request_url.clone(),
        base: job.base.clone(),
        settings: job.settings,
        requires_access_token: job.requires_access_token,
        owner_registration: job.owner_registration.clone(),
        destination: job.destination.clone(),
        schedule: job.schedule.clone(),
        has_webhook: job.has_webhook,
    };
    let mut item = job_key(&job.id, JOB_SK);
    item.extend([
        ("state".to_owned(), text(job.state.as_str())),
        ("owner".to_owned(), text(&job.owner.0)),
        ("created_at".to_owned(), millis(job.created_at)),
        ("definition".to_owned(), json(&definition)?),
        ("round".to_owned(), number(job.round)),
        ("round_tasks".to_owned(), number(job.round_tasks)),
        ("phase".to_owned(), text(job.phase.as_str())),
        ("first_unmerged_round".to_owned(), number(job.first_unmerged_round)),
        ("files_since_round".to_owned(), number(job.files_since_round)),
        ("ttl".to_owned(), ttl(job)),
    ]);
    item.extend(counter_attributes(job.counters));
    if let Some(PinnedConfig { etag, encrypted_secret }) = &job.pinned_config {
        let secret = AttributeValue::B(Blob::new(encrypted_secret.clone()));
        item.extend([("config_etag".to_owned(), text(etag)), (ENCRYPTED_SECRET.to_owned(), secret)]);
    }
    Ok(item)
}

/// Creates the attributes with the counters of a job or task. Those of notices are left out if they are 0, as in most exports, and those of
/// the usage.
pub(super) fn counter_attributes(counters: Counters) -> impl Iterator<Item = (String, AttributeValue)> {
    let notices = counters.notices.named().into_iter().filter(|(_, count)| *count > 0);
    let notices = notices.map(|(name, count)| (name.to_owned(), number(count))).chain(usage_attributes(counters.usage));
    let counters = [
        ("source_bytes".to_owned(), number(counters.source_bytes)),
        ("resources".to_owned(), number(counters.resources)),
        ("lines_rejected".to_owned(), number(counters.lines_rejected)),
    ];
    counters.into_iter().chain(notices)
}

/// Creates the attributes with the usage of a job or task, without those that are 0.
pub(super) fn usage_attributes(usage: Usage) -> impl Iterator<Item = (String, AttributeValue)> {
    usage.named().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), number(count)))
}

/// Creates the attributes with the size, line count and checksum of a file.
pub(super) fn summary_attributes(summary: FileSummary) -> [(&'static str, AttributeValue); 3] {
    [("bytes", number(summary.bytes)), ("lines", number(summary.lines)), ("crc64", text(format!("{:016x}", summary.crc64)))]
}

/// Returns the two items of a new task: its state and its work. `partition` is that of the task.
///
/// The work may be long and hardly ever changes. It has its own item, because an update is priced by the size of the whole item.
pub(super) fn task_items(job: &Job, (task, work): (u32, &Work), partition: &str, due_at: Option<Millis>) -> Result<[Item; 2], StoreError> {
    let mut state_item = plain_key(partition, &task_sk(task));
    state_item.extend([("state".to_owned(), text(TaskState::Open.as_str())), ("ttl".to_owned(), ttl(job))]);
    if let Some(at) = due_at {
        state_item.extend([("due_shard".to_owned(), due_shard(task)), ("due_at".to_owned(), millis(at))]);
    }
    Ok([state_item, work_item(job, (task, work), partition)?])
}

/// Returns the item with the work of a task. `partition` is that of the task.
pub(super) fn work_item(job: &Job, (task, work): (u32, &Work), partition: &str) -> Result<Item, StoreError> {
    let mut item = plain_key(partition, &work_sk(task));
    item.extend([("work".to_owned(), json(work)?), ("ttl".to_owned(), ttl(job))]);
    Ok(item)
}

/// Returns the item of an idempotency key, with the job that it has started.
pub(super) fn idempotency_item(key: &IdempotencyKey, job: &Job) -> Item {
    let mut item = idempotency_key(&key.digest);
    item.extend([
        ("fingerprint".to_owned(), text(&key.fingerprint)),
        ("job".to_owned(), text(job.id.as_str())),
        ("ttl".to_owned(), ttl(job)),
    ]);
    item
}

/// Returns the item of a queued job. Its owner is in `caller`, because the attribute `owner` is the key of an index.
pub(super) fn queue_item(job: &Job, client_quota: Option<u32>) -> Item {
    let mut item = queue_key(job.created_at, &job.id);
    item.extend([("caller".to_owned(), text(&job.owner.0)), ("ttl".to_owned(), ttl(job))]);
    item.extend(client_quota.map(|quota| ("client_quota".to_owned(), number(quota))));
    item
}

/// Returns the item of an audit record.
pub(super) fn audit_item(record: &AuditRecord) -> Result<Item, StoreError> {
    let mut item = audit_key(&record.key());
    item.insert("record".to_owned(), json(record)?);
    Ok(item)
}

/// Returns the text of reserved names of output files.
pub(super) fn reserved_files(names: &[OutputFileName]) -> AttributeValue {
    text(names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}
