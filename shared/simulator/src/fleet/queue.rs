//! The queue as its port, with the calls of the adapter over SQS.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use headrace_core::ports::TaskQueue;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::TaskId;

use super::{Fleet, Message};
use crate::aws::worker::Worker;
use crate::meter::{Activity, Service};
use crate::random::log_normal;

/// The number of messages in one call, as in the adapter.
const MESSAGES_PER_CALL: usize = 10;

/// The number of concurrent calls, as in the adapter.
const CONCURRENT_CALLS: usize = 16;

/// The spread of the latencies of SQS.
const SPREAD: f64 = 0.3;

/// The queue, as a process uses it.
#[derive(Clone)]
pub struct ModelQueue {
    /// The queue itself.
    pub fleet: Fleet,
    /// The process.
    pub worker: Worker,
}

impl ModelQueue {
    /// Sends one batch.
    async fn send(&self, tasks: Vec<TaskId>, delay: Duration) {
        let functions = &self.fleet.deployment.aws.functions;
        self.worker.meter().count_calls(Service::Sqs, "SendMessageBatch", 1);
        self.worker.time().sleep(log_normal(functions.send, SPREAD)).await;
        let messages: Vec<_> = tasks.into_iter().map(|task| Message { task, deliveries: 0 }).collect();
        let count = messages.len() as u64;
        self.fleet.deliver(messages, delay + log_normal(functions.delivery, SPREAD));
        // Each message is received and deleted once.
        self.worker.meter().count_calls(Service::Sqs, "ReceiveMessage and DeleteMessage", 2 * count);
    }
}

impl TaskQueue for ModelQueue {
    async fn announce(&self, tasks: &[TaskId], delay: Duration) -> Result<(), StoreError> {
        let started = self.worker.time().elapsed();
        let batches: Vec<Vec<TaskId>> = tasks.chunks(MESSAGES_PER_CALL).map(<[TaskId]>::to_vec).collect();
        let calls = stream::iter(batches).map(|batch| self.send(batch, delay));
        calls.buffer_unordered(CONCURRENT_CALLS).collect::<Vec<()>>().await;
        self.worker.add_activity(Activity::Other, self.worker.time().elapsed() - started);
        Ok(())
    }

    async fn park(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}
