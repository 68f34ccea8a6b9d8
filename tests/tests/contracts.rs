//! Runs the contract suite of every port against every implementation.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use headrace_aws::{DynamoJobStore, S3Lake, S3LakeWriter, SqsTaskQueue, TableSchema};
use headrace_core::access::Agent;
use headrace_core::job::JobSecrets;
use headrace_core::job::file::{Fragment, OutputFile, OutputFileName};
use headrace_core::job::file_list::FileListPart;
use headrace_core::job::task::{Lease, LeaseOutcome, PlanInput, TaskCompletion, TaskSplit, TaskUpdate, Work};
use headrace_core::job::{FailureReason, Job, JobEvent, Quotas, RecordConditions, RecordOutcome, Transition};
use headrace_core::ports::{
    DueItem, FragmentSelection, JobLists, JobPage, JobSecretEncryptor, JobStore, LeaseSettings, QueueStart, QueuedJob, TaskStore,
};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, ListCursor, TaskId};
use headrace_local::server::queue::LocalQueue;
use headrace_local::stores::directory::{DirectoryLake, DirectoryLakeWriter};
use headrace_local::stores::embedded::EmbeddedDynamo;
use headrace_tests::contracts::lake_writer::TestLakeWriter;
use headrace_tests::contracts::resource_source::TestLake;
use headrace_tests::contracts::task_queue::{RemoteTestQueue, TestQueue};
use headrace_tests::contracts::{BoxError, CaseResult};
use headrace_tests::standins::s3::S3StandIn;
use headrace_tests::standins::sqs::SqsStandIn;
use tempfile::TempDir;

#[path = "contracts/destinations.rs"]
mod destinations;

mod access_store {
    headrace_tests::access_store_contract!(in_memory, crate::in_memory);
}

mod event_outbox {
    headrace_tests::event_outbox_contract!(in_memory, crate::in_memory_with_events);
}

mod schedule_store {
    headrace_tests::schedule_store_contract!(in_memory, crate::in_memory);
}

mod job_store {
    headrace_tests::job_store_contract!(in_memory, crate::in_memory);
    headrace_tests::job_store_contract!(file_reopened_for_every_call, crate::reopened_file);
}

mod task_queue {
    headrace_tests::task_queue_contract!(sqs, crate::sqs);
    headrace_tests::task_queue_contract!(local, crate::local_queue);
}

mod remote_task_queue {
    headrace_tests::remote_task_queue_contract!(sqs, crate::sqs);
}

mod resource_source {
    headrace_tests::resource_source_contract!(s3, crate::s3_lake);
    headrace_tests::resource_source_contract!(directory, crate::directory_lake);
}

mod lake_writer {
    headrace_tests::lake_writer_contract!(s3, crate::s3_lake_writer);
    headrace_tests::lake_writer_contract!(directory, crate::directory_lake_writer);
}

mod output_store {
    headrace_tests::output_store_contract!(s3, crate::destinations::s3_destination);
    headrace_tests::output_store_contract!(s3_of_a_client, crate::destinations::s3_client_destination);
    headrace_tests::output_store_contract!(directory, crate::destinations::directory_destination);
    headrace_tests::output_store_contract!(directory_of_a_client, crate::destinations::directory_client_destination);
}

const TABLE: &str = "jobs";

async fn in_memory() -> Result<DynamoJobStore, BoxError> {
    let client = EmbeddedDynamo::in_memory()?.client();
    TableSchema::create(&client, TABLE).await?;
    Ok(DynamoJobStore::new(client, TABLE))
}

async fn in_memory_with_events() -> Result<DynamoJobStore, BoxError> {
    Ok(in_memory().await?.with_events(true))
}

async fn reopened_file() -> Result<ReopenedFile, BoxError> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("jobs.db");
    TableSchema::create(&EmbeddedDynamo::open(&path)?.client(), TABLE).await?;
    Ok(ReopenedFile { path, call_lock: tokio::sync::Mutex::new(()), _folder: folder })
}

/// Job store on a file that is opened for every call, as if the process restarted each time.
struct ReopenedFile {
    path: PathBuf,
    call_lock: tokio::sync::Mutex<()>,
    _folder: TempDir,
}

