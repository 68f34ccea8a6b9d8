//! The task queue.

use std::time::Duration;

use crate::vocab::error::StoreError;
use crate::vocab::ids::TaskId;

/// The queue that announces tasks to workers. Messages are delivered at least once, in any order and possibly late. The job
/// table alone decides what there is to do.
pub trait TaskQueue: Send + Sync {
    /// Announces tasks. They become visible after `delay`, which is at most 15 minutes.
    fn announce(&self, tasks: &[TaskId], delay: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Announces tasks of a synchronization. A deployment has a queue of their own for them, because only one function may call the FHIR
    /// server.
    fn announce_sync(&self, tasks: &[TaskId], delay: Duration) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.announce(tasks, delay)
    }

    /// Sets a message aside for the operator: on AWS, in the dead-letter queue. The message names a parked task or cannot be parsed.
    fn park(&self, message: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A received message of the task queue. It stays hidden from other receivers until it is deleted, or for the time that the queue sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// The id of the message, for logs.
    pub id: String,
    /// The content: a task id, unless somebody else has sent the message.
    pub body: String,
    /// The name under which this delivery is deleted or released.
    pub receipt: String,
}

/// The receiving end of the task queue. Only workers that were started without a message use it.
pub trait TaskReceiver: Send + Sync {
    /// Receives one message. Returns `None` if none has come within about a second.
    fn receive(&self) -> impl Future<Output = Result<Option<ReceivedMessage>, StoreError>> + Send;

    /// Deletes a message whose task is done.
    fn delete(&self, message: &ReceivedMessage) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes a message visible to other receivers at once.
    fn release(&self, message: &ReceivedMessage) -> impl Future<Output = Result<(), StoreError>> + Send;
}
