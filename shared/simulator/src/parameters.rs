//! The parameters of a simulation: the export, and the behaviour of AWS.
//!
//! `docs/scale.md` has the source of each default.

use std::time::Duration;

/// The export to simulate.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The size of the lake, in bytes before compression.
    pub lake_bytes: u64,
    /// The most workers that run at the same time.
    pub workers: u32,
    /// The most of these workers that the export starts at once: the setting `StartedWorkers`. The queue starts the others.
    pub started_workers: u32,
    /// The interpretation of the lake.
    pub mode: Mode,
    /// The seed of all random draws.
    pub seed: u64,
    /// The memory of a worker, in MB.
    pub worker_memory_mb: u32,
    /// The number of workers, of the first ones that start, whose processor and network have a tenth of the speed of the others.
    pub slow_workers: u32,
    /// True if a task that is among the last of its round gives a part of its slices to a new task.
    pub splits_tasks: bool,
    /// The mean time between crashes of a worker. `None` for workers that never crash.
    pub crash_interval: Option<Duration>,
    /// The fraction of calls to the job table that are applied and whose answer is lost.
    pub lost_answers: f64,
    /// True if partitions of the job table can save up capacity for 300 seconds.
    pub burst: bool,
    /// True if the client accepts a manifest in pages.
    pub partial_manifests: bool,
    /// The size of an object of the lake, in bytes before compression.
    pub object_bytes: u64,
    /// True if the objects of the lake are compressed with Zstandard. A plain object is read in slices.
    pub is_compressed: bool,
    /// The size of an output file, in bytes: the setting `FileSizeMb`.
    pub file_bytes: u64,
    /// The number of real bytes for which one simulated byte stands. `None` chooses it by the size of the lake.
    pub byte_scale: Option<u64>,
    /// The virtual time after which the simulation gives up.
    pub time_limit: Duration,
    /// True to print the progress of the export to the standard error output.
    pub shows_progress: bool,
}

/// The interpretation of the lake: the setting `LakeVersions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each resource has one line.
    One,
    /// Resources may have several lines; the export is optimistic that few have.
    Auto,
    /// Resources have several lines.
    Many,
}

impl Mode {
    /// The list of modes.
    pub const ALL: [Self; 3] = [Self::One, Self::Auto, Self::Many];

    /// Returns the value of the setting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Auto => "auto",
            Self::Many => "many",
        }
    }

    /// Parses the output of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            lake_bytes: 1_000_000_000_000,
            workers: 1_000,
            started_workers: 0,
            mode: Mode::Auto,
            seed: 7,
            worker_memory_mb: 512,
            slow_workers: 0,
            splits_tasks: true,
            crash_interval: None,
            lost_answers: 0.0,
            burst: false,
            partial_manifests: false,
            object_bytes: 240_000_000,
            is_compressed: true,
            file_bytes: 64_000_000,
            byte_scale: None,
            time_limit: Duration::from_secs(3_600),
            shows_progress: false,
        }
    }
}

/// The behaviour of AWS.
#[derive(Clone, Debug)]
pub struct AwsParameters {
    /// The job table.
    pub table: TableParameters,
    /// The buckets.
    pub bucket: BucketParameters,
    /// The queue and the functions.
    pub functions: FunctionParameters,
    /// The speed of a worker's processor.
    pub processor: ProcessorParameters,
}

/// The behaviour of DynamoDB.
#[derive(Clone, Debug)]
pub struct TableParameters {
    /// The median latency of reading one item.
    pub read: Duration,
    /// The additional latency of each MB of a page of a query.
    pub read_per_mb: Duration,
    /// The median latency of a single write.
    pub write: Duration,
    /// The median latency of a transaction.
    pub transaction: Duration,
    /// The additional latency of each item of a transaction.
    pub transaction_item: Duration,
    /// The part of a latency that is spent between client and server, where no item is in use.
    pub network: Duration,
    /// The spread of latencies: the standard deviation of their logarithm.
    pub spread: f64,
    /// The write units per second of a partition key.
    pub write_units: u32,
    /// The read units per second of a partition key.
    pub read_units: u32,
    /// The time for which a partition key can save up unused capacity.
    pub burst: Duration,
}

/// The behaviour of S3.
#[derive(Clone, Debug)]
pub struct BucketParameters {
    /// The median time until the first byte of a GET.
    pub get: Duration,
    /// The median latency of a PUT, in addition to the transfer.
    pub put: Duration,
    /// The median latency of a copy, in addition to the transfer within S3.
    pub copy: Duration,
    /// The bytes per second of a copy within S3.
    pub copy_bytes_per_second: u64,
    /// The median latency of listing 1,000 objects.
    pub list: Duration,
    /// The median latency of deleting 1,000 objects.
    pub delete: Duration,
    /// The spread of latencies.
    pub spread: f64,
    /// The GET and HEAD requests per second of a prefix.
    pub gets_per_second: u32,
    /// The PUT, COPY, POST, DELETE and LIST requests per second of a prefix.
    pub puts_per_second: u32,
}

