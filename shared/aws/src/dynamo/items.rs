//! Item shapes of the job table: one item per job, task, task's work, part and tail; all of a job under one partition key.
//! Beside the jobs: counters of jobs at work, the queue of those that wait, and idempotency keys.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use headrace_core::audit::chain::RecordName;
use headrace_core::job::anonymization::Pinned;
use headrace_core::job::task::{Cursor, TaskState, Work};
use headrace_core::job::{IdempotencyKey, Job, JobState, Limits, Phase, Planned, Tally};
use headrace_core::output::file::{Content, FragmentName, OutputFileName, OutputKind, Part, Tail};
use headrace_core::ports::{Subject, Waiting};
use headrace_core::request::ExportRequest;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, ListCursor, TaskId};
use serde::{Deserialize, Serialize};

pub(super) type Item = HashMap<String, AttributeValue>;

/// Items are spread over this many partitions of the index `due`.
pub(super) const DUE_SHARDS: u32 = 8;

pub(super) const JOB_SK: &str = "JOB";

/// A job's sealed secret; it goes when the job ends.
pub(super) const SECRET: &str = "secret";

pub(super) fn pk(job: &JobId) -> AttributeValue {
    text(format!("JOB#{job}"))
}

pub(super) fn task_sk(task: u32) -> String {
    format!("TASK#{task:010}")
}

pub(super) fn work_sk(task: u32) -> String {
    format!("WORK#{task:010}")
}

pub(super) fn parts_of_kind(kind: OutputKind) -> String {
    format!("PART#{}#", kind.as_str())
}

pub(super) fn part_sk(name: OutputFileName) -> String {
    format!("{}{:010}", parts_of_kind(name.kind), name.number)
}

pub(super) fn tails_of_round(round: u32) -> String {
    format!("TAIL#{round:04}#")
}

pub(super) fn tail_sk(round: u32, name: FragmentName) -> String {
    format!("{}{}#{:010}#{:010}#{:010}", tails_of_round(round), name.kind.as_str(), name.task, name.attempt, name.step)
}

pub(super) fn key(job: &JobId, sk: impl Into<String>) -> Item {
    Item::from([("pk".to_owned(), pk(job)), ("sk".to_owned(), text(sk))])
}

/// The partition of the jobs that wait, in the order of their turns.
pub(super) const QUEUE_PK: &str = "QUEUE";

pub(super) fn queue_sk(since: Millis, job: &JobId) -> String {
    format!("{:016}#{job}", since.0)
}

pub(super) fn queue_key(since: Millis, job: &JobId) -> Item {
    Item::from([("pk".to_owned(), text(QUEUE_PK)), ("sk".to_owned(), text(queue_sk(since, job)))])
}

/// The counter of a caller's jobs at work; without a caller, of everybody's.
pub(super) fn limit_key(owner: Option<&Caller>) -> Item {
    let pk = owner.map_or_else(|| "LIMIT".to_owned(), |owner| format!("LIMIT#{}", owner.0));
    Item::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text("LIMIT"))])
}

pub(super) fn idempotency_key(digest: &str) -> Item {
    Item::from([("pk".to_owned(), text(format!("KEY#{digest}"))), ("sk".to_owned(), text("KEY"))])
}

/// A key and what it has started.
pub(super) fn key_item(key: &IdempotencyKey, job: &Job) -> Item {
    let mut item = idempotency_key(&key.digest);
    item.extend([
        ("fingerprint".to_owned(), text(&key.fingerprint)),
        ("job".to_owned(), text(job.id.as_str())),
        ("ttl".to_owned(), ttl(job)),
    ]);
    item
}

/// A job's place in the queue. Its caller is not called `owner`: that is an index's key.
pub(super) fn queue_item(job: &Job, client_jobs: Option<u32>) -> Item {
    let mut item = queue_key(job.created_at, &job.id);
    item.extend([("caller".to_owned(), text(&job.owner.0)), ("ttl".to_owned(), ttl(job))]);
    item.extend(client_jobs.map(|jobs| ("client_jobs".to_owned(), number(jobs))));
    item
}