/// Opens the file, makes the call and closes the file.
macro_rules! call {
    ($this:ident, $method:ident($($argument:expr),*)) => {{
        let _guard = $this.call_lock.lock().await;
        let opened = EmbeddedDynamo::open(&$this.path);
        let opened = opened.map_err(|error| StoreError::NotApplied { store: "the file", cause: error.into() })?;
        DynamoJobStore::new(opened.client(), TABLE).with_one_partition().$method($($argument),*).await
    }};
}

impl JobLists for ReopenedFile {
    async fn queued_jobs(&self, after: Option<&QueuedJob>, limit: u16) -> Result<Vec<QueuedJob>, StoreError> {
        call!(self, queued_jobs(after, limit))
    }

    async fn queue_position(&self, job: &Job) -> Result<u32, StoreError> {
        call!(self, queue_position(job))
    }

    async fn start_queued(&self, waiting: &QueuedJob, quotas: &Quotas, now: Millis) -> Result<QueueStart, StoreError> {
        call!(self, start_queued(waiting, quotas, now))
    }

    async fn list_jobs(&self, owner: &Caller, before: Option<&ListCursor>, limit: u16) -> Result<JobPage, StoreError> {
        call!(self, list_jobs(owner, before, limit))
    }
}

impl JobStore for ReopenedFile {
    async fn record_job(
        &self,
        job: &Job,
        plan: &PlanInput,
        conditions: &RecordConditions,
        agent: &Agent,
    ) -> Result<RecordOutcome, StoreError> {
        call!(self, record_job(job, plan, conditions, agent))
    }

    async fn job(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        call!(self, job(id))
    }

    async fn end_job(
        &self,
        id: &JobId,
        event: JobEvent,
        reason: Option<FailureReason>,
        agent: &Agent,
        now: Millis,
    ) -> Result<Option<Transition>, StoreError> {
        call!(self, end_job(id, event, reason, agent, now))
    }

    async fn with_progress(&self, job: Job) -> Result<Job, StoreError> {
        call!(self, with_progress(job))
    }

    async fn output_files(&self, job: &Job) -> Result<Vec<OutputFile>, StoreError> {
        call!(self, output_files(job))
    }

    async fn output_file(&self, job: &Job, name: OutputFileName) -> Result<Option<OutputFile>, StoreError> {
        call!(self, output_file(job, name))
    }

    async fn file_list(&self, job: &Job, parts: RangeInclusive<u32>) -> Result<Vec<FileListPart>, StoreError> {
        call!(self, file_list(job, parts))
    }

    async fn due(&self, now: Millis, limit: u16) -> Result<Vec<DueItem>, StoreError> {
        call!(self, due(now, limit))
    }

    async fn postpone(&self, due: &DueItem, until: Option<Millis>) -> Result<bool, StoreError> {
        call!(self, postpone(due, until))
    }

    async fn record_sweep(&self, due: &DueItem, position: Option<&str>, until: Option<Millis>) -> Result<bool, StoreError> {
        call!(self, record_sweep(due, position, until))
    }
}

impl JobSecretEncryptor for ReopenedFile {
    async fn encrypt(&self, id: &JobId, secrets: &JobSecrets) -> Result<Vec<u8>, StoreError> {
        call!(self, encrypt(id, secrets))
    }

    async fn decrypt(&self, id: &JobId, ciphertext: &[u8]) -> Result<JobSecrets, StoreError> {
        call!(self, decrypt(id, ciphertext))
    }

    async fn decrypt_keys(&self, keys: &[u8]) -> Result<Vec<u8>, StoreError> {
        call!(self, decrypt_keys(keys))
    }

    async fn decrypt_webhook_secret(&self, ciphertext: &[u8]) -> Result<Vec<u8>, StoreError> {
        call!(self, decrypt_webhook_secret(ciphertext))
    }
}

impl TaskStore for ReopenedFile {
    async fn lease_task(&self, task: &TaskId, terms: LeaseSettings, now: Millis) -> Result<LeaseOutcome, StoreError> {
        call!(self, lease_task(task, terms, now))
    }

    async fn void_lease(&self, task: &TaskId, now: Millis) -> Result<bool, StoreError> {
        call!(self, void_lease(task, now))
    }

    async fn update_task(&self, lease: &mut Lease, record: TaskUpdate, until: Millis) -> Result<(), StoreError> {
        call!(self, update_task(lease, record, until))
    }

