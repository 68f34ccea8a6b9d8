//! The time and the requests of an export by functions on AWS, forecast from its volume.
//!
//! The rates are those of `docs/scale.md`, whose simulator the forecast is compared with.

use crate::flow::work::record_rounds::RecordReads;
use crate::job::{ReadMode, Usage};

use super::volume::{Volume, to_count};

/// The functions that do the work of exports on AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionFleet {
    /// The most workers that run at the same time.
    pub workers: u32,
    /// The most of them that an export starts at once.
    pub started_workers: u32,
    /// The memory of a worker, in MB.
    pub memory_mb: u32,
}

/// The forecast of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// The time from the kick-off to the end, in seconds.
    pub seconds: f64,
    /// The number of tasks that run, one after another or at the same time.
    pub tasks: u64,
    /// The usage of its workers.
    pub usage: Usage,
}

/// The memory with which a function has one vCPU, in MB.
const VCPU_MB: f64 = 1_769.0;

/// Seconds of a vCPU for each GB of lines: selecting them, and the same with version records.
const READ: f64 = 2.2;
const READ_WITH_VERSIONS: f64 = 2.9;

/// Seconds of a vCPU for each GB of lines that are decompressed.
const DECOMPRESS: f64 = 1.25;

/// Seconds of a vCPU for each GB that is sent or received, for encryption.
const TRANSFER: f64 = 0.8;

/// Seconds of a vCPU for each GB that is merged.
const MERGE: f64 = 0.6;

/// Seconds of a vCPU for each GB of version records that are merged or compared.
const COMPARE: f64 = 9.0;

/// Seconds for each GB that a function sends or receives: 75 MiB a second.
const NETWORK: f64 = 12.7;

/// The part of reading and writing together that a merge waits for, because it reads on while a file is written.
const MERGE_NETWORK: f64 = 1.6;

/// Seconds of a request to S3, and of an update of the job table.
const PUT_SECONDS: f64 = 0.045;
const GET_SECONDS: f64 = 0.025;
const UPDATE_SECONDS: f64 = 0.02;

/// Seconds of a copy within S3, and the bytes that S3 copies in a second.
const COPY_SECONDS: f64 = 0.09;
const COPIED_BYTES_PER_SECOND: f64 = 262_144_000.0;

/// The number of requests for pieces of fragments that a worker makes at the same time, and the seconds that one takes under load.
const CONCURRENT_PIECES: f64 = 16.0;
const PIECE_SECONDS: f64 = 0.04;

/// The number of bytes that a GET reads.
const GET_BYTES: f64 = 8_388_608.0;

/// The bytes of fragments up to which the last task merges them by itself; the number of fragments; and the same of one task of a round.
const MERGE_LIMIT_BYTES: f64 = 268_435_456.0;
const MERGE_LIMIT_FRAGMENTS: f64 = 400.0;
const MERGE_TASK_BYTES: f64 = MERGE_LIMIT_BYTES / 2.0;
const MERGE_TASK_FRAGMENTS: f64 = 200.0;

/// The number of merge tasks of a round from which on each task merges more bytes, and the most that it merges.
const MERGE_TASKS_OF_ROUND: f64 = 1_000.0;
const LARGEST_MERGE_TASK_BYTES: f64 = MERGE_LIMIT_BYTES * 2.0;

/// The bytes of a fragment that count as one: expected values have fractions.
const LEAST_FRAGMENT: f64 = 100_000.0;

/// The bytes of a version record, and of the records that one task compares.
const RECORD_BYTES: f64 = 40.0;
const COMPARED_BYTES: f64 = 67_108_864.0;

/// The output files of a checkpoint.
const FILES_PER_CHECKPOINT: f64 = 8.0;

/// The bytes of version records that a task merges at once, and the reads of fragments from which on they are merged first.
const MERGED_BYTES: f64 = COMPARED_BYTES * 0.75;
const MAX_RECORD_READS: f64 = 20_000.0;

/// The functions that the queue starts at once, and the number of further ones that it starts in a second.
const FIRST_WORKERS: f64 = 5.0;
const WORKERS_PER_SECOND: f64 = 5.0;

/// Seconds until a task is announced, received and leased; and of the last task between two rounds.
const START_SECONDS: f64 = 0.35;
const ROUND_SECONDS: f64 = 0.6;

/// Seconds in which the plan records a task.
const PLAN_TASK_SECONDS: f64 = 0.001;

/// Write units of a task: it is recorded, leased and completed; of an output file; and of a fragment.
const TASK_WRITES: f64 = 13.0;
const FILE_WRITES: f64 = 5.5;
const FRAGMENT_WRITES: f64 = 2.0;

