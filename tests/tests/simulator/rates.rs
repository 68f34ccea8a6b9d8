//! The rates of the simulated processor are those of the committed benchmarks.

use std::fs;

use headrace_simulator::parameters::{READ_GIGABYTES_PER_SECOND, READ_WITH_VERSIONS_GIGABYTES_PER_SECOND};
use headrace_tests::flows::Result;
use headrace_tests::workspace;

/// The difference that two runs of the benchmarks may have, as a part of the rate.
const TOLERANCE: f64 = 0.1;

/// Returns the rate of a row of the benchmarks, in gigabytes per second.
fn measured(output: &str, row: &str) -> Result<f64> {
    let rest = output.lines().find_map(|line| line.strip_prefix(row)?.trim().split_once(" GB/s"));
    let (rate, _) = rest.ok_or_else(|| format!("the benchmark has no row `{row}`"))?;
    Ok(rate.parse()?)
}

#[test]
fn the_rates_of_a_processor_are_those_of_the_committed_benchmarks() -> Result<()> {
    let output = fs::read_to_string(workspace::root().join("tests/benches/results/export.txt"))?;
    for (row, rate) in
        [("pump: pass-through ", READ_GIGABYTES_PER_SECOND), ("pump: pass-through, optimistic ", READ_WITH_VERSIONS_GIGABYTES_PER_SECOND)]
    {
        let measured = measured(&output, row)?;
        assert!((rate / measured - 1.0).abs() < TOLERANCE, "the simulator reckons with {rate} GB/s instead of {measured} for `{row}`");
    }
    Ok(())
}
