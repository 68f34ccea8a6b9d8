//! Keeps lakes apart: none is made inside another one, whose exports would read it, too, and none around another one.

use std::io;
use std::path::{Path, PathBuf};

use headrace_core::lake::inner_lake::inner_lake;
use headrace_core::lake::slices::is_foreign;
use walkdir::{DirEntry, WalkDir};

use super::{LakeBucket, LakeLock, OWN_FOLDER, WriteError};

/// Checks that a directory, which need not exist, is neither inside a lake nor around one.
///
/// A lake that is already there is continued: the lakes of a table's tenants are in one folder, which has the receipts of all.
pub fn check_outside_of_lakes(lake: &Path) -> Result<(), WriteError> {
    if lake.join(OWN_FOLDER).is_dir() {
        return Ok(());
    }
    match enclosing_lake(&real_path(lake)) {
        Some(outer) => Err(WriteError::InsideLake { lake: lake.to_owned(), outer }),
        None => check_without_inner_lakes(lake),
    }
}

/// Checks that no folder of a lake that is locked is a lake of its own.
pub(crate) fn check_without_lakes(lake: &LakeLock) -> Result<(), WriteError> {
    let Some(locked) = lake.bucket() else { return check_without_inner_lakes(lake.root()) };
    let pins = locked.bucket.list("").map_err(locked.failed(""))?;
    let shown = PathBuf::from(locked.bucket.shown());
    match pins.iter().find_map(|pin| inner_lake(&pin.object)) {
        Some(inner) => Err(WriteError::AroundLake { inner: shown.join(inner), lake: shown }),
        None => Ok(()),
    }
}

/// Checks that no folder that exports of a directory read is a lake, such as that of a table's tenant. A folder that cannot be listed is named by
/// each export.
pub fn check_without_inner_lakes(lake: &Path) -> Result<(), WriteError> {
    let real = real_path(lake);
    // Exports skip a link that leads to a folder around the lake.
    let leads_round =
        |entry: &DirEntry| entry.path_is_symlink() && entry.path().canonicalize().is_ok_and(|target| real.starts_with(target));
    let is_read =
        |entry: &DirEntry| entry.file_type().is_dir() && !entry.file_name().to_str().is_some_and(is_foreign) && !leads_round(entry);
    let walk = WalkDir::new(lake).follow_links(true).min_depth(1);
    let mut folders = walk.into_iter().filter_entry(is_read).filter_map(Result::ok).map(DirEntry::into_path);
    match folders.find(|folder| folder.join(OWN_FOLDER).is_dir()) {
        Some(inner) => Err(WriteError::AroundLake { lake: lake.to_owned(), inner }),
        None => Ok(()),
    }
}

/// Returns the path of a directory without links, and without a slash at its end. The directory need not exist. A part that cannot be looked at
/// counts as missing.
pub fn real_path(path: &Path) -> PathBuf {
    resolve(path, |_| true).unwrap_or_else(|_| path.to_owned())
}

/// Resolves symbolic links in the part of a path that exists. Fails if a part of it cannot be looked at.
pub fn resolve_links(path: &Path) -> io::Result<PathBuf> {
    resolve(path, |error| error.kind() == io::ErrorKind::NotFound)
}

/// Resolves symbolic links in the part of a path that is not missing.
fn resolve(path: &Path, is_missing: fn(&io::Error) -> bool) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for existing in path.ancestors() {
        match existing.canonicalize() {
            Ok(real) => {
                let below = path.strip_prefix(existing).unwrap_or(Path::new(""));
                // To join an empty path would add a slash.
                return Ok(if below.as_os_str().is_empty() { real } else { real.join(below) });
            }
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(path)
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

    #[test]
    fn a_new_lake_is_not_made_around_another_one() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["new/2026/inner/_headrace", "own/_headrace", "own/t1/_headrace", "other/_old/_headrace", "other/.git/_headrace"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        for (lake, inner) in [("new", "new/2026/inner"), ("new/2026", "new/2026/inner")] {
            let error = check_outside_of_lakes(&folder.path().join(lake)).unwrap_err();
            assert!(
                matches!(&error, WriteError::AroundLake { inner: found, .. } if *found == folder.path().join(inner)),
                "{lake}: {error}"
            );
        }
        let own = folder.path().join("own");
        assert!(check_outside_of_lakes(&own).is_ok(), "it has the receipts of tenants");
        assert!(matches!(check_without_inner_lakes(&own), Err(WriteError::AroundLake { .. })));
        for other in ["other", "own/t1", "nowhere"] {
            let other = folder.path().join(other);
            assert!(check_outside_of_lakes(&other).is_ok() && check_without_inner_lakes(&other).is_ok(), "{}", other.display());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_around_the_lake_makes_no_inner_lake() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["lake/_headrace", "lake/Patient", "other/_headrace"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        let lake = folder.path().join("lake");
        std::os::unix::fs::symlink(folder.path(), lake.join("Patient/around")).unwrap();
        assert!(check_without_inner_lakes(&lake).is_ok(), "exports skip the link");
        std::os::unix::fs::symlink(folder.path().join("other"), lake.join("Patient/other")).unwrap();
        assert!(matches!(check_without_inner_lakes(&lake), Err(WriteError::AroundLake { .. })), "exports follow the link");
    }

    #[test]
    fn the_path_of_a_directory_is_the_same_before_and_after_it_is_created() {
        let folder = tempfile::tempdir().unwrap();
        let lake = folder.path().join("lake");
        let missing = real_path(&lake);
        fs::create_dir(&lake).unwrap();
        // Paths are equal with and without a slash at the end. Texts are not.
        assert_eq!(real_path(&lake).as_os_str(), missing.as_os_str());
        assert_eq!(real_path(&lake.join("")).as_os_str(), missing.as_os_str());
    }
}
