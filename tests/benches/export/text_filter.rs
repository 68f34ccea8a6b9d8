//! A filter of lines by their text, in SQL: what one would do without a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lakes::stored_bytes;
use crate::{BoxError, failed};

/// DuckDB, installed apart from this project.
pub(crate) struct TextFilter {
    python: PathBuf,
}

impl TextFilter {
    /// Commands that install DuckDB for this benchmark.
    pub(crate) const HOW_TO_INSTALL: &str = "DuckDB is not installed, so the export with _since has no baseline: \
        python3 -m venv target/tools/duckdb && target/tools/duckdb/bin/pip install duckdb";

    /// Returns DuckDB if it is installed below the build output.
    pub(crate) fn installed() -> Option<Self> {
        let python = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("tools/duckdb/bin/python");
        python.is_file().then_some(Self { python })
    }

    /// Writes the lines that were changed after `since`, file by file, and returns the size of all. The result is not kept.
    pub(crate) fn select(&self, lake: &Path, since: &str, scratch: &Path) -> Result<u64, BoxError> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/export/text_filter.py");
        let out = tempfile::tempdir_in(scratch)?;
        let done = Command::new(&self.python).arg(script).args([lake, out.path()]).arg(since).status()?;
        if done.success() { stored_bytes(out.path()) } else { Err(failed("the text filter")) }
    }
}
