//! The task queue.

use std::time::Duration;

use crate::vocab::error::StoreError;
use crate::vocab::ids::TaskId;

/// The queue that announces tasks to workers. Messages are delivered at least once, in any order and possibly late. The job
/// table alone decides what there is to do.
pub trait TaskQueue: Send + Sync {
    /// Announces tasks. They become visible after `delay`, which is at most 15 minutes.
    fn announce(&self, tasks: &[TaskId], delay: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Sets a message aside for the operator: on AWS, in the dead-letter queue. The message names a parked task or cannot be parsed.
    fn park(&self, message: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}
