//! Peak resident memory of exporting processes.

use std::path::Path;

use headrace_tests::lake::Compression;

use crate::BoxError;
use crate::child::measure_peak_memory;
use crate::lakes::generate;
use crate::table::print;

/// Design target for the memory of a worker.
const TARGET_MIB: u64 = 256;

/// Exports lakes of about `bytes`, generated from the lake in `source`, and prints the peak memory of the processes.
pub(crate) fn measure(source: &Path, scratch: &Path, bytes: u64) -> Result<(), BoxError> {
    print(&format!("\npeak resident memory                                             idle    export   target {TARGET_MIB} MiB"));
    for (compression, called) in [(Compression::Plain, "plain"), (Compression::Zstd, "zstd")] {
        let lake = tempfile::tempdir_in(scratch)?;
        let generated = generate(source, lake.path(), bytes, compression)?;
        for (kind, what) in
            [("chunk-worker", "chunk-worker, S3 adapters, files behind them"), ("serve", "headrace serve, 2 workers at once")]
        {
            let state = tempfile::tempdir_in(scratch)?;
            let (idle, export) = measure_peak_memory(kind, lake.path(), state.path())?;
            print(&format!("{what:<46} {called:<6} {:>5} MB {:>5} MiB {:>5} MiB", generated.megabytes(), idle >> 10, export >> 10));
        }
    }
    Ok(())
}
