//! Audit files in a directory that only its owner can access.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use headrace_core::audit::chain::AuditFileName;
use headrace_core::ports::{AuditFileListing, AuditFiles, AuditWrite};
use headrace_core::vocab::error::StoreError;
use walkdir::WalkDir;

use super::output::blocking;
use crate::stores::io_fault::{not_applied, store_error};
use crate::stores::private::write_atomically;

/// Name of the store in errors.
const WHAT: &str = "the audit files";

/// Audit files in a directory.
#[derive(Clone, Debug)]
pub struct DirectoryAudit {
    root: PathBuf,
}

impl DirectoryAudit {
    /// Creates a store in the directory `root`. The directory is created with the first file.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

/// Writes a file, or returns the content of an existing one.
fn write(path: &Path, bytes: &[u8]) -> io::Result<AuditWrite> {
    match write_atomically(path, bytes) {
        Ok(()) => Ok(AuditWrite::Written),
        Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => Ok(AuditWrite::Exists(fs::read(path)?.into())),
        Err(other) => Err(other),
    }
}

/// Lists audit files and other files. Skips names that begin with a dot: temporary files of killed processes.
fn list(root: &Path) -> Result<AuditFileListing, walkdir::Error> {
    let mut listing = AuditFileListing::default();
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
            None => drop(listing.foreign_files.insert(below)),
        }
    }
    Ok(listing)
}

impl AuditFiles for DirectoryAudit {
    async fn write(&self, name: &AuditFileName, bytes: Bytes) -> Result<AuditWrite, StoreError> {
        let path = self.root.join(name.to_string());
        blocking(move || write(&path, &bytes).map_err(|error| store_error(WHAT, &path, error))).await
    }

    async fn list(&self) -> Result<AuditFileListing, StoreError> {
        let root = self.root.clone();
        blocking(
            move || if root.exists() { list(&root).map_err(|error| not_applied(WHAT, error)) } else { Ok(AuditFileListing::default()) },
        )
        .await
    }

    async fn read(&self, name: &AuditFileName) -> Result<Bytes, StoreError> {
        let path = self.root.join(name.to_string());
        blocking(move || fs::read(&path).map(Bytes::from).map_err(|error| store_error(WHAT, &path, error))).await
    }
}
