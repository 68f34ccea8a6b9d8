//! Audit files in a directory, for its owner's eyes alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use headrace_core::audit::chain::AuditFileName;
use headrace_core::ports::{AuditFiles, AuditListing, Kept};
use headrace_core::vocab::error::StoreError;
use walkdir::WalkDir;

use super::output::blocking;
use crate::stores::private::write_atomically;

const WHAT: &str = "the audit files";

/// The audit files.
#[derive(Clone, Debug)]
pub struct DirectoryAudit {
    root: PathBuf,
}

impl DirectoryAudit {
    /// Those below `root`, which is created when it is first written to.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

fn not_applied(cause: impl Into<headrace_core::vocab::error::BoxError>) -> StoreError {
    StoreError::NotApplied { what: WHAT, cause: cause.into() }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<Kept> {
    match write_atomically(path, bytes) {
        Ok(()) => Ok(Kept::Written),
        Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => Ok(Kept::Exists(fs::read(path)?.into())),
        Err(other) => Err(other),
    }
}

/// A file that a killed process has left unnamed begins with a dot.
fn list(root: &Path) -> Result<AuditListing, walkdir::Error> {
    let mut listing = AuditListing::default();
    let entries =
        WalkDir::new(root).into_iter().filter_entry(|entry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.'));
    for entry in entries {
        let entry = entry?;
        if entry.file_type().is_dir() {
            continue;
        }
        let below = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_string_lossy().into_owned();
        match AuditFileName::parse(&below) {
            Some(name) => drop(listing.files.insert(name)),
            None => drop(listing.strangers.insert(below)),
        }
    }
    Ok(listing)
}

impl AuditFiles for DirectoryAudit {
    async fn write(&self, name: &AuditFileName, bytes: Bytes) -> Result<Kept, StoreError> {
        let path = self.root.join(name.to_string());
        blocking(move || write(&path, &bytes).map_err(not_applied)).await
    }

    async fn list(&self) -> Result<AuditListing, StoreError> {
        let root = self.root.clone();
        blocking(move || if root.exists() { list(&root).map_err(not_applied) } else { Ok(AuditListing::default()) }).await
    }

    async fn read(&self, name: &AuditFileName) -> Result<Bytes, StoreError> {
        let path = self.root.join(name.to_string());
        blocking(move || fs::read(&path).map(Bytes::from).map_err(not_applied)).await
    }
}
