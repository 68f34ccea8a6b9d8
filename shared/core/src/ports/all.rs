//! The ports of a worker, combined into one value.

use super::{Clock, JobSecretEncryptor, LakeFeed, NoFeed, OutputStore, ResourceSource, TaskQueue, TaskStore};
use crate::vocab::clock::Millis;

/// The ports of a worker.
pub struct Ports<J, Q, S, O, C, F = NoFeed> {
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
    /// The FHIR server that is read, and the lake that is filled from it.
    pub feed: F,
}

impl<J, Q, S, O, C, F> Ports<J, Q, S, O, C, F> {
    /// Replaces the FHIR server and the lake that is filled from it.
    pub fn with_feed<G>(self, feed: G) -> Ports<J, Q, S, O, C, G> {
        let Self { jobs, queue, source, output, clock, feed: _ } = self;
        Ports { jobs, queue, source, output, clock, feed }
    }
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
    /// The FHIR server that is read, and the lake that is filled from it.
    type Feed: LakeFeed;

    /// Returns the job table.
    fn jobs(&self) -> &Self::Jobs;
    /// Returns the task queue.
    fn queue(&self) -> &Self::Queue;
    /// Returns the lake.
    fn source(&self) -> &Self::Source;
    /// Returns the destination.
    fn output(&self) -> &Self::Output;
    /// Returns the FHIR server that is read, and the lake that is filled from it.
    fn feed(&self) -> &Self::Feed;
    /// Returns the current time.
    fn now(&self) -> Millis;
}

impl<J, Q, S, O, C, F> AllPorts for Ports<J, Q, S, O, C, F>
where
    J: TaskStore + JobSecretEncryptor,
    Q: TaskQueue,
    S: ResourceSource,
    O: OutputStore,
    C: Clock,
    F: LakeFeed,
{
    type Jobs = J;
    type Queue = Q;
    type Source = S;
    type Output = O;
    type Feed = F;

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

    fn feed(&self) -> &F {
        &self.feed
    }

    fn now(&self) -> Millis {
        self.clock.now()
    }
}
