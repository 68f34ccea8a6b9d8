//! The file of `--since-file`: the time up to which earlier exports are complete.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use headrace_core::vocab::clock::Millis;
use headrace_fhir::instant::Instant;
use tempfile::NamedTempFile;

use crate::client::out_manifest::is_written_by_exports;
use crate::stores::directory::resolve_links;

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
    /// The folder of the file does not exist, or cannot be written.
    #[error(
        "`{}`, the file of --since-file, could not be written after the export: its folder must exist, and this program must be allowed to \
         write there; nothing was exported",
        .path.display()
    )]
    NoFolder {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The file is one that an export writes.
    #[error("`{}` cannot be the file of --since-file, because exports write a file of this name: choose another name", .0.display())]
    OfExport(PathBuf),
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

/// Checks before an export to `out` that the time can be written after it. Leaves nothing behind.
pub(crate) fn check_since_file(path: &Path, out: &Path) -> Result<(), SinceFileError> {
    let target = follow_links(path);
    let folder = folder(&target);
    let no_folder = |cause| SinceFileError::NoFolder { path: path.to_owned(), cause };
    let (resolved, out) = (resolve_links(folder).map_err(no_folder)?, resolve_links(out).map_err(no_folder)?);
    // The export creates its output directory.
    if resolved != out || out.exists() {
        tempfile::tempfile_in(folder).map_err(no_folder)?;
    }
    let resolved = target.file_name().map_or_else(|| resolved.clone(), |name| resolved.join(name));
    let is_written = resolved.strip_prefix(&out).is_ok_and(is_written_by_exports);
    if is_written { Err(SinceFileError::OfExport(path.to_owned())) } else { Ok(()) }
}

/// Returns the file to which links lead. It need not exist.
fn follow_links(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    // The system follows as many.
    for _ in 0..40 {
        let Ok(link) = fs::read_link(&target) else { break };
        target = target.parent().map_or_else(|| link.clone(), |folder| folder.join(&link));
    }
    target
}

/// Returns the folder of a file.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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

/// Parses a time after which to export, rounded down to milliseconds. Returns `None` for a text that the export rejects.
pub(crate) fn parse_since(text: &str) -> Option<Millis> {
    // No server has changes from before 1970.
    Instant::parse(text).ok().map(|since| Millis::from_instant(since).unwrap_or(Millis(0)))
}

/// Writes the time of a complete export. The file has either the old or the new time, also after a power failure. A link stays, and the
/// file to which it leads is written.
pub(crate) fn write_since(path: &Path, time: &str) -> Result<(), SinceFileError> {
    let target = follow_links(path);
    let write = || {
        let mut file = NamedTempFile::new_in(folder(&target))?;
        writeln!(file, "{time}")?;
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|error| error.error)
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

    #[test]
    fn a_file_that_could_not_be_written_afterwards_is_refused_before_the_export() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let check = |name: &str| check_since_file(&path(name), &path("out"));
        check("since").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        assert!(matches!(check("none/since"), Err(SinceFileError::NoFolder { .. })));
        assert!(matches!(check("out/none/since"), Err(SinceFileError::NoFolder { .. })));
        check("out/since").unwrap();
        assert!(!path("out").exists());
        fs::create_dir_all(path("out/error")).unwrap();
        check("out/since").unwrap();
        for name in ["out/manifest.json", "out/Patient-1.ndjson", "out/error/OperationOutcome-1.ndjson", "out/../out/manifest.json"] {
            assert!(matches!(check(name), Err(SinceFileError::OfExport(_))), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_the_file_to_which_it_leads_has_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("state")).unwrap();
        for (target, link) in [("state/since", "one"), ("one", "two"), ("missing/since", "broken"), ("out/manifest.json", "foreign")] {
            std::os::unix::fs::symlink(target, path(link)).unwrap();
        }
        for time in ["2026-01-31T08:00:00Z", "2026-02-01T08:00:00Z"] {
            check_since_file(&path("two"), &path("out")).unwrap();
            write_since(&path("two"), time).unwrap();
            assert_eq!(read_since(&path("state/since")).unwrap().as_deref(), Some(time));
            assert!(path("one").is_symlink() && path("two").is_symlink());
        }
        assert!(matches!(check_since_file(&path("broken"), &path("out")), Err(SinceFileError::NoFolder { .. })));
        fs::create_dir(path("out")).unwrap();
        assert!(matches!(check_since_file(&path("foreign"), &path("out")), Err(SinceFileError::OfExport(_))));
    }
}
