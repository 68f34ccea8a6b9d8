//! The state folder: where one machine keeps jobs, registrations and files.

use std::fs::File;
use std::path::{Path, PathBuf};

use headrace_aws::{DynamoJobStore, TableSchema};
use headrace_core::vocab::error::{ExportError, StoreError};

use crate::stores::embedded::{EmbeddedDynamo, EmbeddedError};
use crate::stores::private::{create_new_private_file, create_private_folder};

/// The job table's name within its file.
const TABLE_NAME: &str = "headrace";

/// The job table's file within the folder.
const JOBS_FILE: &str = "jobs.db";

/// The destination's folder within the folder.
pub(crate) const FILES_FOLDER: &str = "files";

/// The audit files' folder within the folder.
pub(crate) const AUDIT_FOLDER: &str = "audit";

/// The folder of the keys that sign access tokens within the folder.
pub(crate) const KEYS_FOLDER: &str = "keys";

/// Among them the one that seals jobs' secrets.
pub(crate) const SECRETS_KEY_FILE: &str = "secrets.key";

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder cannot be used.
    #[error("the state folder `{path}` cannot be used; name another with --state")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// There is no state.
    #[error("there is no state in `{0}`; name the folder that `headrace serve` uses with --state")]
    NotFound(PathBuf),
    /// Another process works in it.
    #[error("the state folder `{0}` is in use by another headrace; stop that one or name another folder with --state")]
    InUse(PathBuf),
    /// The job table cannot be opened.
    #[error("the job table cannot be opened")]
    Table(#[from] EmbeddedError),
    /// The job table refused.
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
    /// The job table's engine.
    pub dynamo: EmbeddedDynamo,
    /// The job table.
    pub jobs: DynamoJobStore,
}

impl StateFolder {
    /// Opens the folder, created for its owner alone if it is not there.
    ///
    /// Several processes may: the engine takes its turns between them, an item or a transaction at a time, and none of them
    /// keeps an item in memory. Only [`lock_state_folder`] says that this process is the one that serves.
    pub async fn open(folder: &Path) -> Result<Self, StateError> {
        let created = create_private_folder(folder).and_then(|()| create_private_file_if_absent(&folder.join(JOBS_FILE)));
        created.map_err(|cause| StateError::Folder { path: folder.to_owned(), cause })?;
        let dynamo = EmbeddedDynamo::open(&folder.join(JOBS_FILE))?;
        TableSchema::create(&dynamo.client(), TABLE_NAME).await?;
        let jobs = DynamoJobStore::new(dynamo.client(), TABLE_NAME);
        Ok(Self { dynamo, jobs })
    }

    /// The same, where there is one already.
    pub async fn open_existing(folder: &Path) -> Result<Self, StateError> {
        if folder.join(JOBS_FILE).is_file() { Self::open(folder).await } else { Err(StateError::NotFound(folder.to_owned())) }
    }
}

/// Takes the folder for a process that serves it, until the file is dropped.
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

/// Creates an empty file for its owner alone, if there is none; SQLite gives the files beside it the same rights.
///
/// One that is there is not even opened: to close it again would, by POSIX, release the locks that an engine of this same
/// process holds on it, and another process would take its log of writes away.
fn create_private_file_if_absent(path: &Path) -> std::io::Result<()> {
    match create_new_private_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
