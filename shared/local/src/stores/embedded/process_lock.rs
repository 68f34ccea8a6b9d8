//! The lock that keeps the engines of several processes apart.
//!
//! The engine brings SQLite 3.49.2, and no version of it brings a newer one. SQLite before 3.51.3 has a race: if two connections write or
//! checkpoint one database in WAL mode at the same instant, a checkpoint can count pages as copied that are not, and records are lost. A
//! server and `headrace clients` are two connections. Therefore an engine opens, reads, writes and closes its file only while it holds the
//! lock of a file beside it. An engine has one connection, so its own calls need no more than the engine's mutex.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::stores::private::create_new_private_file;

/// Time for which an engine waits for that of another process: the same that SQLite waits for a lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time between two attempts to take the lock.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// The lock file of a job table.
#[derive(Debug)]
pub(super) struct ProcessLock {
    /// `None` for a table in memory, which no other process has.
    file: Option<File>,
    /// Number of holders in this process: a call, and a sweep that runs between calls.
    holders: Mutex<u32>,
    /// Held during a call. Between two calls nobody in this process holds the lock, so that another process gets its turn.
    calls: Mutex<()>,
    patience: Duration,
}

impl ProcessLock {
    /// Opens the lock file of the table at `path`, or creates it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = lock_path(path);
        match create_new_private_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(_) | Err(_) => {}
        }
        Ok(Self::new(Some(File::options().append(true).open(path)?)))
    }

    /// Creates the lock of a table in memory.
    pub(super) fn in_memory() -> Self {
        Self::new(None)
    }

    /// Returns true for the lock of a table in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        self.file.is_none()
    }

    fn new(file: Option<File>) -> Self {
        Self { file, holders: Mutex::default(), calls: Mutex::default(), patience: PATIENCE }
    }

    /// Sets the time for which the engine waits.
    #[cfg(test)]
    pub(super) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Waits until no other process and no other call of this one uses the table.
    pub(super) fn lock_for_call(&self) -> io::Result<CallGuard<'_>> {
        let turn = lock(&self.calls);
        Ok(CallGuard { _held: self.lock_for_sweep()?, _turn: turn })
    }

    /// Waits until no other process uses the table. Calls of this process can run between the steps of a sweep.
    pub(super) fn lock_for_sweep(&self) -> io::Result<ProcessGuard<'_>> {
        let mut holders = lock(&self.holders);
        if *holders == 0 {
            self.wait_for_file()?;
        }
        *holders += 1;
        Ok(ProcessGuard(self))
    }

    /// Takes the lock of the file.
    fn wait_for_file(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(fs::TryLockError::Error(error)) => return Err(error),
                Err(fs::TryLockError::WouldBlock) if start.elapsed() >= self.patience => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the job table is locked by another process"));
                }
                // A blocking lock would wait without end for a process that was suspended.
                Err(fs::TryLockError::WouldBlock) => thread::sleep(POLL_INTERVAL),
            }
        }
    }
}

/// Returns the path of the lock file of a table.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    name.into()
}

/// Locks a mutex. A call that panicked leaves nothing half done in it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock of the table during one call. Released in the order of its fields.
#[derive(Debug)]
pub(super) struct CallGuard<'a> {
    _held: ProcessGuard<'a>,
    _turn: MutexGuard<'a, ()>,
}

/// The lock of the table against other processes.
#[derive(Debug)]
pub(super) struct ProcessGuard<'a>(&'a ProcessLock);

impl Drop for ProcessGuard<'_> {
    fn drop(&mut self) {
        let mut holders = lock(&self.0.holders);
        *holders = holders.saturating_sub(1);
        if *holders == 0
            && let Some(file) = &self.0.file
        {
            // An unlock fails only for a file that is no longer open.
            drop(file.unlock());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_waits_for_a_call_and_for_a_sweep_with_calls() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.db");
        // Locks belong to open files, so two of one process are as apart as those of two processes.
        let server = ProcessLock::open(&path).unwrap();
        let client = ProcessLock::open(&path).unwrap().with_patience(Duration::ZERO);
        let is_refused = || client.lock_for_call().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);

        let call = server.lock_for_call().unwrap();
        assert!(is_refused());
        drop(call);
        let sweep = server.lock_for_sweep().unwrap();
        drop(server.lock_for_call().unwrap());
        assert!(is_refused(), "the sweep still runs");
        drop(sweep);
        assert!(client.lock_for_call().is_ok());
    }

    #[test]
    fn a_call_waits_until_the_other_process_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.db");
        let server = ProcessLock::open(&path).unwrap();
        let client = ProcessLock::open(&path).unwrap();
        let call = server.lock_for_call().unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| client.lock_for_call().map(drop));
            drop(call);
            assert!(waiting.join().unwrap().is_ok());
        });
    }
}
