//! Benchmarks of exports. Each figure is printed next to a baseline that is measured in the same run. No benchmark fails for being slow.
//!
//! `cargo bench -p headrace-tests --bench export [-- [--runs N] NAME…]`. Without names, all run. The program `memory` measures memory.

mod aws;
mod child;
mod kick_off;
mod lakes;
mod local;
mod pump;
mod table;
mod text_filter;

use std::error::Error;
use std::io;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use headrace_tests::lake::{Compression, sample_lake_dir, synthea_lake_dir};
use table::print;

/// Error of a benchmark.
type BoxError = Box<dyn Error + Send + Sync>;

#[derive(Debug, Parser)]
struct Arguments {
    /// Benchmarks to run.
    #[arg(value_enum)]
    benchmarks: Vec<Benchmark>,
    /// Number of measurements of each benchmark. Their median is printed.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Size of the generated lake in megabytes.
    #[arg(long, default_value_t = 470)]
    lake_mb: u64,
    /// Lake that is multiplied to that size. Default: tests/samples/lake, and tests/samples/synthea where lines are filtered by their text.
    #[arg(long)]
    source: Option<PathBuf>,
    /// Task of a child process, with its arguments.
    #[arg(long, hide = true, num_args = 1.., allow_hyphen_values = true)]
    child: Vec<String>,
    /// Ignored: `cargo bench` passes this flag.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// Export of the whole lake by `headrace serve`, from the kick-off to the manifest.
    PassThrough,
    /// Export of about half of the lake with `_since`.
    Since,
    /// Export of about half of the lake with `_type`.
    Type,
    /// Runs of `headrace export` from start to end.
    RoundTrip,
    /// Run of `headrace export --since`, compared with DuckDB, on a lake whose instants all have one form.
    Increment,
    /// Export through the AWS adapters, over stand-ins.
    Aws,
    /// Latency of 1,000 kick-offs.
    KickOff,
    /// Throughput of one core without a file system.
    Pump,
}

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::parse();
    if !arguments.child.is_empty() {
        return child::run(&arguments.child);
    }
    let source = arguments.source.clone().unwrap_or_else(sample_lake_dir);
    let wants = |name| arguments.benchmarks.is_empty() || arguments.benchmarks.contains(&name);
    // Next to the build output, which is on a real file system with enough space.
    let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let place = |name: &str| scratch.path().join(name);
    let needs_lake = [Benchmark::PassThrough, Benchmark::Since, Benchmark::Type, Benchmark::RoundTrip, Benchmark::Aws, Benchmark::Pump]
        .into_iter()
        .any(wants);
    let lake: PathBuf = place("lake");
    let lake_bytes = arguments.lake_mb * 1_000_000;
    let runs = arguments.runs.max(1);
    if needs_lake {
        print(&lakes::generate(&source, &lake, lake_bytes, Compression::Plain)?.to_string());
        print(table::HEAD);
    }
    let bench = local::LocalBenchmark { lake: &lake, scratch: scratch.path(), runs };
    if wants(Benchmark::PassThrough) {
        bench.measure_export("local pass-through", &[])?;
    }
    if wants(Benchmark::Since) {
        bench.measure_export("local _since", &[("_since", lakes::middle_instant(&lake)?)])?;
    }
    if wants(Benchmark::Type) {
        bench.measure_export("local _type", &[("_type", lakes::half_of_the_types(&lake)?)])?;
    }
    if wants(Benchmark::RoundTrip) {
        bench.measure_round_trip()?;
    }
    if wants(Benchmark::Aws) {
        aws::measure(&lake, scratch.path(), runs)?;
    }
    if wants(Benchmark::Pump) {
        pump::measure(&lake, runs)?;
    }
    if needs_lake {
        std::fs::remove_dir_all(&lake)?;
    }
    if wants(Benchmark::Increment) {
        // The sample lake has instants with several offsets, which a comparison of texts gets wrong.
        let source = arguments.source.unwrap_or_else(synthea_lake_dir);
        print(&lakes::generate(&source, &lake, lake_bytes, Compression::Plain)?.to_string());
        print(table::HEAD);
        local::LocalBenchmark { lake: &lake, scratch: scratch.path(), runs }.measure_increment()?;
        std::fs::remove_dir_all(&lake)?;
    }
    if wants(Benchmark::KickOff) {
        kick_off::measure(scratch.path())?;
    }
    Ok(())
}

/// Returns the error of a failed command.
fn failed(what: &str) -> BoxError {
    io::Error::other(format!("{what} failed")).into()
}
