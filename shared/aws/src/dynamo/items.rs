//! The items of the job table, their keys and attributes.
//!
//! A job has one item for itself, and one per task, task's work, output file and fragment, spread over several partitions
//! ([`super::partitions`]). Other partitions hold counters of active jobs, the queue, schedules, idempotency keys, registrations, keys
//! of tokens, and audit records.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use headrace_core::audit::{AuditRecord, AuditRecordKey};
use headrace_core::job::file::{Bucket, FileSummary, Fragment, FragmentName, OutputFile, OutputFileName, OutputKind};
use headrace_core::job::file_list::FileListPart;
use headrace_core::job::task::{Cursor, PlanProgress, TaskState, Work};
use headrace_core::job::{
    Counters, ExportTime, IdempotencyKey, Job, JobSettings, JobState, NoticeCounts, Phase, PinnedConfig, Planned, Usage,
};
use headrace_core::ports::{DueItem, DueSubject, FragmentSelection, QueuedJob};
use headrace_core::request::ExportRequest;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, ListCursor, TaskId};
use headrace_core::vocab::schedule_key::ScheduleKey;
use serde::{Deserialize, Serialize};

/// The attributes of an item, or its key alone.
pub(super) type Item = HashMap<String, AttributeValue>;

/// The name of the table in errors.
pub(super) const STORE: &str = "the job table";

/// The number of partitions of the index of due items.
pub(super) const DUE_SHARDS: u32 = 16;

/// The sort key of a job.
pub(super) const JOB_SK: &str = "JOB";

/// The attribute of a job with the number of tasks that took over a part of another one.
pub(super) const SPLIT_TASKS: &str = "split_tasks";

/// The attribute with the end of the pause of a task that is not leased.
pub(super) const PAUSED_UNTIL: &str = "paused_until";

/// The attribute with the time that a task has spent in pauses since it last made progress, in milliseconds.
pub(super) const PAUSED_MILLIS: &str = "paused_millis";

/// The attribute with the reserved names of output files of a task.
pub(super) const RESERVED_FILES: &str = "reserved_files";

/// The attribute with a job's encrypted secret. It is removed when the job ends.
pub(super) const ENCRYPTED_SECRET: &str = "encrypted_secret";

/// The partition of the queue, sorted by the time at which jobs were queued.
pub(super) const QUEUE_PK: &str = "QUEUE";

/// The partition of the events that are not delivered yet, sorted by time.
pub(super) const OUTBOX_PK: &str = "OUTBOX";

/// The partition of the events that could not be delivered, sorted by time.
pub(super) const UNDELIVERED_PK: &str = "UNDELIVERED";

/// The partition of the schedules, sorted by name.
pub(super) const SCHEDULES_PK: &str = "SCHEDULES";

/// The partition of the audit records that are not sealed yet, sorted by time.
pub(super) const AUDIT_PK: &str = "AUDIT";

/// The partition of the audit records about callers that were not authenticated. Requests of strangers do not use up the capacity of
/// [`AUDIT_PK`], which every download and token needs.
pub(super) const AUDIT_UNKNOWN_PK: &str = "AUDITUNKNOWN";

/// Returns the partition key of a job.
pub(super) fn job_pk(job: &JobId) -> AttributeValue {
    text(format!("JOB#{job}"))
}

/// Returns the primary key of an item of a job.
pub(super) fn job_key(job: &JobId, sk: impl Into<String>) -> Item {
    Item::from([("pk".to_owned(), job_pk(job)), ("sk".to_owned(), text(sk))])
}

