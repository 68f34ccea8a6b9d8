//! The files of the repository, for tests that read its sources and documents.

use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// Returns the root folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the files below these folders of the repository that have one of the extensions, sorted by path within each folder.
pub fn files(folders: &[&str], extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in folders {
        for entry in WalkDir::new(root().join(folder)).sort_by_file_name() {
            let path = entry?.into_path();
            if path.is_file() && path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known)) {
                files.push(path);
            }
        }
    }
    Ok(files)
}
