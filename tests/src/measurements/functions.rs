//! The functions of an export over the AWS adapters, connected as in `template.yaml`.

use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_s3::Client as S3Client;
use chunk_worker::handler::ChunkWorkerHandler;
use headrace_aws::{DynamoJobStore, KmsSecretEncryptor, S3Lake, S3OutputStore, SqsTaskQueue, TableSchema};
use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::job::{Job, JobState};
use headrace_core::ports::{JobStore as _, NoFeed, Ports};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{JobId, TaskId};
use headrace_core::vocab::lake_settings::LakeSettings;
use headrace_edge::auth::Authenticator;
use headrace_edge::config::{AccessControl, ExportSettings};
use headrace_edge::sqs::parse_task_id;
use headrace_edge::system::{SystemClock, random_job_id};
use kickoff::handler::KickoffHandler;

use crate::flows::{Result, TestRequest, TestResponse};
use crate::standins::disk_s3;
use crate::standins::kms::{ENCRYPTION_KEY, KmsStandIn};
use crate::standins::sqs::SqsStandIn;

/// Name of the job table.
const TABLE: &str = "jobs";

/// Name of the bucket of the lake.
pub const LAKE: &str = disk_s3::LAKE;

/// Name of the bucket of the finished exports.
pub const OUT: &str = "out";

/// Time for which a message waits for a worker that has received it, in seconds. No measurement takes as long.
const HIDDEN_SECONDS: u32 = 43_200;

/// Pause between two looks at a job.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// Queue of tasks. A function gets its messages one at a time, as from an event source mapping.
pub struct TaskMessages {
    sqs: SqsStandIn,
    url: String,
    dlq: String,
}

impl TaskMessages {
    /// Creates an empty queue.
    pub async fn create() -> Result<Self> {
        let sqs = SqsStandIn::start();
        let (url, dlq) = sqs.create_queue_with_dlq("tasks", HIDDEN_SECONDS, 5).await?;
        Ok(Self { sqs, url, dlq })
    }

    /// Returns a client of the queue. It announces exports and synchronizations there.
    pub fn queue(&self) -> SqsTaskQueue {
        SqsTaskQueue::new(self.sqs.client(), &self.url).with_dead_letters(&self.dlq).with_syncs(&self.url)
    }

    /// Waits for a message. Returns `None` if none has arrived for a while.
    pub async fn receive(&self) -> Result<Option<TaskMessage>> {
        let request = self.sqs.client().receive_message().queue_url(&self.url).max_number_of_messages(1);
        let received = request.wait_time_seconds(20).send().await?;
        let Some(received) = received.messages.unwrap_or_default().into_iter().next() else { return Ok(None) };
        let mut message = SqsMessage::default();
        (message.message_id, message.body) = (received.message_id, received.body);
        let task = parse_task_id(message.body.as_deref().unwrap_or_default()).ok_or("a message without a task")?;
        let mut event = SqsEvent::default();
        event.records.push(message);
        Ok(Some(TaskMessage { task, event, receipt_handle: received.receipt_handle.unwrap_or_default() }))
    }

    /// Deletes a message that a function has accepted.
    ///
    /// # Errors
    ///
    /// If the function has not accepted it.
    pub async fn delete(&self, receipt_handle: &str, response: &SqsBatchResponse) -> Result<()> {
        if !response.batch_item_failures.is_empty() {
            return Err("a message was not accepted".into());
        }
        let delete = self.sqs.client().delete_message().queue_url(&self.url).receipt_handle(receipt_handle);
        Ok(delete.send().await.map(drop)?)
    }
}

/// Message that names a task.
pub struct TaskMessage {
    /// Task.
    pub task: TaskId,
    /// Event in which a function gets the message.
    pub event: SqsEvent,
    /// Handle to delete the message.
    pub receipt_handle: String,
}

