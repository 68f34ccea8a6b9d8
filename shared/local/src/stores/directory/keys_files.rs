//! Keys files beside anonymization configurations.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;
use headrace_core::request::KEYS_SUFFIX;
use headrace_core::vocab::error::StoreError;
use headrace_fhir::deid::MAX_KEYS_BYTES;

use crate::stores::private::is_accessible_by_others;
use crate::stores::regular_file::open_regular_file;

/// Reads a keys file. Returns `None` if it does not exist, and an error if other users can read it. A link without a target is an error
/// too: with other keys, pseudonyms would differ from those of earlier exports.
pub(super) fn read_keys(path: &Path) -> Result<Option<Bytes>, StoreError> {
    Ok(read(path).map_err(|cause| unusable(path, &cause))?.map(Bytes::from))
}

/// Returns an error for each keys file of a folder that cannot be used. A folder that cannot be read has none.
pub(super) fn unusable_keys_files(folder: &Path) -> Vec<StoreError> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(KEYS_SUFFIX));
    files.filter_map(|entry| read_keys(&entry.path()).err()).collect()
}

/// Reads a file that only its owner can read.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let is_absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let file = match open_regular_file(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) && !path.is_symlink() => return Ok(None),
        Err(error) => return Err(error),
    };
    if is_accessible_by_others(&file.metadata()?) {
        return Err(io::Error::other("other users can read it; remove their access: chmod 600"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_KEYS_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Creates the error of a keys file. A client sees its name, which follows from that of the configuration. The operator sees its path too.
fn unusable(path: &Path, cause: &io::Error) -> StoreError {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    StoreError::Misconfigured {
        remedy: format!("the keys file `{name}` cannot be used: {cause}"),
        // The path completes the command.
        cause: format!("{cause} {}", path.display()).into(),
    }
}
