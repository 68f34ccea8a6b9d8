//! The lock that lets one synchronization at a time fill a lake in a directory.

use std::fs::File;
use std::path::Path;

use super::lock::try_lock_file;
use super::{OWN_FOLDER, WriteError};

/// A lake in a directory that only this process synchronizes, until this is dropped. The system releases the lock with the process.
///
/// It is another lock than that of additions and compactions, which may run beside a synchronization: new objects have names of their
/// own, and each of them reads the lake as it was listed.
#[derive(Debug)]
pub struct SyncLock {
    /// The lock is held as long as the file is open.
    _file: File,
}

impl SyncLock {
    /// Locks the lake in the directory `lake`, which is created if it does not exist.
    pub fn lock(lake: &Path) -> Result<Self, WriteError> {
        let file = try_lock_file(&lake.join(OWN_FOLDER), "sync.lock")?;
        file.map(|file| Self { _file: file }).ok_or_else(|| WriteError::Synchronized(lake.to_owned()))
    }

    /// Fails if another process synchronizes the lake now. Creates no lake.
    pub fn check(lake: &Path) -> Result<(), WriteError> {
        if lake.join(OWN_FOLDER).is_dir() { Self::lock(lake).map(drop) } else { Ok(()) }
    }
}
