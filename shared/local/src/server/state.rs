//! The state folder of a server on one machine: job table, registrations, keys, audit records and exported files.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use headrace_aws::{DynamoJobStore, TableSchema};
use headrace_core::job::ExportError;
use headrace_core::vocab::error::StoreError;

use crate::stores::directory::mixes_with_lake;
use crate::stores::embedded::{EmbeddedDynamo, EmbeddedError, TableSpace};
use crate::stores::io_fault::{IoFault, is_out_of_space};
use crate::stores::private::{
    create_new_private_file, create_private_file, create_private_folder, is_accessible_by_others, restrict_folder,
};

/// Name of the job table in its database.
const TABLE_NAME: &str = "headrace";

/// File name of the database with the job table.
pub(crate) const JOBS_FILE: &str = "jobs.db";

/// File name of the lock of the process that serves the folder.
pub(crate) const LOCK_FILE: &str = "lock";

/// File name of the space that is kept for records on a full disk.
const RESERVE_FILE: &str = "reserve";

/// File name of the mark of a server that runs, or was killed.
const RUNNING_FILE: &str = "running";

/// File name of the format of the folder.
const FORMAT_FILE: &str = "format";

/// Format of the folder that this version writes. A version that cannot read the folders of an earlier one, or whose folders an earlier one
/// cannot read, raises it.
const FORMAT: u32 = 1;

/// Subfolder with the exported files.
pub(crate) const FILES_FOLDER: &str = "files";

/// Subfolder with the audit files.
pub(crate) const AUDIT_FOLDER: &str = "audit";

/// Subfolder with the keys.
pub(crate) const KEYS_FOLDER: &str = "keys";

/// Name of the file that says that access control was set up for a state folder. It is never deleted.
pub(crate) const ACCESS_CONTROL_FILE: &str = "access-control";

/// File name of the key that encrypts the secrets of jobs, in [`KEYS_FOLDER`].
pub(crate) const SECRETS_KEY_FILE: &str = "secrets.key";

/// Reason why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder cannot be used.
    #[error("the state folder `{path}` cannot be used; choose another with --state")]
    Folder {
        /// Path of the folder.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: std::io::Error,
    },
    /// Others can access the folder, and its mode cannot be tightened.
    #[error(
        "the state folder `{0}` can be accessed by other users and holds files that do not belong to a state, so its mode is not changed; \
         choose a folder of its own with --state, or `chmod 700` this one"
    )]
    TooOpen(PathBuf),
    /// The folder was written by a later version.
    #[error(
        "the state folder `{path}` has format {found}, and this version reads formats up to {FORMAT}; use the version that wrote it, or another folder"
    )]
    LaterVersion {
        /// Path of the folder.
        path: PathBuf,
        /// Format of the folder.
        found: String,
    },
    /// The write-ahead log of the job table was removed.
    #[error(
        "`{0}` is missing, though the last server was not stopped properly: exports, registrations and audit records may be lost. Restore the \
         file, or delete `{RUNNING_FILE}` beside it to continue with what is left"
    )]
    WriteAheadLogMissing(PathBuf),
    /// The folder contains the lake, or exports read it as part of the lake.
    #[error(
        "the state folder `{}` and the lake `{}` overlap: exports would read the files of earlier exports as part of the lake. Choose a state \
         folder outside the lake with --state; nothing was written",
        state.display(), lake.display()
    )]
    OverlapsLake {
        /// Path of the folder.
        state: PathBuf,
        /// Path of the lake.
        lake: PathBuf,
    },
    /// No space is left for the state.
    #[error("no space left in `{0}`; free space there and try again")]
    OutOfSpace(PathBuf),
    /// The folder contains no state.
    #[error("there is no state in `{0}`; set --state to the folder that `headrace serve` uses")]
    NotFound(PathBuf),
    /// Another process serves the folder.
    #[error("the state folder `{0}` is in use by another headrace process; stop that process or choose another folder with --state")]
    InUse(PathBuf),
    /// The job table cannot be opened.
    #[error("the job table cannot be opened")]
    Table(#[from] EmbeddedError),
    /// The job table failed.
    #[error(transparent)]
    Store(ExportError),
}