/// Read units and calls of the job table for each task, and calls for each file.
const TASK_READS: f64 = 5.5;
const TASK_CALLS: f64 = 9.0;
const FILE_CALLS: f64 = 3.0;

/// The work of the tasks of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    tasks: f64,
    /// The seconds of all its workers together.
    worker_seconds: f64,
    gets: f64,
    puts: f64,
    files: f64,
    fragments: f64,
    bytes_read: f64,
    bytes_written: f64,
}

/// Forecasts an export.
pub fn forecast(volume: &Volume, fleet: FunctionFleet, mode: ReadMode, file_bytes: u64) -> Forecast {
    let calculator =
        Calculator { volume, vcpu: (f64::from(fleet.memory_mb) / VCPU_MB).min(1.0), mode, file_bytes: file_bytes.max(1) as f64 };
    let mut total = Total { fleet, ..Total::default() };
    let plan_seconds = START_SECONDS + (volume.objects as f64 / 1_000.0).ceil() * 0.1 + volume.read_tasks as f64 * PLAN_TASK_SECONDS;
    total.add_alone(plan_seconds);
    let read = calculator.read();
    if mode == ReadMode::TwoPass {
        // The first reading writes records only.
        total.add_round(Round { puts: read.tasks, files: 0.0, worker_seconds: read.worker_seconds * 0.6, bytes_written: 0.0, ..read });
    }
    total.add_round(read);
    if mode != ReadMode::SinglePass {
        calculator.compare(&read).into_iter().for_each(|round| total.add_round(round));
        if volume.reads_twice && mode == ReadMode::Optimistic {
            total.add_round(read);
        }
    }
    let last = calculator.merge(&mut total);
    total.add_alone(last);
    total.into_forecast(volume)
}

/// Calculates the rounds of an export.
struct Calculator<'a> {
    volume: &'a Volume,
    /// The part of a vCPU that a worker has.
    vcpu: f64,
    mode: ReadMode,
    file_bytes: f64,
}

/// Returns bytes in GB.
fn gigabytes(bytes: f64) -> f64 {
    bytes / 1e9
}

