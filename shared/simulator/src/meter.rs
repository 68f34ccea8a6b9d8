//! The measurements of a simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::lock;

/// The measurements of a simulation. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Mutex<Measurements>>);

/// The measurements so far.
#[derive(Clone, Debug, Default)]
pub struct Measurements {
    /// The number of calls, by service and operation.
    pub calls: BTreeMap<(Service, &'static str), u64>,
    /// The number of calls that were rejected, by service and reason.
    pub rejections: BTreeMap<(Service, &'static str), u64>,
    /// The capacity that each partition key has consumed.
    pub keys: BTreeMap<String, KeyLoad>,
    /// The time that workers spent, by step and activity.
    pub activities: BTreeMap<(&'static str, Activity), Duration>,
    /// The number of invocations and their total duration, by memory in MB.
    pub invocations: BTreeMap<u32, (u64, Duration)>,
    /// The number of attempts, by step and end.
    pub attempts: BTreeMap<(&'static str, &'static str), u64>,
    /// The largest memory of a worker, by step, in bytes.
    pub memory: BTreeMap<&'static str, u64>,
    /// The total duration of the attempts at each step, for which Lambda is paid.
    pub durations: BTreeMap<&'static str, Duration>,
    /// The moments at which the first attempt at each step began and the last one ended.
    pub spans: BTreeMap<&'static str, (Duration, Duration)>,
}

/// A service of AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// DynamoDB.
    DynamoDb,
    /// S3.
    S3,
    /// SQS.
    Sqs,
}

impl Service {
    /// Returns the name of the service.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DynamoDb => "DynamoDB",
            Self::S3 => "S3",
            Self::Sqs => "SQS",
        }
    }
}

/// An activity of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    /// Waiting for the job table.
    Table,
    /// Pausing before a call to the job table is repeated.
    TablePause,
    /// Waiting for bytes of the lake.
    ReadLake,
    /// Waiting for bytes of fragments.
    ReadFragments,
    /// Writing files.
    Write,
    /// Computing.
    Compute,
    /// Waiting for S3 to list, copy or delete.
    Objects,
    /// The rest: cold starts and the queue.
    Other,
}

impl Activity {
    /// The list of activities.
    pub const ALL: [Self; 8] =
        [Self::Table, Self::TablePause, Self::ReadLake, Self::ReadFragments, Self::Write, Self::Compute, Self::Objects, Self::Other];

    /// Returns the name for reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "job table",
            Self::TablePause => "pauses of the job table",
            Self::ReadLake => "reading the lake",
            Self::ReadFragments => "reading fragments",
            Self::Write => "writing",
            Self::Compute => "computing",
            Self::Objects => "copying, listing, deleting",
            Self::Other => "starting, queue",
        }
    }
}

/// The capacity that a partition key has consumed.
#[derive(Clone, Debug, Default)]
pub struct KeyLoad {
    /// Write units.
    pub writes: Load,
    /// Read units.
    pub reads: Load,
}

/// A quantity that was consumed over time.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// The sum.
    pub total: f64,
    /// The largest sum within a second of the clock.
    pub peak: f64,
    second: u64,
    in_second: f64,
}

impl Load {
    /// Adds a quantity that was consumed at this moment.
    fn add(&mut self, at: Duration, quantity: f64) {
        if self.second != at.as_secs() {
            (self.second, self.in_second) = (at.as_secs(), 0.0);
        }
        self.total += quantity;
        self.in_second += quantity;
        self.peak = self.peak.max(self.in_second);
    }
}

impl Meter {
    /// Returns a copy of the measurements.
    pub fn snapshot(&self) -> Measurements {
        lock(&self.0).clone()
    }

    /// Counts calls.
    pub fn count_calls(&self, service: Service, operation: &'static str, count: u64) {
        *lock(&self.0).calls.entry((service, operation)).or_default() += count;
    }

    /// Counts a rejected call.
    pub fn count_rejection(&self, service: Service, reason: &'static str) {
        *lock(&self.0).rejections.entry((service, reason)).or_default() += 1;
    }

    /// Adds the capacity that a call has consumed of a partition key.
    pub fn add_capacity(&self, key: &str, at: Duration, (writes, reads): (f64, f64)) {
        let mut measured = lock(&self.0);
        if !measured.keys.contains_key(key) {
            measured.keys.insert(key.to_owned(), KeyLoad::default());
        }
        let Some(load) = measured.keys.get_mut(key) else { return };
        load.writes.add(at, writes);
        load.reads.add(at, reads);
    }

    /// Adds time that a worker has spent.
    pub fn add_activity(&self, step: &'static str, activity: Activity, duration: Duration) {
        *lock(&self.0).activities.entry((step, activity)).or_default() += duration;
    }

    /// Counts an invocation of a function.
    pub fn count_invocation(&self, memory_mb: u32, duration: Duration) {
        let mut measured = lock(&self.0);
        let (count, total) = measured.invocations.entry(memory_mb).or_default();
        (*count, *total) = (*count + 1, *total + duration);
    }

    /// Counts an attempt that ran from `start` to `end`.
    pub fn count_attempt(&self, step: &'static str, outcome: &'static str, (start, end): (Duration, Duration)) {
        let mut measured = lock(&self.0);
        *measured.attempts.entry((step, outcome)).or_default() += 1;
        *measured.durations.entry(step).or_default() += end.saturating_sub(start);
        let span = measured.spans.entry(step).or_insert((start, end));
        *span = (span.0.min(start), span.1.max(end));
    }

    /// Records the memory that a worker has needed.
    pub fn record_memory(&self, step: &'static str, bytes: u64) {
        let mut measured = lock(&self.0);
        let peak = measured.memory.entry(step).or_default();
        *peak = (*peak).max(bytes);
    }
}
