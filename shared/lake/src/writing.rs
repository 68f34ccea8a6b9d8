//! Writes objects into a lake in a directory or a bucket, so that a process that is killed leaves nothing half-written.
//!
//! In a directory, files are written below `_headrace/staging`, which no export reads. Then a list of their final names is written, and they are renamed.
//! If the process is killed before the list is complete, the files are dropped by the next run. If it is killed after that, the next run
//! renames the rest.

mod bucket;
mod bucket_commit;
mod bucket_lock;
mod fault;
mod lines;
mod lock;
mod nesting;
mod private;
mod settings;
mod staging;
mod sync_lock;

pub use bucket::{BUCKET_ERROR, LakeBucket, LockClock};
pub use bucket_commit::unfinished_runs_in;
pub(crate) use fault::FaultPoint;
pub use lines::{LakeLines, LineSink};
pub(crate) use lock::entries;
pub use lock::{LakeLock, lock_watermark};
pub(crate) use nesting::{check_outside_of_bucket_lakes, check_without_lakes};
pub use nesting::{check_outside_of_lakes, check_without_inner_lakes, real_path, resolve_links};
pub use settings::RewriteSettings;
pub(crate) use staging::recover;
pub use staging::{Staging, unfinished_runs};
pub use sync_lock::SyncLock;

use std::io;
use std::path::{Path, PathBuf};

use headrace_core::vocab::clock::Millis;

pub use headrace_core::lake::inner_lake::OWN_FOLDER;

/// The folder of receipts of additions, below the internal folder.
pub(crate) const RECEIPT_FOLDER: &str = "added";

/// The folder of markers of replaced objects, below the internal folder.
pub(crate) const MARKER_FOLDER: &str = "superseded";

/// The reason why a lake cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another process writes the lake.
    #[error("another process writes the lake `{}` (headrace lake add or compact); wait until it has finished", .0.display())]
    Locked(PathBuf),
    /// Another process writes the lake in a bucket, or was stopped while it did.
    #[error(
        "another process writes the lake `{lake}` (headrace lake add or compact); wait until it has finished, or, if it was stopped, until {until}"
    )]
    LockedUntil {
        /// The lake.
        lake: String,
        /// The end of the lock.
        until: Millis,
    },
    /// Another process synchronizes the lake.
    #[error("another headrace sync fills the lake `{}`; wait until it has finished, or stop it", .0.display())]
    Synchronized(PathBuf),
    /// The directory or prefix is inside a lake.
    #[error(
        "`{}` is inside the lake `{}`, whose exports would read both: name a place outside of it, or that lake itself",
        .lake.display(),
        .outer.display()
    )]
    InsideLake {
        /// The directory, or the name of the bucket and its prefix.
        lake: PathBuf,
        /// The lake that contains it.
        outer: PathBuf,
    },
    /// The directory or prefix is around a lake.
    #[error(
        "`{}` contains the lake `{}`, and its exports would read both: name a place that contains no lake, or that lake itself",
        .lake.display(),
        .inner.display()
    )]
    AroundLake {
        /// The directory, or the name of the bucket and its prefix.
        lake: PathBuf,
        /// The lake inside it.
        inner: PathBuf,
    },
    /// The lock of a lake is not one.
    #[error("`{0}` is not the lock of a headrace command; remove it, if none writes the lake")]
    InvalidLock(String),
    /// The process was suspended or without a connection for too long.
    #[error("this process could not extend its lock of the lake `{0}`; run the command again")]
    LockLost(String),
    /// An object has the name of a new one.
    #[error("`{}` exists and is not from this run: another process writes such names; remove or rename it, and run the command again", .0.display())]
    Occupied(PathBuf),
    /// A file or folder of the lake cannot be used.
    #[error("`{}` cannot be written", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The list of a run that was interrupted is damaged.
    #[error("`{}` is damaged: remove its folder, and add the input again", .0.display())]
    DamagedList(PathBuf),
}

impl WriteError {
    /// Returns a function that makes an error about a path.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |cause| Self::File { path, cause }
    }
}
