//! `TaskQueue`.

use std::time::Duration;

use headrace_core::ports::TaskQueue;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{JobId, TaskId};

use super::{BoxError, Held};

/// A queue and the other end of it.
pub trait QueueEnds {
    /// The queue.
    type Queue: TaskQueue;

    /// Whether what is parked can be found again, or is only logged.
    const KEEPS_PARKED: bool;

    /// The end that announces.
    fn queue(&self) -> &Self::Queue;

    /// Every message that waits by now, or the first ones that come within `wait`; none comes twice.
    fn receive(&self, wait: Duration) -> impl Future<Output = Result<Vec<String>, BoxError>>;

    /// What was parked.
    fn parked(&self) -> impl Future<Output = Result<Vec<String>, BoxError>>;

    /// A queue that is not there, and the setting that says where it should be.
    fn absent(&self) -> Option<(Self::Queue, &'static str)>;
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
                an_announced_task_is_received_as_it_was,
                any_number_of_tasks_is_announced,
                a_delayed_task_comes_later,
                what_is_parked_is_out_of_the_way,
                an_absent_queue_names_its_setting,
            ]
        );
    };
}

fn tasks(count: u32) -> Vec<TaskId> {
    (0..count).map(|task| TaskId { job: JobId::from_random([7; 16]), task }).collect()
}

async fn received(ends: &impl QueueEnds, count: usize) -> Result<Vec<TaskId>, BoxError> {
    let mut found = Vec::new();
    while found.len() < count {
        let messages = ends.receive(Duration::from_secs(10)).await?;
        if messages.is_empty() {
            return Err(format!("{} of {count} messages came", found.len()).into());
        }
        for message in messages {
            found.push(serde_json::from_str(&message)?);
        }
    }
    assert!(ends.receive(Duration::ZERO).await?.is_empty(), "more came than was announced");
    found.sort();
    Ok(found)
}

/// A message names a task and nothing else.
pub async fn an_announced_task_is_received_as_it_was(ends: &impl QueueEnds) -> Held {
    let task = TaskId { job: JobId::from_random([0xa5; 16]), task: u32::MAX };
    ends.queue().announce(std::slice::from_ref(&task), Duration::ZERO).await?;
    assert_eq!(received(ends, 1).await?, [task]);
    Ok(())
}

/// None, fewer and more than fit into one call.
pub async fn any_number_of_tasks_is_announced(ends: &impl QueueEnds) -> Held {
    for count in [0, 1, 10, 25] {
        ends.queue().announce(&tasks(count), Duration::ZERO).await?;
        assert_eq!(received(ends, tasks(count).len()).await?, tasks(count));
    }
    Ok(())
}

/// Not before its time, but then.
pub async fn a_delayed_task_comes_later(ends: &impl QueueEnds) -> Held {
    ends.queue().announce(&tasks(1), Duration::from_secs(1)).await?;
    assert!(ends.receive(Duration::ZERO).await?.is_empty());
    assert_eq!(received(ends, 1).await?, tasks(1));
    Ok(())
}

/// Also what nobody can read.
pub async fn what_is_parked_is_out_of_the_way<E: QueueEnds>(ends: &E) -> Held {
    ends.queue().park("not { JSON ☃").await?;
    assert!(ends.receive(Duration::ZERO).await?.is_empty());
    if E::KEEPS_PARKED {
        assert_eq!(ends.parked().await?, ["not { JSON ☃"]);
    }
    Ok(())
}

/// So that the operator knows where to look.
pub async fn an_absent_queue_names_its_setting(ends: &impl QueueEnds) -> Held {
    let Some((queue, setting)) = ends.absent() else { return Ok(()) };
    match queue.announce(&tasks(1), Duration::ZERO).await {
        Err(StoreError::Misconfigured { remedy, .. }) => assert!(remedy.contains(setting), "{remedy}"),
        other => return Err(format!("it must be misconfigured, and is {other:?}").into()),
    }
    Ok(())
}