/// Returns the primary key of an item that belongs to no job.
pub(super) fn plain_key(pk: &str, sk: &str) -> Item {
    Item::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

/// Returns the sort key of the item with a task's state.
pub(super) fn task_sk(task: u32) -> String {
    format!("TASK#{task:010}")
}

/// Returns the sort key of the item with a task's work.
pub(super) fn work_sk(task: u32) -> String {
    format!("WORK#{task:010}")
}

/// Returns the beginning of the sort keys of the output files that were recorded since the round `since`, in which an export starts from
/// scratch.
pub(super) fn output_files_since(since: u32) -> String {
    format!("OUTPUT#{since:04}#")
}

/// Returns the sort key of an output file that was recorded since the round `since`.
pub(super) fn output_file_sk(since: u32, name: OutputFileName) -> String {
    format!("{}{}#{:010}", output_files_since(since), name.kind.as_str(), name.number)
}

/// Returns the sort key of the item with the last reserved number of a kind, since the round `since`.
pub(super) fn file_numbers_sk(since: u32) -> String {
    format!("NUMBERS#{since:04}")
}

/// Returns the beginning of the sort keys of the counters of a round.
pub(super) fn round_counters(round: u32) -> String {
    format!("COUNTER#{round:04}#")
}

/// Returns the sort key of a counter of a round.
pub(super) fn round_counter_sk(round: u32, counter: u32) -> String {
    format!("{}{counter:04}", round_counters(round))
}

/// Returns the sort key of a part of the list of a job's files.
pub(super) fn file_list_sk(part: u32) -> String {
    format!("FILES#{part:010}")
}

/// The group of fragments of all exported kinds in sort keys. Every other kind is a group of its own.
const EXPORTED_FRAGMENTS: &str = "output";

/// Returns the group of a kind of fragments. Sort keys begin with it, so a query reads one group and no other.
fn fragment_group(kind: OutputKind) -> &'static str {
    if kind.is_exported() { EXPORTED_FRAGMENTS } else { kind.as_str() }
}

/// Returns the sort key of a fragment.
pub(super) fn fragment_sk(round: u32, name: FragmentName) -> String {
    let (group, kind) = (fragment_group(name.kind), name.kind.as_str());
    format!("FRAGMENT#{group}#{round:04}#{kind}#{:010}#{:010}#{:010}", name.task, name.attempt, name.fencing_token)
}

/// Returns the first and the last possible sort key of these fragments. Other fragments may lie between them only if the selection has
/// several buckets.
pub(super) fn fragment_sk_range(rounds: &RangeInclusive<u32>, selection: &FragmentSelection) -> [String; 2] {
    let (first, last) = (rounds.start(), rounds.end());
    // `$` is the character after `#`, and `:` the one after `9`.
    match selection {
        FragmentSelection::Exported => {
            [format!("FRAGMENT#{EXPORTED_FRAGMENTS}#{first:04}#"), format!("FRAGMENT#{EXPORTED_FRAGMENTS}#{last:04}$")]
        }
        FragmentSelection::Kind(kind) => {
            let group = fragment_group(*kind);
            [format!("FRAGMENT#{group}#{first:04}#"), format!("FRAGMENT#{group}#{last:04}$")]
        }
        FragmentSelection::KindOfTasks(kind, tasks) => {
            let (group, kind) = (fragment_group(*kind), kind.as_str());
            [
                format!("FRAGMENT#{group}#{first:04}#{kind}#{:010}#", tasks.start),
                format!("FRAGMENT#{group}#{last:04}#{kind}#{:010}#", tasks.end),
            ]
        }
        FragmentSelection::Buckets(buckets) => {
            let name = |bucket: u8| Bucket::from_number(bucket).map_or("bucket-:", |bucket| OutputKind::Bucket(bucket).as_str());
            [format!("FRAGMENT#{}#", name(buckets.start)), format!("FRAGMENT#{}#", name(buckets.end))]
        }
    }
}

/// Returns the sort key of a queued job.
pub(super) fn queue_sk(queued_at: Millis, job: &JobId) -> String {
    format!("{:016}#{job}", queued_at.0)
}

/// Returns the primary key of the item of a queued job.
pub(super) fn queue_key(queued_at: Millis, job: &JobId) -> Item {
    plain_key(QUEUE_PK, &queue_sk(queued_at, job))
}

/// Returns the primary key of the counter of a client's active jobs. Without an owner, returns that of the counter of all active jobs.
pub(super) fn quota_key(owner: Option<&Caller>) -> Item {
    let pk = owner.map_or_else(|| "QUOTA".to_owned(), |owner| format!("QUOTA#{}", owner.0));
    plain_key(&pk, "QUOTA")
}

/// Returns the primary key of the item of an idempotency key.
pub(super) fn idempotency_key(digest: &str) -> Item {
    plain_key(&format!("IDEMPOTENCY#{digest}"), "IDEMPOTENCY")
}

/// Returns the sort key of an audit record. With an empty id, it comes before all records of this time.
pub(super) fn audit_sk(at: Millis, id: &str) -> String {
    format!("{:016}#{id}", at.0)
}

/// Returns the primary key of the item of an audit record.
pub(super) fn audit_key(key: &AuditRecordKey) -> Item {
    let partition = if key.is_of_unknown_caller() { AUDIT_UNKNOWN_PK } else { AUDIT_PK };
    plain_key(partition, &audit_sk(key.at, &key.id))
}

