//! Every port's suite against every implementation.

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use headrace_aws::{DynamoJobStore, S3Lake, SqsTaskQueue, TableSchema};
use headrace_core::access::Agent;
use headrace_core::job::anonymization::JobSecret;
use headrace_core::job::task::{Close, Lease, LeaseAnswer, Planning, Record, Work};
use headrace_core::job::{Conditions, Job, JobEvent, Quotas, Reason, Recorded, Step};
use headrace_core::output::file::{OutputFileName, Part, Tail};
use headrace_core::ports::{Admission, DueItem, JobLists, JobPage, JobStore, LeaseSettings, TaskStore, Waiting};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, ListCursor, TaskId};
use headrace_local::server::queue::LocalQueue;
use headrace_local::stores::directory::DirectoryLake;
use headrace_local::stores::embedded::EmbeddedDynamo;
use headrace_tests::contracts::resource_source::LakeShore;
use headrace_tests::contracts::task_queue::QueueEnds;
use headrace_tests::contracts::{BoxError, Held};
use headrace_tests::standins::s3::S3StandIn;
use headrace_tests::standins::sqs::SqsStandIn;
use tempfile::TempDir;

#[path = "contracts/destinations.rs"]
mod destinations;
mod access_store {
    headrace_tests::access_store_contract!(in_memory, crate::in_memory);
}

mod job_store {
    headrace_tests::job_store_contract!(in_memory, crate::in_memory);
    headrace_tests::job_store_contract!(on_a_file_opened_for_every_call, crate::on_a_file);
}

mod task_queue {
    headrace_tests::task_queue_contract!(sqs, crate::sqs);
    headrace_tests::task_queue_contract!(in_process, crate::in_process);
}

mod resource_source {
    headrace_tests::resource_source_contract!(s3, crate::s3_lake);
    headrace_tests::resource_source_contract!(directory, crate::directory_lake);
}

mod part_store {
    headrace_tests::part_store_contract!(s3, crate::destinations::s3_parts);
    headrace_tests::part_store_contract!(s3_of_a_client, crate::destinations::s3_parts_of_a_client);
    headrace_tests::part_store_contract!(directory, crate::destinations::directory_parts);
    headrace_tests::part_store_contract!(directory_of_a_client, crate::destinations::directory_parts_of_a_client);
}

const TABLE: &str = "jobs";

async fn in_memory() -> Result<DynamoJobStore, BoxError> {
    let client = EmbeddedDynamo::memory()?.client();
    TableSchema::create(&client, TABLE).await?;
    Ok(DynamoJobStore::new(client, TABLE))
}

async fn on_a_file() -> Result<Reopened, BoxError> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("jobs.db");
    TableSchema::create(&EmbeddedDynamo::open(&path)?.client(), TABLE).await?;
    Ok(Reopened { path, one_at_a_time: tokio::sync::Mutex::new(()), _folder: folder })
}

/// The embedded table as if the process had been restarted before every call.
struct Reopened {
    path: PathBuf,
    one_at_a_time: tokio::sync::Mutex<()>,
    _folder: TempDir,
}

/// Opens the file, makes the call, closes the file.
macro_rules! call {
    ($this:ident, $method:ident($($argument:expr),*)) => {{
        let _alone = $this.one_at_a_time.lock().await;
        let opened = EmbeddedDynamo::open(&$this.path);
        let opened = opened.map_err(|error| StoreError::NotApplied { what: "the file", cause: error.into() })?;
        DynamoJobStore::new(opened.client(), TABLE).$method($($argument),*).await
    }};
}

impl JobLists for Reopened {
    async fn waiting(&self, after: Option<&Waiting>, limit: u16) -> Result<Vec<Waiting>, StoreError> {
        call!(self, waiting(after, limit))
    }

    async fn waiting_before(&self, job: &Job) -> Result<u32, StoreError> {
        call!(self, waiting_before(job))
    }

    async fn admit(&self, waiting: &Waiting, quotas: &Quotas, now: Millis) -> Result<Admission, StoreError> {
        call!(self, admit(waiting, quotas, now))
    }

