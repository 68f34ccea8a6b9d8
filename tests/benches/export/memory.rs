//! Peak resident memory of processes that export.

use std::path::Path;

use headrace_tests::lake::Packing;

use crate::BoxError;
use crate::child::peak;
use crate::lakes::make;
use crate::table::print;

/// The design's target for a worker.
const TARGET_MIB: u64 = 256;

/// Exports lakes of about `bytes` and prints how large the processes became.
pub(crate) fn measure(scratch: &Path, bytes: u64) -> Result<(), BoxError> {
    print(&format!("\npeak resident memory                                             idle    export   target {TARGET_MIB} MiB"));
    for (packing, called) in [(Packing::Plain, "plain"), (Packing::Zstd, "zstd")] {
        let lake = tempfile::tempdir_in(scratch)?;
        let made = make(lake.path(), bytes, packing)?;
        for (kind, what) in
            [("chunk-worker", "chunk-worker, S3 adapters, files behind them"), ("serve", "headrace serve, 2 workers at once")]
        {
            let state = tempfile::tempdir_in(scratch)?;
            let (idle, export) = peak(kind, lake.path(), state.path())?;
            print(&format!("{what:<46} {called:<6} {:>5} MB {:>5} MiB {:>5} MiB", made.megabytes(), idle >> 10, export >> 10));
        }
    }
    Ok(())
}