impl Calculator<'_> {
    /// Returns the round that reads the lake.
    fn read(&self) -> Round {
        let volume = self.volume;
        let (stored, lines) = (gigabytes(volume.source_bytes as f64), gigabytes(volume.line_bytes));
        let rest: f64 = volume.kinds.values().map(|kind| kind.fragment_bytes).sum();
        let files: f64 = volume.kinds.values().map(|kind| kind.full_files).sum();
        let full = files * self.file_bytes;
        let written = full + rest;
        let fragments: f64 = volume.kinds.values().map(|kind| kind.fragments).sum();
        let records = if self.mode == ReadMode::SinglePass { 0.0 } else { self.record_fragments(files) };
        let select = if self.mode == ReadMode::SinglePass { READ } else { READ_WITH_VERSIONS };
        let compute = lines * select + gigabytes(volume.compressed_line_bytes) * DECOMPRESS + (stored + gigabytes(written)) * TRANSFER;
        let gets = (volume.source_bytes as f64 / GET_BYTES).max(volume.objects as f64);
        let puts = files + fragments + records;
        let calls = volume.read_tasks as f64 * (START_SECONDS + 4.0 * UPDATE_SECONDS) + files * 2.0 * UPDATE_SECONDS;
        // Four requests for parts of the lake run at the same time while lines are processed, so that a part of them is not waited for. A
        // full file is written while the task reads on.
        let reading = compute / self.vcpu + stored * NETWORK + gets * GET_SECONDS / 1.5;
        let writing = gigabytes(full) * NETWORK + files * PUT_SECONDS;
        let ending = gigabytes(rest) * NETWORK + (fragments + records) * PUT_SECONDS;
        Round {
            tasks: volume.read_tasks as f64,
            worker_seconds: reading.max(writing) + ending + calls,
            gets,
            puts,
            files,
            fragments: fragments + records,
            bytes_read: volume.source_bytes as f64,
            bytes_written: written + volume.records * RECORD_BYTES * f64::from(u8::from(records > 0.0)),
        }
    }

    /// Returns the number of fragments of version records: one for each checkpoint of a task.
    fn record_fragments(&self, files: f64) -> f64 {
        (files / FILES_PER_CHECKPOINT).max(self.volume.read_tasks as f64)
    }

    /// Returns the rounds that merge and compare version records.
    fn compare(&self, read: &Round) -> Vec<Round> {
        let bytes = self.volume.records * RECORD_BYTES;
        if bytes < RECORD_BYTES {
            return Vec::new();
        }
        let fragments = self.record_fragments(read.files);
        let ranges = (bytes / COMPARED_BYTES).ceil();
        let steps = (bytes / MERGED_BYTES).ceil();
        let is_merged = ranges * fragments > MAX_RECORD_READS && steps < fragments;
        let (rounds, reads) = RecordReads { files: fragments, steps, ranges }.best_rounds(1, MAX_RECORD_READS);
        let compute = gigabytes(bytes) * (COMPARE + TRANSFER) / self.vcpu;
        let round = |tasks: f64, gets: f64, puts: f64| Round {
            tasks,
            worker_seconds: compute
                + gigabytes(bytes) * NETWORK
                + gets * PIECE_SECONDS / CONCURRENT_PIECES
                + tasks * (START_SECONDS + 4.0 * UPDATE_SECONDS),
            gets,
            puts,
            files: 0.0,
            fragments: puts,
            bytes_read: bytes,
            bytes_written: puts * bytes / tasks.max(1.0),
        };
        if !is_merged {
            return vec![round(ranges, ranges * fragments, 0.0)];
        }
        let merges = (0..rounds).map(|index| round(steps, if index == 0 { reads.max(fragments) } else { reads }, steps));
        merges.chain([round(ranges, reads, 0.0)]).collect()
    }

    /// Adds the rounds that merge fragments. Returns the seconds of the last task, which merges the rest.
    fn merge(&self, total: &mut Total) -> f64 {
        let volume = self.volume;
        // The number and the size of the fragments of each kind.
        let mut kinds: Vec<(f64, f64)> =
            volume.kinds.values().map(|kind| (kind.fragments, kind.fragment_bytes / kind.fragments.max(1.0))).collect();
        loop {
            let (count, bytes) =
                kinds.iter().fold((0.0, 0.0), |(count, bytes), (fragments, size)| (count + fragments, bytes + fragments * size));
            let task_bytes = (bytes / MERGE_TASKS_OF_ROUND).clamp(MERGE_TASK_BYTES, LARGEST_MERGE_TASK_BYTES);
            let groups: Vec<f64> = kinds.iter().map(|(count, size)| group_size(*count, *size, task_bytes)).collect();
            let tasks: f64 = kinds.iter().zip(&groups).map(|((count, _), group)| (count / group).ceil()).sum();
            let is_little = bytes <= MERGE_LIMIT_BYTES && count <= MERGE_LIMIT_FRAGMENTS;
            if is_little || tasks >= count {
                return self.finish(&kinds, total);
            }
            let (mut files, mut rest) = (0.0, 0.0);
            for ((count, size), group) in kinds.iter_mut().zip(&groups) {
                let whole_groups = (*count / group).floor();
                let last_group = *count - whole_groups * group;
                // A task leaves what does not fill a file.
                let left = |fragments: f64| {
                    let full = (fragments * *size / self.file_bytes + 1e-9).floor();
                    (full, (fragments * *size - full * self.file_bytes).max(0.0))
                };
                let ((full, left_by_each), (last_full, left_by_last)) = (left(*group), left(last_group));
                files += full * whole_groups + last_full;
                let fragments = if left_by_each > LEAST_FRAGMENT { whole_groups } else { 0.0 };
                let fragments = fragments + if left_by_last > LEAST_FRAGMENT { 1.0 } else { 0.0 };
                rest += fragments;
                (*count, *size) = (fragments, (whole_groups * left_by_each + left_by_last) / fragments.max(1.0));
            }
            total.add_round(Round {
                tasks,
                worker_seconds: self.merge_seconds(bytes, count, files + rest) + tasks * (START_SECONDS + 4.0 * UPDATE_SECONDS),
                gets: (bytes / GET_BYTES).max(count),
                puts: files + rest,
                files,
                fragments: rest,
                bytes_read: bytes,
                bytes_written: bytes,
            });
        }
    }

    /// Adds the files that the last task makes of the rest. Returns its seconds.
    fn finish(&self, kinds: &[(f64, f64)], total: &mut Total) -> f64 {
        let (mut count, mut bytes, mut merged, mut copied, mut copied_bytes) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (fragments, size) in kinds.iter().filter(|(fragments, size)| fragments * size > 0.0) {
            // The only fragment of a kind is copied within the store.
            if *fragments <= 1.0 {
                (copied, copied_bytes) = (copied + 1.0, copied_bytes + fragments * size);
            } else {
                (merged, count, bytes) = (merged + 1.0, count + fragments, bytes + fragments * size);
            }
        }
        // A copy counts as a write of an object, which has the same price.
        let (puts, files) = (merged + copied, merged + copied);
        total.count(Round { gets: count, puts, files, bytes_read: bytes, bytes_written: bytes, ..Round::default() });
        let copy_seconds = copied * COPY_SECONDS + copied_bytes / COPIED_BYTES_PER_SECOND;
        let cleaning = 1.0 + self.volume.objects as f64 / 5_000.0;
        self.merge_seconds(bytes, count, merged) + copy_seconds + ROUND_SECONDS + files * 3.0 * UPDATE_SECONDS + cleaning
    }

    /// Returns the seconds of one worker that merges all these bytes.
    fn merge_seconds(&self, bytes: f64, fragments: f64, files: f64) -> f64 {
        gigabytes(bytes) * ((MERGE + 2.0 * TRANSFER) / self.vcpu + MERGE_NETWORK * NETWORK)
            + fragments * GET_SECONDS
            + files * (PUT_SECONDS + 2.0 * UPDATE_SECONDS)
    }
}

