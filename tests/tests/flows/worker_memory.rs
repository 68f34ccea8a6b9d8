//! The memory of a worker in a process of its own. The program `memory` measures all modes over large lakes.

use std::path::Path;

use headrace_core::job::JobSettings;
use headrace_tests::flows::Result;
use headrace_tests::lake::generated;
use headrace_tests::measurements::memory::{LIMIT_MIB, Mode, measure};

/// The size of the lake before compression. Its observations fill three output files, of which a worker holds two at a time: all lie in one
/// object, which one task reads, because it is compressed.
const LAKE_BYTES: u64 = 400_000_000;

#[test]
fn a_worker_that_reads_while_it_writes_stays_within_its_memory() -> Result<()> {
    let (lake, scratch) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let shape = Mode::Zstd.lake(LAKE_BYTES).ok_or("no lake")?;
    generated::write(lake.path(), &shape)?;
    let program = Path::new(env!("CARGO_BIN_EXE_memory"));
    let usage = measure(program, Mode::Zstd, lake.path().to_str().ok_or("not UTF-8")?, scratch.path())?;
    assert!(usage.resources > 250_000, "{usage:?}");
    assert!(usage.peak_mib().1 <= LIMIT_MIB, "{usage:?}");
    // Less would mean that the worker does not hold two files, so that this test shows nothing.
    assert!(usage.peak_mib().1 >= (2 * JobSettings::default().file_bytes) >> 20, "{usage:?}");
    Ok(())
}