/// Returns the primary key of the item with the state of the audit chain.
pub(super) fn audit_chain_key() -> Item {
    plain_key("AUDITCHAIN", "AUDITCHAIN")
}

/// Returns the partition of the index of due items in which a task lies.
pub(super) fn due_shard(task: u32) -> AttributeValue {
    text(format!("due#{}", task % DUE_SHARDS))
}

/// Creates a string attribute.
pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// Creates a number attribute.
pub(super) fn number(value: impl Into<u64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

/// Creates a number attribute with a time in milliseconds.
pub(super) fn millis(at: Millis) -> AttributeValue {
    number(at.0)
}

/// Creates a number attribute with a time as DynamoDB's TTL requires it: in seconds, rounded up.
pub(super) fn ttl_seconds(at: Millis) -> AttributeValue {
    number(at.0.div_ceil(1_000))
}

/// Creates a string attribute with a value as JSON, for attributes that are in no index or condition.
pub(super) fn json(value: &impl Serialize) -> Result<AttributeValue, StoreError> {
    serde_json::to_string(value).map(text).map_err(|error| StoreError::NotApplied { store: STORE, cause: error.into() })
}

/// Creates the TTL attribute of a job's items: a week after the latest time at which its files are deleted.
pub(super) fn ttl(job: &Job) -> AttributeValue {
    let lifetime = job.settings.deadline_seconds + job.settings.retention_seconds;
    number((job.created_at + Duration::from_secs(lifetime)).0 / 1_000 + 7 * 86_400)
}

/// The part of a job that does not change after it was recorded.
#[derive(Serialize, Deserialize)]
struct JobDefinition {
    request: ExportRequest,
    request_url: String,
    base: String,
    settings: JobSettings,
    requires_access_token: bool,
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

/// The state of a task.
pub(super) struct StoredTask {
    pub(super) state: TaskState,
    pub(super) attempt: u32,
    pub(super) fencing_token: u32,
    pub(super) attempts_since_progress: u32,
    pub(super) lease_until: Option<Millis>,
    pub(super) paused_until: Option<Millis>,
    pub(super) paused: Duration,
    pub(super) cursor: Cursor,
    pub(super) reserved_files: Vec<OutputFileName>,
    pub(super) counters: Counters,
    pub(super) export_time: Option<ExportTime>,
    pub(super) plan_progress: Option<PlanProgress>,
    pub(super) fault: Option<String>,
}

/// A reader of an item's attributes. Its errors name the attribute that is malformed.
pub(super) struct Attributes<'a>(pub(super) &'a Item);

impl Attributes<'_> {
    /// Creates the error for a missing or malformed attribute.
    pub(super) fn unreadable(name: &str) -> StoreError {
        StoreError::Unreadable { store: STORE, detail: format!("the attribute {name}") }
    }

    /// Reads a string attribute. Returns an error if it is missing.
    pub(super) fn text(&self, name: &str) -> Result<&str, StoreError> {
        self.0.get(name).and_then(|value| value.as_s().ok()).map(String::as_str).ok_or_else(|| Self::unreadable(name))
    }

    /// Reads a number attribute. Returns `None` if it is missing.
    fn optional_number<N: TryFrom<u64>>(&self, name: &str) -> Result<Option<N>, StoreError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let number = value.as_n().ok().and_then(|digits| digits.parse::<u64>().ok());
        number.and_then(|number| N::try_from(number).ok()).map(Some).ok_or_else(|| Self::unreadable(name))
    }

    /// Reads a number attribute. A missing attribute counts as 0.
    pub(super) fn count<N: TryFrom<u64> + Default>(&self, name: &str) -> Result<N, StoreError> {
        Ok(self.optional_number(name)?.unwrap_or_default())
    }

    /// Reads a number attribute as a time in milliseconds. Returns an error if it is missing.
    fn required_millis(&self, name: &str) -> Result<Millis, StoreError> {
        self.optional_number(name)?.map(Millis).ok_or_else(|| Self::unreadable(name))
    }

    /// Reads an attribute with JSON. Returns `None` if it is missing.
    pub(super) fn optional_json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, StoreError> {
        if !self.0.contains_key(name) {
            return Ok(None);
        }
        serde_json::from_str(self.text(name)?).map(Some).map_err(|_| Self::unreadable(name))
    }

    /// Reads an attribute with JSON. Returns an error if it is missing.
    pub(super) fn required_json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T, StoreError> {
        self.optional_json(name)?.ok_or_else(|| Self::unreadable(name))
    }

    /// Reads the counters of a job or task. Missing ones count as 0.
    fn counters(&self) -> Result<Counters, StoreError> {
        Ok(Counters {
            source_bytes: self.count("source_bytes")?,
            resources: self.count("resources")?,
            lines_rejected: self.count("lines_rejected")?,
            notices: NoticeCounts {
                arrived_late: self.count("arrived_late")?,
                ahead_of_clock: self.count("ahead_of_clock")?,
                unreadable_times: self.count("unreadable_times")?,
                members_found: self.count("members_found")?,
            },
            usage: Usage::from_named(|name| self.count(name))?,
        })
    }

    /// Reads the size, line count and checksum of a file.
    fn summary(&self) -> Result<FileSummary, StoreError> {
        let crc64 = u64::from_str_radix(self.text("crc64")?, 16).map_err(|_| Self::unreadable("crc64"))?;
        Ok(FileSummary { bytes: self.count("bytes")?, lines: self.count("lines")?, crc64 })
    }

    /// Reads the id of a job from the partition key, which may name one of the job's partitions after the id.
    fn job_id(&self) -> Result<JobId, StoreError> {
        let id = self.text("pk")?.strip_prefix("JOB#").map(|rest| rest.split_once('#').map_or(rest, |(id, _)| id));
        id.and_then(|id| JobId::parse(id).ok()).ok_or_else(|| Self::unreadable("pk"))
    }

    /// Reads the item as a job. If it is running, its counts are those at the start of the current round.
    pub(super) fn job(&self) -> Result<Job, StoreError> {
        let definition: JobDefinition = self.required_json("definition")?;
        let mut job = Job {
            id: self.job_id()?,
            owner: Caller(self.text("owner")?.to_owned()),
            state: JobState::parse(self.text("state")?).ok_or_else(|| Self::unreadable("state"))?,
            request: definition.request,
            request_url: definition.request_url,
            base: definition.base,
            created_at: self.required_millis("created_at")?,
            settings: definition.settings,
            requires_access_token: definition.requires_access_token,
            destination: definition.destination,
            schedule: definition.schedule,
            has_webhook: definition.has_webhook,
            pinned_config: self.pinned_config()?,
            planned: self.optional_json::<Planned>("planned")?,
            open_tasks: 0,
            round: self.count("round")?,
            round_tasks: self.count("round_tasks")?,
            split_tasks: self.count(SPLIT_TASKS)?,
            phase: Phase::parse(self.text("phase")?).ok_or_else(|| Self::unreadable("phase"))?,
            first_unmerged_round: self.count("first_unmerged_round")?,
            files_since_round: self.count("files_since_round")?,
            counters: self.counters()?,
            ended_at: self.optional_number("ended_at")?.map(Millis),
            reason: self.optional_json("reason")?,
        };
        if job.state == JobState::Running {
            job.open_tasks = job.tasks_of_round();
        }
        Ok(job)
    }

    /// Reads the item as a counter of a round: the number of completed tasks, and the sum of their counters.
    pub(super) fn round_counter(&self) -> Result<(u32, Counters), StoreError> {
        Ok((self.count("completed")?, self.counters()?))
    }

    /// Reads the pinned configuration of a de-identified export. Returns `None` for other exports, and after the job has ended.
    fn pinned_config(&self) -> Result<Option<PinnedConfig>, StoreError> {
        let Some(secret) = self.0.get(ENCRYPTED_SECRET) else { return Ok(None) };
        let encrypted_secret = secret.as_b().map_err(|_| Self::unreadable(ENCRYPTED_SECRET))?.as_ref().to_vec();
        Ok(Some(PinnedConfig { etag: self.text("config_etag")?.to_owned(), encrypted_secret }))
    }

    /// Reads the item as the state of a task.
    pub(super) fn task(&self) -> Result<StoredTask, StoreError> {
        Ok(StoredTask {
            state: TaskState::parse(self.text("state")?).ok_or_else(|| Self::unreadable("state"))?,
            attempt: self.count("attempt")?,
            fencing_token: self.count("fencing_token")?,
            attempts_since_progress: self.count("attempts_since_progress")?,
            lease_until: self.optional_number("lease_until")?.map(Millis),
            paused_until: self.optional_number(PAUSED_UNTIL)?.map(Millis),
            paused: Duration::from_millis(self.count(PAUSED_MILLIS)?),
            cursor: Cursor { item: self.count("cursor_item")?, offset: self.count("cursor_offset")? },
            reserved_files: self.reserved_files()?,
            counters: self.counters()?,
            export_time: self.optional_json("export_time")?,
            plan_progress: self.optional_json("plan_progress")?,
            fault: self.0.get("fault").and_then(|fault| fault.as_s().ok()).cloned(),
        })
    }

    /// Reads the reserved names of output files of a task.
    fn reserved_files(&self) -> Result<Vec<OutputFileName>, StoreError> {
        if !self.0.contains_key(RESERVED_FILES) {
            return Ok(Vec::new());
        }
        let parse = |name| OutputFileName::parse(name).ok_or_else(|| Self::unreadable(RESERVED_FILES));
        self.text(RESERVED_FILES)?.split(' ').map(parse).collect()
    }

    /// Reads the item as the work of a task.
    pub(super) fn work(&self) -> Result<Work, StoreError> {
        self.required_json("work")
    }

    /// Reads the item as an output file.
    pub(super) fn output_file(&self) -> Result<OutputFile, StoreError> {
        let segments: Vec<&str> = self.text("sk")?.split('#').collect();
        let name = match segments.as_slice() {
            ["OUTPUT", _, kind, number] => {
                OutputKind::parse(kind).zip(number.parse().ok()).map(|(kind, number)| OutputFileName { kind, number })
            }
            _ => None,
        };
        Ok(OutputFile { name: name.ok_or_else(|| Self::unreadable("sk"))?, summary: self.summary()? })
    }

    /// Reads the item as a part of the list of a job's files.
    pub(super) fn file_list_part(&self) -> Result<FileListPart, StoreError> {
        let number =
            self.text("sk")?.strip_prefix("FILES#").and_then(|number| number.parse().ok()).ok_or_else(|| Self::unreadable("sk"))?;
        FileListPart::parse(number, self.text("files")?).ok_or_else(|| Self::unreadable("files"))
    }

    /// Reads the item as a fragment, with the round in which it was recorded.
    pub(super) fn fragment(&self) -> Result<(u32, Fragment), StoreError> {
        let segments: Vec<&str> = self.text("sk")?.split('#').collect();
        let parsed = match segments.as_slice() {
            ["FRAGMENT", _, round, kind, task, attempt, fencing_token] => OutputKind::parse(kind).and_then(|kind| {
                let name = FragmentName {
                    kind,
                    task: task.parse().ok()?,
                    attempt: attempt.parse().ok()?,
                    fencing_token: fencing_token.parse().ok()?,
                };
                Some((round.parse().ok()?, name))
            }),
            _ => None,
        };
        let (round, name) = parsed.ok_or_else(|| Self::unreadable("sk"))?;
        Ok((round, Fragment { name, summary: self.summary()? }))
    }

    /// Reads the position of a job in the list of its owner's jobs.
    pub(super) fn list_cursor(&self) -> Result<ListCursor, StoreError> {
        Ok(ListCursor { created_at: self.required_millis("created_at")?, id: self.job_id()? })
    }

    /// Reads the item as a queued job.
    pub(super) fn queued_job(&self) -> Result<QueuedJob, StoreError> {
        let position = self.text("sk")?.split_once('#');
        let position = position.and_then(|(queued_at, job)| Some((Millis(queued_at.parse().ok()?), JobId::parse(job).ok()?)));
        let (queued_at, job) = position.ok_or_else(|| Self::unreadable("sk"))?;
        let client_quota = self.optional_number("client_quota")?;
        Ok(QueuedJob { queued_at, job, owner: Caller(self.text("caller")?.to_owned()), client_quota })
    }

    /// Reads the item as a due job or task.
    pub(super) fn due_item(&self) -> Result<DueItem, StoreError> {
        let job = self.job_id()?;
        let subject = match self.text("sk")? {
            JOB_SK => DueSubject::Job(job),
            sk => {
                let task = sk.strip_prefix("TASK#").and_then(|task| task.parse().ok()).ok_or_else(|| Self::unreadable("sk"))?;
                DueSubject::Task(TaskId { job, task })
            }
        };
        Ok(DueItem { subject, due_at: self.required_millis("due_at")? })
    }
}
