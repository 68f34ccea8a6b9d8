//! The files of earlier exports in the output directory. A later export with `--overwrite` removes exactly these.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::client::out_manifest::{FORMAT, MANIFEST_FILE};

/// The files of earlier exports in the output directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct EarlierExport {
    /// Paths relative to the output directory, those in a manifest and those of exports that have not ended.
    files: BTreeSet<PathBuf>,
    /// True if there is a manifest.
    has_manifest: bool,
}

/// The largest manifest that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// The folders of the output directory with exported files.
const FOLDERS: [&str; 3] = ["", "deleted", "error"];

/// The members of an earlier manifest that say which files belong to it.
#[derive(Deserialize)]
struct EarlierManifest {
    format: String,
    output: Vec<EarlierFile>,
    deleted: Vec<EarlierFile>,
    error: Vec<EarlierFile>,
}

#[derive(Deserialize)]
struct EarlierFile {
    url: String,
}

impl EarlierExport {
    /// Reads the manifest of an earlier export in `out`, and adds files of exports that have not ended. Fails with `InvalidData` if the
    /// manifest is not of an export.
    pub(crate) fn read(out: &Path, unfinished: impl IntoIterator<Item = String>) -> io::Result<Self> {
        let unfinished = Self::without_manifest(unfinished);
        let path = out.join(MANIFEST_FILE);
        let size = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(unfinished),
            found => found?.len(),
        };
        if size > MAX_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let manifest: EarlierManifest = serde_json::from_slice(&fs::read(&path)?).map_err(|_| io::ErrorKind::InvalidData)?;
        if manifest.format != FORMAT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let files = [manifest.output, manifest.deleted, manifest.error].into_iter().flatten();
        let files = files.map(|file| PathBuf::from(file.url)).filter(|path| is_own_name(path));
        Ok(Self { files: files.chain(unfinished.files).collect(), has_manifest: true })
    }

    /// Returns the first entry of the output directory that has the name of an exported file, and that no export has written.
    pub(crate) fn foreign_file(&self, out: &Path) -> io::Result<Option<PathBuf>> {
        let mut first: Option<PathBuf> = None;
        for folder in FOLDERS {
            let is_folder = folder.is_empty() || fs::symlink_metadata(out.join(folder)).is_ok_and(|found| found.is_dir());
            let entries = match fs::read_dir(out.join(folder)) {
                Ok(entries) if is_folder => entries,
                Err(error) if error.kind() != io::ErrorKind::NotFound && is_folder => return Err(error),
                Ok(_) | Err(_) => continue,
            };
            for entry in entries {
                let path = Path::new(folder).join(entry?.file_name());
                if is_own_name(&path) && !self.files.contains(&path) && first.as_ref().is_none_or(|first| path < *first) {
                    first = Some(path);
                }
            }
        }
        Ok(first)
    }

    /// Creates the files with these names, which no manifest has.
    pub(crate) fn without_manifest(names: impl IntoIterator<Item = String>) -> Self {
        let files = names.into_iter().map(PathBuf::from).filter(|path| is_own_name(path)).collect();
        Self { files, has_manifest: false }
    }

    /// Returns the names of the files.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter_map(|path| path.to_str())
    }

    /// Removes the manifest, and then the files: a manifest must not name files that are gone. Whoever calls this has recorded their names, so
    /// that the rest is removed the next time after an interruption.
    pub(crate) fn remove(self, out: &Path) -> Result<(), (PathBuf, io::Error)> {
        let manifest = self.has_manifest.then(|| out.join(MANIFEST_FILE));
        for path in manifest.into_iter().chain(self.files.iter().map(|file| out.join(file))) {
            remove_file(out, &path).map_err(|error| (path, error))?;
        }
        Ok(())
    }
}

/// Returns true for a path within the output directory at which an export writes.
pub(crate) fn is_written_by_exports(path: &Path) -> bool {
    let is_internal = path.components().next().is_some_and(|first| first.as_os_str().to_string_lossy().starts_with(".headrace"));
    is_internal || path == Path::new(MANIFEST_FILE) || is_own_name(path)
}

/// Returns true for the names that exports write: `Patient-1.ndjson`, `deleted/Bundle-1.ndjson`, `error/OperationOutcome-1.ndjson.gz`.
fn is_own_name(path: &Path) -> bool {
    let parts: Option<Vec<&str>> = path
        .components()
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
        })
        .collect();
    let is_file = |name: &str| {
        let stem = name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".ndjson").and_then(|stem| stem.rsplit_once('-'));
        stem.is_some_and(|(kind, number)| {
            !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) && number.parse::<u32>().is_ok()
        })
    };
    match parts.as_deref() {
        Some([file]) | Some(["deleted" | "error", file]) => is_file(file),
        Some(_) | None => false,
    }
}

