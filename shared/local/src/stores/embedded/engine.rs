//! The engine of one process, with the lock that keeps those of other processes away during each use of the file.

use dynoxide::{Database, DynoxideError};

use super::dispatch::{DynamoResponse, execute};
use super::process_lock::ProcessLock;
use super::space::TableSpace;

/// An open job table.
pub(super) struct Engine {
    /// `None` only while it is dropped.
    database: Option<Database>,
    space: TableSpace,
    lock: ProcessLock,
}

impl Engine {
    /// Opens the file that the lock belongs to.
    pub(super) fn open(path: &str, space: TableSpace, lock: ProcessLock) -> Result<Self, DynoxideError> {
        Self::new(space, lock, || Database::new(path))
    }

    /// Creates an engine in memory.
    pub(super) fn in_memory() -> Result<Self, DynoxideError> {
        Self::new(TableSpace::default(), ProcessLock::in_memory(), Database::memory)
    }

    /// Opens a database while the lock is held, because that may recover its write-ahead log. If no space is left, gives up the reserve and
    /// tries once more.
    fn new(space: TableSpace, lock: ProcessLock, open: impl Fn() -> Result<Database, DynoxideError>) -> Result<Self, DynoxideError> {
        let held = lock.lock_for_call().map_err(|error| DynoxideError::InternalServerError(error.to_string()))?;
        let mut opened = open_and_configure(&open);
        if opened.as_ref().err().is_some_and(|error| space.is_out_of_space(&error.to_string())) && space.release() {
            opened = open_and_configure(&open);
        }
        drop(held);
        Ok(Self { database: Some(opened?), space, lock })
    }

    /// Executes one request of the SDK. Blocks on the locks and on the disk.
    pub(super) fn execute(&self, target: &str, body: &[u8]) -> DynamoResponse {
        let held = self.lock.lock_for_call();
        match (&self.database, held) {
            (Some(database), Ok(_held)) => execute((database, &self.space), target, body),
            (_, Err(error)) => DynamoResponse::from_error(&DynoxideError::InternalServerError(error.to_string())),
            (None, Ok(_)) => DynamoResponse::from_error(&DynoxideError::InternalServerError("the job table is closed".to_owned())),
        }
    }

    /// Removes expired items. Other calls of this process can run between its pages.
    pub(super) fn sweep(&self) -> Result<usize, super::BoxError> {
        let _held = self.lock.lock_for_sweep()?;
        Ok(self.database.as_ref().map_or(Ok(0), Database::sweep_ttl)?)
    }

    /// Returns true for a table that is not in a file.
    pub(super) fn is_in_memory(&self) -> bool {
        self.lock.is_in_memory()
    }

    /// Returns the space of the table.
    pub(super) fn space(&self) -> &TableSpace {
        &self.space
    }
}

impl Drop for Engine {
    /// Closes the file while the lock is held, because the last connection checkpoints the write-ahead log.
    fn drop(&mut self) {
        match self.lock.lock_for_call() {
            Ok(_held) => drop(self.database.take()),
            // Another process does not answer. The log stays, and the next engine recovers it.
            Err(_) => std::mem::forget(self.database.take()),
        }
    }
}

/// Opens a database and sets how it syncs.
fn open_and_configure(open: impl Fn() -> Result<Database, DynoxideError>) -> Result<Database, DynoxideError> {
    let database = open()?;
    // Despite its name, this is the only public way to set `PRAGMA synchronous = NORMAL`. A new connection is at FULL, which syncs the
    // disk for every item.
    database.disable_bulk_loading()?;
    Ok(database)
}
