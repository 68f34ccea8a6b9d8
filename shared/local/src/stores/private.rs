//! Files and folders for their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::NamedTempFile;

/// Creates a folder, and those that it lies in, for its owner alone.
pub(crate) fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// How to open a file for writing that, if it is created, is for its owner alone.
pub(crate) fn private_file_options() -> OpenOptions {
    options(0o600)
}

#[cfg_attr(not(unix), allow(unused_variables, reason = "other systems have no such rights"))]
fn options(mode: u32) -> OpenOptions {
    let mut options = File::options();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    options
}

/// Creates a file: never over another, nor through a link that somebody has laid there.
pub(crate) fn create_new_private_file(path: &Path) -> io::Result<File> {
    private_file_options().create_new(true).open(path)
}

/// The same of a file that others may read, and nobody but its owner may change.
pub(crate) fn create_new_public_file(path: &Path) -> io::Result<File> {
    options(0o644).create_new(true).open(path)
}

/// Writes a file whole or not at all, and never over another; an error of kind `AlreadyExists` says that there is one. It has its
/// name once its bytes are on the disk, and the name is on the disk before anybody relies on it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    create_private_folder(folder)?;
    // For its owner alone, by the library's own default.
    let mut draft = NamedTempFile::new_in(folder)?;
    draft.write_all(bytes)?;
    draft.as_file().sync_all()?;
    draft.persist_noclobber(path)?;
    // Elsewhere a folder cannot be opened as a file.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Whether others than its owner may read or write a file.
#[cfg(unix)]
pub(crate) fn is_accessible_by_others(file: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o077 != 0
}

/// Other systems have no such rights: there the folder's are the user's own.
#[cfg(not(unix))]
pub(crate) fn is_accessible_by_others(_: &fs::Metadata) -> bool {
    false
}
