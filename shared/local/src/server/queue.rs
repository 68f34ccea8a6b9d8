//! Announcements within one process. They are lost with it: the job table is the truth, and a restart announces again.

use std::sync::Arc;
use std::time::Duration;

use headrace_core::ports::TaskQueue;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::TaskId;
use tokio::sync::{Mutex, mpsc};

/// The queue. Clones share it.
#[derive(Clone, Debug)]
pub struct LocalQueue {
    announced: mpsc::UnboundedSender<TaskId>,
    waiting: Arc<Mutex<mpsc::UnboundedReceiver<TaskId>>>,
}

impl Default for LocalQueue {
    fn default() -> Self {
        let (announced, waiting) = mpsc::unbounded_channel();
        Self { announced, waiting: Arc::new(Mutex::new(waiting)) }
    }
}

impl LocalQueue {
    /// The next task, as soon as there is one.
    pub async fn next(&self) -> Option<TaskId> {
        self.waiting.lock().await.recv().await
    }

    /// The next task, if one waits.
    pub async fn try_next(&self) -> Option<TaskId> {
        self.waiting.lock().await.try_recv().ok()
    }
}

impl TaskQueue for LocalQueue {
    async fn announce(&self, tasks: &[TaskId], delay: Duration) -> Result<(), StoreError> {
        let (tasks, announced) = (tasks.to_vec(), self.announced.clone());
        let announce = move || {
            for task in tasks {
                // The receiver lives as long as this queue does.
                drop(announced.send(task));
            }
        };
        if delay.is_zero() {
            announce();
        } else {
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                announce();
            });
        }
        Ok(())
    }

    async fn park(&self, message: &str) -> Result<(), StoreError> {
        tracing::warn!(message, "put aside");
        Ok(())
    }
}
