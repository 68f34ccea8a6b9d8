//! Keeps lakes in directories apart: none is made inside another one, whose exports would read it, too.

use std::path::{Path, PathBuf};

use headrace_core::lake::slices::is_foreign;

use super::{OWN_FOLDER, WriteError};

/// Checks that a directory, which need not exist, is not inside a lake.
///
/// A lake that is already there is continued: the lakes of a table's tenants are in one folder, which has the receipts of all.
pub fn check_outside_of_lakes(lake: &Path) -> Result<(), WriteError> {
    if lake.join(OWN_FOLDER).is_dir() {
        return Ok(());
    }
    match enclosing_lake(&real_path(lake)) {
        Some(outer) => Err(WriteError::InsideLake { lake: lake.to_owned(), outer }),
        None => Ok(()),
    }
}

/// Returns the path of a directory without links. The directory need not exist.
pub(crate) fn real_path(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = path.ancestors().find_map(|existing| {
        let below = path.strip_prefix(existing).ok()?;
        Some(existing.canonicalize().ok()?.join(below))
    });
    real.unwrap_or(path)
}

/// Returns the innermost lake that contains a directory. Folders that no export reads separate lakes.
fn enclosing_lake(path: &Path) -> Option<PathBuf> {
    let is_read = |folder: &Path| !folder.file_name().and_then(|name| name.to_str()).is_some_and(is_foreign);
    let mut outer = path.ancestors().take_while(|folder| is_read(folder)).filter_map(Path::parent);
    outer.find(|folder| folder.join(OWN_FOLDER).is_dir()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_new_lake_is_not_made_inside_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let outer = folder.path().join("outer");
        for path in ["outer/_headrace", "outer/2026", "outer/tenant/_headrace", "beside"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        for inside in ["outer/new", "outer/2026/new", "outer/2026", "beside/../outer/new"] {
            let error = check_outside_of_lakes(&folder.path().join(inside)).unwrap_err();
            let outer = outer.canonicalize().unwrap();
            assert!(matches!(&error, WriteError::InsideLake { outer: found, .. } if *found == outer), "{inside}: {error}");
        }
        for outside in ["outer", "beside", "beside/new", "outer/../new", "outer/tenant", "outer/_new/lake", "outer/.new"] {
            assert!(check_outside_of_lakes(&folder.path().join(outside)).is_ok(), "{outside}");
        }
    }
}
