//! The output directory of an export from a server, and the folder in it that makes the export resumable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::client::bulk::{DownloadedFile, ManifestFile};
use crate::client::earlier_export::EarlierExport;
use crate::client::file_names::NamedFile;
use crate::client::increment_basis::IncrementBasis;
use crate::stores::private::{create_private_folder, private_file_options};

/// Name of the folder that makes an export resumable. Lakes skip it, because it begins with a dot.
pub(crate) const STATE_FOLDER: &str = ".headrace-export";

/// Version of the files in the folder.
const VERSION: u32 = 1;

/// Failure to use an output directory.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is no export to continue.
    #[error("`{}` contains no unfinished export from a server", .0.display())]
    NothingToResume(PathBuf),
    /// Another process uses the directory.
    #[error("another process exports to `{}`", .0.display())]
    InUse(PathBuf),
    /// The record of the export cannot be read.
    #[error("`{}` cannot be read: {problem}", .path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Problem.
        problem: String,
    },
    /// The record of the export cannot be written.
    #[error("`{}` cannot be written", .path.display())]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
}

/// An accepted export, as it is recorded to be continued. It holds no secret: keys stay in their files, tokens are given anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedExport {
    pub(crate) version: u32,
    pub(crate) base: String,
    pub(crate) status_url: String,
    pub(crate) client_id: Option<String>,
    pub(crate) client_key: Option<PathBuf>,
    pub(crate) client_key_id: Option<String>,
    pub(crate) scope: Option<String>,
    pub(crate) token_url: Option<String>,
    pub(crate) token_origins: Vec<String>,
    /// True if a token was given on the command line.
    pub(crate) has_token: bool,
    /// The file of `--since-file`.
    #[serde(default)]
    pub(crate) since_file: Option<PathBuf>,
    /// The `_since` of the request, as it was sent.
    #[serde(default)]
    pub(crate) since: Option<String>,
    /// The `_until` of the request.
    #[serde(default)]
    pub(crate) until: Option<String>,
    /// The types that the files of resources may have. `None` for any.
    #[serde(default)]
    pub(crate) types: Option<BTreeSet<String>>,
    /// The parts of the export on which its increments depend.
    #[serde(default)]
    pub(crate) basis: IncrementBasis,
}

impl SavedExport {
    /// Creates the record of an export without credentials.
    pub(crate) fn new(base: String, status_url: String) -> Self {
        Self {
            version: VERSION,
            base,
            status_url,
            client_id: None,
            client_key: None,
            client_key_id: None,
            scope: None,
            token_url: None,
            token_origins: Vec::new(),
            has_token: false,
            since_file: None,
            since: None,
            until: None,
            types: None,
            basis: IncrementBasis::default(),
        }
    }
}

/// A file that was downloaded and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    /// Name under which the manifest's file is recorded, without `.gz`.
    key: String,
    /// Local name.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
    /// Hash of the time of the export and of the manifest's entry.
    entry: String,
}

/// The output directory of an export.
pub(crate) struct ExportFolder {
    out: PathBuf,
    state: PathBuf,
    /// False for a server in this process: then there is nothing to continue after a crash.
    is_resumable: bool,
    /// Locked while the process runs.
    _lock: File,
}

