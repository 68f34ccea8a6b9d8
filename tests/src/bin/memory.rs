//! Measures the peak memory of workers in each mode. Fails if one needs more than the limit.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum as _};
use headrace_tests::flows::Result;
use headrace_tests::lake::generated::{self, LakeShape};
use headrace_tests::measurements::memory::{LIMIT_MIB, Mode, Usage, measure, run_worker};
use headrace_tests::standins::generating_server::GeneratingServer;
use tempfile::TempDir;

/// Size of a resource of the FHIR server of a synchronization.
const RESOURCE_BYTES: u64 = 1_400;

/// Measures the peak memory of workers in each mode, over lakes of generated resources.
#[derive(Debug, Parser)]
#[command(name = "memory")]
struct Arguments {
    /// Modes to measure. Default: all.
    #[arg(value_enum)]
    modes: Vec<Mode>,
    /// Size of the lakes in MB before compression. Needs about three times as much space on the disk.
    #[arg(long, default_value_t = 4_500)]
    lake_mb: u64,
    /// Folder for the lakes and the exports.
    #[arg(long, default_value = "target")]
    scratch: PathBuf,
    /// Mode, input and folder of a worker that this process runs.
    #[arg(long, hide = true, num_args = 3)]
    worker: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("memory: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the worker that the arguments name, or measures the modes.
fn run(arguments: &Arguments) -> Result<()> {
    if let [mode, input, folder] = arguments.worker.as_slice() {
        let mode = Mode::from_str(mode, false)?;
        println!("{}", tokio::runtime::Runtime::new()?.block_on(Box::pin(run_worker(mode, input, Path::new(folder))))?);
        return Ok(());
    }
    let modes: &[Mode] = if arguments.modes.is_empty() { Mode::value_variants() } else { &arguments.modes };
    println!("{} MB, limit {LIMIT_MIB} MiB\n", arguments.lake_mb);
    println!("{:<14}  {:>10}  {:>8}  {:>8}  steps, with their peaks in MiB", "mode", "resources", "idle MiB", "peak MiB");
    let mut input = Input::default();
    let mut exceeding = Vec::new();
    for mode in modes.iter().copied() {
        let url = input.prepare(mode, arguments)?;
        let usage = measure(&std::env::current_exe()?, mode, &url, &arguments.scratch)?;
        print_row(mode, &usage);
        exceeding.extend((usage.peak_mib().1 > LIMIT_MIB).then(|| name(mode)));
    }
    if exceeding.is_empty() { Ok(()) } else { Err(format!("more than {LIMIT_MIB} MiB: {}", exceeding.join(", ")).into()) }
}

/// Lake or FHIR server of the current mode.
#[derive(Default)]
struct Input {
    lake: Option<(LakeShape, TempDir)>,
}

impl Input {
    /// Prepares the input of a mode. The lake of the mode before is kept if it has the same shape.
    fn prepare(&mut self, mode: Mode, arguments: &Arguments) -> Result<String> {
        let bytes = arguments.lake_mb * 1_000_000;
        let Some(shape) = mode.lake(bytes) else {
            self.lake = None;
            return Ok(GeneratingServer::start(bytes / RESOURCE_BYTES)?.base);
        };
        let folder = match self.lake.take() {
            Some((same, folder)) if same == shape => folder,
            other => {
                // Its space is needed.
                drop(other);
                let folder = tempfile::Builder::new().prefix("lake-").tempdir_in(&arguments.scratch)?;
                generated::write(folder.path(), &shape)?;
                folder
            }
        };
        let path = folder.path().to_str().ok_or("the path of the lake is not UTF-8")?.to_owned();
        self.lake = Some((shape, folder));
        Ok(path)
    }
}

/// Returns the name of a mode.
fn name(mode: Mode) -> String {
    mode.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Prints the figures of a mode.
fn print_row(mode: Mode, usage: &Usage) {
    let steps: Vec<String> = usage.steps.iter().map(|(step, kilobytes)| format!("{step} {}", kilobytes >> 10)).collect();
    println!("{:<14}  {:>10}  {:>8}  {:>8}  {}", name(mode), usage.resources, usage.idle_mib(), usage.peak_mib().1, steps.join(", "));
}
