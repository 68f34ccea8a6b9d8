//! The queue as its port, with the calls of the adapter over SQS.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use headrace_core::ports::TaskQueue;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::TaskId;

use super::{Fleet, Message};
use crate::aws::worker::Worker;
use crate::lock;
use crate::meter::{Activity, Service};
use crate::random::log_normal;

/// The number of messages in one call, as in the adapter.
const MESSAGES_PER_CALL: usize = 10;

/// The number of concurrent calls, as in the adapter.
const CONCURRENT_CALLS: usize = 16;

/// The smallest number of tasks for which workers are started, as in the adapter.
const MIN_TASKS: usize = 20;

/// The number of concurrent invocations, as in the adapter.
const CONCURRENT_INVOCATIONS: usize = 64;

/// The time for which a started worker waits at an empty queue.
const LAST_RECEIVE: Duration = Duration::from_secs(1);

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

impl ModelQueue {
    /// Starts a worker for each task, up to the largest number. Each receives tasks until the queue is empty.
    async fn start_workers(&self, tasks: usize) {
        let deployment = &self.fleet.deployment;
        let count = u32::try_from(tasks).unwrap_or(u32::MAX).min(deployment.scenario.started_workers);
        // The workers of an earlier round have ended: a round begins when the tasks of the one before are complete.
        lock(&self.fleet.state).started = 0;
        let invocations = stream::iter(0..count).map(|_| async {
            self.worker.time().sleep(log_normal(deployment.aws.functions.invoke, SPREAD)).await;
            lock(&self.fleet.state).started += 1;
            self.fleet.dispatch();
            deployment.meter.count_invocation(deployment.scenario.worker_memory_mb, LAST_RECEIVE);
        });
        invocations.buffer_unordered(CONCURRENT_INVOCATIONS).collect::<Vec<()>>().await;
    }
}

impl TaskQueue for ModelQueue {
    async fn announce(&self, tasks: &[TaskId], delay: Duration) -> Result<(), StoreError> {
        let started = self.worker.time().elapsed();
        let batches: Vec<Vec<TaskId>> = tasks.chunks(MESSAGES_PER_CALL).map(<[TaskId]>::to_vec).collect();
        let calls = stream::iter(batches).map(|batch| self.send(batch, delay));
        calls.buffer_unordered(CONCURRENT_CALLS).collect::<Vec<()>>().await;
        if delay.is_zero() && tasks.len() >= MIN_TASKS {
            self.start_workers(tasks.len()).await;
        }
        self.worker.add_activity(Activity::Other, self.worker.time().elapsed() - started);
        Ok(())
    }

    async fn park(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}
