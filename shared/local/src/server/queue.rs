//! A task queue within one process. Its messages are lost with the process: tasks are in the job table, and a restart announces
//! them again.

use std::sync::Arc;
use std::time::Duration;

use headrace_core::ports::TaskQueue;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::TaskId;
use tokio::sync::{Mutex, mpsc};

/// An in-process task queue. Clones share it.
#[derive(Clone, Debug)]
pub struct LocalQueue {
    sender: mpsc::UnboundedSender<TaskId>,
    receiver: Arc<Mutex<mpsc::UnboundedReceiver<TaskId>>>,
}

impl Default for LocalQueue {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver: Arc::new(Mutex::new(receiver)) }
    }
}

impl LocalQueue {
    /// Waits for the next task and returns it.
    pub async fn next(&self) -> Option<TaskId> {
        self.receiver.lock().await.recv().await
    }

    /// Returns the next task, or `None` if the queue is empty.
    pub async fn try_next(&self) -> Option<TaskId> {
        self.receiver.lock().await.try_recv().ok()
    }
}

impl TaskQueue for LocalQueue {
    async fn announce(&self, tasks: &[TaskId], delay: Duration) -> Result<(), StoreError> {
        let (tasks, sender) = (tasks.to_vec(), self.sender.clone());
        let send_all = move || {
            for task in tasks {
                // Sending cannot fail: this queue holds the receiver.
                drop(sender.send(task));
            }
        };
        if delay.is_zero() {
            send_all();
        } else {
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                send_all();
            });
        }
        Ok(())
    }

    async fn park(&self, message: &str) -> Result<(), StoreError> {
        tracing::warn!(message, "a message was parked");
        Ok(())
    }
}