impl From<StoreError> for StateError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

/// An open state folder.
pub struct StateFolder {
    /// The database engine.
    pub dynamo: EmbeddedDynamo,
    /// The job table.
    pub jobs: DynamoJobStore,
}

impl StateFolder {
    /// Opens the folder. Creates it if it does not exist, with access for its owner only.
    ///
    /// Several processes can open the same folder: the engine serializes their items and transactions, and no process caches
    /// items. Only one process can serve it, the one that holds [`lock_state_folder`].
    pub async fn open(folder: &Path) -> Result<Self, StateError> {
        check_state_folder(folder)?;
        if let Ok(lock) = lock_state_folder(folder) {
            // No server runs, so the engine of this process removes the write-ahead log when it closes the table.
            drop((fs::remove_file(folder.join(RUNNING_FILE)), lock));
        }
        Self::open_table(folder, TableSpace::new(folder, None)).await
    }

    /// Opens an existing state folder. Returns [`StateError::NotFound`] if there is none.
    pub async fn open_existing(folder: &Path) -> Result<Self, StateError> {
        if folder.join(JOBS_FILE).is_file() { Self::open(folder).await } else { Err(StateError::NotFound(folder.to_owned())) }
    }

    /// Opens the folder for the server that holds its lock. `shown` is its path in errors.
    pub(crate) async fn open_to_serve(folder: &Path, shown: &Path) -> Result<Self, StateError> {
        check_state_folder(folder)?;
        // A state that is shown as another folder belongs to one export and ends with it, so it needs no reserve.
        let space = TableSpace::new(shown, (folder == shown).then(|| folder.join(RESERVE_FILE)));
        let opened = Self::open_table(folder, space.clone()).await.map_err(|error| with_shown_path(error, shown))?;
        create_private_file_if_absent(&folder.join(RUNNING_FILE)).map_err(|cause| unusable(shown, cause))?;
        if !space.is_reserved() {
            tracing::warn!(path = ?shown, "no space is left for the reserve of the state folder: new exports are rejected until space is freed");
        }
        Ok(opened)
    }

    /// Opens the job table in the folder.
    async fn open_table(folder: &Path, space: TableSpace) -> Result<Self, StateError> {
        let created = create_private_folder(folder).and_then(|()| create_private_file_if_absent(&folder.join(JOBS_FILE)));
        created.map_err(|cause| unusable(folder, cause))?;
        let opened = Self::create_table(EmbeddedDynamo::open_with_space(&folder.join(JOBS_FILE), space)?).await?;
        write_format(folder).map_err(|cause| unusable(folder, cause))?;
        Ok(opened)
    }

    /// Creates a job table in memory, of a server that runs a single export: nobody continues that after the process.
    pub(crate) async fn open_in_memory() -> Result<Self, StateError> {
        Self::create_table(EmbeddedDynamo::in_memory()?).await
    }

    /// Creates the job table if the database does not have it.
    async fn create_table(dynamo: EmbeddedDynamo) -> Result<Self, StateError> {
        TableSchema::create(&dynamo.client(), TABLE_NAME).await?;
        let jobs = DynamoJobStore::new(dynamo.client(), TABLE_NAME).with_one_partition();
        Ok(Self { dynamo, jobs })
    }
}

/// Returns the error of a folder that cannot be used.
pub(crate) fn unusable(folder: &Path, cause: io::Error) -> StateError {
    match IoFault::from_error(&cause) {
        IoFault::OutOfSpace => StateError::OutOfSpace(folder.to_owned()),
        IoFault::Permanent(_) | IoFault::Passing => StateError::Folder { path: folder.to_owned(), cause },
    }
}

/// Shows a full disk under the path that the user knows.
fn with_shown_path(error: StateError, shown: &Path) -> StateError {
    if is_out_of_space(&error) { StateError::OutOfSpace(shown.to_owned()) } else { error }
}

