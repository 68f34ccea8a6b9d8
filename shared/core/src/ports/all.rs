//! The ports of a worker, combined into one value.

use super::{Clock, JobSecretEncryptor, OutputStore, ResourceSource, TaskQueue, TaskStore};
use crate::vocab::clock::Millis;

/// The ports of a worker.
pub struct Ports<J, Q, S, O, C> {
    /// The job table.
    pub jobs: J,
    /// The task queue.
    pub queue: Q,
    /// The lake.
    pub source: S,
    /// The destination.
    pub output: O,
    /// The clock.
    pub clock: C,
}

/// The ports of a worker as a single bound, instead of five type parameters.
pub trait AllPorts: Send + Sync {
    /// The job table.
    type Jobs: TaskStore + JobSecretEncryptor;
    /// The task queue.
    type Queue: TaskQueue;
    /// The lake.
    type Source: ResourceSource;
    /// The destination.
    type Output: OutputStore;

    /// Returns the job table.
    fn jobs(&self) -> &Self::Jobs;
    /// Returns the task queue.
    fn queue(&self) -> &Self::Queue;
    /// Returns the lake.
    fn source(&self) -> &Self::Source;
    /// Returns the destination.
    fn output(&self) -> &Self::Output;
    /// Returns the current time.
    fn now(&self) -> Millis;
}

impl<J: TaskStore + JobSecretEncryptor, Q: TaskQueue, S: ResourceSource, O: OutputStore, C: Clock> AllPorts for Ports<J, Q, S, O, C> {
    type Jobs = J;
    type Queue = Q;
    type Source = S;
    type Output = O;

    fn jobs(&self) -> &J {
        &self.jobs
    }

    fn queue(&self) -> &Q {
        &self.queue
    }

    fn source(&self) -> &S {
        &self.source
    }

    fn output(&self) -> &O {
        &self.output
    }

    fn now(&self) -> Millis {
        self.clock.now()
    }
}
