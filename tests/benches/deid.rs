//! Throughput of the two de-identification engines on the same resources and rules: one core, from memory.
//!
//! `cargo bench --profile laptop -p headrace-tests --bench deid`

use std::hint::black_box;
use std::time::{Duration, Instant};

use headrace_core::vocab::error::BoxError;
use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::deid::{DeidConfig, DeidJobContext, Deidentifier};
use headrace_tests::lake;
use time::macros::date;

/// Counted runs of each engine, in turn.
const RUNS: usize = 9;

/// The least duration of a run.
const RUN_TIME: Duration = Duration::from_millis(500);

const CONFIGS: [(&str, &str); 2] = [
    ("Microsoft's safe-harbor sample", include_str!("../samples/anonymization/safe-harbor.json")),
    ("our sample for a study", include_str!("../samples/anonymization/study.json")),
];

/// A function that appends a de-identified resource.
type Engine<'e> = &'e dyn Fn(&[u8], &mut Vec<u8>) -> Result<(), BoxError>;

/// Measures the bytes per second that an engine reads, over all lines again and again.
fn bytes_per_second(lines: &[Vec<u8>], engine: Engine<'_>) -> Result<f64, BoxError> {
    let (mut out, mut bytes, begin) = (Vec::new(), 0, Instant::now());
    while begin.elapsed() < RUN_TIME {
        for line in lines {
            out.clear();
            engine(line, &mut out)?;
            black_box(&out);
            bytes += line.len();
        }
    }
    Ok(bytes as f64 / begin.elapsed().as_secs_f64())
}

/// Returns the median, the upper one of an even number of values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Creates a de-identifier with a fixed key and date.
fn deidentifier(config: &str) -> Result<Deidentifier, BoxError> {
    let config = DeidConfig::parse(config.as_bytes(), FhirVersion::default())?;
    Ok(config.for_job(&DeidJobContext { key: [7; 32], today: date!(2026 - 01 - 31), time: time::Time::MIDNIGHT }))
}

fn main() -> Result<(), BoxError> {
    let lines = lake::lines(&lake::synthea_lake_dir())?;
    println!("{} resources of tests/samples/synthea; medians of {RUNS} runs of each engine in turn\n", lines.len());
    println!("{:<46} {:>14} {:>14} {:>7}", "rules", "streaming", "tree", "ratio");
    for (name, config) in CONFIGS {
        let deidentifier = deidentifier(config)?;
        let streaming: Engine<'_> = &|line, out| Ok(deidentifier.deidentify(line, Some("a"), out).map(drop)?);
        let tree: Engine<'_> = &|line, out| Ok(deidentifier.deidentify_with_tree(line, Some("a"), out)?);
        bytes_per_second(&lines, streaming)?;
        let mut rates = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            rates.0.push(bytes_per_second(&lines, streaming)?);
            rates.1.push(bytes_per_second(&lines, tree)?);
        }
        let (streaming, tree) = (median(rates.0), median(rates.1));
        println!("{name:<46} {:>9.0} MB/s {:>9.0} MB/s {:>7.1}", streaming / 1e6, tree / 1e6, streaming / tree);
    }
    Ok(())
}
