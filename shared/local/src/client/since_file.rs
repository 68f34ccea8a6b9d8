//! The file of `--since-file`: the time up to which earlier exports are complete.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use headrace_fhir::instant::Instant;
use tempfile::NamedTempFile;

/// Failure to use the file.
#[derive(Debug, thiserror::Error)]
pub enum SinceFileError {
    /// The file cannot be read.
    #[error("`{}`, the file of --since-file, cannot be read", .path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The file has no instant.
    #[error(
        "`{}`, the file of --since-file, does not hold an instant such as 2026-01-31T08:00:00Z; correct it, or delete it to export everything",
        .0.display()
    )]
    NoInstant(PathBuf),
    /// The file cannot be written.
    #[error("`{}`, the file of --since-file, cannot be written; the export itself is complete, and the next one has the same start", .path.display())]
    Unwritable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
}

/// Reads the time after which to export. Returns `None` if the file does not exist, so that everything is exported.
pub(crate) fn read_since(path: &Path) -> Result<Option<String>, SinceFileError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(SinceFileError::Unreadable { path: path.to_owned(), cause }),
    };
    let text = text.trim();
    Instant::parse(text).map(|_| Some(text.to_owned())).map_err(|_| SinceFileError::NoInstant(path.to_owned()))
}

/// Writes the time of a complete export. The file has either the old or the new time, also after a power failure.
pub(crate) fn write_since(path: &Path, time: &str) -> Result<(), SinceFileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = NamedTempFile::new_in(folder)?;
        writeln!(file, "{time}")?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)
    };
    write().map(drop).map_err(|cause| SinceFileError::Unwritable { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_as_it_was_written_and_a_file_without_a_time_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("since");
        assert_eq!(read_since(&path).unwrap(), None, "the first export is of everything");
        write_since(&path, "2026-01-31T08:00:00.123Z").unwrap();
        assert_eq!(read_since(&path).unwrap().as_deref(), Some("2026-01-31T08:00:00.123Z"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        for text in ["", "yesterday", "2026-01-31T08:00:00Z 2026-02-01T08:00:00Z"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(read_since(&path), Err(SinceFileError::NoInstant(_))), "{text}");
        }
        assert!(matches!(write_since(&folder.path().join("none/since"), "2026-01-31"), Err(SinceFileError::Unwritable { .. })));
        assert!(matches!(read_since(folder.path()), Err(SinceFileError::Unreadable { .. })));
    }
}
