//! Keeps lakes apart: none is made inside another one, whose exports would read it, too.

use std::path::{Path, PathBuf};

use headrace_core::lake::slices::is_foreign;

use super::{LakeBucket, OWN_FOLDER, WriteError};

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
pub fn real_path(path: &Path) -> PathBuf {
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

/// Checks that a lake in a bucket, which need not exist, is not inside another one. It takes a request for each folder of its prefix.
pub(crate) fn check_outside_of_bucket_lakes(bucket: &dyn LakeBucket) -> Result<(), WriteError> {
    let (prefix, shown) = (bucket.prefix(), PathBuf::from(bucket.shown()));
    let has_lake = |prefix: &str| bucket.has_key(&format!("{prefix}{OWN_FOLDER}/")).map_err(WriteError::at(&shown));
    if has_lake(prefix)? {
        return Ok(());
    }
    for outer in enclosing_prefixes(prefix) {
        if has_lake(outer)? {
            let folders = prefix.split_terminator('/').count() - outer.split_terminator('/').count();
            let outer = shown.ancestors().nth(folders).unwrap_or(&shown).to_owned();
            return Err(WriteError::InsideLake { lake: shown, outer });
        }
    }
    Ok(())
}

/// Returns the prefixes of lakes that would contain one with this prefix, the innermost first. Folders that no export reads separate lakes.
fn enclosing_prefixes(prefix: &str) -> impl Iterator<Item = &str> {
    let prefixes = std::iter::successors(Some(prefix), |prefix| {
        let folder = prefix.strip_suffix('/')?;
        let (outer, name) = folder.split_at(folder.rfind('/').map_or(0, |slash| slash + 1));
        (!is_foreign(name)).then_some(outer)
    });
    prefixes.skip(1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_prefix_is_enclosed_by_its_folders_up_to_one_that_no_export_reads() {
        let cases: [(&str, &[&str]); 5] =
            [("", &[]), ("fhir/", &[""]), ("a/b/c/", &["a/b/", "a/", ""]), ("a/_b/c/", &["a/_b/"]), ("_a/", &[])];
        for (prefix, expected) in cases {
            assert_eq!(enclosing_prefixes(prefix).collect::<Vec<_>>(), expected, "{prefix}");
        }
    }

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
