//! Opening of files that must be regular files: a pipe or a device may never answer.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

/// The reason for which a path is not read.
const NOT_REGULAR: &str = "it is not a regular file";

/// Opens a regular file for reading. Fails at once for a pipe, a socket, a device or a folder, also if the path becomes one meanwhile.
pub fn open_regular_file(path: &Path) -> io::Result<File> {
    open_regular_file_with(path, File::options().read(true))
}

/// Opens a regular file with these options, which may create it. Fails like [`open_regular_file`] for anything else.
pub(crate) fn open_regular_file_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // To open a device can have effects of its own. A path that does not exist is left to the options.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(not_regular());
    }
    // Without this flag, opening a pipe waits for its other end. It has no effect on regular files.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, O_NONBLOCK);
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

/// Reads a regular file.
pub fn read_regular_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open_regular_file(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Creates the error for a path that is not a regular file.
fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, NOT_REGULAR)
}

/// Returns true if an error is of [`open_regular_file`] and says that the path is not a regular file.
pub fn is_not_regular(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}

/// Reads a small regular file as text.
pub fn read_regular_file_to_string(path: &Path) -> io::Result<String> {
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
        crate::test_lake::make_pipe(&pipe);
        for path in [&pipe, Path::new("/dev/zero"), folder.path()] {
            assert!(is_not_regular(&open_regular_file(path).unwrap_err()), "{}", path.display());
            let mut options = OpenOptions::new();
            let opened = open_regular_file_with(path, options.write(true).create(true).truncate(false));
            assert!(is_not_regular(&opened.unwrap_err()), "for writing: {}", path.display());
        }
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert_eq!((read_regular_file_to_string(&file).unwrap().as_str(), read_regular_file(&file).unwrap().as_slice()), ("x", &b"x"[..]));
    }
}
