//! The command line of the simulator.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use headrace_core::job::PriceTable;
use headrace_simulator::parameters::{AwsParameters, Mode, ProcessorParameters, Scenario};
use headrace_simulator::report::Report;
use headrace_simulator::simulation::simulate;

/// Simulates an export of a whole lake on AWS. Fails if the export does not end, or is not exact.
#[derive(Debug, Parser)]
struct Arguments {
    /// Size of the lake before compression, such as 10GB or 1TB.
    #[arg(long, default_value = "1TB", value_parser = parse_size)]
    lake: u64,
    /// Most workers that run at the same time.
    #[arg(long, default_value_t = 1_000)]
    workers: u32,
    /// Most of these workers that the export starts at once. The queue starts the others.
    #[arg(long, default_value_t = 0)]
    started_workers: u32,
    /// Interpretation of the lake: one, auto or many.
    #[arg(long, default_value = "auto", value_parser = parse_mode)]
    mode: Mode,
    /// Seed of all random draws.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Memory of a worker in MB.
    #[arg(long, default_value_t = 512)]
    memory_mb: u32,
    /// Number of workers with a tenth of the speed of the others.
    #[arg(long, default_value_t = 0)]
    slow_workers: u32,
    /// Leave the last tasks of a round to their workers, however slow these are.
    #[arg(long)]
    no_splits: bool,
    /// Mean time between crashes of a worker in seconds. 0 for no crashes.
    #[arg(long, default_value_t = 0)]
    crash_interval: u64,
    /// Fraction of calls to the job table that are applied and whose answer is lost.
    #[arg(long, default_value_t = 0.0)]
    lost_answers: f64,
    /// Let partitions of the job table save up capacity for 300 seconds.
    #[arg(long)]
    burst: bool,
    /// Ask for a manifest in pages.
    #[arg(long)]
    partial_manifests: bool,
    /// Size of the lake's objects before compression.
    #[arg(long, default_value = "240MB", value_parser = parse_size)]
    object: u64,
    /// Store the lake's objects without compression.
    #[arg(long)]
    plain: bool,
    /// Size of an output file.
    #[arg(long, default_value = "64MB", value_parser = parse_size)]
    file: u64,
    /// Number of bytes for which a simulated byte stands. By default chosen by the size of the lake.
    #[arg(long)]
    scale: Option<u64>,
    /// Slowness of a Lambda vCPU, compared with the core of the benchmarks.
    #[arg(long, default_value_t = 2.5)]
    slowdown: f64,
    /// Virtual time after which the simulation gives up, in minutes.
    #[arg(long, default_value_t = 60)]
    limit: u64,
    /// Print the progress of the export to the standard error output.
    #[arg(long)]
    progress: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Parses a size with a unit: kB, MB, GB or TB.
fn parse_size(text: &str) -> Result<u64, String> {
    let units = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    let parsed = units.into_iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.trim().parse::<u64>().ok()? * factor));
    parsed.ok_or_else(|| "write a whole number and a unit, such as 100GB".to_owned())
}

/// Parses a mode.
fn parse_mode(text: &str) -> Result<Mode, String> {
    Mode::parse(text).ok_or_else(|| "one, auto or many".to_owned())
}

impl Arguments {
    /// Returns the scenario.
    fn scenario(&self) -> Scenario {
        Scenario {
            lake_bytes: self.lake,
            workers: self.workers,
            started_workers: self.started_workers,
            mode: self.mode,
            seed: self.seed,
            worker_memory_mb: self.memory_mb,
            slow_workers: self.slow_workers,
            splits_tasks: !self.no_splits,
            crash_interval: (self.crash_interval > 0).then(|| Duration::from_secs(self.crash_interval)),
            lost_answers: self.lost_answers,
            burst: self.burst,
            partial_manifests: self.partial_manifests,
            object_bytes: self.object,
            is_compressed: !self.plain,
            file_bytes: self.file,
            byte_scale: self.scale,
            time_limit: Duration::from_secs(self.limit * 60),
            shows_progress: self.progress,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let aws = AwsParameters { processor: ProcessorParameters::from_benchmarks(arguments.slowdown), ..AwsParameters::default() };
    let report = match (simulate(&arguments.scenario(), &aws), PriceTable::us_east_1()) {
        (Ok(outcome), Ok(prices)) => Report::new(&outcome, &prices),
        (Err(error), _) => return fail(&error.to_string()),
        (_, Err(error)) => return fail(&format!("the price table cannot be read: {error}")),
    };
    let text = match serde_json::to_string_pretty(&report) {
        Ok(json) if arguments.json => format!("{json}\n"),
        Ok(_) => report.to_string(),
        Err(error) => return fail(&error.to_string()),
    };
    // A reader such as `head` may have read enough.
    if let Err(error) = io::stdout().write_all(text.as_bytes())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return fail(&error.to_string());
    }
    if report.is_exact { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints an error and returns the exit code for it.
fn fail(error: &str) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}
