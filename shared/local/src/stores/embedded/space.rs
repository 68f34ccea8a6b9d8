//! Space for the job table on a full disk: a reserve file, which is given up when a write needs it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::stores::io_fault::{IoFault, SQLITE_FULL};
use crate::stores::private::create_private_file;

/// Size of the reserve, in bytes: some hundred pages of the write-ahead log, enough to end and to delete exports.
const RESERVE_BYTES: usize = 1 << 20;

/// A fault that keeps the job table from being written, and that no retry can mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TableFault {
    /// No space is left, and the reserve is used up. Contains the place.
    OutOfSpace(String),
    /// The files cannot be written. Contains the place and the reason.
    Unusable(String),
}

impl TableFault {
    /// Returns the text for clients.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::OutOfSpace(place) => format!("no space left in {place}; free space there and try again"),
            Self::Unusable(text) => text.clone(),
        }
    }
}

/// The reserve of a job table, and the fault of its last write. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableSpace(Arc<Inner>);

/// The state of a table's space, which its clones share.
#[derive(Debug, Default)]
struct Inner {
    /// Path of the reserve file. `None` for a table in memory, and for programs that do not serve.
    reserve: Option<PathBuf>,
    /// Name of the place in errors.
    place: String,
    fault: Mutex<Option<TableFault>>,
}

impl TableSpace {
    /// Creates the space of a table whose place has this path in errors. `reserve` is the path of its reserve file.
    pub(crate) fn new(shown: &Path, reserve: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner { reserve, place: format!("`{}`", shown.display()), fault: Mutex::default() }))
    }

    /// Returns the fault of the last write, if it could not be applied.
    pub(crate) fn fault(&self) -> Option<TableFault> {
        self.0.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Classifies an error of the engine. Returns `None` if a retry may succeed.
    pub(super) fn fault_from_message(&self, message: &str) -> Option<TableFault> {
        let unusable = |reason: &str| Some(TableFault::Unusable(format!("the job table in {} cannot be written: {reason}", self.0.place)));
        if message.contains(SQLITE_FULL) {
            Some(TableFault::OutOfSpace(self.0.place.clone()))
        } else if message.contains("readonly database") {
            unusable("it is read-only")
        } else if message.contains("unable to open database file") {
            unusable("its files cannot be opened; check their permissions, and whether the process has too many open files")
        } else {
            None
        }
    }

    /// Returns true if an error of the engine says that no space is left.
    pub(super) fn is_out_of_space(&self, message: &str) -> bool {
        matches!(self.fault_from_message(message), Some(TableFault::OutOfSpace(_)))
    }

    /// Remembers the fault of a write, or that it was applied.
    pub(super) fn set_fault(&self, fault: Option<TableFault>) {
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Gives up the reserve. Returns true if that freed space.
    pub(crate) fn release(&self) -> bool {
        let is_released = self.0.reserve.as_ref().is_some_and(|reserve| fs::remove_file(reserve).is_ok());
        if is_released {
            tracing::warn!(
                "no space left in {}: the reserve is used for the records of exports, and no new export is accepted",
                self.0.place
            );
        }
        is_released
    }

    /// Returns true if the reserve exists or can be created again. Without it, no new work should be accepted.
    ///
    /// Blocks for as long as writing a megabyte takes.
    pub(crate) fn is_reserved(&self) -> bool {
        let Some(reserve) = &self.0.reserve else { return true };
        if reserve.is_file() {
            return true;
        }
        match create_reserve(reserve) {
            Ok(()) => true,
            Err(error) => {
                drop(fs::remove_file(reserve));
                // Another reason than a full disk shows itself in the table's own writes.
                IoFault::from_error(&error) != IoFault::OutOfSpace
            }
        }
    }
}

/// Writes the reserve file. Its bytes cannot be compressed, because some file systems would store nothing for zeros.
fn create_reserve(path: &Path) -> io::Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes: Vec<u8> = std::iter::from_fn(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes())
    })
    .flatten()
    .take(RESERVE_BYTES)
    .collect();
    let mut file = create_private_file(path)?;
    file.write_all(&bytes)?;
    // Some file systems find out only now that they have no space.
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_up_once_and_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let space = TableSpace::new(Path::new("/data/state"), Some(folder.path().join("reserve")));
        assert!(space.is_reserved());
        assert_eq!(fs::metadata(folder.path().join("reserve")).unwrap().len(), RESERVE_BYTES as u64);
        assert!(space.release());
        assert!(!space.release(), "there is nothing left to give up");
        assert!(space.is_reserved() && folder.path().join("reserve").is_file());
    }

    #[test]
    fn only_faults_that_no_retry_mends_are_named() {
        let space = TableSpace::new(Path::new("/data/state"), None);
        let text = |message: &str| space.fault_from_message(message).map(|fault| fault.text());
        assert!(text("backend: database or disk is full").unwrap().starts_with("no space left in `/data/state`"));
        assert!(text("attempt to write a readonly database").unwrap().contains("read-only"));
        assert!(text("unable to open database file").unwrap().contains("open files"));
        assert_eq!(text("database is locked"), None);
    }
}