/// Removes a file of the output directory, if it exists and its folder is not a link.
fn remove_file(out: &Path, path: &Path) -> io::Result<()> {
    let is_folder = |folder: &Path| folder == out || fs::symlink_metadata(folder).is_ok_and(|folder| folder.is_dir());
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() && path.parent().is_some_and(is_folder) => fs::remove_file(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Writes files with their names as content.
    fn write(out: &Path, names: &[&str]) {
        for name in names {
            let path = out.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
    }

    /// Returns a manifest that names these files.
    fn manifest(names: &[&str]) -> String {
        let files: Vec<Value> = names.iter().map(|name| serde_json::json!({ "url": name })).collect();
        serde_json::json!({ "format": FORMAT, "output": files, "deleted": [], "error": [] }).to_string()
    }

    #[test]
    fn only_files_of_the_earlier_manifest_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let own = ["Patient-1.ndjson", "Patient-12.ndjson.gz", "deleted/Bundle-1.ndjson", "error/OperationOutcome-1.ndjson"];
        let others = ["Patient-2.ndjson", "notes.txt", "deleted/Bundle-2.ndjson", "sub/Patient-1.ndjson", "../Patient-1.ndjson"];
        write(&out, &own);
        write(&out, &others);
        let named =
            [&own[..], &["notes.txt", "sub/Patient-1.ndjson", "../Patient-1.ndjson", "/etc/passwd", "Gone-1.ndjson", "", "."]].concat();
        fs::write(out.join(MANIFEST_FILE), manifest(&named)).unwrap();
        EarlierExport::read(&out, []).unwrap().remove(&out).unwrap();
        for name in own.iter().chain([&MANIFEST_FILE]) {
            assert!(!out.join(name).exists(), "{name}");
        }
        for name in others {
            assert!(out.join(name).exists(), "{name}");
        }
        assert_eq!(EarlierExport::read(&out, []).unwrap(), EarlierExport::default());
    }

    #[test]
    fn no_manifest_is_left_that_names_a_file_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        write(out, &["Patient-1.ndjson"]);
        fs::write(out.join(MANIFEST_FILE), manifest(&["Patient-1.ndjson", "Patient-2.ndjson"])).unwrap();
        let earlier = EarlierExport::read(out, []).unwrap();
        assert_eq!(earlier.names().collect::<Vec<_>>(), ["Patient-1.ndjson", "Patient-2.ndjson"]);
        // A name that is longer than the file system allows stands for a removal that fails in the middle.
        let long = PathBuf::from(format!("{}-1.ndjson", "A".repeat(300)));
        let earlier = EarlierExport { files: [long, PathBuf::from("Patient-1.ndjson")].into(), ..earlier };
        assert!(earlier.remove(out).is_err());
        assert!(!out.join(MANIFEST_FILE).exists() && out.join("Patient-1.ndjson").exists());
    }

    #[test]
    fn a_file_that_no_export_has_written_is_foreign_if_an_export_could_write_one_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        let foreign = |unfinished: &[&str]| {
            let earlier = EarlierExport::read(out, unfinished.iter().map(|name| (*name).to_owned())).unwrap();
            earlier.foreign_file(out).unwrap()
        };
        assert_eq!(EarlierExport::default().foreign_file(&out.join("missing")).unwrap(), None);
        write(out, &["Patient-1.ndjson", "notes.txt", "Patient.ndjson", "sub/Patient-1.ndjson", "deleted/notes.txt"]);
        fs::write(out.join(MANIFEST_FILE), manifest(&["Patient-1.ndjson"])).unwrap();
        assert_eq!(foreign(&[]), None);
        write(out, &["error/OperationOutcome-1.ndjson"]);
        assert_eq!(foreign(&[]), Some(PathBuf::from("error/OperationOutcome-1.ndjson")));
        write(out, &["Patient-2.ndjson.gz"]);
        assert_eq!(foreign(&[]), Some(PathBuf::from("Patient-2.ndjson.gz")));
        assert_eq!(foreign(&["Patient-2.ndjson.gz", "error/OperationOutcome-1.ndjson"]), None, "those of an export that has not ended");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (out, elsewhere) = (folder.path().join("out"), folder.path().join("elsewhere"));
        write(&elsewhere, &["Bundle-1.ndjson", "Patient-1.ndjson"]);
        fs::create_dir(&out).unwrap();
        std::os::unix::fs::symlink(&elsewhere, out.join("deleted")).unwrap();
        std::os::unix::fs::symlink(elsewhere.join("Patient-1.ndjson"), out.join("Patient-1.ndjson")).unwrap();
        fs::write(out.join(MANIFEST_FILE), manifest(&["deleted/Bundle-1.ndjson", "Patient-1.ndjson"])).unwrap();
        EarlierExport::read(&out, []).unwrap().remove(&out).unwrap();
        assert!(elsewhere.join("Bundle-1.ndjson").exists() && elsewhere.join("Patient-1.ndjson").exists());
    }

    #[test]
    fn another_file_of_that_name_is_not_taken_for_a_manifest_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{}", "[]", r#"{"transactionTime":"2026-01-01T00:00:00Z","output":[],"deleted":[],"error":[]}"#] {
            fs::write(folder.path().join(MANIFEST_FILE), text).unwrap();
            assert_eq!(EarlierExport::read(folder.path(), []).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text}");
        }
    }
}