/// Records that the server was stopped properly, so that a missing write-ahead log is known to be harmless.
pub(crate) fn mark_stopped(folder: &Path) {
    drop(fs::remove_file(folder.join(RUNNING_FILE)));
}

/// Checks an existing folder: its mode, the version that wrote it, and that its job table is whole.
fn check_state_folder(folder: &Path) -> Result<(), StateError> {
    if !folder.exists() {
        return Ok(());
    }
    tighten_mode(folder)?;
    if let Ok(found) = fs::read_to_string(folder.join(FORMAT_FILE)).map(|text| text.trim().to_owned())
        && found.parse::<u32>().is_ok_and(|format| format > FORMAT)
    {
        return Err(StateError::LaterVersion { path: folder.to_owned(), found });
    }
    let log = folder.join(format!("{JOBS_FILE}-wal"));
    // A running server has both. One that was killed leaves both.
    if folder.join(RUNNING_FILE).exists() && folder.join(JOBS_FILE).exists() && !log.exists() {
        return Err(StateError::WriteAheadLogMissing(log));
    }
    Ok(())
}

/// Takes access to a state folder away from other users, and logs that. Refuses a folder that holds other files, because its mode may be
/// meant for them.
pub(crate) fn tighten_mode(folder: &Path) -> Result<(), StateError> {
    let cannot_use = |cause| unusable(folder, cause);
    if !is_accessible_by_others(&fs::metadata(folder).map_err(cannot_use)?) {
        return Ok(());
    }
    let mut names = fs::read_dir(folder).map_err(cannot_use)?.map_while(Result::ok).map(|entry| entry.file_name());
    let is_own = folder.join(JOBS_FILE).exists()
        || folder.join(LOCK_FILE).exists()
        || folder.join(ACCESS_CONTROL_FILE).exists()
        || names.all(|name| name == "lost+found");
    if !is_own || restrict_folder(folder).is_err() {
        return Err(StateError::TooOpen(folder.to_owned()));
    }
    tracing::warn!(path = ?folder, "the state folder could be accessed by other users; its mode is 700 now");
    Ok(())
}

/// Writes the format of the folder, unless it is there.
fn write_format(folder: &Path) -> io::Result<()> {
    let path = folder.join(FORMAT_FILE);
    if path.exists() { Ok(()) } else { create_private_file(&path)?.write_all(format!("{FORMAT}\n").as_bytes()) }
}

/// Checks that exports of a lake do not read a state folder, and that it does not contain the lake. Writes nothing.
pub(crate) fn check_apart_from_lake(state: &Path, lake: &Path) -> Result<(), StateError> {
    if mixes_with_lake(state, lake).map_err(|cause| unusable(state, cause))? {
        return Err(StateError::OverlapsLake { state: state.to_owned(), lake: lake.to_owned() });
    }
    Ok(())
}

/// Returns true if a directory is a state folder.
pub(crate) fn is_state_folder(folder: &Path) -> bool {
    folder.join(JOBS_FILE).is_file()
}

/// Locks the folder for the process that serves it, until the returned file is dropped.
pub fn lock_state_folder(folder: &Path) -> Result<File, StateError> {
    if folder.exists() {
        tighten_mode(folder)?;
    }
    let cannot_use = |cause| unusable(folder, cause);
    create_private_folder(folder).map_err(cannot_use)?;
    let path = folder.join(LOCK_FILE);
    let file = create_private_file_if_absent(&path).and_then(|()| File::options().append(true).open(&path)).map_err(cannot_use)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StateError::InUse(folder.to_owned())),
        Err(std::fs::TryLockError::Error(cause)) => Err(cannot_use(cause)),
    }
}

/// Creates an empty file with access for its owner only, if it does not exist. SQLite creates its other files with the same mode.
///
/// An existing file is not opened: by POSIX, closing it would release the locks that an engine in this process holds on it, and
/// another process could then delete its write-ahead log.
pub(crate) fn create_private_file_if_absent(path: &Path) -> std::io::Result<()> {
    match create_new_private_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
