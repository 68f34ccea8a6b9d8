//! `headrace sync` with a server that generates a million resources: resources a second for each core that we use, and the peak memory.
//!
//! `cargo bench --profile laptop -p headrace-tests --bench sync`, with another number of resources after `--`.
//!
//! The server runs in this process and the synchronization in a child, so that the figures of the child are its own. The server sends
//! resources of 1.4 kB, the mean of Synthea's, in pages of a thousand.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser as _;
use headrace_local::cli::{Cli, Command as CliCommand};
use headrace_local::client::sync::command::run_sync;
use headrace_tests::standins::generating_server::GeneratingServer;
use serde_json::Value;

/// An error of any kind.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The number of resources if no other is requested.
const RESOURCES: u64 = 1_000_000;

/// The number of clock ticks in a second of `/proc/self/stat`. It is the same on all systems of Linux.
const TICKS_PER_SECOND: u64 = 100;

fn main() -> Result<(), BoxError> {
    // Cargo itself adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("--child") => run_child(arguments.get(1..).unwrap_or_default()),
        Some(count) => measure(count.parse()?),
        None => measure(RESOURCES),
    }
}

/// The figures of a synchronization.
struct Figures {
    elapsed: Duration,
    cpu: Duration,
    peak_mib: u64,
}

/// Synchronizes with servers of this size, and prints the figures.
fn measure(resources: u64) -> Result<(), BoxError> {
    let server = GeneratingServer::start(resources)?;
    println!("{resources} resources   windows at once   seconds   CPU seconds   resources/s per core of ours   peak MiB");
    for at_once in [1, 4] {
        let Figures { elapsed, cpu, peak_mib } = synchronize(&server, resources, at_once)?;
        let per_core = u128::from(resources) * 1_000 / cpu.as_millis().max(1);
        println!(
            "{:>width$}   {at_once:>15}   {:>7.1}   {:>11.1}   {per_core:>28}   {peak_mib:>8}",
            "",
            elapsed.as_secs_f64(),
            cpu.as_secs_f64(),
            width = resources.to_string().len() + 10
        );
    }
    Ok(())
}

/// Synchronizes a new lake in a child process.
fn synchronize(server: &GeneratingServer, resources: u64, at_once: u32) -> Result<Figures, BoxError> {
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (lake, started) = (folder.path().join("lake"), Instant::now());
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["--child", "sync", &server.base]).arg(lake).args(["--json", "--quiet", &format!("--requests-at-once={at_once}")]);
    let done = child.stderr(Stdio::inherit()).output()?;
    let elapsed = started.elapsed();
    let text = String::from_utf8(done.stdout)?;
    let mut lines = text.lines();
    let report: Value = serde_json::from_str(lines.next().ok_or("the child has printed nothing")?)?;
    let fetched: u64 = report.pointer("/types/0/resources").and_then(Value::as_u64).unwrap_or_default();
    if fetched != resources || report.get("isComplete") != Some(&Value::Bool(true)) {
        return Err(format!("not everything was fetched: {report}").into());
    }
    let mut figures = lines.next().unwrap_or_default().split_ascii_whitespace().map(str::parse::<u64>);
    match (figures.next(), figures.next()) {
        (Some(cpu), Some(peak)) => Ok(Figures { elapsed, cpu: Duration::from_millis(cpu?), peak_mib: peak? / 1024 }),
        _ => Err("the child has printed no figures".into()),
    }
}

/// Runs `headrace` with these arguments, and prints the CPU time in milliseconds and the peak memory in kB of this process.
fn run_child(arguments: &[String]) -> Result<(), BoxError> {
    let line = ["headrace"].into_iter().chain(arguments.iter().map(String::as_str));
    let CliCommand::Sync(sync) = Cli::try_parse_from(line)?.command else { return Err("the command is no synchronization".into()) };
    tokio::runtime::Runtime::new()?.block_on(run_sync(&sync))?;
    println!("{} {}", own_cpu_millis()?, own_peak_memory()?);
    Ok(())
}

/// Returns the CPU time that this process has used, in milliseconds.
fn own_cpu_millis() -> Result<u64, BoxError> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // The fields after the name of the program, which may have spaces: user time is the 12th, system time the 13th.
    let fields = text.rsplit_once(") ").ok_or("no name in /proc/self/stat")?.1;
    let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<u64>() * 1_000 / TICKS_PER_SECOND)
}

/// Returns the peak resident memory of this process, in kB.
fn own_peak_memory() -> Result<u64, BoxError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(peak.and_then(|rest| rest.split_ascii_whitespace().next()).ok_or("no VmHWM in /proc/self/status")?.parse()?)
}