    async fn jobs_of(&self, owner: &Caller, before: Option<&ListCursor>, limit: u16) -> Result<JobPage, StoreError> {
        call!(self, jobs_of(owner, before, limit))
    }
}

impl JobStore for Reopened {
    async fn record_job(&self, job: &Job, plan: &Planning, conditions: &Conditions, by: &Agent) -> Result<Recorded, StoreError> {
        call!(self, record_job(job, plan, conditions, by))
    }

    async fn job(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        call!(self, job(id))
    }

    async fn seal(&self, id: &JobId, secret: &JobSecret) -> Result<Vec<u8>, StoreError> {
        call!(self, seal(id, secret))
    }

    async fn unseal(&self, id: &JobId, sealed: &[u8]) -> Result<JobSecret, StoreError> {
        call!(self, unseal(id, sealed))
    }

    async fn end_job(
        &self,
        id: &JobId,
        event: JobEvent,
        reason: Option<Reason>,
        by: &Agent,
        now: Millis,
    ) -> Result<Option<Step>, StoreError> {
        call!(self, end_job(id, event, reason, by, now))
    }

    async fn parts(&self, id: &JobId) -> Result<Vec<Part>, StoreError> {
        call!(self, parts(id))
    }

    async fn part(&self, id: &JobId, name: OutputFileName) -> Result<Option<Part>, StoreError> {
        call!(self, part(id, name))
    }

    async fn due(&self, now: Millis, limit: u16) -> Result<Vec<DueItem>, StoreError> {
        call!(self, due(now, limit))
    }

    async fn put_off(&self, due: &DueItem, until: Option<Millis>) -> Result<bool, StoreError> {
        call!(self, put_off(due, until))
    }
}

impl TaskStore for Reopened {
    async fn lease_task(&self, task: &TaskId, terms: LeaseSettings, now: Millis) -> Result<LeaseAnswer, StoreError> {
        call!(self, lease_task(task, terms, now))
    }

    async fn record(&self, lease: &mut Lease, record: Record, until: Millis) -> Result<(), StoreError> {
        call!(self, record(lease, record, until))
    }

    async fn close_task(&self, lease: &Lease, close: Close) -> Result<Job, StoreError> {
        call!(self, close_task(lease, close))
    }

    async fn work(&self, task: &TaskId) -> Result<Option<Work>, StoreError> {
        call!(self, work(task))
    }

    async fn tails(&self, id: &JobId, rounds: RangeInclusive<u32>) -> Result<Vec<Tail>, StoreError> {
        call!(self, tails(id, rounds))
    }

    async fn drop_parts(&self, lease: &mut Lease, until: Millis) -> Result<Vec<OutputFileName>, StoreError> {
        call!(self, drop_parts(lease, until))
    }
}

struct SqsEnds {
    client: aws_sdk_sqs::Client,
    queue: SqsTaskQueue,
    urls: (String, String),
}

async fn sqs() -> Result<SqsEnds, BoxError> {
    let sqs = SqsStandIn::start();
    let urls = sqs.create_queue_with_dlq("tasks", 600, 3).await?;
    let queue = SqsTaskQueue::new(sqs.client(), &urls.0).with_dead_letters(&urls.1);
    Ok(SqsEnds { client: sqs.client(), queue, urls })
}

impl SqsEnds {
    async fn take(&self, url: &str, wait: Duration) -> Result<Vec<String>, BoxError> {
        let seconds = i32::try_from(wait.as_secs())?;
        let call = self.client.receive_message().queue_url(url).max_number_of_messages(10).wait_time_seconds(seconds);
        Ok(call.send().await?.messages.unwrap_or_default().into_iter().filter_map(|message| message.body).collect())
    }
}

impl QueueEnds for SqsEnds {
    type Queue = SqsTaskQueue;
    const KEEPS_PARKED: bool = true;

    fn queue(&self) -> &SqsTaskQueue {
        &self.queue
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<String>, BoxError> {
        self.take(&self.urls.0, wait).await
    }

    async fn parked(&self) -> Result<Vec<String>, BoxError> {
        self.take(&self.urls.1, Duration::ZERO).await
    }

    fn absent(&self) -> Option<(SqsTaskQueue, &'static str)> {
        Some((SqsTaskQueue::new(self.client.clone(), self.urls.0.replace("/tasks", "/nobody")), "HEADRACE_QUEUE_URL"))
    }
}

struct LocalEnds(LocalQueue);

async fn in_process() -> Result<LocalEnds, BoxError> {
    Ok(LocalEnds(LocalQueue::default()))
}

impl QueueEnds for LocalEnds {
    type Queue = LocalQueue;
    const KEEPS_PARKED: bool = false;

