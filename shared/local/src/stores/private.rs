//! Files and folders that only their owner can access.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::NamedTempFile;

/// Creates a folder, and those that it lies in, for its owner alone, whatever the umask is. Existing folders keep their mode.
pub(crate) fn create_private_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_private_folder(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        // A umask can take permissions away from the owner, too.
        Ok(()) => restrict_folder(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        // No retry mends that, unlike a folder that was removed meanwhile. The kind of the error says so.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(folder).is_ok() => {
            let problem = format!("`{}` is not a folder, but a file or a link that leads nowhere", folder.display());
            Err(io::Error::new(io::ErrorKind::NotADirectory, problem))
        }
        Err(error) => Err(error),
    }
}

/// Sets the mode of a folder to 700.
pub(crate) fn restrict_folder(folder: &Path) -> io::Result<()> {
    set_mode(folder, 0o700)
}

/// Sets the mode of a file to 600.
pub(crate) fn restrict_file(file: &Path) -> io::Result<()> {
    set_mode(file, 0o600)
}

/// Sets the mode of an open file to 600, whatever the umask was when it was created. Returns the file.
pub(crate) fn restrict_open_file(file: File) -> io::Result<File> {
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o777 != 0o600 {
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(file)
}

/// Sets the mode of a file or folder.
#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Does nothing: file modes exist on Unix only.
#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
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
    private_file_options().create_new(true).open(path).and_then(restrict_open_file)
}

/// Creates or replaces a file with mode 600.
pub(crate) fn create_private_file(path: &Path) -> io::Result<File> {
    private_file_options().create(true).truncate(true).open(path).and_then(restrict_open_file)
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
    restrict_file(file.path())?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    // Other systems cannot open a folder as a file to sync it.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Returns true if anyone but the owner can read or write a file or folder.
#[cfg(unix)]
pub(crate) fn is_accessible_by_others(file: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o077 != 0
}

/// Returns false: file modes exist on Unix only.
#[cfg(not(unix))]
pub(crate) fn is_accessible_by_others(_: &fs::Metadata) -> bool {
    false
}
