//! The output directory of an export from a server, and the folder in it that makes the export resumable.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::client::file_names::NamedFile;
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
    /// Hash of the manifest's entry without the query of its URL, which may be a signature that changes.
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
        // An earlier export is not continued.
        for name in [JOB_FILE, FILES_FILE] {
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

    /// Records a file that was downloaded and checked.
    pub(crate) fn record_file(&self, file: &NamedFile, name: &str, bytes: u64, lines: u64) -> Result<(), FolderError> {
        if !self.is_resumable {
            return Ok(());
        }
        let record = FileRecord { key: file.name.clone(), name: name.to_owned(), bytes, lines, entry: hash_entry(file) };
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

    /// Removes what made the export resumable, after its end.
    pub(crate) fn finish(&self) {
        if let Err(error) = fs::remove_dir_all(&self.state) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the folder {STATE_FOLDER} cannot be removed");
        }
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

/// Files that are not complete.
const PARTIAL_FOLDER: &str = "partial";

impl FileRecord {
    /// Returns true if the record is of this entry of the manifest.
    pub(crate) fn is_of(&self, file: &NamedFile) -> bool {
        self.entry == hash_entry(file)
    }
}

/// Returns the hash of a manifest's entry: type, count and URL without its query.
fn hash_entry(file: &NamedFile) -> String {
    let url = file.file.url.split(['?', '#']).next().unwrap_or_default();
    let text = format!("{:?}\n{:?}\n{:?}\n{url}", file.list, file.file.resource_type, file.file.count);
    hex::encode(digest(&SHA256, text.as_bytes()))
}
