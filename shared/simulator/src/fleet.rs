//! The queue, and the functions that it starts.

mod invocation;
mod queue;
mod sandbox;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headrace_core::vocab::ids::TaskId;

use crate::lock;
use crate::simulation::Deployment;

pub use queue::ModelQueue;
pub use sandbox::{Sandbox, SandboxPorts};

/// The interval at which functions are added while messages wait.
const RAMP_INTERVAL: Duration = Duration::from_millis(200);

/// The number of messages at the front of the queue. Any of them may be delivered next: SQS keeps no strict order.
const SHUFFLED_MESSAGES: usize = 16;

/// A message of the queue.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) task: TaskId,
    /// The number of deliveries so far.
    pub(crate) deliveries: u32,
}

/// The queue and the functions. Clones share them.
#[derive(Clone)]
pub struct Fleet {
    deployment: Arc<Deployment>,
    state: Arc<Mutex<FleetState>>,
}

/// The queue and the sandboxes, which all functions share.
#[derive(Default)]
struct FleetState {
    visible: VecDeque<Message>,
    idle: Vec<Sandbox>,
    running: u32,
    /// The number of workers that the export has started itself.
    started: u32,
    /// The moment at which the first message arrived.
    ramp_start: Option<Duration>,
    created: u32,
    parked: u32,
}

impl Fleet {
    /// Creates an empty queue without functions.
    pub fn new(deployment: &Arc<Deployment>) -> Self {
        Self { deployment: Arc::clone(deployment), state: Arc::default() }
    }

    /// Returns the number of messages that were delivered too often.
    pub fn parked(&self) -> u32 {
        lock(&self.state).parked
    }

    /// Returns the number of functions that run.
    pub fn running(&self) -> u32 {
        lock(&self.state).running
    }

    /// Adds functions as long as the simulation runs.
    pub async fn ramp(self) {
        loop {
            self.deployment.time.sleep(RAMP_INTERVAL).await;
            self.dispatch();
        }
    }

    /// Makes messages visible after a delay.
    pub(crate) fn deliver(&self, messages: Vec<Message>, delay: Duration) {
        let fleet = self.clone();
        self.deployment.time.spawn(async move {
            fleet.deployment.time.sleep(delay).await;
            {
                let mut state = lock(&fleet.state);
                state.ramp_start.get_or_insert(fleet.deployment.time.elapsed());
                state.visible.extend(messages);
            }
            fleet.dispatch();
        });
    }

    /// Starts a function for each visible message, as far as the ramp allows.
    fn dispatch(&self) {
        while let Some((message, sandbox)) = self.next_invocation() {
            let fleet = self.clone();
            self.deployment.time.spawn(async move { fleet.invoke(message, sandbox).await });
        }
    }

    /// Takes the next message and an idle sandbox, if there is one. Returns `None` if no function may start.
    fn next_invocation(&self) -> Option<(Message, Option<Sandbox>)> {
        let mut state = lock(&self.state);
        if state.running >= self.allowed(state.ramp_start?, state.started) {
            return None;
        }
        let index = fastrand::usize(..SHUFFLED_MESSAGES.min(state.visible.len()).max(1));
        let message = state.visible.remove(index)?;
        state.running += 1;
        Some((message, state.idle.pop()))
    }

    /// Returns the number of functions that may run now, if the export has started some of them itself.
    fn allowed(&self, ramp_start: Duration, started: u32) -> u32 {
        let functions = &self.deployment.aws.functions;
        let seconds = self.deployment.time.elapsed().saturating_sub(ramp_start).as_secs();
        let added = seconds * u64::from(functions.concurrency_per_minute) / 60;
        let allowed = functions.first_concurrency.saturating_add(u32::try_from(added).unwrap_or(u32::MAX));
        allowed.saturating_add(started).min(self.deployment.scenario.workers)
    }
}
