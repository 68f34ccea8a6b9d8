//! The output directory of an export of a directory: checks before anything is written, and the state of the server in this process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use headrace_core::vocab::error::SourceError;
use tempfile::TempDir;

use crate::server::state::LOCK_FILE;
use crate::stores::directory::{DirectoryLake, overlaps_lake};
use crate::stores::io_fault::IoFault;
use crate::stores::private::{create_private_folder, restrict_folder};

/// Beginning of the names of state folders in output directories. Lake listings skip names with a dot.
const STATE_PREFIX: &str = ".headrace-state-";

/// Reason why an output directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutDirError {
    /// The output directory contains the source, or is inside it.
    #[error(
        "the output directory `{}` and the source `{}` overlap: exported files would mix with those of the source. Choose an output directory \
         outside the source; nothing was written",
        out.display(), source_dir.display()
    )]
    Overlap {
        /// The output directory.
        out: PathBuf,
        /// The source.
        source_dir: PathBuf,
    },
    /// The source has no NDJSON.
    #[error(
        "the source `{}` has nothing to export: no file with a name that ends in .ndjson, .ndjson.gz or .ndjson.zst{near_misses}; nothing was written",
        path.display()
    )]
    NothingToExport {
        /// Path of the source.
        path: PathBuf,
        /// Numbers of files whose names are nearly right, and what to do. Empty if there are none.
        near_misses: String,
    },
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Another process exports to the directory.
    #[error("another export is writing to `{}`; wait for it, or choose another directory", .0.display())]
    InUse(PathBuf),
    /// No space is left.
    #[error("no space left in `{}`; free space there, or choose another directory", .0.display())]
    OutOfSpace(PathBuf),
    /// The directory cannot be created or read.
    #[error("`{}` cannot be used as the output directory", path.display())]
    Unusable {
        /// Path of the directory.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
}

impl OutDirError {
    /// Returns the error for a file system's error in the output directory.
    fn from_io(out: &Path, cause: io::Error) -> Self {
        match IoFault::from_error(&cause) {
            IoFault::OutOfSpace => Self::OutOfSpace(out.to_owned()),
            IoFault::Permanent(_) | IoFault::Passing => Self::Unusable { path: out.to_owned(), cause },
        }
    }
}

/// Checks the source and that the output directory is apart from it. Writes nothing.
pub(crate) fn check_source(source: &Path, out: &Path) -> Result<(), OutDirError> {
    if overlaps_lake(out, source).map_err(|cause| OutDirError::from_io(out, cause))? {
        return Err(OutDirError::Overlap { out: out.to_owned(), source_dir: source.to_owned() });
    }
    let lake = DirectoryLake::open(source);
    if lake.has_objects()? {
        return Ok(());
    }
    let near_misses = lake.near_misses().describe().map(|text| format!(". {text}")).unwrap_or_default();
    Err(OutDirError::NothingToExport { path: source.to_owned(), near_misses })
}

/// Creates the output directory for its owner alone, and removes the state that a killed export has left in it.
pub(crate) fn create_out_dir(out: &Path) -> Result<(), OutDirError> {
    create_private_folder(out).and_then(|()| remove_leftovers(out)).map_err(|cause| {
        if cause.kind() == io::ErrorKind::ResourceBusy { OutDirError::InUse(out.to_owned()) } else { OutDirError::from_io(out, cause) }
    })
}

/// Creates the state folder of the server in this process. A large export may not fit into the system's temporary folder, so it lies in
/// the output directory. It is deleted when it is dropped.
pub(crate) fn create_state_folder(out: &Path) -> Result<TempDir, OutDirError> {
    let create = || {
        let folder = tempfile::Builder::new().prefix(STATE_PREFIX).tempdir_in(out)?;
        restrict_folder(folder.path())?;
        Ok(folder)
    };
    create().map_err(|cause| OutDirError::from_io(out, cause))
}

/// Returns true for the name of a state folder.
pub(crate) fn is_state_folder(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(STATE_PREFIX))
}

/// Removes the state folders of exports that were killed. Fails with `ResourceBusy` if the export of one is running.
fn remove_leftovers(out: &Path) -> io::Result<()> {
    for entry in fs::read_dir(out)? {
        let entry = entry?;
        if !is_state_folder(&entry.file_name()) || !entry.file_type()?.is_dir() {
            continue;
        }
        let lock = match File::options().append(true).open(entry.path().join(LOCK_FILE)) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if lock.is_some_and(|lock| matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock))) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        fs::remove_dir_all(entry.path())?;
        tracing::warn!(path = ?entry.path(), "the state of an export that was killed is removed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_and_an_output_directory_that_overlap_are_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("lake/sub")).unwrap();
        fs::write(path("lake/sub/Patient.ndjson"), "{}\n").unwrap();
        for (source, out) in
            [("lake", "lake"), ("lake", "lake/out"), ("lake/sub", "lake"), ("lake", "lake/../lake/new/out"), ("lake/sub", ".")]
        {
            let error = check_source(&path(source), &path(out)).unwrap_err();
            assert!(matches!(error, OutDirError::Overlap { .. }), "{source} {out}: {error}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(path("lake"), path("link")).unwrap();
            assert!(matches!(check_source(&path("lake"), &path("link/out")), Err(OutDirError::Overlap { .. })));
        }
        for out in ["out", "lake2", "lak"] {
            check_source(&path("lake"), &path(out)).unwrap();
            assert!(!path(out).exists());
        }
    }

    #[test]
    fn a_source_without_ndjson_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let lake = folder.path().join("lake");
        for file in ["notes.txt", ".git/x.ndjson", "_delta/x.ndjson", "lost+found/x.ndjson"] {
            fs::create_dir_all(lake.join(file).parent().unwrap()).unwrap();
            fs::write(lake.join(file), "{}\n").unwrap();
            assert!(matches!(check_source(&lake, &folder.path().join("out")), Err(OutDirError::NothingToExport { .. })), "{file}");
        }
        fs::write(lake.join("a.ndjson.zst"), "").unwrap();
        check_source(&lake, &folder.path().join("out")).unwrap();
    }

    #[test]
    fn the_state_of_a_killed_export_is_removed_and_that_of_a_running_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let state = create_state_folder(folder.path()).unwrap().keep();
        let lock = File::create(state.join(LOCK_FILE)).unwrap();
        fs::write(state.join("jobs.db"), "patients").unwrap();
        fs::create_dir(folder.path().join(".headrace-export")).unwrap();
        lock.try_lock().unwrap();
        assert!(matches!(create_out_dir(folder.path()), Err(OutDirError::InUse(_))));
        drop(lock);
        create_out_dir(folder.path()).unwrap();
        assert!(!state.exists() && folder.path().join(".headrace-export").exists());
    }
}
