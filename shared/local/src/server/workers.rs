//! The workers of a server on one machine: they run the tasks of the queue until they are told to stop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use chunk_worker::handler::ChunkWorkerHandler;
use headrace_aws::DynamoJobStore;
use headrace_core::flow::upkeep::reap::hand_back_leases;
use headrace_core::flow::work::run_task::fail_stuck_task;
use headrace_core::flow::work::settings::{StopFlag, WorkerSettings};
use headrace_core::ports::{Ports, TaskQueue as _};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::TaskId;
use headrace_edge::system::SystemClock;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::server::feed::LocalFeed;
use crate::server::queue::LocalQueue;
use crate::stores::directory::{CALL_TIME_LIMIT, CallWatch, DirectoryLake, DirectoryOutputStore};

/// Delay before a failed message is delivered again.
const REDELIVERY_DELAY: Duration = Duration::from_secs(5);

/// Time that the workers have to stop. Most need milliseconds: they stop between two blocks of lines.
const STOP_TIME: Duration = Duration::from_secs(8);

/// Time for handing back the leases of workers that did not stop by themselves.
const HAND_BACK_TIME: Duration = Duration::from_secs(2);

/// Time between two checks for workers that are stuck in a call.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The ports of the workers.
pub(crate) type LocalPorts<F = LocalFeed> = Ports<DynamoJobStore, LocalQueue, DirectoryLake, DirectoryOutputStore, SystemClock, F>;

/// The worker with the stores of one machine.
type LocalWorker = ChunkWorkerHandler<DynamoJobStore, LocalQueue, DirectoryLake, DirectoryOutputStore, SystemClock, LocalFeed>;

/// The running workers. They are aborted when this is dropped.
pub(crate) struct Workers {
    ports: LocalPorts,
    stop: StopFlag,
    is_stopping: watch::Sender<bool>,
    /// Notified when a task ends.
    task_end: Arc<Notify>,
    tasks: Mutex<JoinSet<()>>,
}

impl Workers {
    /// Starts `count` workers.
    pub(crate) fn start(ports: &LocalPorts, settings: &WorkerSettings, count: usize) -> Self {
        let is_stopping = watch::Sender::new(false);
        let worker = Arc::new(ChunkWorkerHandler::new(clone_ports(ports), settings.clone()));
        let (mut tasks, task_end) = (JoinSet::new(), Arc::new(Notify::new()));
        for _ in 0..count.max(1) {
            tasks.spawn(supervise(worker.clone(), clone_ports(ports), is_stopping.subscribe(), task_end.clone()));
        }
        Self { ports: clone_ports(ports), stop: settings.stop.clone(), is_stopping, task_end, tasks: Mutex::new(tasks) }
    }

    /// Waits until a task ends. A task that has ended since the last wait ends this one at once.
    pub(crate) async fn wait_for_task_end(&self) {
        self.task_end.notified().await;
    }

    /// Stops the workers, within a bounded time.
    pub(crate) async fn stop(&self) {
        self.stop.set();
        self.is_stopping.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let stopped = tokio::time::timeout(STOP_TIME, async { while tasks.join_next().await.is_some() {} }).await;
        if stopped.is_err() {
            tracing::warn!(
                workers = tasks.len(),
                "workers did not stop in time and are aborted; their tasks are repeated from their last records"
            );
        }
        tasks.abort_all();
    }

    /// Hands the leases of the stopped workers back, within a bounded time. A stop does not count as an attempt.
    pub(crate) async fn hand_back_leases(&self) {
        match tokio::time::timeout(HAND_BACK_TIME, hand_back_leases(&self.ports.jobs, &self.ports.clock)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "leases were not handed back; the next start does so"),
            Err(_) => tracing::warn!("leases were not handed back in time; the next start does so"),
        }
    }
}

/// Clones the ports, each of which shares its state with its clones.
pub(crate) fn clone_ports<F: Clone>(ports: &LocalPorts<F>) -> LocalPorts<F> {
    Ports {
        jobs: ports.jobs.clone(),
        queue: ports.queue.clone(),
        source: ports.source.clone(),
        output: ports.output.clone(),
        clock: ports.clock,
        feed: ports.feed.clone(),
    }
}

/// The task that a worker runs.
type CurrentTask = Arc<Mutex<Option<TaskId>>>;

/// Runs a worker, and watches it. If a call of the file system does not return, fails the job of the worker's task and starts another
/// worker in its place: the thread of the call is lost.
async fn supervise(worker: Arc<LocalWorker>, ports: LocalPorts, is_stopping: watch::Receiver<bool>, task_end: Arc<Notify>) {
    loop {
        let (calls, current) = (CallWatch::default(), CurrentTask::default());
        let work = work(worker.clone(), ports.queue.clone(), is_stopping.clone(), (current.clone(), task_end.clone()));
        let watched = calls.clone();
        let mut running = JoinSet::new();
        running.spawn(async move { watched.watch(work).await });
        let error = loop {
            match tokio::time::timeout(WATCH_INTERVAL, running.join_next()).await {
                // A worker ends by itself only when the service stops. A panic within it must not leave one worker less.
                Ok(_) if *is_stopping.borrow() => return,
                Ok(_) => break None,
                Err(_) => {
                    if let Some(error) = calls.stuck_call(CALL_TIME_LIMIT) {
                        break Some(error);
                    }
                }
            }
        };
        // Dropping the set would abort the worker, which has no effect on a thread in a call. It ends when the call returns.
        running.abort_all();
        let task = current.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(task), Some(error)) = (task, error) {
            tracing::error!(job.id = %task.job, task.id = task.task, error = %error, "a worker is stuck in a call of the file system");
            if let Err(error) = fail_stuck_task(&ports, &task, &error).await {
                tracing::error!(error = %error, "the job of the stuck worker could not be ended");
            }
        }
    }
}

/// Runs the tasks of the queue until the service stops.
async fn work(
    worker: Arc<LocalWorker>,
    queue: LocalQueue,
    mut is_stopping: watch::Receiver<bool>,
    (current, task_end): (CurrentTask, Arc<Notify>),
) {
    loop {
        let task = tokio::select! {
            biased;
            _ = is_stopping.wait_for(|stopping| *stopping) => return,
            task = queue.next() => task,
        };
        let Some(task) = task else { return };
        *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.clone());
        deliver_task(&worker, &queue, task).await;
        task_end.notify_one();
        *current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Delivers one task to the worker in an SQS event, and again after a delay if the worker reports a failure.
async fn deliver_task(worker: &LocalWorker, queue: &LocalQueue, task: TaskId) {
    let mut message = SqsMessage::default();
    message.message_id = Some(task.to_string());
    message.body = serde_json::to_string(&task).ok();
    let mut event = SqsEvent::default();
    event.records = vec![message];
    // Unlike a Lambda invocation, this process has no deadline.
    let is_failed = match worker.handle(event, Millis(u64::MAX)).await {
        Ok(response) => !response.batch_item_failures.is_empty(),
        Err(_) => true,
    };
    if is_failed && let Err(error) = queue.announce(&[task], REDELIVERY_DELAY).await {
        tracing::warn!(error = %error, "a failed task could not be queued again; the reaper will announce it");
    }
}