/// Returns the number of fragments of this size that one task merges, which merges up to `task_bytes`.
fn group_size(count: f64, size: f64, task_bytes: f64) -> f64 {
    (task_bytes / size.max(1.0)).floor().clamp(1.0, MERGE_TASK_FRAGMENTS).min(count.max(1.0))
}

/// The sums of the rounds so far.
#[derive(Clone, Copy, Debug)]
struct Total {
    fleet: FunctionFleet,
    seconds: f64,
    rounds: f64,
    work: Round,
}

impl Default for Total {
    fn default() -> Self {
        Self { fleet: FunctionFleet { workers: 1, started_workers: 0, memory_mb: 0 }, seconds: 0.0, rounds: 0.0, work: Round::default() }
    }
}

impl Total {
    /// Adds the time of one worker that works alone.
    fn add_alone(&mut self, seconds: f64) {
        self.seconds += seconds;
        self.work.worker_seconds += seconds;
    }

    /// Adds what the workers of a round use, without their time.
    fn count(&mut self, round: Round) {
        self.work.gets += round.gets;
        self.work.puts += round.puts;
        self.work.files += round.files;
        self.work.fragments += round.fragments;
        self.work.bytes_read += round.bytes_read;
        self.work.bytes_written += round.bytes_written;
    }

    /// Adds a round of tasks, and the last task between it and the next round.
    fn add_round(&mut self, round: Round) {
        if round.tasks <= 0.0 {
            return;
        }
        self.count(round);
        self.work.tasks += round.tasks;
        self.work.worker_seconds += round.worker_seconds;
        self.seconds += self.round_seconds(round);
        self.rounds += 1.0;
        self.add_alone(ROUND_SECONDS);
    }

    /// Returns the time of a round: until its work is done by as many workers as there are by then, and not less than its tasks take in
    /// turn.
    fn round_seconds(&self, round: Round) -> f64 {
        let workers = f64::from(self.fleet.workers.max(1));
        let first = (FIRST_WORKERS + f64::from(self.fleet.started_workers)).min(workers);
        // Workers that earlier rounds have started are still there.
        let now = (first + self.seconds * WORKERS_PER_SECOND).min(workers);
        let ramp = (workers - now) / WORKERS_PER_SECOND;
        let during_ramp = ramp * (now + workers) / 2.0;
        let by_work = if round.worker_seconds >= during_ramp {
            ramp + (round.worker_seconds - during_ramp) / workers
        } else {
            // The work is done while workers still start: now * t + rate * t² / 2.
            (-now + (now * now + 2.0 * WORKERS_PER_SECOND * round.worker_seconds).sqrt()) / WORKERS_PER_SECOND
        };
        let task_seconds = round.worker_seconds / round.tasks;
        let turns = (round.tasks / workers).ceil();
        by_work.max(turns * task_seconds)
    }

    /// Returns the forecast.
    fn into_forecast(self, volume: &Volume) -> Forecast {
        let Self { fleet, seconds, rounds, work } = self;
        // The plan, and the last task after each round.
        let tasks = work.tasks + 1.0 + rounds;
        let worker_ms = to_count(work.worker_seconds * 1_000.0);
        let fragments_read = to_count(rounds * 16.0);
        let usage = Usage {
            attempts: to_count(tasks),
            worker_ms,
            worker_mb_ms: worker_ms.saturating_mul(u64::from(fleet.memory_mb)),
            table_requests: to_count(tasks * TASK_CALLS + work.files * FILE_CALLS),
            half_read_units: to_count(tasks * TASK_READS * 2.0) + fragments_read,
            write_units: to_count(tasks * TASK_WRITES + work.files * FILE_WRITES + work.fragments * FRAGMENT_WRITES),
            gets: to_count(work.gets),
            puts: to_count(work.puts),
            copies: 0,
            lists: volume.objects.div_ceil(1_000) + 2 + to_count(work.puts / 1_000.0),
            deletes: 1,
            bytes_read: to_count(work.bytes_read),
            bytes_written: to_count(work.bytes_written),
            messages: to_count(tasks),
        };
        Forecast { seconds, tasks: to_count(tasks), usage }
    }
}
