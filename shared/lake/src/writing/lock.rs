//! The lock that lets one process at a time write a lake.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::private::{create_folder, open_file};
use super::{FaultPoint, OWN_FOLDER, WriteError};

/// A lake in a directory that only this process writes. The system releases the lock with the process.
#[derive(Debug)]
pub struct LakeLock {
    root: PathBuf,
    pub(super) fault: FaultPoint,
    _lock: File,
}

impl LakeLock {
    /// Locks the lake in the directory `root`, which is created if it does not exist.
    pub fn lock(root: &Path) -> Result<Self, WriteError> {
        Self::lock_with(root, FaultPoint::default())
    }

    /// Locks a lake for a process that stops at a point.
    pub(crate) fn lock_with(root: &Path, fault: FaultPoint) -> Result<Self, WriteError> {
        let folder = root.join(OWN_FOLDER);
        create_folder(&folder).map_err(WriteError::at(&folder))?;
        let path = folder.join("lock");
        let lock = open_file(&path).map_err(WriteError::at(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), fault, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(WriteError::Locked(root.to_owned())),
            Err(TryLockError::Error(cause)) => Err(WriteError::at(&path)(cause)),
        }
    }

    /// Returns the directory of the lake.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Counts a change to the file system. Fails if a test lets the process stop here.
    pub(crate) fn fault_pass(&self) -> io::Result<()> {
        self.fault.pass()
    }

    /// Returns a path below the internal folder.
    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.root.join(OWN_FOLDER).join(name)
    }

    /// Returns the paths in a folder below the internal folder. The folder need not exist.
    pub(crate) fn own_entries(&self, name: &str) -> Result<Vec<PathBuf>, WriteError> {
        let folder = self.own(name);
        entries(&folder).map_err(WriteError::at(&folder))
    }
}

/// Returns the paths in a folder, which need not exist.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
