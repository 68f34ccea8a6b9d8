//! Announcement of tasks over SQS. A message names a task and nothing else.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use futures_util::{StreamExt, TryStreamExt, stream};
use headrace_core::ports::{ReceivedMessage, TaskQueue, TaskReceiver};
use headrace_core::vocab::error::{BoxError, StoreError};
use headrace_core::vocab::ids::TaskId;
use headrace_core::vocab::setting::Setting;

use crate::errors::Service;
use crate::worker_starter::WorkerStarter;

/// The name of the queue in errors.
const STORE: &str = "the task queue";

/// The largest number of messages in one call.
const MESSAGES_PER_CALL: usize = 10;

/// The number of concurrent calls. A plan of thousands of tasks is announced within seconds.
const CONCURRENT_CALLS: usize = 16;

/// The longest delay that SQS supports.
const MAX_DELAY: Duration = Duration::from_secs(900);

/// The seconds for which an empty queue is watched. A worker costs as much while it waits as while it works.
const RECEIVE_SECONDS: i32 = 1;

/// The seconds for which a received message is hidden: no worker lives longer than 15 minutes. If a worker stops, the reaper announces
/// its task earlier.
const HIDDEN_SECONDS: i32 = 960;

/// A task queue in SQS.
#[derive(Clone, Debug)]
pub struct SqsTaskQueue {
    client: Client,
    url: String,
    service: Service,
    dead_letters: Option<Service>,
    /// The client of the queue of synchronizations, if it is another one.
    syncs: Option<Box<Self>>,
    starter: Option<WorkerStarter>,
}

impl SqsTaskQueue {
    /// Creates a client of the queue at this URL.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        let url = url.into();
        let service = Service::new(STORE, Setting::QueueUrl.as_str(), &url);
        Self { client, url, service, dead_letters: None, syncs: None, starter: None }
    }

    /// Sets the queue, by its URL, to which messages are parked.
    #[must_use]
    pub fn with_dead_letters(self, url: impl Into<String>) -> Self {
        let service = Service::new("the dead-letter queue", Setting::DeadLetterQueueUrl.as_str(), url);
        Self { dead_letters: Some(service), ..self }
    }

    /// Sets the queue, by its URL, in which tasks of synchronizations are announced.
    #[must_use]
    pub fn with_syncs(self, url: impl Into<String>) -> Self {
        let url = url.into();
        let service = Service::new("the queue of synchronizations", Setting::SyncQueueUrl.as_str(), &url);
        let syncs = Self { client: self.client.clone(), url, service, dead_letters: None, syncs: None, starter: None };
        Self { syncs: Some(Box::new(syncs)), ..self }
    }

    /// Sets what starts workers at once when many tasks are announced.
    #[must_use]
    pub fn with_worker_starter(self, starter: WorkerStarter) -> Self {
        Self { starter: Some(starter), ..self }
    }

    /// Sends one message per task in a single batch. SQS delivers them after `delay_seconds`.
    async fn send(&self, tasks: &[TaskId], delay_seconds: i32) -> Result<(), StoreError> {
        let not_sent = |cause: BoxError| StoreError::NotApplied { store: STORE, cause };
        let mut entries = Vec::new();
        for (index, task) in tasks.iter().enumerate() {
            let body = serde_json::to_string(task).map_err(|error| not_sent(error.into()))?;
            let entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(body).delay_seconds(delay_seconds);
            entries.push(entry.build().map_err(|error| not_sent(error.into()))?);
        }
        let response = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries)).send().await;
        let response = response.map_err(|error| self.service.store_error(error))?;
        match response.failed().first() {
            None => Ok(()),
            Some(failed) => Err(not_sent(format!("a message was rejected: {}", failed.code()).into())),
        }
    }
}

impl TaskQueue for SqsTaskQueue {
    async fn announce(&self, tasks: &[TaskId], delay: Duration) -> Result<(), StoreError> {
        // Rounded up: a task that is announced before the end of its pause waits for the reaper.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        let seconds = i32::try_from(seconds.min(MAX_DELAY.as_secs())).unwrap_or_default();
        let batches: Vec<Vec<TaskId>> = tasks.chunks(MESSAGES_PER_CALL).map(<[TaskId]>::to_vec).collect();
        let calls = stream::iter(batches).map(|batch| async move { self.send(&batch, seconds).await });
        calls.buffer_unordered(CONCURRENT_CALLS).try_collect::<()>().await?;
        if let Some(starter) = self.starter.as_ref().filter(|_| delay.is_zero()) {
            starter.start(tasks.len()).await;
        }
        Ok(())
    }

    async fn announce_sync(&self, tasks: &[TaskId], delay: Duration) -> Result<(), StoreError> {
        match &self.syncs {
            Some(syncs) => syncs.announce(tasks, delay).await,
            None => self.announce(tasks, delay).await,
        }
    }

    async fn park(&self, message: &str) -> Result<(), StoreError> {
        let Some(dead_letters) = &self.dead_letters else {
            let remedy = format!("{} is not set", Setting::DeadLetterQueueUrl.as_str());
            return Err(StoreError::Misconfigured { remedy, cause: "this function has no dead-letter queue".into() });
        };
        let response = self.client.send_message().queue_url(&dead_letters.value).message_body(message).send().await;
        response.map(drop).map_err(|error| dead_letters.store_error(error))
    }
}

impl TaskReceiver for SqsTaskQueue {
    async fn receive(&self) -> Result<Option<ReceivedMessage>, StoreError> {
        let request = self.client.receive_message().queue_url(&self.url).max_number_of_messages(1);
        let response = request.wait_time_seconds(RECEIVE_SECONDS).visibility_timeout(HIDDEN_SECONDS).send().await;
        let messages = response.map_err(|error| self.service.store_error(error))?.messages.unwrap_or_default();
        Ok(messages.into_iter().next().map(|message| ReceivedMessage {
            id: message.message_id.unwrap_or_default(),
            body: message.body.unwrap_or_default(),
            receipt: message.receipt_handle.unwrap_or_default(),
        }))
    }

    async fn delete(&self, message: &ReceivedMessage) -> Result<(), StoreError> {
        let response = self.client.delete_message().queue_url(&self.url).receipt_handle(&message.receipt).send().await;
        response.map(drop).map_err(|error| self.service.store_error(error))
    }

    async fn release(&self, message: &ReceivedMessage) -> Result<(), StoreError> {
        let request = self.client.change_message_visibility().queue_url(&self.url).receipt_handle(&message.receipt);
        request.visibility_timeout(0).send().await.map(drop).map_err(|error| self.service.store_error(error))
    }
}