/// A key of something that is no job's.
pub(super) fn plain_key(pk: &str, sk: &str) -> Item {
    Item::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

/// The partition of what is recorded for auditors and not yet sealed, in the order of time.
pub(super) const AUDIT_PK: &str = "AUDIT";

pub(super) fn audit_sk(at: Millis, id: &str) -> String {
    format!("{:016}#{id}", at.0)
}

pub(super) fn audit_key(name: &RecordName) -> Item {
    plain_key(AUDIT_PK, &audit_sk(name.at, &name.id))
}

/// Where sealing stands.
pub(super) fn audit_head_key() -> Item {
    plain_key("AUDITHEAD", "AUDITHEAD")
}

pub(super) fn due_shard(task: u32) -> AttributeValue {
    text(format!("due#{}", task % DUE_SHARDS))
}

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl Into<u64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

pub(super) fn millis(at: Millis) -> AttributeValue {
    number(at.0)
}

/// A value that only we read, as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<AttributeValue, StoreError> {
    serde_json::to_string(value).map(text).map_err(|error| StoreError::NotApplied { what: WHAT, cause: error.into() })
}

pub(super) const WHAT: &str = "the job table";

/// A time as DynamoDB's own clock counts it.
pub(super) fn seconds(at: Millis) -> AttributeValue {
    number(at.0.div_ceil(1_000))
}

/// When DynamoDB may drop the items of a job: a week after its files are gone at the latest.
pub(super) fn ttl(job: &Job) -> AttributeValue {
    let lifetime = job.limits.deadline_seconds + job.limits.retention_seconds;
    number((job.created_at + Duration::from_secs(lifetime)).0 / 1_000 + 7 * 86_400)
}

/// What is fixed when a job is recorded.
#[derive(Serialize, Deserialize)]
struct Asked {
    request: ExportRequest,
    request_url: String,
    base: String,
    limits: Limits,
    requires_access_token: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
}

/// A job's item without its due time.
pub(super) fn job_item(job: &Job) -> Result<Item, StoreError> {
    let asked = Asked {
        request: job.request.clone(),
        request_url: job.request_url.clone(),
        base: job.base.clone(),
        limits: job.limits,
        requires_access_token: job.requires_access_token,
        destination: job.destination.clone(),
    };
    let mut item = key(&job.id, JOB_SK);
    item.extend([
        ("state".to_owned(), text(job.state.as_str())),
        ("owner".to_owned(), text(&job.owner.0)),
        ("created_at".to_owned(), millis(job.created_at)),
        ("asked".to_owned(), json(&asked)?),
        ("open_tasks".to_owned(), number(job.open_tasks)),
        ("round".to_owned(), number(job.round)),
        ("round_tasks".to_owned(), number(job.round_tasks)),
        ("phase".to_owned(), text(job.phase.as_str())),
        ("tails_from".to_owned(), number(job.tails_from)),
        ("ttl".to_owned(), ttl(job)),
    ]);
    item.extend(tally_attributes(job.tally));
    if let Some(Pinned { etag, sealed }) = &job.pinned {
        item.extend([("config_etag".to_owned(), text(etag)), (SECRET.to_owned(), AttributeValue::B(Blob::new(sealed.clone())))]);
    }
    Ok(item)
}

pub(super) fn tally_attributes(tally: Tally) -> [(String, AttributeValue); 3] {
    [
        ("source_bytes".to_owned(), number(tally.source_bytes)),
        ("resources".to_owned(), number(tally.resources)),
        ("refused".to_owned(), number(tally.refused)),
    ]
}

/// A task as it is first recorded: what changes with each step, and apart from it what it has to do. That may be long,
/// and an update costs by the size of the whole item.
pub(super) fn task_items(job: &Job, task: u32, work: &Work, due_at: Option<Millis>) -> Result<[Item; 2], StoreError> {
    let mut item = key(&job.id, task_sk(task));
    item.extend([("state".to_owned(), text(TaskState::Open.as_str())), ("ttl".to_owned(), ttl(job))]);
    if let Some(at) = due_at {
        item.extend([("due_shard".to_owned(), due_shard(task)), ("due_at".to_owned(), millis(at))]);
    }
    let mut order = key(&job.id, work_sk(task));
    order.extend([("work".to_owned(), json(work)?), ("ttl".to_owned(), ttl(job))]);
    Ok([item, order])
}

