//! Files and folders that only their owner can access.

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

/// Returns options that open a file for writing, and create it with mode 600.
pub(crate) fn private_file_options() -> OpenOptions {
    options_with_mode(0o600)
}

/// Returns options that open a file for writing, and create it with this mode.
#[cfg_attr(not(unix), allow(unused_variables, reason = "file modes exist on Unix only"))]
fn options_with_mode(mode: u32) -> OpenOptions {
    let mut options = File::options();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    options
}

/// Creates a file with mode 600. Fails if the path exists, also as a symbolic link.
pub(crate) fn create_new_private_file(path: &Path) -> io::Result<File> {
    private_file_options().create_new(true).open(path)
}

/// Creates a file with mode 644, which others can read. Fails if the path exists, also as a symbolic link.
pub(crate) fn create_new_public_file(path: &Path) -> io::Result<File> {
    options_with_mode(0o644).create_new(true).open(path)
}

/// Writes a file atomically with mode 600. Fails with `AlreadyExists` if the path exists. Both the content and the name are synced
/// to disk before it returns.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    create_private_folder(folder)?;
    // The library creates temporary files with mode 600.
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    // Other systems cannot open a folder as a file to sync it.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Returns true if anyone but the owner can read or write a file.
#[cfg(unix)]
pub(crate) fn is_accessible_by_others(file: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o077 != 0
}

/// Returns false: file modes exist on Unix only.
#[cfg(not(unix))]
pub(crate) fn is_accessible_by_others(_: &fs::Metadata) -> bool {
    false
}
