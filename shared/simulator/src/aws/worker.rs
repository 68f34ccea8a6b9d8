//! A process of the service: its processor, its network, its memory and its current step.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use headrace_core::job::task::Work;
use headrace_core::metering::count;

use super::link::{NetworkLink, Serial};
use crate::lock;
use crate::meter::{Activity, Meter};
use crate::parameters::{AwsParameters, ProcessorParameters};
use crate::time::VirtualTime;

/// The memory of a process apart from what it writes and compares, in bytes: the program, the answers of four requests, a decoder.
const BASE_MEMORY_BYTES: u64 = 70_000_000;

/// A process. Clones share it.
#[derive(Clone, Debug)]
pub struct Worker(Arc<Inner>);

/// The state of a process, which its clones share.
#[derive(Debug)]
struct Inner {
    number: u32,
    time: VirtualTime,
    meter: Meter,
    processor: ProcessorParameters,
    /// The fraction of one vCPU that the process has.
    processor_share: f64,
    /// The computations of the processor, one after the other, also for files that are written while the task reads on.
    computations: Serial,
    download: NetworkLink,
    upload: NetworkLink,
    lost_answers: f64,
    step: Mutex<Step>,
    memory: Mutex<u64>,
    /// The part of the memory that holds version records and links.
    records: Mutex<u64>,
}

/// The step of an export that a process works on.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The name, as [`headrace_core::job::task::Work::as_str`] returns it.
    pub name: &'static str,
    /// The number of equal ranges of keys in which the step reads each file of version records. 1 if it reads whole files.
    pub ranges: u32,
}

impl Step {
    /// Returns the step of a task with this work.
    pub fn from_work(work: &Work) -> Self {
        let ranges = match work {
            Work::Resolve(resolve) => resolve.ranges / resolve.merged.map_or(1, |files| files.parts.max(1)),
            Work::MergeRecords(merge) => merge.ranges * merge.steps / merge.files.parts.max(1),
            Work::Plan(_)
            | Work::Read(_)
            | Work::MergeCorrections(_)
            | Work::Reread(_)
            | Work::SortPatients(_)
            | Work::GroupByPatient(_)
            | Work::Merge(_)
            | Work::Fetch(_)
            | Work::Publish(_)
            | Work::Finalize
            | Work::FinalizeSync(_) => 1,
        };
        Self { name: work.as_str(), ranges }
    }
}

impl Default for Step {
    fn default() -> Self {
        Self { name: "client and reaper", ranges: 1 }
    }
}

/// The settings of a new process.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSize {
    /// The number that identifies the process.
    pub number: u32,
    /// The memory, which determines the share of a vCPU, in MB.
    pub memory_mb: u32,
    /// The number by which the speed of processor and network is divided.
    pub slowness: u32,
    /// The fraction of calls to the job table whose answer is lost.
    pub lost_answers: f64,
}

impl Worker {
    /// Creates a process.
    pub fn new(time: &VirtualTime, meter: &Meter, aws: &AwsParameters, size: WorkerSize) -> Self {
        let processor = aws.processor.clone();
        // The pump runs on one thread, so more than one vCPU does not help it. What encrypts an upload on another thread is small.
        let processor_share = (f64::from(size.memory_mb) / f64::from(processor.memory_of_one_mb)).min(1.0) / f64::from(size.slowness);
        let link = || NetworkLink::new(aws.functions.network_bytes_per_second / u64::from(size.slowness));
        Self(Arc::new(Inner {
            number: size.number,
            time: time.clone(),
            meter: meter.clone(),
            processor,
            processor_share,
            computations: Serial::default(),
            download: link(),
            upload: link(),
            lost_answers: size.lost_answers,
            step: Mutex::default(),
            memory: Mutex::default(),
            records: Mutex::default(),
        }))
    }

    /// Returns the number of the process.
    pub fn number(&self) -> u32 {
        self.0.number
    }

    /// Returns the clock.
    pub fn time(&self) -> &VirtualTime {
        &self.0.time
    }

    /// Returns the measurements.
    pub fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// Returns the times of the processor.
    pub fn processor(&self) -> &ProcessorParameters {
        &self.0.processor
    }

    /// Returns the current step.
    pub fn step(&self) -> Step {
        *lock(&self.0.step)
    }

    /// Begins a step. Memory of the step before is free again.
    pub fn begin_step(&self, step: Step) {
        *lock(&self.0.step) = step;
        (*lock(&self.0.memory), *lock(&self.0.records)) = (0, 0);
        self.use_memory(0);
    }

    /// Adds the time of an activity to the current step.
    pub fn add_activity(&self, activity: Activity, duration: Duration) {
        self.0.meter.add_activity(self.step().name, activity, duration);
    }

    /// Returns true if the answer of the current call is lost.
    pub fn loses_answer(&self) -> bool {
        self.0.lost_answers > 0.0 && fastrand::f64() < self.0.lost_answers
    }

    /// Takes the time of processing this many bytes at this speed, in seconds per GB.
    pub async fn compute(&self, bytes: u64, seconds_per_gb: f64) {
        let duration = super::link::transfer_time(bytes, 1_000_000_000).mul_f64(seconds_per_gb / self.0.processor_share);
        self.add_activity(Activity::Compute, duration);
        let end = self.0.computations.add(self.0.time.elapsed(), duration);
        self.0.time.sleep_until(end).await;
    }

    /// Takes the time of receiving this many bytes.
    pub async fn download(&self, bytes: u64) {
        count(|usage| usage.bytes_read += bytes);
        let end = self.0.download.transfer(self.0.time.elapsed(), bytes);
        self.0.time.sleep_until(end).await;
    }

    /// Takes the time of sending this many bytes.
    pub async fn upload(&self, bytes: u64) {
        count(|usage| usage.bytes_written += bytes);
        let end = self.0.upload.transfer(self.0.time.elapsed(), bytes);
        self.0.time.sleep_until(end).await;
    }

    /// Adds bytes to the memory that the current step uses.
    pub fn use_memory(&self, bytes: u64) {
        let mut used = lock(&self.0.memory);
        *used += bytes;
        self.0.meter.record_memory(self.step().name, BASE_MEMORY_BYTES + *used);
    }

    /// Adds memory for version records that were read. It is used until [`Self::free_records`].
    pub fn keep_records(&self, bytes: u64) {
        *lock(&self.0.records) += bytes;
        self.use_memory(bytes);
    }

    /// Removes the memory for version records: the step has written what it made of them.
    pub fn free_records(&self) {
        let bytes = std::mem::take(&mut *lock(&self.0.records));
        self.free_memory(bytes);
    }

    /// Removes bytes from the memory that the current step uses.
    pub fn free_memory(&self, bytes: u64) {
        let mut used = lock(&self.0.memory);
        *used = used.saturating_sub(bytes);
    }
}

/// Memory that a process uses as long as the value lives.
#[derive(Debug)]
pub struct UsedMemory {
    worker: Worker,
    bytes: u64,
}

impl UsedMemory {
    /// Creates a value for memory of this process.
    pub fn new(worker: &Worker) -> Self {
        Self { worker: worker.clone(), bytes: 0 }
    }

    /// Adds memory.
    pub fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.worker.use_memory(bytes);
    }

    /// Frees a part of the memory.
    pub fn free(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.worker.free_memory(bytes);
    }
}

impl Drop for UsedMemory {
    fn drop(&mut self) {
        self.worker.free_memory(self.bytes);
    }
}
