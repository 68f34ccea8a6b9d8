//! Keeps the folders that exports write apart from the lake: files there would be read as part of it.

use std::io;
use std::path::{Path, PathBuf};

use headrace_core::lake::slices::is_foreign;
use headrace_lake::writing::resolve_links;

/// Returns true if a folder contains the lake or lies in it. Neither need exist.
pub(crate) fn overlaps_lake(folder: &Path, lake: &Path) -> io::Result<bool> {
    let lake = resolve_links(lake)?;
    Ok(places(folder)?.iter().any(|place| place.starts_with(&lake) || lake.starts_with(place)))
}

/// Returns true if a folder contains the lake, or lies in a part of it that exports read. Neither need exist.
pub(crate) fn mixes_with_lake(folder: &Path, lake: &Path) -> io::Result<bool> {
    let lake = resolve_links(lake)?;
    let is_mixed = |place: &PathBuf| match place.strip_prefix(&lake) {
        Ok(below) => !below.iter().any(|name| name.to_str().is_some_and(is_foreign)),
        Err(_) => lake.starts_with(place),
    };
    Ok(places(folder)?.iter().any(is_mixed))
}

/// Returns the path of a folder without links, and its paths by each link on the way to it: a listing follows those that are in the lake.
fn places(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let path = std::path::absolute(folder)?;
    let mut places = vec![resolve_links(&path)?];
    for parent in path.ancestors().filter(|ancestor| ancestor.is_symlink()).filter_map(Path::parent) {
        if let Ok(below) = path.strip_prefix(parent) {
            places.push(resolve_links(parent)?.join(below));
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_mixes_with_the_lake_unless_no_export_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for folder in ["outer/lake/2026", "outer/lake/_own", "elsewhere"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        let mut cases = vec![
            ("outer/lake", true, true),
            ("outer/lake/state", true, true),
            ("outer/lake/2026/new/state", true, true),
            ("outer/lake/../lake/state", true, true),
            ("outer", true, true),
            ("outer/lake/.headrace", false, true),
            ("outer/lake/_own/state", false, true),
            ("outer/lake2", false, false),
            ("elsewhere/state", false, false),
        ];
        #[cfg(unix)]
        {
            use std::os::unix::fs::symlink;
            symlink(path("outer/lake"), path("link")).unwrap();
            symlink(path("elsewhere"), path("outer/lake/out")).unwrap();
            symlink(path("outer/lake/2026"), path("outer/lake/_link")).unwrap();
            cases.extend([
                ("link/state", true, true),
                // A listing of the lake follows the link.
                ("outer/lake/out/state", true, true),
                ("outer/lake/out/_state", false, true),
                ("outer/lake/_link/state", true, true),
            ]);
        }
        for (folder, mixes, overlaps) in cases {
            let (folder, lake) = (path(folder), path("outer/lake"));
            assert_eq!(mixes_with_lake(&folder, &lake).unwrap(), mixes, "{}", folder.display());
            assert_eq!(overlaps_lake(&folder, &lake).unwrap(), overlaps, "{}", folder.display());
        }
    }
}
