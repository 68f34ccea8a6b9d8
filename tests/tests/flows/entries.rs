//! The entries of a folder.

use std::fs;
use std::path::Path;

use headrace_tests::flows::Result;

/// Returns the names of the entries of a folder, sorted.
pub(crate) fn entry_names(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}
