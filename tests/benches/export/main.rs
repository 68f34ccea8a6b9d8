//! What an export costs, each figure beside a yardstick measured in the same run. Nothing here fails for being slow.
//!
//! `cargo bench -p headrace-tests --bench export [-- [--runs N] NAME…]`; without names, all but `memory-large`.

mod aws;
mod child;
mod disk_s3;
mod kick_off;
mod lakes;
mod local;
mod memory;
mod pump;
mod table;

use std::error::Error;
use std::io;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use headrace_tests::lake::Packing;
use table::print;

/// Whatever went wrong.
type BoxError = Box<dyn Error + Send + Sync>;

#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum)]
    names: Vec<Name>,
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// The lake's size in megabytes.
    #[arg(long, default_value_t = 470)]
    lake_mb: u64,
    /// Says which child this process is.
    #[arg(long, hide = true, num_args = 1.., allow_hyphen_values = true)]
    child: Vec<String>,
    /// `cargo bench` passes this.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The whole lake by `headrace serve`, kick-off to manifest.
    PassThrough,
    /// With `_since`, about half of the lake.
    Since,
    /// With `_type`, about half of the lake.
    Type,
    /// `headrace export`, downloads included.
    RoundTrip,
    /// Through the AWS adapters, over stand-ins.
    Aws,
    /// Peak memory of workers over 45 MB.
    Memory,
    /// Peak memory of workers over 4.5 GB; takes 20 GB of disk and some minutes.
    MemoryLarge,
    /// Latency of 1,000 kick-offs.
    KickOff,
    /// One core, no file system.
    Pump,
}

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::parse();
    if !arguments.child.is_empty() {
        return child::run(&arguments.child);
    }
    let wants = |name| if arguments.names.is_empty() { name != Name::MemoryLarge } else { arguments.names.contains(&name) };
    // Beside the build, where there is room and a real file system.
    let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let place = |name: &str| scratch.path().join(name);
    let needs_lake = [Name::PassThrough, Name::Since, Name::Type, Name::RoundTrip, Name::Aws, Name::Pump].into_iter().any(wants);
    let lake: PathBuf = place("lake");
    if needs_lake {
        print(&lakes::make(&lake, arguments.lake_mb * 1_000_000, Packing::Plain)?.to_string());
        print(table::HEAD);
    }
    let bench = local::Bench { lake: &lake, scratch: scratch.path(), runs: arguments.runs.max(1) };
    if wants(Name::PassThrough) {
        bench.served("local pass-through", &[])?;
    }
    if wants(Name::Since) {
        bench.served("local _since", &[("_since", lakes::middle_instant(&lake)?)])?;
    }
    if wants(Name::Type) {
        bench.served("local _type", &[("_type", lakes::half_of_the_types(&lake)?)])?;
    }
    if wants(Name::RoundTrip) {
        bench.round_trip()?;
    }
    if wants(Name::Aws) {
        aws::measure(&lake, scratch.path(), bench.runs)?;
    }
    if wants(Name::Pump) {
        pump::measure(&lake, bench.runs)?;
    }
    if needs_lake {
        std::fs::remove_dir_all(&lake)?;
    }
    if wants(Name::KickOff) {
        kick_off::measure(scratch.path())?;
    }
    if wants(Name::Memory) {
        memory::measure(scratch.path(), 45_000_000)?;
    }
    if wants(Name::MemoryLarge) {
        memory::measure(scratch.path(), 4_500_000_000)?;
    }
    Ok(())
}

/// The error of a command that did not do what it should.
fn failed(what: &str) -> BoxError {
    io::Error::other(format!("{what} failed")).into()
}