impl ExportFolder {
    /// Prepares the directory for a new export.
    pub(crate) fn create(out: &Path, is_resumable: bool) -> Result<Self, FolderError> {
        let folder = Self::lock(out, is_resumable)?;
        let earlier = Self::unfinished_files(out);
        if !earlier.is_empty() {
            folder
                .write_names(EARLIER_NAMES_FILE, earlier.iter().map(String::as_str))
                .map_err(|cause| folder.unwritable(EARLIER_NAMES_FILE, cause))?;
        }
        // An earlier export is not continued.
        for name in [JOB_FILE, FILES_FILE, NAMES_FILE] {
            match fs::remove_file(folder.state.join(name)) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(folder.unwritable(name, cause)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(folder)
    }

    /// Opens the directory of an unfinished export.
    pub(crate) fn open(out: &Path) -> Result<(Self, SavedExport), FolderError> {
        let path = out.join(STATE_FOLDER).join(JOB_FILE);
        if !Self::holds_unfinished(out) {
            return Err(FolderError::NothingToResume(out.to_owned()));
        }
        let folder = Self::lock(out, true)?;
        let unreadable = |problem: String| FolderError::Unreadable { path: path.clone(), problem };
        let text = fs::read(&path).map_err(|error| unreadable(error.to_string()))?;
        let saved: SavedExport = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        if saved.version != VERSION {
            return Err(unreadable(format!("it is of version {}, this program reads {VERSION}", saved.version)));
        }
        Ok((folder, saved))
    }

    /// Returns true if a directory contains an export that can be continued.
    pub(crate) fn holds_unfinished(out: &Path) -> bool {
        out.join(STATE_FOLDER).join(JOB_FILE).exists()
    }

    /// Creates the folders and locks the directory.
    fn lock(out: &Path, is_resumable: bool) -> Result<Self, FolderError> {
        let state = out.join(STATE_FOLDER);
        let unwritable = |cause| FolderError::Write { path: state.clone(), cause };
        create_private_folder(&state.join(PARTIAL_FOLDER)).map_err(unwritable)?;
        let lock = private_file_options().create(true).truncate(false).open(state.join("lock")).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { out: out.to_owned(), state, is_resumable, _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(FolderError::InUse(out.to_owned())),
            Err(fs::TryLockError::Error(cause)) => Err(unwritable(cause)),
        }
    }

    /// Returns true if files must survive a power failure, because the server's copies are deleted afterwards.
    pub(crate) fn is_synced(&self) -> bool {
        self.is_resumable
    }

    /// Records an accepted export.
    pub(crate) fn record_export(&self, export: &SavedExport) -> Result<(), FolderError> {
        let write = || {
            let mut file = NamedTempFile::new_in(&self.state)?;
            serde_json::to_writer_pretty(&mut file, export)?;
            file.as_file().sync_all()?;
            file.persist(self.state.join(JOB_FILE)).map_err(|error| error.error)
        };
        write().map(drop).map_err(|cause| self.unwritable(JOB_FILE, cause))
    }

    /// Records a file of the export with this `transactionTime` that was downloaded and checked.
    pub(crate) fn record_file(&self, file: &NamedFile, time: &str, downloaded: &DownloadedFile) -> Result<(), FolderError> {
        if !self.is_resumable {
            return Ok(());
        }
        let DownloadedFile { name, bytes, lines, .. } = downloaded;
        let entry = hash_entry(file, time);
        let record = FileRecord { key: file.name.clone(), name: name.clone(), bytes: *bytes, lines: *lines, entry };
        let append = || {
            let mut line = serde_json::to_vec(&record)?;
            line.push(b'\n');
            private_file_options().create(true).append(true).open(self.state.join(FILES_FILE))?.write_all(&line)
        };
        append().map_err(|cause| self.unwritable(FILES_FILE, cause))
    }

    /// Returns the recorded files by their key. A line that a crash cut off is ignored.
    pub(crate) fn recorded_files(&self) -> BTreeMap<String, FileRecord> {
        let text = fs::read_to_string(self.state.join(FILES_FILE)).unwrap_or_default();
        let records = text.lines().filter_map(|line| serde_json::from_str::<FileRecord>(line).ok());
        records.map(|record| (record.key.clone(), record)).collect()
    }

    /// Records the names of the files that are about to be written, beside those of an earlier attempt at this export. They are known to be of an
    /// export, even if it does not end.
    pub(crate) fn record_files(&self, files: &[NamedFile]) -> Result<(), FolderError> {
        let mut earlier = read_names(&self.state.join(NAMES_FILE));
        // Reading adds these names.
        earlier.retain(|name| !name.ends_with(".gz"));
        let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).chain(earlier.iter().map(String::as_str)).collect();
        self.write_names(NAMES_FILE, names.into_iter()).map_err(|cause| self.unwritable(NAMES_FILE, cause))
    }

    /// Removes what an earlier attempt at this export has written and the complete one does not have: another manifest may have fewer files.
    pub(crate) fn remove_superseded_files(&self, files: &[DownloadedFile]) -> Result<(), (PathBuf, io::Error)> {
        let mut names = read_names(&self.state.join(NAMES_FILE));
        for file in files {
            names.remove(&file.name);
        }
        EarlierExport::without_manifest(names).remove(&self.out)
    }

    /// Records the names of the files of earlier exports, which are about to be removed. No manifest has them any more.
    pub(crate) fn record_earlier_files<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<(), FolderError> {
        self.write_names(EARLIER_NAMES_FILE, names).map_err(|cause| self.unwritable(EARLIER_NAMES_FILE, cause))
    }

    /// Returns the names of the files of exports that have not ended.
    pub(crate) fn unfinished_files(out: &Path) -> BTreeSet<String> {
        let state = out.join(STATE_FOLDER);
        [EARLIER_NAMES_FILE, NAMES_FILE].into_iter().flat_map(|name| read_names(&state.join(name))).collect()
    }

    /// Returns the names of the files of exports before this one that have not ended.
    pub(crate) fn earlier_files(&self) -> BTreeSet<String> {
        read_names(&self.state.join(EARLIER_NAMES_FILE))
    }

    /// Forgets the files of earlier exports, which are removed.
    pub(crate) fn forget_earlier_files(&self) -> Result<(), FolderError> {
        self.forget(EARLIER_NAMES_FILE)
    }

    /// Forgets the names of the files of this export, which `manifest.json` has from now on.
    pub(crate) fn forget_files(&self) -> Result<(), FolderError> {
        self.forget(NAMES_FILE)
    }

    /// Removes a file with names, if it exists.
    fn forget(&self, name: &str) -> Result<(), FolderError> {
        match fs::remove_file(self.state.join(name)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(self.unwritable(name, cause)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Writes a file with one name a line.
    fn write_names<'a>(&self, name: &str, names: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut file = BufWriter::new(NamedTempFile::new_in(&self.state)?);
        for line in names {
            writeln!(file, "{line}")?;
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if self.is_synced() {
            file.as_file().sync_all()?;
        }
        file.persist(self.state.join(name)).map(drop).map_err(|error| error.error)
    }

    /// Returns the path of a local file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// Returns the path of a file that is not complete. It must not look complete, so it is not where complete files are.
    pub(crate) fn partial_path(&self, name: &str) -> PathBuf {
        self.state.join(PARTIAL_FOLDER).join(name.replace('/', "-"))
    }

    /// Creates a partial file, or empties it.
    pub(crate) fn create_partial(&self, path: &Path) -> io::Result<File> {
        private_file_options().create(true).truncate(true).open(path)
    }

    /// Moves a complete file to its place. Returns the path.
    pub(crate) fn accept(&self, partial: &Path, name: &str) -> Result<PathBuf, (PathBuf, io::Error)> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.out);
        let moved = create_private_folder(folder).and_then(|()| fs::rename(partial, &path));
        moved.map(|()| path.clone()).map_err(|cause| (path, cause))
    }

    /// Writes a file of the output directory, which is there completely or not at all.
    pub(crate) fn write_file(&self, name: &str, text: &[u8]) -> Result<(), (PathBuf, io::Error)> {
        let path = self.path(name);
        let write = || {
            let mut file = NamedTempFile::new_in(&self.state)?;
            file.write_all(text)?;
            if self.is_synced() {
                file.as_file().sync_all()?;
            }
            file.persist(&path).map_err(|error| error.error)
        };
        write().map(drop).map_err(|cause| (path.clone(), cause))
    }

    /// Returns the output directory.
    pub(crate) fn out(&self) -> &Path {
        &self.out
    }

    /// Removes what made the export resumable, after its end. The names of files that no manifest has stay, so that a later export may
    /// replace these files.
    pub(crate) fn finish(&self) {
        let mut kept = Self::unfinished_files(&self.out);
        kept.retain(|name| self.path(name).exists());
        if let Err(error) = fs::remove_dir_all(&self.state).and_then(|()| self.keep_names(&kept)) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the folder {STATE_FOLDER} cannot be removed");
        }
    }

    /// Creates the folder again for names alone, if there are any.
    fn keep_names(&self, names: &BTreeSet<String>) -> io::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        create_private_folder(&self.state)?;
        self.write_names(EARLIER_NAMES_FILE, names.iter().map(String::as_str))
    }