/// Creates the job table, and returns its store.
pub async fn create_job_store(dynamo: aws_sdk_dynamodb::Client) -> Result<DynamoJobStore> {
    TableSchema::create(&dynamo, TABLE).await?;
    let encryptor = KmsSecretEncryptor::new(KmsStandIn::start().client(), ENCRYPTION_KEY);
    Ok(DynamoJobStore::new(dynamo, TABLE).with_encryptor(encryptor))
}

/// Returns the job if it is complete, and `None` while it runs.
///
/// # Errors
///
/// If the job ended in another way.
pub async fn complete_job(jobs: &DynamoJobStore, id: &JobId) -> Result<Option<Job>> {
    let job = jobs.job(id).await?.ok_or("the job does not exist")?;
    match job.state {
        JobState::Queued | JobState::Accepted | JobState::Running => Ok(None),
        JobState::Complete => Ok(Some(job)),
        JobState::Failed | JobState::Cancelled | JobState::Expired => Err(format!("the job ended: {:?}", job.reason).into()),
    }
}

type Kickoff = KickoffHandler<DynamoJobStore, SqsTaskQueue, S3Lake, S3OutputStore, SystemClock>;
type Worker = ChunkWorkerHandler<DynamoJobStore, SqsTaskQueue, S3Lake, S3OutputStore, SystemClock>;

/// Functions that an export needs.
pub struct ExportFunctions {
    kickoff: Kickoff,
    worker: Worker,
    messages: TaskMessages,
    /// Job table.
    pub jobs: DynamoJobStore,
    /// Destination.
    pub output: S3OutputStore,
}

impl ExportFunctions {
    /// Creates the functions, with an empty job table in `dynamo` and an empty queue.
    pub async fn create(s3: &S3Client, dynamo: aws_sdk_dynamodb::Client, lake: LakeSettings) -> Result<Self> {
        let (jobs, messages) = (create_job_store(dynamo).await?, TaskMessages::create().await?);
        let (source, output) = (S3Lake::new(s3, LAKE, ""), S3OutputStore::new(s3, OUT, ""));
        let ports = Ports {
            jobs: jobs.clone(),
            queue: messages.queue(),
            source: source.clone(),
            output: output.clone(),
            clock: SystemClock,
            feed: NoFeed,
        };
        let stores = (source, output.clone());
        let authenticator = Authenticator::new(jobs.clone(), SystemClock, AccessControl::None);
        let settings = ExportSettings { watermark: lake.watermark, ..ExportSettings::default() };
        let kickoff = KickoffHandler::new(authenticator, (jobs.clone(), messages.queue()), stores, SystemClock, settings, random_job_id);
        let worker = ChunkWorkerHandler::new(ports, WorkerSettings { lake, ..WorkerSettings::default() });
        Ok(Self { kickoff, worker, messages, jobs, output })
    }

    /// Kicks off an export. `target` is the path below the FHIR base, with its query.
    pub async fn kick_off(&self, target: &str) -> Result<JobId> {
        let request = TestRequest::new("GET", target).to_lambda_request(false)?;
        let response = TestResponse::from_lambda(Box::pin(self.kickoff.handle(request)).await)?;
        let location = response.header("content-location").ok_or_else(|| format!("the kick-off was answered with {response:?}"))?;
        Ok(JobId::parse(location.rsplit('/').next().unwrap_or_default())?)
    }

    /// Waits for a message and runs its task. Returns the task, or `None` if no message has arrived for a while.
    pub async fn run_task(&self) -> Result<Option<TaskId>> {
        let Some(message) = self.messages.receive().await? else { return Ok(None) };
        let response = Box::pin(self.worker.handle(message.event, Millis(u64::MAX))).await?;
        self.messages.delete(&message.receipt_handle, &response).await?;
        Ok(Some(message.task))
    }

    /// Waits until a job is complete that others run.
    pub async fn wait_for(&self, id: &JobId) -> Result<Job> {
        loop {
            match complete_job(&self.jobs, id).await? {
                Some(job) => return Ok(job),
                None => tokio::time::sleep(POLL_EVERY).await,
            }
        }
    }
}
