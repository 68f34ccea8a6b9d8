//! The report of a simulation: as text for people, and as JSON for the documents that quote it.

mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use headrace_core::job::{Costs, PriceTable};
use serde::Serialize;

use crate::meter::{Activity, Measurements, Service};
use crate::prices::{costs, lambda_duration};
use crate::simulation::{JobEnd, Outcome};

/// The number of partition keys in a report.
const HOTTEST_KEYS: usize = 8;

/// The report of a simulation.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The size of the lake before compression, in GB.
    pub lake_gb: f64,
    /// The stored size of the lake, in GB.
    pub stored_gb: f64,
    /// The number of objects of the lake.
    pub objects: usize,
    /// The most workers that ran at the same time.
    pub workers: u32,
    /// The most of them that the export started itself.
    pub started_workers: u32,
    /// The number of workers with a tenth of the speed of the others.
    pub slow_workers: u32,
    /// True if the last tasks of a round give a part of their slices to new tasks.
    pub splits_tasks: bool,
    /// The memory of a worker, in MB.
    pub worker_memory_mb: u32,
    /// The interpretation of the lake.
    pub mode: &'static str,
    /// The seed.
    pub seed: u64,
    /// The number of real bytes for which one simulated byte stands.
    pub bytes_per_simulated_byte: u64,
    /// `complete`, or the reason why the export did not end so.
    pub end: String,
    /// The time from the kick-off to the end of the job, in seconds.
    pub seconds: f64,
    /// The costs by service, in USD.
    pub usd: Costs,
    /// The sum of the costs, in USD.
    pub usd_total: f64,
    /// The number of calls by service and operation.
    pub calls: BTreeMap<String, u64>,
    /// The number of rejected calls by service and reason.
    pub rejections: BTreeMap<String, u64>,
    /// The capacity that the job table has consumed: write units.
    pub write_units: u64,
    /// The capacity that the job table has consumed: read units.
    pub read_units: u64,
    /// The partition keys that consumed most write units in a second.
    pub hottest_keys: Vec<HotKey>,
    /// The number of attempts by step and end.
    pub attempts: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// The moments at which each step began and ended, in seconds after the kick-off.
    pub spans: BTreeMap<&'static str, (f64, f64)>,
    /// The total duration of the attempts by step, in seconds.
    pub attempt_seconds: BTreeMap<&'static str, f64>,
    /// The price of these seconds by step, in USD.
    pub attempt_usd: BTreeMap<&'static str, f64>,
    /// The time that workers spent by step and activity, in seconds. A worker writes a file while it reads and computes.
    pub worker_seconds: BTreeMap<&'static str, BTreeMap<&'static str, f64>>,
    /// The largest memory of a worker by step, in MB.
    pub memory_mb: BTreeMap<&'static str, u64>,
    /// The number of messages that were delivered too often.
    pub parked_messages: u32,
    /// The number of simulated lines in the lake.
    pub lines: u64,
    /// The number of output files.
    pub files: u64,
    /// True if each line was exported once and file numbers have no gaps.
    pub is_exact: bool,
    /// The differences, if the export is not exact.
    pub differences: String,
}

/// A partition key and what it has consumed.
#[derive(Clone, Debug, Serialize)]
pub struct HotKey {
    /// The key. A job's id is replaced by `…`.
    pub key: String,
    /// The most write units in a second.
    pub peak_writes: u64,
    /// The most read units in a second.
    pub peak_reads: u64,
    /// The write units of the whole export.
    pub writes: u64,
    /// The read units of the whole export.
    pub reads: u64,
}

