//! The file of `--since-file`: the time up to which earlier exports are complete, and digests of what they have exported.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use headrace_core::vocab::clock::Millis;
use headrace_fhir::instant::Instant;
use headrace_lake::writing::resolve_links;
use tempfile::NamedTempFile;

use crate::client::earlier_export::is_written_by_exports;
use crate::client::increment_basis::IncrementBasis;

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
        "`{}`, the file of --since-file, does not begin with an instant such as 2026-01-31T08:00:00Z, or has other lines than exports write; \
         correct it, or delete it to export everything",
        .0.display()
    )]
    NoInstant(PathBuf),
    /// The time is of an export of something else.
    #[error(
        "the time in `{}`, the file of --since-file, is of an export with another {differences}: resources that only this export has, and that \
         have not changed since, would be missing. Use another file for this export, or delete this one to export everything; nothing was \
         exported",
        .path.display()
    )]
    OtherExport {
        /// Path of the file.
        path: PathBuf,
        /// The parts that differ.
        differences: String,
    },
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
fn check_since_file(path: &Path, out: &Path) -> Result<(), SinceFileError> {
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

/// The file, and the parts of an export on which its time depends.
#[derive(Clone, Debug)]
pub(crate) struct SinceFile {
    path: PathBuf,
    basis: IncrementBasis,
}

/// Parses a time after which to export, rounded down to milliseconds. Returns `None` for a text that the export rejects.
pub(crate) fn parse_since(text: &str) -> Option<Millis> {
    // No server has changes from before 1970.
    Instant::parse(text).ok().map(|since| Millis::from_instant(since).unwrap_or(Millis(0)))
}

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedTime {
    /// The time after which to export.
    pub(crate) time: String,
    /// True if the file says of which export the time is.
    pub(crate) has_basis: bool,
}

/// The comment below the time.
const COMMENT: &str =
    "# Digests of the options and the source of the export. After a change of these, delete this file: the next export is a full one.";

impl SinceFile {
    /// Creates the file of an export, without reading it.
    pub(crate) fn new(path: &Path, basis: IncrementBasis) -> Self {
        Self { path: path.to_owned(), basis }
    }

    /// Returns the path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the digest of the anonymization configuration that the manifest of the export has.
    pub(crate) fn with_configuration(&self, digest: Option<&str>) -> Self {
        Self::new(&self.path, self.basis.clone().with_configuration(digest))
    }

    /// Checks before an export to `out` that the file can be read, is of this export, and can be written afterwards.
    pub(crate) fn check(&self, out: &Path) -> Result<(), SinceFileError> {
        check_since_file(&self.path, out)?;
        self.read().map(drop)
    }

    /// Reads the time after which to export. Returns `None` if the file does not exist, so that everything is exported. Fails if the time
    /// is of an export of something else: resources that only this one has, and that have not changed since, would never be exported.
    pub(crate) fn read(&self) -> Result<Option<SavedTime>, SinceFileError> {
        let path = || self.path.clone();
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(SinceFileError::Unreadable { path: path(), cause }),
        };
        let mut lines = text.lines();
        let time = lines.next().unwrap_or_default().trim();
        let basis = IncrementBasis::from_lines(lines).filter(|_| Instant::parse(time).is_ok());
        let basis = basis.ok_or_else(|| SinceFileError::NoInstant(path()))?;
        let differences = self.basis.differences(&basis);
        if !basis.is_empty() && !differences.is_empty() {
            return Err(SinceFileError::OtherExport { path: path(), differences: differences.join(", ") });
        }
        Ok(Some(SavedTime { time: time.to_owned(), has_basis: !basis.is_empty() }))
    }

    /// Writes the time of a complete export. The file has either the old or the new time, also after a power failure. A link stays, and
    /// the file to which it leads is written. Only its owner can read it.
    pub(crate) fn write(&self, time: &str) -> Result<(), SinceFileError> {
        let target = follow_links(&self.path);
        let write = || {
            let mut file = NamedTempFile::new_in(folder(&target))?;
            write!(file, "{time}\n{COMMENT}\n{}", self.basis.to_lines())?;
            file.as_file().sync_all()?;
            file.persist(&target).map_err(|error| error.error)
        };
        write().map(drop).map_err(|cause| SinceFileError::Unwritable { path: self.path.clone(), cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the file of an export whose configuration has this digest.
    fn since_file(path: &Path, configuration: Option<&str>) -> SinceFile {
        SinceFile::new(path, IncrementBasis::default()).with_configuration(configuration)
    }

    /// Returns the time in a file.
    fn saved_time(path: &Path) -> Option<String> {
        since_file(path, None).read().unwrap().map(|saved| saved.time)
    }

    #[test]
    fn the_time_is_read_as_it_was_written_and_a_file_without_a_time_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("since");
        let file = since_file(&path, Some("a"));
        assert_eq!(file.read().unwrap(), None, "the first export is of everything");
        file.write("2026-01-31T08:00:00.123Z").unwrap();
        let written = SavedTime { time: "2026-01-31T08:00:00.123Z".to_owned(), has_basis: true };
        assert_eq!(file.read().unwrap(), Some(written));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().next(), Some("2026-01-31T08:00:00.123Z"), "scripts read the first line");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        for text in ["", "yesterday", "2026-01-31T08:00:00Z 2026-02-01T08:00:00Z", "2026-01-31T08:00:00Z\nsource"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(file.read(), Err(SinceFileError::NoInstant(_))), "{text}");
        }
        let missing = since_file(&folder.path().join("none/since"), None);
        assert!(matches!(missing.write("2026-01-31"), Err(SinceFileError::Unwritable { .. })));
        assert!(matches!(since_file(folder.path(), None).read(), Err(SinceFileError::Unreadable { .. })));
    }

    #[test]
    fn a_time_of_another_export_is_refused_with_the_part_that_differs_and_a_time_alone_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("since");
        since_file(&path, Some("a")).write("2026-01-31T08:00:00Z").unwrap();
        let error = since_file(&path, Some("b")).read().unwrap_err().to_string();
        for words in ["since", "the content of the anonymization configuration", "delete"] {
            assert!(error.contains(words), "{words}: {error}");
        }
        fs::write(&path, "2026-01-31\n").unwrap();
        let alone = SavedTime { time: "2026-01-31".to_owned(), has_basis: false };
        assert_eq!(since_file(&path, Some("b")).read().unwrap(), Some(alone));
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
            since_file(&path("two"), None).write(time).unwrap();
            assert_eq!(saved_time(&path("state/since")).as_deref(), Some(time));
            assert!(path("one").is_symlink() && path("two").is_symlink());
        }
        assert!(matches!(check_since_file(&path("broken"), &path("out")), Err(SinceFileError::NoFolder { .. })));
        fs::create_dir(path("out")).unwrap();
        assert!(matches!(check_since_file(&path("foreign"), &path("out")), Err(SinceFileError::OfExport(_))));
    }
}
