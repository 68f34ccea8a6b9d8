//! The output files whose checksums were verified by this process.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use headrace_core::job::file::FileSummary;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::output::has_content;

/// Maximum number of files that are remembered. Forgotten files are verified again.
const MAX_FILES: usize = 10_000;

/// The state of a file when it was verified: size and time of its last change.
type FileState = (u64, Option<SystemTime>);

/// Number of files that are read at the same time to verify them. A thousand requests for one file wait for one of them.
const CHECKS_AT_ONCE: usize = 2;

/// The output files that were verified, so that each is read once and not before every range request. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct VerifiedFiles {
    files: Arc<Mutex<HashMap<PathBuf, FileState>>>,
    checks: Arc<Semaphore>,
}

impl Default for VerifiedFiles {
    fn default() -> Self {
        Self { files: Arc::default(), checks: Arc::new(Semaphore::new(CHECKS_AT_ONCE)) }
    }
}

impl VerifiedFiles {
    /// Returns true if a file has this content. Reads it unless it was verified before and has not changed since.
    pub(super) async fn has_content(&self, path: PathBuf, summary: FileSummary) -> io::Result<bool> {
        let (own, looked_up) = (self.clone(), path.clone());
        if spawn_blocking(move || own.is_verified(&looked_up)).await.map_err(io::Error::other)?? {
            return Ok(true);
        }
        // Requests wait here and not on threads, which the job table needs as well.
        let _permit = self.checks.acquire().await.map_err(io::Error::other)?;
        let own = self.clone();
        spawn_blocking(move || own.verify(&path, summary)).await.map_err(io::Error::other)?
    }

    /// Adds a file with this content, which this process has just written. A file of another size is verified when it is requested.
    pub(super) fn add(&self, path: &Path, summary: FileSummary) {
        if let Ok(metadata) = fs::metadata(path)
            && metadata.len() == summary.bytes
        {
            self.insert(path, state_of(&metadata));
        }
    }

    /// Returns true if a file was verified and has not changed since.
    pub(super) fn is_verified(&self, path: &Path) -> io::Result<bool> {
        let state = state_of(&fs::metadata(path)?);
        Ok(self.files().get(path) == Some(&state))
    }

    /// Reads a file, unless another request has verified it meanwhile. Returns true if it has this content.
    fn verify(&self, path: &Path, summary: FileSummary) -> io::Result<bool> {
        if self.is_verified(path)? {
            return Ok(true);
        }
        let state = state_of(&fs::metadata(path)?);
        let is_same = has_content(path, summary)?;
        if is_same {
            self.insert(path, state);
        }
        Ok(is_same)
    }

    /// Remembers the state of a file whose content is known.
    fn insert(&self, path: &Path, state: FileState) {
        let mut files = self.files();
        if files.len() >= MAX_FILES {
            files.clear();
        }
        files.insert(path.to_owned(), state);
    }

    /// Locks the files.
    fn files(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, FileState>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the state of a file.
fn state_of(metadata: &Metadata) -> FileState {
    (metadata.len(), metadata.modified().ok())
}