    /// Returns the error for a file of the state folder that cannot be written.
    fn unwritable(&self, name: &str, cause: io::Error) -> FolderError {
        FolderError::Write { path: self.state.join(name), cause }
    }
}

/// The accepted export.
const JOB_FILE: &str = "export.json";

/// The files that were downloaded and checked, one a line.
const FILES_FILE: &str = "files.ndjson";

/// The names of the files of the export, one a line, before they are written.
const NAMES_FILE: &str = "names";

/// The names of files of earlier exports that have not ended. They are still in the output directory.
const EARLIER_NAMES_FILE: &str = "earlier-names";

/// Files that are not complete.
const PARTIAL_FOLDER: &str = "partial";

/// Reads a file with one name a line. A file that does not exist has none. An exported file that is itself gzip has a longer name.
fn read_names(path: &Path) -> BTreeSet<String> {
    let names = fs::read_to_string(path).unwrap_or_default();
    names.lines().flat_map(|name| [name.to_owned(), format!("{name}.gz")]).collect()
}

impl FileRecord {
    /// Returns true if the record is of this entry of the manifest of the export with this `transactionTime`.
    pub(crate) fn is_of(&self, file: &NamedFile, time: &str) -> bool {
        self.entry == hash_entry(file, time)
    }
}

/// Returns the hash of what tells a file from those of other exports: the time of the export, and the manifest's entry.
fn hash_entry(file: &NamedFile, time: &str) -> String {
    let ManifestFile { resource_type, count, size, checksum, .. } = &file.file;
    let text = format!("{time}\n{:?}\n{resource_type:?}\n{count:?}\n{size:?}\n{checksum:?}\n{}", file.list, file.lasting_url());
    hex::encode(digest(&SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::file_names::FileList;

    /// Returns a file of a manifest with this local name.
    fn named(name: &str) -> NamedFile {
        let file = ManifestFile { resource_type: None, url: String::new(), count: None, size: None, checksum: None };
        NamedFile { name: name.to_owned(), list: FileList::Output, file, has_own_path: true }
    }

    #[test]
    fn a_recorded_file_is_of_its_entry_and_of_its_export_only() {
        let folder = tempfile::tempdir().unwrap();
        let export = ExportFolder::create(folder.path(), true).unwrap();
        let with = |url: &str, has_own_path: bool| {
            let file = named("Patient-1.ndjson");
            NamedFile { file: ManifestFile { url: url.to_owned(), count: Some(2), ..file.file }, has_own_path, ..file }
        };
        let (first, time) = (with("https://h/files?n=1&signature=a", true), "2026-02-01T00:00:00Z");
        let path = folder.path().join("Patient-1.ndjson");
        let name = "Patient-1.ndjson".to_owned();
        let downloaded = DownloadedFile { name, resource_type: None, path, bytes: 9, lines: 2, list: FileList::Output };
        let is_of = |recorded: &NamedFile, file: &NamedFile, time: &str| {
            export.record_file(recorded, "2026-02-01T00:00:00Z", &downloaded).unwrap();
            export.recorded_files()["Patient-1.ndjson"].is_of(file, time)
        };
        assert!(is_of(&first, &with("https://h/files?n=1&signature=b", true), time), "a signature changes");
        assert!(!is_of(&first, &first, "2026-02-02T00:00:00Z"), "another export");
        assert!(!is_of(&first, &with("https://h/others?n=1", true), time));
        let (page_1, page_2) = (with("https://h/files?n=1", false), with("https://h/files?n=2", false));
        assert!(is_of(&page_1, &page_1, time) && !is_of(&page_1, &page_2, time), "the query names the file");
        let changed = ManifestFile { size: Some(7), ..first.file.clone() };
        assert!(!is_of(&first, &NamedFile { file: changed, ..first.clone() }, time));
    }

    #[test]
    fn what_the_complete_export_does_not_have_is_removed_and_known_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        let export = ExportFolder::create(out, true).unwrap();
        export.record_files(&[named("Patient-1.ndjson"), named("Patient-2.ndjson")]).unwrap();
        for name in ["Patient-1.ndjson", "Patient-1.ndjson.gz", "Patient-2.ndjson", "Patient-3.ndjson"] {
            fs::write(out.join(name), "{}").unwrap();
        }
        export.record_files(&[named("Patient-1.ndjson")]).unwrap();
        assert!(ExportFolder::unfinished_files(out).contains("Patient-2.ndjson"));
        let (name, path) = ("Patient-1.ndjson".to_owned(), out.join("Patient-1.ndjson"));
        let complete = DownloadedFile { name, resource_type: None, path, bytes: 2, lines: 1, list: FileList::Output };
        export.remove_superseded_files(&[complete]).unwrap();
        let left = |name: &str| out.join(name).exists();
        assert!(left("Patient-1.ndjson") && !left("Patient-1.ndjson.gz") && !left("Patient-2.ndjson"));
        assert!(left("Patient-3.ndjson"), "no attempt has written it");
    }

    #[test]
    fn the_files_of_an_export_that_has_not_ended_are_known_until_a_manifest_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        let export = ExportFolder::create(out, false).unwrap();
        export.record_files(&[named("Patient-1.ndjson"), named("Patient-2.ndjson")]).unwrap();
        fs::write(out.join("Patient-1.ndjson"), "{}").unwrap();
        export.finish();
        drop(export);
        let export = ExportFolder::create(out, false).unwrap();
        assert!(export.earlier_files().contains("Patient-1.ndjson") && !export.earlier_files().contains("Patient-2.ndjson"));
        export.forget_earlier_files().unwrap();
        export.record_files(&[named("Patient-1.ndjson")]).unwrap();
        assert!(export.earlier_files().is_empty(), "the files of this export are not earlier ones");
        export.forget_files().unwrap();
        export.finish();
        assert!(!out.join(STATE_FOLDER).exists() && out.join("Patient-1.ndjson").exists());
    }
}
