//! Files and folders of a lake, which only their owner can access: they have data of patients.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use crate::regular_file::open_regular_file_with;

/// Creates a folder, and those that it lies in, for its owner alone. Existing folders keep their mode.
pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Creates a file that does not exist yet, for its owner alone.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Opens a regular file for writing without changing its content. Creates it for its owner alone if it does not exist.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    open_regular_file_with(path, &mut options)
}