/// The behaviour of SQS and Lambda.
#[derive(Clone, Debug)]
pub struct FunctionParameters {
    /// The median latency of sending a batch of messages.
    pub send: Duration,
    /// The median time until a sent message reaches a function.
    pub delivery: Duration,
    /// The number of functions that start at once when messages arrive.
    pub first_concurrency: u32,
    /// The number of additional functions that may start per minute.
    pub concurrency_per_minute: u32,
    /// The median latency of an asynchronous invocation.
    pub invoke: Duration,
    /// The median duration of a cold start.
    pub cold_start: Duration,
    /// The longest duration of an invocation.
    pub timeout: Duration,
    /// The time before the timeout at which a task yields.
    pub yield_before_timeout: Duration,
    /// The time for which a message stays invisible after its function has failed.
    pub visibility: Duration,
    /// The number of deliveries after which a message is set aside.
    pub max_deliveries: u32,
    /// The bytes per second of a function's network in each direction.
    pub network_bytes_per_second: u64,
}

/// The time that a Lambda vCPU takes for a GB (1,000,000,000 bytes), in seconds.
#[derive(Clone, Debug)]
pub struct ProcessorParameters {
    /// Selecting and copying lines.
    pub read: f64,
    /// The same with version records.
    pub read_with_versions: f64,
    /// Decompressing, by decompressed bytes.
    pub decompress: f64,
    /// Encrypting or decrypting what the network transfers.
    pub transfer: f64,
    /// Merging lines that are selected already.
    pub merge: f64,
    /// Sorting and comparing version records.
    pub resolve: f64,
    /// The memory at which a function has one vCPU, in MB.
    pub memory_of_one_mb: u32,
}

impl Default for AwsParameters {
    fn default() -> Self {
        Self {
            table: TableParameters::default(),
            bucket: BucketParameters::default(),
            functions: FunctionParameters::default(),
            processor: ProcessorParameters::from_benchmarks(2.5),
        }
    }
}

impl Default for TableParameters {
    fn default() -> Self {
        Self {
            read: Duration::from_millis(3),
            read_per_mb: Duration::from_millis(6),
            write: Duration::from_millis(5),
            transaction: Duration::from_millis(14),
            transaction_item: Duration::from_micros(200),
            network: Duration::from_millis(1),
            spread: 0.3,
            write_units: 1_000,
            read_units: 3_000,
            burst: Duration::from_secs(1),
        }
    }
}

impl Default for BucketParameters {
    fn default() -> Self {
        Self {
            get: Duration::from_millis(25),
            put: Duration::from_millis(40),
            copy: Duration::from_millis(80),
            copy_bytes_per_second: 250 << 20,
            list: Duration::from_millis(100),
            delete: Duration::from_millis(500),
            spread: 0.4,
            gets_per_second: 5_500,
            puts_per_second: 3_500,
        }
    }
}

impl Default for FunctionParameters {
    fn default() -> Self {
        Self {
            send: Duration::from_millis(10),
            delivery: Duration::from_millis(25),
            first_concurrency: 5,
            concurrency_per_minute: 300,
            invoke: Duration::from_millis(40),
            cold_start: Duration::from_millis(250),
            timeout: Duration::from_secs(900),
            yield_before_timeout: Duration::from_secs(60),
            visibility: Duration::from_secs(5_400),
            max_deliveries: 5,
            network_bytes_per_second: 75 << 20,
        }
    }
}

/// The gigabytes per second that the core of the benchmarks selects and copies: `pump: pass-through` of `docs/benchmarks.md`.
pub const READ_GIGABYTES_PER_SECOND: f64 = 1.9;

/// The same with version records: `pump: pass-through, optimistic`.
pub const READ_WITH_VERSIONS_GIGABYTES_PER_SECOND: f64 = 1.69;

impl ProcessorParameters {
    /// Returns the times of a vCPU that is this many times slower than the core of `docs/benchmarks.md`.
    pub fn from_benchmarks(slowdown: f64) -> Self {
        let seconds = |gigabytes_per_second: f64| slowdown / gigabytes_per_second;
        Self {
            read: seconds(READ_GIGABYTES_PER_SECOND),
            read_with_versions: seconds(READ_WITH_VERSIONS_GIGABYTES_PER_SECOND),
            decompress: seconds(2.0),
            transfer: seconds(3.0),
            merge: seconds(4.0),
            resolve: seconds(0.5),
            memory_of_one_mb: 1_769,
        }
    }
}
