//! Opening of files that must be regular files: a pipe or a device may never answer.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The reason for which a path is not read.
const NOT_REGULAR: &str = "it is not a regular file";

/// Opens a regular file for reading. Fails at once for a pipe, a socket, a device or a folder, also if the path becomes one meanwhile.
pub(crate) fn open_regular_file(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(not_regular());
    }
    let mut options = File::options();
    options.read(true);
    // Without this flag, opening a pipe waits for its writer. It has no effect on regular files.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, O_NONBLOCK);
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

/// Creates the error for a path that is not a regular file.
fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, NOT_REGULAR)
}

/// Returns true if an error is of [`open_regular_file`] and says that the path is not a regular file.
pub(crate) fn is_not_regular(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}

/// Reads a small regular file as text.
pub(crate) fn read_regular_file_to_string(path: &Path) -> io::Result<String> {
    io::read_to_string(open_regular_file(path)?)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const O_NONBLOCK: i32 = 0o4000;

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const O_NONBLOCK: i32 = 0x0004;

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_a_device_and_a_folder_are_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.ndjson");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&pipe, Path::new("/dev/zero"), folder.path()] {
            assert!(is_not_regular(&open_regular_file(path).unwrap_err()), "{}", path.display());
        }
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert_eq!(read_regular_file_to_string(&file).unwrap(), "x");
    }
}
