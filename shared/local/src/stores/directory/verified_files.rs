//! The output files whose checksums were verified by this process.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use headrace_core::job::file::FileSummary;

use super::output::has_content;

/// Maximum number of files that are remembered. Forgotten files are verified again.
const MAX_FILES: usize = 10_000;

/// The state of a file when it was verified: size and time of its last change.
type FileState = (u64, Option<SystemTime>);

/// The output files that were verified, so that each is read once and not before every range request. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct VerifiedFiles(Arc<Mutex<HashMap<PathBuf, FileState>>>);

impl VerifiedFiles {
    /// Returns true if a file has this content. Reads it unless it was verified before and has not changed since.
    pub(super) fn has_content(&self, path: &Path, summary: FileSummary) -> io::Result<bool> {
        let state = state_of(&fs::metadata(path)?);
        if self.files().get(path) == Some(&state) {
            return Ok(true);
        }
        let is_same = has_content(path, summary)?;
        if is_same {
            let mut files = self.files();
            if files.len() >= MAX_FILES {
                files.clear();
            }
            files.insert(path.to_owned(), state);
        }
        Ok(is_same)
    }

    /// Locks the files.
    fn files(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, FileState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the state of a file.
fn state_of(metadata: &Metadata) -> FileState {
    (metadata.len(), metadata.modified().ok())
}
