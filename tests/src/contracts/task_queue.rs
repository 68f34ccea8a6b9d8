//! Contract of `TaskQueue`.

use std::time::Duration;

use headrace_core::ports::TaskQueue;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{JobId, TaskId};

use super::{BoxError, CaseResult};

/// Task queue under test, with its receiving end.
pub trait TestQueue {
    /// Sending end of the queue.
    type Queue: TaskQueue;

    /// Returns the sending end.
    fn queue(&self) -> &Self::Queue;

    /// Receives all available messages, or waits up to `wait` for the first ones. No message is received twice.
    fn receive(&self, wait: Duration) -> impl Future<Output = Result<Vec<String>, BoxError>>;
}

/// Queue of a service: it keeps parked messages, and may be missing.
pub trait RemoteTestQueue: TestQueue {
    /// Returns the parked messages.
    fn parked(&self) -> impl Future<Output = Result<Vec<String>, BoxError>>;

    /// Returns a queue that does not exist, and the setting that names it.
    fn missing(&self) -> (Self::Queue, &'static str);
}

/// Runs the suite: `task_queue_contract!(name, crate::open)`.
#[macro_export]
macro_rules! task_queue_contract {
    ($name:ident, $open:path) => {
        $crate::contract_cases!(
            task_queue,
            $name,
            $open,
            [
                an_announced_task_is_received_unchanged,
                any_number_of_tasks_can_be_announced,
                a_delayed_task_arrives_after_its_delay,
                a_parked_message_is_not_received_again,
            ]
        );
    };
}

/// Runs the suite for queues of a service: `remote_task_queue_contract!(name, crate::open)`.
#[macro_export]
macro_rules! remote_task_queue_contract {
    ($name:ident, $open:path) => {
        $crate::contract_cases!(task_queue, $name, $open, [a_parked_message_is_kept, a_missing_queue_names_its_setting]);
    };
}

/// Returns the ids of the tasks from 0 to `count - 1` of one job.
fn tasks(count: u32) -> Vec<TaskId> {
    (0..count).map(|task| TaskId { job: JobId::from_random([7; 16]), task }).collect()
}

/// Receives exactly `count` messages and returns their tasks, sorted.
async fn received(queue: &impl TestQueue, count: usize) -> Result<Vec<TaskId>, BoxError> {
    let mut received = Vec::new();
    while received.len() < count {
        let messages = queue.receive(Duration::from_secs(10)).await?;
        if messages.is_empty() {
            return Err(format!("only {} of {count} messages arrived", received.len()).into());
        }
        for message in messages {
            received.push(serde_json::from_str(&message)?);
        }
    }
    assert!(queue.receive(Duration::ZERO).await?.is_empty(), "more messages arrived than were announced");
    received.sort();
    Ok(received)
}

/// Checks that a message contains exactly the task id.
pub async fn an_announced_task_is_received_unchanged(queue: &impl TestQueue) -> CaseResult {
    let task = TaskId { job: JobId::from_random([0xa5; 16]), task: u32::MAX };
    queue.queue().announce(std::slice::from_ref(&task), Duration::ZERO).await?;
    assert_eq!(received(queue, 1).await?, [task]);
    Ok(())
}

/// Checks no tasks, one, and more than fit into one SQS call.
pub async fn any_number_of_tasks_can_be_announced(queue: &impl TestQueue) -> CaseResult {
    for count in [0, 1, 10, 25] {
        queue.queue().announce(&tasks(count), Duration::ZERO).await?;
        assert_eq!(received(queue, tasks(count).len()).await?, tasks(count));
    }
    Ok(())
}

/// Checks that a delayed message is not received at once, but later.
pub async fn a_delayed_task_arrives_after_its_delay(queue: &impl TestQueue) -> CaseResult {
    queue.queue().announce(&tasks(1), Duration::from_secs(1)).await?;
    assert!(queue.receive(Duration::ZERO).await?.is_empty());
    assert_eq!(received(queue, 1).await?, tasks(1));
    Ok(())
}

/// Checks that even an unreadable message can be parked.
pub async fn a_parked_message_is_not_received_again(queue: &impl TestQueue) -> CaseResult {
    queue.queue().park("not { JSON ☃").await?;
    assert!(queue.receive(Duration::ZERO).await?.is_empty());
    Ok(())
}

/// Checks that an operator can read a parked message.
pub async fn a_parked_message_is_kept(queue: &impl RemoteTestQueue) -> CaseResult {
    queue.queue().park("not { JSON ☃").await?;
    assert_eq!(queue.parked().await?, ["not { JSON ☃"]);
    Ok(())
}

/// Checks that the error of a missing queue names the setting.
pub async fn a_missing_queue_names_its_setting(queue: &impl RemoteTestQueue) -> CaseResult {
    let (queue, setting) = queue.missing();
    match queue.announce(&tasks(1), Duration::ZERO).await {
        Err(StoreError::Misconfigured { remedy, .. }) => assert!(remedy.contains(setting), "{remedy}"),
        other => return Err(format!("the result must be `Misconfigured`, but is {other:?}").into()),
    }
    Ok(())
}
