//! The settings that all runs that write lines into a lake have in common.

use std::path::PathBuf;

use headrace_core::vocab::clock::Millis;

use super::{LakeLines, LineSink, WriteError};

/// The time, the memory and the threads of a run that writes lines into a lake.
#[derive(Clone, Debug)]
pub struct RewriteSettings {
    /// The folder of temporary files.
    pub temp_folder: PathBuf,
    /// The number of threads.
    pub workers: usize,
    /// The memory for records that are sorted, in bytes.
    pub sort_bytes: usize,
    /// The memory for lines that are not written yet, in bytes.
    pub line_bytes: usize,
    /// The time of the run.
    pub now: Millis,
    /// Random bytes, so that nobody can prepare names or ids whose hashes are equal.
    pub seed: [u8; 16],
}

impl RewriteSettings {
    /// Returns the number of threads, at least one.
    pub(crate) fn workers(&self) -> usize {
        self.workers.max(1)
    }

    /// Creates a sink of lines for each thread. They share the memory for lines.
    pub(crate) fn sinks<'l>(&self, lines: &'l LakeLines<'_>) -> Result<Vec<LineSink<'l>>, WriteError> {
        (0..self.workers()).map(|_| lines.sink(self.line_bytes / self.workers())).collect()
    }
}
