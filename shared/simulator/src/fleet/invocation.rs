//! One invocation of the worker function.

use std::time::Duration;

use futures_util::future::{Either, select};
use headrace_core::flow::work::run_task::run_task;
use headrace_core::flow::work::task_end::TaskEnd;
use headrace_core::job::ExportError;
use headrace_core::job::task::Work;
use headrace_core::ports::Clock as _;
use headrace_core::vocab::ids::TaskId;

use super::sandbox::{Sandbox, worker_workload};
use super::{Fleet, Message};
use crate::aws::worker::Step;
use crate::lock;
use crate::meter::Activity;
use crate::random::{exponential, log_normal};

/// The end of an invocation.
enum InvocationEnd {
    /// The function has returned.
    Returned(Result<TaskEnd, ExportError>),
    /// The process has crashed, or its time was up.
    Died(&'static str),
}

impl Fleet {
    /// Runs the task of a message in a sandbox, or in a new one.
    pub(super) async fn invoke(&self, message: Message, sandbox: Option<Sandbox>) {
        let deployment = &self.deployment;
        let started = deployment.time.elapsed();
        let sandbox = match sandbox {
            Some(sandbox) => sandbox,
            None => self.start_sandbox().await,
        };
        let step = self.step(&message.task);
        sandbox.worker.begin_step(step);
        sandbox.worker.add_activity(Activity::Other, deployment.time.elapsed() - started);
        let end = self.attempt(&message.task, &sandbox).await;
        let now = deployment.time.elapsed();
        deployment.meter.count_invocation(deployment.scenario.worker_memory_mb, now - started);
        deployment.meter.count_attempt(step.name, end_name(&end), (started, now));
        self.finish(message, sandbox, end, now - started);
    }

    /// Starts a sandbox.
    async fn start_sandbox(&self) -> Sandbox {
        let deployment = &self.deployment;
        deployment.time.sleep(log_normal(deployment.aws.functions.cold_start, 0.2)).await;
        let number = {
            let mut state = lock(&self.state);
            state.created += 1;
            state.created
        };
        Sandbox::new(deployment, self, number, worker_workload())
    }

    /// Returns the step of a task, as the job table has it.
    fn step(&self, task: &TaskId) -> Step {
        let work = self.deployment.table.find_text(&format!("WORK#{:010}", task.task), "work");
        let work: Option<Work> = work.and_then(|json| serde_json::from_str(&json).ok());
        work.map_or(Step { name: "unknown", ranges: 1 }, |work| Step::from_work(&work))
    }

    /// Makes one attempt at a task, until it ends, the process crashes, or the time is up.
    async fn attempt(&self, task: &TaskId, sandbox: &Sandbox) -> InvocationEnd {
        let (deployment, functions) = (&self.deployment, &self.deployment.aws.functions);
        let life = deployment.scenario.crash_interval.map_or(Duration::MAX, exponential);
        let (reason, end) = if life < functions.timeout { ("crashed", life) } else { ("timed out", functions.timeout) };
        let stop_at = deployment.time.now() + functions.timeout.saturating_sub(functions.yield_before_timeout);
        let run = Box::pin(run_task(&*sandbox.ports, task, &sandbox.settings, stop_at));
        match select(run, deployment.time.sleep(end)).await {
            Either::Left((result, _)) => InvocationEnd::Returned(result),
            Either::Right(((), _)) => InvocationEnd::Died(reason),
        }
    }

    /// Frees the sandbox and does with the message what SQS does.
    fn finish(&self, message: Message, sandbox: Sandbox, end: InvocationEnd, duration: Duration) {
        {
            let mut state = lock(&self.state);
            state.running -= 1;
            if matches!(end, InvocationEnd::Returned(_)) {
                state.idle.push(sandbox);
            }
        }
        if let InvocationEnd::Returned(Err(_)) | InvocationEnd::Died(_) = end {
            self.redeliver(message, duration);
        }
        self.dispatch();
    }

    /// Makes a message visible again when its time of invisibility has passed, unless it was delivered too often.
    fn redeliver(&self, message: Message, duration: Duration) {
        let functions = &self.deployment.aws.functions;
        let deliveries = message.deliveries + 1;
        if deliveries >= functions.max_deliveries {
            lock(&self.state).parked += 1;
        } else {
            self.deliver(vec![Message { deliveries, ..message }], functions.visibility.saturating_sub(duration));
        }
    }
}

/// Returns the name of an end for reports.
fn end_name(end: &InvocationEnd) -> &'static str {
    match end {
        InvocationEnd::Died(reason) => reason,
        InvocationEnd::Returned(Err(_)) => "not recorded",
        InvocationEnd::Returned(Ok(end)) => match end {
            TaskEnd::Completed(..) => "completed",
            TaskEnd::Yielded(_) => "yielded",
            TaskEnd::Unavailable => "unavailable",
            TaskEnd::Obsolete => "obsolete",
            TaskEnd::Retried(_) => "retried",
            TaskEnd::Paused(_) => "paused",
            TaskEnd::JobFailed(_) => "failed the job",
        },
    }
}
