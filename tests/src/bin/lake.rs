//! Command line tool for NDJSON lakes: writes the samples, multiplies, prints and counts lakes.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use headrace_core::vocab::error::error_chain;
use headrace_tests::lake::{self, Compression, LakeError};

/// Creates and measures lakes of FHIR NDJSON for tests and benchmarks.
#[derive(Debug, Parser)]
#[command(name = "lake")]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write the sample lake, always with the same bytes.
    Sample {
        /// Empty or new folder.
        dir: PathBuf,
    },
    /// Write the lake with invalid lines among valid resources.
    Broken {
        /// Empty or new folder.
        dir: PathBuf,
    },
    /// Write several copies of a lake, each with its own ids.
    Multiply {
        /// Source lake with .ndjson, .ndjson.gz and .ndjson.zst files.
        from: PathBuf,
        /// Empty or new folder.
        to: PathBuf,
        /// Number of copies, including the original.
        #[arg(long, short = 'n', value_parser = clap::value_parser!(u32).range(1..))]
        times: u32,
        /// Write .ndjson.gz files.
        #[arg(long, conflicts_with = "zstd")]
        gzip: bool,
        /// Write .ndjson.zst files.
        #[arg(long)]
        zstd: bool,
    },
    /// Print every line of a lake, decompressed.
    Cat {
        /// Lake folder.
        dir: PathBuf,
    },
    /// Print lines and bytes per resource type.
    Count {
        /// Lake folder.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lake: {}", error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Runs a subcommand.
fn run(action: Action) -> Result<(), LakeError> {
    match action {
        Action::Sample { dir } => lake::sample::write(&dir),
        Action::Broken { dir } => lake::broken::write(&dir),
        Action::Multiply { from, to, times, gzip, zstd } => {
            let compression = match (gzip, zstd) {
                (true, _) => Compression::Gzip,
                (_, true) => Compression::Zstd,
                (false, false) => Compression::Plain,
            };
            let start = Instant::now();
            let written = lake::multiply(&from, &to, times, compression)?;
            let (seconds, megabytes) = (start.elapsed().as_secs_f64(), written.bytes as f64 / 1e6);
            eprintln!("{} files, {} lines, {megabytes:.1} MB in {seconds:.2} s", written.files, written.lines);
            Ok(())
        }
        Action::Cat { dir } => {
            let mut out = std::io::stdout().lock();
            let written = lake::lines(&dir)?.into_iter().try_for_each(|line| out.write_all(&[&line[..], b"\n"].concat()));
            written.map_err(|cause| LakeError::File { path: PathBuf::from("standard output"), cause })
        }
        Action::Count { dir } => {
            let tallies = lake::count(&dir)?;
            let mut total = lake::Tally::default();
            for (name, tally) in &tallies {
                let name = if name.is_empty() { "(no type)" } else { name };
                println!("{name:<24}{:>10}{:>14}", tally.lines, tally.bytes);
                total.lines += tally.lines;
                total.bytes += tally.bytes;
            }
            println!("{:<24}{:>10}{:>14}", "total", total.lines, total.bytes);
            Ok(())
        }
    }
}
