//! The state folder: where one machine keeps jobs, registrations and files.

use std::fs::File;
use std::path::{Path, PathBuf};

use headrace_aws::{DynamoJobStore, TableSchema};
use headrace_core::vocab::error::{ExportError, StoreError};

use crate::stores::embedded::{EmbeddedDynamo, EmbeddedError};
use crate::stores::private::{new_private_file, private_folder};

/// The job table's name within its file.
const TABLE: &str = "headrace";

/// The job table's file within the folder.
const JOBS: &str = "jobs.db";

/// The destination's folder within the folder.
pub(crate) const FILES: &str = "files";

/// The audit files' folder within the folder.
pub(crate) const AUDIT: &str = "audit";

/// The folder of the keys that sign access tokens within the folder.
pub(crate) const KEYS: &str = "keys";

/// Among them the one that seals jobs' secrets.
pub(crate) const SECRETS: &str = "secrets.key";

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
    Absent(PathBuf),
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
pub struct State {
    /// The job table's engine.
    pub dynamo: EmbeddedDynamo,
    /// The job table.
    pub jobs: DynamoJobStore,
}

impl State {
    /// Opens the folder, created for its owner alone if it is not there.
    ///
    /// Several processes may: the engine takes its turns between them, an item or a transaction at a time, and none of them
    /// keeps an item in memory. Only [`lock`] says that this process is the one that serves.
    pub async fn open(folder: &Path) -> Result<Self, StateError> {
        let created = private_folder(folder).and_then(|()| create_private_file(&folder.join(JOBS)));
        created.map_err(|cause| StateError::Folder { path: folder.to_owned(), cause })?;
        let dynamo = EmbeddedDynamo::open(&folder.join(JOBS))?;
        TableSchema::create(&dynamo.client(), TABLE).await?;
        let jobs = DynamoJobStore::new(dynamo.client(), TABLE);
        Ok(Self { dynamo, jobs })
    }

    /// The same, where there is one already.
    pub async fn open_existing(folder: &Path) -> Result<Self, StateError> {
        if folder.join(JOBS).is_file() { Self::open(folder).await } else { Err(StateError::Absent(folder.to_owned())) }
    }
}

/// Takes the folder for a process that serves it, until the file is dropped.
pub fn lock(folder: &Path) -> Result<File, StateError> {
    let unusable = |cause| StateError::Folder { path: folder.to_owned(), cause };
    private_folder(folder).map_err(unusable)?;
    let path = folder.join("lock");
    let file = create_private_file(&path).and_then(|()| File::options().append(true).open(&path)).map_err(unusable)?;
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
fn create_private_file(path: &Path) -> std::io::Result<()> {
    match new_private_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