    async fn split_task(&self, lease: &mut Lease, split: TaskSplit, until: Millis) -> Result<Option<TaskId>, StoreError> {
        call!(self, split_task(lease, split, until))
    }

    async fn complete_task(&self, lease: &Lease, close: TaskCompletion) -> Result<Job, StoreError> {
        call!(self, complete_task(lease, close))
    }

    async fn task_work(&self, task: &TaskId) -> Result<Option<Work>, StoreError> {
        call!(self, task_work(task))
    }

    async fn fragments(&self, id: &JobId, rounds: RangeInclusive<u32>, selection: &FragmentSelection) -> Result<Vec<Fragment>, StoreError> {
        call!(self, fragments(id, rounds, selection))
    }
}

struct SqsTestQueue {
    client: aws_sdk_sqs::Client,
    queue: SqsTaskQueue,
    urls: (String, String),
}

async fn sqs() -> Result<SqsTestQueue, BoxError> {
    let sqs = SqsStandIn::start();
    let urls = sqs.create_queue_with_dlq("tasks", 600, 3).await?;
    let queue = SqsTaskQueue::new(sqs.client(), &urls.0).with_dead_letters(&urls.1);
    Ok(SqsTestQueue { client: sqs.client(), queue, urls })
}

impl SqsTestQueue {
    /// Receives up to ten messages from the queue at this URL.
    async fn receive_from(&self, url: &str, wait: Duration) -> Result<Vec<String>, BoxError> {
        let seconds = i32::try_from(wait.as_secs())?;
        let call = self.client.receive_message().queue_url(url).max_number_of_messages(10).wait_time_seconds(seconds);
        Ok(call.send().await?.messages.unwrap_or_default().into_iter().filter_map(|message| message.body).collect())
    }
}

impl TestQueue for SqsTestQueue {
    type Queue = SqsTaskQueue;

    fn queue(&self) -> &SqsTaskQueue {
        &self.queue
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<String>, BoxError> {
        self.receive_from(&self.urls.0, wait).await
    }
}

impl RemoteTestQueue for SqsTestQueue {
    async fn parked(&self) -> Result<Vec<String>, BoxError> {
        self.receive_from(&self.urls.1, Duration::ZERO).await
    }

    fn missing(&self) -> (SqsTaskQueue, &'static str) {
        (SqsTaskQueue::new(self.client.clone(), self.urls.0.replace("/tasks", "/missing")), "HEADRACE_QUEUE_URL")
    }
}

struct LocalTestQueue(LocalQueue);

async fn local_queue() -> Result<LocalTestQueue, BoxError> {
    Ok(LocalTestQueue(LocalQueue::default()))
}

impl TestQueue for LocalTestQueue {
    type Queue = LocalQueue;

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
}

const BUCKET: &str = "lake-or-destination";
const PREFIX: &str = "some where/deep";

/// S3 stand-in and a port over it.
struct S3Port<T> {
    s3: S3StandIn,
    port: T,
}

async fn s3() -> Result<S3StandIn, BoxError> {
    let s3 = S3StandIn::start()?;
    s3.create_bucket(BUCKET).await?;
    // Objects outside the prefix, which must be ignored.
    s3.put(BUCKET, "Patient.ndjson", "{}\n").await?;
    s3.put(BUCKET, "some where/deeper/Patient.ndjson", "{}\n").await?;
    Ok(s3)
}

async fn s3_lake() -> Result<S3Port<S3Lake>, BoxError> {
    let s3 = s3().await?;
    Ok(S3Port { port: S3Lake::new(&s3.client(), BUCKET, PREFIX), s3 })
}

impl TestLake for S3Port<S3Lake> {
    type Source = S3Lake;

    fn source(&self) -> &S3Lake {
        &self.port
    }

    async fn put(&self, object: &str, bytes: Bytes) -> CaseResult {
        self.s3.put(BUCKET, &format!("{PREFIX}/{object}"), bytes).await
    }

    async fn written_at(&self, object: &str) -> Result<Millis, BoxError> {
        let head = self.s3.client().head_object().bucket(BUCKET).key(format!("{PREFIX}/{object}")).send().await?;
        let written = head.last_modified().ok_or("an object without a time")?;
        Ok(Millis(u64::try_from(written.to_millis()?)?))
    }

