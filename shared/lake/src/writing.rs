//! Writes objects into a lake in a directory, so that a process that is killed leaves nothing half-written.
//!
//! Files are written below `_headrace/staging`, which no export reads. Then a list of their final names is written, and they are renamed.
//! If the process is killed before the list is complete, the files are dropped by the next run. If it is killed after that, the next run
//! renames the rest.

mod fault;
mod lines;
mod lock;
mod private;
mod settings;
mod staging;

pub(crate) use fault::FaultPoint;
pub use lines::{LakeLines, LineSink};
pub use lock::LakeLock;
pub(crate) use lock::entries;
pub use settings::RewriteSettings;
pub(crate) use staging::recover;
pub use staging::{Staging, unfinished_runs};

use std::io;
use std::path::{Path, PathBuf};

/// The internal folder of a lake, for files that are not data. Exports do not read it.
pub const OWN_FOLDER: &str = "_headrace";

/// The reason why a lake cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another process writes the lake.
    #[error("another process writes the lake `{}` (headrace lake add or compact); wait until it has finished", .0.display())]
    Locked(PathBuf),
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
