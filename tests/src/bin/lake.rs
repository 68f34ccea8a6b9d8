//! Lakes of NDJSON from a shell: write the shipped ones anew, multiply one, count one.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use headrace_tests::lake::{self, LakeError, Packing};

/// Makes and measures lakes of FHIR NDJSON for tests and benchmarks.
#[derive(Debug, Parser)]
#[command(name = "lake")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write the sample lake; the same bytes every time.
    Sample {
        /// An empty folder, or one that does not exist yet.
        dir: PathBuf,
    },
    /// Write the lake of lines that are no resources among good ones.
    Broken {
        /// An empty folder, or one that does not exist yet.
        dir: PathBuf,
    },
    /// Write every line of a lake several times, each copy with ids of its own.
    Multiply {
        /// The lake: plain, .gz and .zst files.
        from: PathBuf,
        /// An empty folder, or one that does not exist yet.
        to: PathBuf,
        /// How many copies, the original included.
        #[arg(long, short = 'n', value_parser = clap::value_parser!(u32).range(1..))]
        times: u32,
        /// Write .ndjson.gz files.
        #[arg(long, conflicts_with = "zstd")]
        gzip: bool,
        /// Write .ndjson.zst files.
        #[arg(long)]
        zstd: bool,
    },
    /// Print every line of a lake, unpacked.
    Cat {
        /// The lake.
        dir: PathBuf,
    },
    /// Print lines and bytes per resource type.
    Count {
        /// The lake.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("lake: {error}");
            let mut cause = error.source();
            while let Some(inner) = cause {
                eprint!(": {inner}");
                cause = inner.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<(), LakeError> {
    match verb {
        Verb::Sample { dir } => lake::sample::write(&dir),
        Verb::Broken { dir } => lake::broken::write(&dir),
        Verb::Multiply { from, to, times, gzip, zstd } => {
            let packing = match (gzip, zstd) {
                (true, _) => Packing::Gzip,
                (_, true) => Packing::Zstd,
                (false, false) => Packing::Plain,
            };
            let start = Instant::now();
            let written = lake::multiply(&from, &to, times, packing)?;
            let (seconds, megabytes) = (start.elapsed().as_secs_f64(), written.bytes as f64 / 1e6);
            eprintln!("{} files, {} lines, {megabytes:.1} MB in {seconds:.2} s", written.files, written.lines);
            Ok(())
        }
        Verb::Cat { dir } => {
            let mut out = std::io::stdout().lock();
            let written = lake::lines(&dir)?.into_iter().try_for_each(|line| out.write_all(&[&line[..], b"\n"].concat()));
            written.map_err(|cause| LakeError::File { path: PathBuf::from("standard output"), cause })
        }
        Verb::Count { dir } => {
            let tallies = lake::count(&dir)?;
            let mut total = lake::Tally::default();
            for (name, tally) in &tallies {
                let name = if name.is_empty() { "(no resource)" } else { name };
                println!("{name:<24}{:>10}{:>14}", tally.lines, tally.bytes);
                total.lines += tally.lines;
                total.bytes += tally.bytes;
            }
            println!("{:<24}{:>10}{:>14}", "total", total.lines, total.bytes);
            Ok(())
        }
    }
}