impl Report {
    /// Creates the report of a simulation.
    pub fn new(outcome: &Outcome, prices: &PriceTable) -> Self {
        let Outcome { scenario, measured, exactness, .. } = outcome;
        let usd = costs(measured, prices);
        let is_exact = outcome.end == JobEnd::Complete && exactness.is_exact();
        Self {
            lake_gb: rounded(scenario.lake_bytes as f64 / 1e9, 1),
            stored_gb: rounded(outcome.stored_bytes as f64 / 1e9, 1),
            objects: outcome.objects,
            workers: scenario.workers,
            started_workers: scenario.started_workers,
            slow_workers: scenario.slow_workers,
            splits_tasks: scenario.splits_tasks,
            worker_memory_mb: scenario.worker_memory_mb,
            mode: scenario.mode.as_str(),
            seed: scenario.seed,
            bytes_per_simulated_byte: outcome.scale.bytes,
            end: end_text(&outcome.end),
            seconds: seconds(outcome.duration),
            usd_total: rounded(usd.total(), 3),
            usd: rounded_costs(&usd),
            calls: by_service(&measured.calls),
            rejections: by_service(&measured.rejections),
            write_units: whole(measured.keys.values().map(|load| load.writes.total).sum()),
            read_units: whole(measured.keys.values().map(|load| load.reads.total).sum()),
            hottest_keys: hottest_keys(measured),
            attempts: attempts(measured),
            spans: measured.spans.iter().map(|(step, (start, end))| (*step, (seconds(*start), seconds(*end)))).collect(),
            attempt_seconds: measured.durations.iter().map(|(step, duration)| (*step, seconds(*duration))).collect(),
            attempt_usd: attempt_usd(outcome, prices),
            worker_seconds: worker_seconds(measured),
            memory_mb: measured.memory.iter().map(|(step, bytes)| (*step, bytes.div_ceil(1_000_000))).collect(),
            parked_messages: outcome.parked_messages,
            lines: exactness.lake_lines,
            files: exactness.files,
            is_exact,
            differences: if is_exact { String::new() } else { format!("{exactness:?}") },
        }
    }
}

/// Returns the text for the end of a job.
fn end_text(end: &JobEnd) -> String {
    match end {
        JobEnd::Complete => "complete".to_owned(),
        JobEnd::Failed(reason) => format!("failed: {reason}"),
        JobEnd::TimeLimit(progress) => format!("not ended: {progress}"),
    }
}

/// Rounds to this many decimal places.
fn rounded(value: f64, places: i32) -> f64 {
    let factor = 10_f64.powi(places);
    (value * factor).round() / factor
}

/// Returns the nearest whole number of a quantity that is not negative.
fn whole(value: f64) -> u64 {
    format!("{value:.0}").parse().unwrap_or_default()
}

/// Returns a duration in seconds, with one decimal place.
fn seconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64(), 1)
}

/// Returns costs with four decimal places.
fn rounded_costs(costs: &Costs) -> Costs {
    Costs { lambda: rounded(costs.lambda, 4), dynamodb: rounded(costs.dynamodb, 4), s3: rounded(costs.s3, 4), sqs: rounded(costs.sqs, 4) }
}

/// Returns counts with the names of their services.
fn by_service(counts: &BTreeMap<(Service, &'static str), u64>) -> BTreeMap<String, u64> {
    counts.iter().map(|((service, name), count)| (format!("{} {name}", service.as_str()), *count)).collect()
}

/// Returns the partition keys that consumed most in a second.
fn hottest_keys(measured: &Measurements) -> Vec<HotKey> {
    let mut keys: Vec<HotKey> = measured
        .keys
        .iter()
        .map(|(key, load)| HotKey {
            key: without_job_id(key),
            peak_writes: whole(load.writes.peak),
            peak_reads: whole(load.reads.peak),
            writes: whole(load.writes.total),
            reads: whole(load.reads.total),
        })
        .collect();
    keys.sort_by_key(|key| std::cmp::Reverse((key.peak_writes + key.peak_reads, key.key.clone())));
    keys.truncate(HOTTEST_KEYS);
    keys
}

/// Returns a partition key without the random id of the job.
fn without_job_id(key: &str) -> String {
    let is_id = |part: &&str| part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    key.split('#').map(|part| if is_id(&part) { "…" } else { part }).collect::<Vec<_>>().join("#")
}

/// Returns the attempts by step and end.
fn attempts(measured: &Measurements) -> BTreeMap<String, BTreeMap<&'static str, u64>> {
    let mut attempts = BTreeMap::<String, BTreeMap<&'static str, u64>>::new();
    for ((step, end), count) in &measured.attempts {
        attempts.entry((*step).to_owned()).or_default().insert(end, *count);
    }
    attempts
}

/// Returns the price of the attempts by step.
fn attempt_usd(outcome: &Outcome, prices: &PriceTable) -> BTreeMap<&'static str, f64> {
    let memory_mb = outcome.scenario.worker_memory_mb;
    let durations = outcome.measured.durations.iter();
    durations.map(|(step, duration)| (*step, rounded(lambda_duration(prices, memory_mb, *duration), 4))).collect()
}

/// Returns the time of workers by step and activity.
fn worker_seconds(measured: &Measurements) -> BTreeMap<&'static str, BTreeMap<&'static str, f64>> {
    let mut times = BTreeMap::<&'static str, BTreeMap<&'static str, f64>>::new();
    for ((step, activity), duration) in &measured.activities {
        times.entry(*step).or_default().insert(Activity::as_str(*activity), seconds(*duration));
    }
    times
}