    async fn remove(&self, object: &str) -> CaseResult {
        self.s3.client().delete_object().bucket(BUCKET).key(format!("{PREFIX}/{object}")).send().await?;
        Ok(())
    }

    fn missing(&self) -> (S3Lake, Vec<String>) {
        let named = ["HEADRACE_SOURCE_BUCKET".to_owned(), "missing".to_owned()];
        (S3Lake::new(&self.s3.client(), "missing", PREFIX), named.into())
    }
}

/// Temporary folder and a port over it.
struct DirectoryPort<T> {
    root: TempDir,
    port: T,
    writes: AtomicU64,
}

impl<T> DirectoryPort<T> {
    fn new(port: impl FnOnce(&Path) -> T) -> Result<Self, BoxError> {
        let root = tempfile::tempdir()?;
        Ok(Self { port: port(root.path()), root, writes: AtomicU64::new(0) })
    }
}

async fn directory_lake() -> Result<DirectoryPort<DirectoryLake>, BoxError> {
    DirectoryPort::new(|root| DirectoryLake::open(root))
}

impl TestLake for DirectoryPort<DirectoryLake> {
    type Source = DirectoryLake;

    fn source(&self) -> &DirectoryLake {
        &self.port
    }

    async fn put(&self, object: &str, bytes: Bytes) -> CaseResult {
        let path = self.root.path().join(object);
        std::fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        std::fs::write(&path, &bytes)?;
        // File systems may store times too coarsely to distinguish two writes of one test.
        let tick = self.writes.fetch_add(1, Ordering::Relaxed);
        File::options().write(true).open(&path)?.set_modified(UNIX_EPOCH + Duration::from_secs(tick))?;
        Ok(())
    }

    async fn written_at(&self, object: &str) -> Result<Millis, BoxError> {
        let modified = std::fs::metadata(self.root.path().join(object))?.modified()?;
        Ok(Millis(u64::try_from(modified.duration_since(UNIX_EPOCH)?.as_millis())?))
    }

    async fn remove(&self, object: &str) -> CaseResult {
        Ok(std::fs::remove_file(self.root.path().join(object))?)
    }

    fn missing(&self) -> (DirectoryLake, Vec<String>) {
        let path = self.root.path().join("missing");
        (DirectoryLake::open(&path), vec![path.display().to_string()])
    }
}

async fn s3_lake_writer() -> Result<S3Port<S3LakeWriter>, BoxError> {
    let s3 = s3().await?;
    Ok(S3Port { port: S3LakeWriter::new(&s3.client(), BUCKET, PREFIX), s3 })
}

impl TestLakeWriter for S3Port<S3LakeWriter> {
    type Writer = S3LakeWriter;

    fn writer(&self) -> &S3LakeWriter {
        &self.port
    }

    async fn objects(&self) -> Result<BTreeMap<String, Bytes>, BoxError> {
        let mut objects = BTreeMap::new();
        let prefix = format!("{PREFIX}/");
        for key in self.s3.keys(BUCKET, &prefix).await? {
            objects.insert(key.trim_start_matches(&prefix).to_owned(), self.s3.get(BUCKET, &key).await?);
        }
        Ok(objects)
    }
}

async fn directory_lake_writer() -> Result<DirectoryPort<DirectoryLakeWriter>, BoxError> {
    DirectoryPort::new(|root| DirectoryLakeWriter::open(root))
}

impl TestLakeWriter for DirectoryPort<DirectoryLakeWriter> {
    type Writer = DirectoryLakeWriter;

    fn writer(&self) -> &DirectoryLakeWriter {
        &self.port
    }

    async fn objects(&self) -> Result<BTreeMap<String, Bytes>, BoxError> {
        let mut objects = BTreeMap::new();
        for entry in walkdir::WalkDir::new(self.root.path()) {
            let entry = entry?;
            // The lock beside the watermark is no object.
            if entry.file_type().is_file() && entry.path().extension().is_none_or(|extension| extension != "lock") {
                let name = entry.path().strip_prefix(self.root.path())?.to_string_lossy().into_owned();
                objects.insert(name, std::fs::read(entry.path())?.into());
            }
        }
        Ok(objects)
    }
}