    fn queue(&self) -> &LocalQueue {
        &self.0
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<String>, BoxError> {
        let mut tasks = Vec::new();
        if !wait.is_zero() {
            tasks.extend(tokio::time::timeout(wait, self.0.next()).await.ok().flatten());
        }
        while let Some(task) = self.0.try_next().await {
            tasks.push(task);
        }
        Ok(tasks.iter().map(serde_json::to_string).collect::<Result<_, _>>()?)
    }

    async fn parked(&self) -> Result<Vec<String>, BoxError> {
        Ok(Vec::new())
    }

    fn absent(&self) -> Option<(LocalQueue, &'static str)> {
        None
    }
}

const BUCKET: &str = "lake-or-destination";
const PREFIX: &str = "some where/deep";

struct S3Place<T> {
    s3: S3StandIn,
    port: T,
}

async fn s3() -> Result<S3StandIn, BoxError> {
    let s3 = S3StandIn::start()?;
    s3.create_bucket(BUCKET).await?;
    // Beside what is ours.
    s3.put(BUCKET, "Patient.ndjson", "{}\n").await?;
    s3.put(BUCKET, "some where/deeper/Patient.ndjson", "{}\n").await?;
    Ok(s3)
}

async fn s3_lake() -> Result<S3Place<S3Lake>, BoxError> {
    let s3 = s3().await?;
    Ok(S3Place { port: S3Lake::new(&s3.client(), BUCKET, PREFIX), s3 })
}

impl LakeShore for S3Place<S3Lake> {
    type Source = S3Lake;

    fn source(&self) -> &S3Lake {
        &self.port
    }

    async fn put(&self, object: &str, bytes: Bytes) -> Held {
        self.s3.put(BUCKET, &format!("{PREFIX}/{object}"), bytes).await
    }

    async fn remove(&self, object: &str) -> Held {
        self.s3.client().delete_object().bucket(BUCKET).key(format!("{PREFIX}/{object}")).send().await?;
        Ok(())
    }

    fn absent(&self) -> (S3Lake, Vec<String>) {
        let named = ["HEADRACE_SOURCE_BUCKET".to_owned(), "nobodys".to_owned()];
        (S3Lake::new(&self.s3.client(), "nobodys", PREFIX), named.into())
    }
}

struct Directory<T> {
    root: TempDir,
    port: T,
    writes: AtomicU64,
}

impl<T> Directory<T> {
    fn of(port: impl FnOnce(&Path) -> T) -> Result<Self, BoxError> {
        let root = tempfile::tempdir()?;
        Ok(Self { port: port(root.path()), root, writes: AtomicU64::new(0) })
    }
}

async fn directory_lake() -> Result<Directory<DirectoryLake>, BoxError> {
    Directory::of(|root| DirectoryLake::open(root))
}

impl LakeShore for Directory<DirectoryLake> {
    type Source = DirectoryLake;

    fn source(&self) -> &DirectoryLake {
        &self.port
    }

    async fn put(&self, object: &str, bytes: Bytes) -> Held {
        let path = self.root.path().join(object);
        std::fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        std::fs::write(&path, &bytes)?;
        // The clock of a file system may tick too slowly to tell two writes of one test apart.
        let tick = self.writes.fetch_add(1, Ordering::Relaxed);
        File::options().write(true).open(&path)?.set_modified(UNIX_EPOCH + Duration::from_secs(tick))?;
        Ok(())
    }

    async fn remove(&self, object: &str) -> Held {
        Ok(std::fs::remove_file(self.root.path().join(object))?)
    }

    fn absent(&self) -> (DirectoryLake, Vec<String>) {
        let path = self.root.path().join("nobodys");
        (DirectoryLake::open(&path), vec![path.display().to_string()])
    }
}
