//! What a simulated export says that it has used is what the services have measured, and what an estimate has said before.

use headrace_core::job::PriceTable;
use headrace_simulator::meter::{Measurements, Service};
use headrace_simulator::parameters::{AwsParameters, Mode, Scenario};
use headrace_simulator::prices::costs;
use headrace_simulator::simulation::{JobEnd, SimulationError, estimate, simulate};

/// Returns an export of this many GB by 50 workers.
fn scenario(gigabytes: u64, mode: Mode) -> Scenario {
    Scenario { lake_bytes: gigabytes * 1_000_000_000, workers: 50, mode, ..Scenario::default() }
}

/// Returns the number of calls of these operations of S3.
fn calls(measured: &Measurements, operations: &[&str]) -> u64 {
    operations.iter().filter_map(|operation| measured.calls.get(&(Service::S3, operation))).sum()
}

/// Returns the capacity that all keys have consumed: write units and read units.
fn units(measured: &Measurements) -> (f64, f64) {
    measured.keys.values().fold((0.0, 0.0), |(writes, reads), load| (writes + load.writes.total, reads + load.reads.total))
}

/// Returns the read units of the partitions of tasks and counters, which nobody else reads while the export runs.
fn task_reads(measured: &Measurements) -> f64 {
    measured.keys.iter().filter(|(key, _)| key.starts_with("JOB#") && key.matches('#').count() == 2).map(|(_, load)| load.reads.total).sum()
}

/// Checks that a number is between two parts of another one.
fn assert_part(what: &str, counted: f64, measured: f64, parts: std::ops::RangeInclusive<f64>) {
    assert!(parts.contains(&(counted / measured)), "{what}: {counted} counted, {measured} measured, {:.3}", counted / measured);
}

#[test]
fn an_export_counts_what_the_services_measure() -> Result<(), SimulationError> {
    for mode in [Mode::One, Mode::Auto] {
        let scenario = scenario(4, mode);
        let outcome = simulate(&scenario, &AwsParameters::default())?;
        assert_eq!(outcome.end, JobEnd::Complete);
        let (usage, measured) = (outcome.usage, &outcome.measured);
        // Nothing else than the workers reads and writes objects, until the reaper sweeps.
        assert_eq!(usage.gets, calls(measured, &["GetObject"]));
        assert_eq!(usage.puts, calls(measured, &["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]));
        assert_eq!(usage.copies, calls(measured, &["CopyObject"]));
        assert!(usage.lists > 0 && usage.lists <= calls(measured, &["ListObjectsV2", "ListMultipartUploads"]));
        // The call that records the usage is not part of it, nor are the kick-off, the polls and the reaper.
        let (writes, reads) = units(measured);
        assert_part("write units", usage.write_units as f64, writes, 0.7..=1.0);
        let counted_reads = usage.half_read_units as f64 / 2.0;
        assert!(counted_reads < reads && counted_reads > 0.7 * task_reads(measured), "{counted_reads} of {reads}");
        let (_, worked) = measured.invocations.get(&scenario.worker_memory_mb).copied().unwrap_or_default();
        assert_part("seconds", usage.worker_ms as f64 / 1_000.0, worked.as_secs_f64(), 0.85..=1.0);
        assert_eq!(usage.memory_mb(), Some(scenario.worker_memory_mb.into()));
        let messages = measured.calls.get(&(Service::Sqs, "ReceiveMessage and DeleteMessage")).copied().unwrap_or_default() / 2;
        assert_part("messages", usage.messages as f64, messages as f64, 0.8..=1.0);
        assert!(usage.bytes_read > outcome.stored_bytes, "the lake and fragments");
    }
    Ok(())
}

#[test]
fn an_estimate_is_within_30_percent_of_what_happens() -> Result<(), SimulationError> {
    let prices = PriceTable::us_east_1().map_err(|error| SimulationError::KickOff(error.to_string()))?;
    let mut far = Vec::new();
    for (gigabytes, mode) in [(2, Mode::One), (10, Mode::One), (10, Mode::Auto), (30, Mode::Auto)] {
        let scenario = scenario(gigabytes, mode);
        let (volume, forecast) = estimate(&scenario, &AwsParameters::default())?;
        let outcome = simulate(&scenario, &AwsParameters::default())?;
        assert_eq!(outcome.end, JobEnd::Complete);
        let completed: u64 = outcome.measured.attempts.iter().filter(|((_, end), _)| *end == "completed").map(|(_, count)| count).sum();
        let files: u64 = volume.kinds.values().map(|kind| kind.files(64_000_000)).sum();
        let compared = [
            ("objects", volume.objects as f64, outcome.objects as f64),
            ("bytes to read", volume.source_bytes as f64, outcome.stored_bytes as f64),
            ("files", files as f64, outcome.exactness.files as f64),
            ("bytes of output", volume.output_bytes(), scenario.lake_bytes as f64),
            ("tasks", forecast.tasks as f64, completed as f64),
            ("seconds", forecast.seconds, outcome.duration.as_secs_f64()),
            ("USD", prices.costs(forecast.usage).total(), costs(&outcome.measured, &prices).total()),
        ];
        for (what, estimated, happened) in compared {
            println!("{gigabytes} GB {mode:?} {what}: {estimated} estimated, {happened} happened, {:.2}", estimated / happened);
            if !(0.7..=1.3).contains(&(estimated / happened)) {
                far.push(format!("{gigabytes} GB {mode:?} {what}: {estimated} estimated, {happened} happened"));
            }
        }
    }
    assert!(far.is_empty(), "{far:#?}");
    Ok(())
}
