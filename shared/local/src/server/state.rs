//! The state folder of a server on one machine: job table, registrations, keys, audit records and exported files.

use std::fs::File;
use std::path::{Path, PathBuf};

use headrace_aws::{DynamoJobStore, TableSchema};
use headrace_core::job::ExportError;
use headrace_core::vocab::error::StoreError;

use crate::stores::embedded::{EmbeddedDynamo, EmbeddedError};
use crate::stores::private::{create_new_private_file, create_private_folder};

/// Name of the job table in its database.
const TABLE_NAME: &str = "headrace";

/// File name of the database with the job table.
const JOBS_FILE: &str = "jobs.db";

/// Subfolder with the exported files.
pub(crate) const FILES_FOLDER: &str = "files";

/// Subfolder with the audit files.
pub(crate) const AUDIT_FOLDER: &str = "audit";

/// Subfolder with the keys.
pub(crate) const KEYS_FOLDER: &str = "keys";

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
        let created = create_private_folder(folder).and_then(|()| create_private_file_if_absent(&folder.join(JOBS_FILE)));
        created.map_err(|cause| StateError::Folder { path: folder.to_owned(), cause })?;
        let dynamo = EmbeddedDynamo::open(&folder.join(JOBS_FILE))?;
        TableSchema::create(&dynamo.client(), TABLE_NAME).await?;
        let jobs = DynamoJobStore::new(dynamo.client(), TABLE_NAME);
        Ok(Self { dynamo, jobs })
    }

    /// Opens an existing state folder. Returns [`StateError::NotFound`] if there is none.
    pub async fn open_existing(folder: &Path) -> Result<Self, StateError> {
        if folder.join(JOBS_FILE).is_file() { Self::open(folder).await } else { Err(StateError::NotFound(folder.to_owned())) }
    }
}

/// Locks the folder for the process that serves it, until the returned file is dropped.
pub fn lock_state_folder(folder: &Path) -> Result<File, StateError> {
    let unusable = |cause| StateError::Folder { path: folder.to_owned(), cause };
    create_private_folder(folder).map_err(unusable)?;
    let path = folder.join("lock");
    let file = create_private_file_if_absent(&path).and_then(|()| File::options().append(true).open(&path)).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StateError::InUse(folder.to_owned())),
        Err(std::fs::TryLockError::Error(cause)) => Err(unusable(cause)),
    }
}

/// Creates an empty file with access for its owner only, if it does not exist. SQLite creates its other files with the same mode.
///
/// An existing file is not opened: by POSIX, closing it would release the locks that an engine in this process holds on it, and
/// another process could then delete its write-ahead log.
fn create_private_file_if_absent(path: &Path) -> std::io::Result<()> {
    match create_new_private_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