/// A task as it stands in the table.
pub(super) struct StoredTask {
    pub(super) state: TaskState,
    pub(super) attempt: u32,
    pub(super) step: u32,
    pub(super) tries: u32,
    pub(super) lease_until: Option<Millis>,
    pub(super) cursor: Cursor,
    pub(super) claim: Option<OutputFileName>,
    pub(super) tally: Tally,
    pub(super) fault: Option<String>,
}

/// Reads attributes and says which one was wrong.
pub(super) struct Attributes<'a>(pub(super) &'a Item);

impl Attributes<'_> {
    pub(super) fn unreadable(name: &str) -> StoreError {
        StoreError::Unreadable { what: WHAT, detail: format!("the attribute {name}") }
    }

    pub(super) fn text(&self, name: &str) -> Result<&str, StoreError> {
        self.0.get(name).and_then(|value| value.as_s().ok()).map(String::as_str).ok_or_else(|| Self::unreadable(name))
    }

    fn optional_number<N: TryFrom<u64>>(&self, name: &str) -> Result<Option<N>, StoreError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let number = value.as_n().ok().and_then(|digits| digits.parse::<u64>().ok());
        number.and_then(|number| N::try_from(number).ok()).map(Some).ok_or_else(|| Self::unreadable(name))
    }

    /// Absent counts as 0: older items lack what was added later.
    pub(super) fn count<N: TryFrom<u64> + Default>(&self, name: &str) -> Result<N, StoreError> {
        Ok(self.optional_number(name)?.unwrap_or_default())
    }

    fn required_millis(&self, name: &str) -> Result<Millis, StoreError> {
        self.optional_number(name)?.map(Millis).ok_or_else(|| Self::unreadable(name))
    }

    pub(super) fn optional_json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, StoreError> {
        if !self.0.contains_key(name) {
            return Ok(None);
        }
        serde_json::from_str(self.text(name)?).map(Some).map_err(|_| Self::unreadable(name))
    }

    pub(super) fn required_json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T, StoreError> {
        self.optional_json(name)?.ok_or_else(|| Self::unreadable(name))
    }

    fn tally(&self) -> Result<Tally, StoreError> {
        Ok(Tally { source_bytes: self.count("source_bytes")?, resources: self.count("resources")?, refused: self.count("refused")? })
    }

    fn content(&self) -> Result<Content, StoreError> {
        let crc64 = u64::from_str_radix(self.text("crc64")?, 16).map_err(|_| Self::unreadable("crc64"))?;
        Ok(Content { bytes: self.count("bytes")?, lines: self.count("lines")?, crc64 })
    }

    fn job_id(&self) -> Result<JobId, StoreError> {
        self.text("pk")?.strip_prefix("JOB#").and_then(|id| JobId::parse(id).ok()).ok_or_else(|| Self::unreadable("pk"))
    }

    pub(super) fn job(&self) -> Result<Job, StoreError> {
        let asked: Asked = self.required_json("asked")?;
        Ok(Job {
            id: self.job_id()?,
            owner: Caller(self.text("owner")?.to_owned()),
            state: JobState::named(self.text("state")?).ok_or_else(|| Self::unreadable("state"))?,
            request: asked.request,
            request_url: asked.request_url,
            base: asked.base,
            created_at: self.required_millis("created_at")?,
            limits: asked.limits,
            requires_access_token: asked.requires_access_token,
            destination: asked.destination,
            pinned: self.pinned()?,
            planned: self.optional_json::<Planned>("planned")?,
            open_tasks: self.count("open_tasks")?,
            round: self.count("round")?,
            round_tasks: self.count("round_tasks")?,
            phase: Phase::named(self.text("phase")?).ok_or_else(|| Self::unreadable("phase"))?,
            tails_from: self.count("tails_from")?,
            tally: self.tally()?,
            ended_at: self.optional_number("ended_at")?.map(Millis),
            reason: self.optional_json("reason")?,
        })
    }

    /// `None` of a job that is not de-identified, and of one that has ended.
    fn pinned(&self) -> Result<Option<Pinned>, StoreError> {
        let Some(sealed) = self.0.get(SECRET) else { return Ok(None) };
        let sealed = sealed.as_b().map_err(|_| Self::unreadable(SECRET))?.as_ref().to_vec();
        Ok(Some(Pinned { etag: self.text("config_etag")?.to_owned(), sealed }))
    }

    pub(super) fn task(&self) -> Result<StoredTask, StoreError> {
        let claim = match self.0.get("claim") {
            None => None,
            Some(_) => Some(OutputFileName::parse(self.text("claim")?).ok_or_else(|| Self::unreadable("claim"))?),
        };
        Ok(StoredTask {
            state: TaskState::named(self.text("state")?).ok_or_else(|| Self::unreadable("state"))?,
            attempt: self.count("attempt")?,
            step: self.count("step")?,
            tries: self.count("tries")?,
            lease_until: self.optional_number("lease_until")?.map(Millis),
            cursor: Cursor { item: self.count("item")?, offset: self.count("offset")? },
            claim,
            tally: self.tally()?,
            fault: self.0.get("fault").and_then(|fault| fault.as_s().ok()).cloned(),
        })
    }

    pub(super) fn work(&self) -> Result<Work, StoreError> {
        self.required_json("work")
    }

    pub(super) fn part_name(&self) -> Result<OutputFileName, StoreError> {
        let name = self
            .text("sk")?
            .strip_prefix("PART#")
            .and_then(|rest| rest.split_once('#'))
            .and_then(|(kind, number)| Some(OutputFileName { kind: OutputKind::named(kind)?, number: number.parse().ok()? }));
        name.ok_or_else(|| Self::unreadable("sk"))
    }

    /// A part; `None` while it is claimed and not yet written.
    pub(super) fn part(&self) -> Result<Option<Part>, StoreError> {
        if !self.0.contains_key("crc64") {
            return Ok(None);
        }
        Ok(Some(Part { name: self.part_name()?, content: self.content()? }))
    }

    pub(super) fn tail(&self) -> Result<Tail, StoreError> {
        let pieces: Vec<&str> = self.text("sk")?.split('#').collect();
        let name = match pieces.as_slice() {
            ["TAIL", _, kind, task, attempt, step] => OutputKind::named(kind).and_then(|kind| {
                Some(FragmentName { kind, task: task.parse().ok()?, attempt: attempt.parse().ok()?, step: step.parse().ok()? })
            }),
            _ => None,
        };
        Ok(Tail { name: name.ok_or_else(|| Self::unreadable("sk"))?, content: self.content()? })
    }

    /// A place in the index `owner`.
    pub(super) fn list_cursor(&self) -> Result<ListCursor, StoreError> {
        Ok(ListCursor { created_at: self.required_millis("created_at")?, id: self.job_id()? })
    }

    pub(super) fn waiting(&self) -> Result<Waiting, StoreError> {
        let place = self.text("sk")?.split_once('#');
        let place = place.and_then(|(since, job)| Some((Millis(since.parse().ok()?), JobId::parse(job).ok()?)));
        let (since, job) = place.ok_or_else(|| Self::unreadable("sk"))?;
        let client_jobs = self.optional_number("client_jobs")?;
        Ok(Waiting { since, job, owner: Caller(self.text("caller")?.to_owned()), client_jobs })
    }

    pub(super) fn due(&self) -> Result<(Subject, Millis), StoreError> {
        let job = self.job_id()?;
        let subject = match self.text("sk")? {
            JOB_SK => Subject::Job(job),
            sk => {
                let task = sk.strip_prefix("TASK#").and_then(|task| task.parse().ok()).ok_or_else(|| Self::unreadable("sk"))?;
                Subject::Task(TaskId { job, task })
            }
        };
        Ok((subject, self.required_millis("due_at")?))
    }
}

/// What a written file holds, as attributes.
pub(super) fn content_attributes(content: Content) -> [(&'static str, AttributeValue); 3] {
    [("bytes", number(content.bytes)), ("lines", number(content.lines)), ("crc64", text(format!("{:016x}", content.crc64)))]
}
