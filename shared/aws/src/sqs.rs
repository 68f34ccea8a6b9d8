//! Announcements over SQS. A message names a task and nothing else.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use futures_util::{StreamExt, TryStreamExt, stream};
use headrace_core::ports::TaskQueue;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::TaskId;

use crate::errors::Called;

const WHAT: &str = "the task queue";

/// The most messages in one call.
const BATCH: usize = 10;

/// Calls in flight: a plan of thousands of tasks is announced within seconds.
const CALLS_IN_FLIGHT: usize = 16;

/// The longest delay that SQS takes.
const LONGEST_DELAY: Duration = Duration::from_secs(900);

/// The task queue.
#[derive(Clone, Debug)]
pub struct SqsTaskQueue {
    client: Client,
    url: String,
    called: Called,
    dead_letters: Option<Called>,
}

impl SqsTaskQueue {
    /// The queue at this URL.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        let url = url.into();
        let called = Called::new(WHAT, "HEADRACE_QUEUE_URL", &url);
        Self { client, url, called, dead_letters: None }
    }

    /// With the queue at this URL for messages that are put aside.
    #[must_use]
    pub fn with_dead_letters(self, url: impl Into<String>) -> Self {
        let called = Called::new("the dead-letter queue", "HEADRACE_DLQ_URL", url);
        Self { dead_letters: Some(called), ..self }
    }

    async fn send(&self, tasks: &[TaskId], seconds: i32) -> Result<(), StoreError> {
        let not_sent = |cause: headrace_core::vocab::error::BoxError| StoreError::NotApplied { what: WHAT, cause };
        let mut entries = Vec::new();
        for (index, task) in tasks.iter().enumerate() {
            let body = serde_json::to_string(task).map_err(|error| not_sent(error.into()))?;
            let entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(body).delay_seconds(seconds);
            entries.push(entry.build().map_err(|error| not_sent(error.into()))?);
        }
        let sent = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries)).send().await;
        let sent = sent.map_err(|error| self.called.store_error(error))?;
        match sent.failed().first() {
            None => Ok(()),
            Some(failed) => Err(not_sent(format!("a message was refused: {}", failed.code()).into())),
        }
    }
}

impl TaskQueue for SqsTaskQueue {
    async fn announce(&self, tasks: &[TaskId], delay: Duration) -> Result<(), StoreError> {
        let seconds = i32::try_from(delay.min(LONGEST_DELAY).as_secs()).unwrap_or_default();
        let batches: Vec<Vec<TaskId>> = tasks.chunks(BATCH).map(<[TaskId]>::to_vec).collect();
        let calls = stream::iter(batches).map(|batch| async move { self.send(&batch, seconds).await });
        calls.buffer_unordered(CALLS_IN_FLIGHT).try_collect().await
    }

    async fn park(&self, message: &str) -> Result<(), StoreError> {
        let Some(dead_letters) = &self.dead_letters else {
            let (remedy, cause) = ("HEADRACE_DLQ_URL is not set".to_owned(), "this function parks nothing".into());
            return Err(StoreError::Misconfigured { remedy, cause });
        };
        let sent = self.client.send_message().queue_url(&dead_letters.value).message_body(message).send().await;
        sent.map(drop).map_err(|error| dead_letters.store_error(error))
    }
}
