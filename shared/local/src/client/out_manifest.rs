//! `manifest.json` in the output directory: what an export has written. A later export with `--overwrite` removes exactly these files.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::bulk::{DownloadedFile, Manifest};
use crate::client::error_files::{OutcomeCount, Outcomes};
use crate::client::file_names::FileList;

/// Name of the file in the output directory.
pub(crate) const MANIFEST_FILE: &str = "manifest.json";

/// Format of the file. It identifies a file of an earlier export.
const FORMAT: &str = "headrace export 1";

/// The largest manifest that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// The content of `manifest.json`. The members that a Bulk Data manifest has, too, have its names.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutManifest {
    format: &'static str,
    /// The directory or the base URL that was exported.
    source: String,
    pub(crate) transaction_time: String,
    /// The kick-off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<String>,
    requires_access_token: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_organized_by: Option<String>,
    output: Vec<OutFile>,
    deleted: Vec<OutFile>,
    error: Vec<OutFile>,
    /// Number of resources.
    pub(crate) resources: u64,
    pub(crate) deletions: u64,
    /// Numbers of OperationOutcomes by severity and code.
    outcomes: Vec<OutcomeCount>,
    /// SHA-256 of the anonymization configuration, if the server is Headrace.
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration_digest: Option<String>,
    /// The extension of the server's manifest.
    #[serde(skip_serializing_if = "Value::is_null")]
    extension: Value,
}

/// A file of the output directory.
#[derive(Clone, Debug, Serialize)]
struct OutFile {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    resource_type: Option<String>,
    /// Path relative to the output directory.
    url: String,
    count: u64,
    size: u64,
}

impl OutManifest {
    /// Describes a finished export.
    pub(crate) fn new(source: String, manifest: &Manifest, files: &[DownloadedFile], deletions: u64, outcomes: &Outcomes) -> Self {
        let list = |list| files.iter().filter(|file| file.list == list).map(OutFile::new).collect::<Vec<_>>();
        let output = list(FileList::Output);
        let configuration = manifest.extension.get("urn:headrace:anonymization-config");
        Self {
            format: FORMAT,
            source,
            transaction_time: manifest.transaction_time.clone(),
            request: manifest.request.clone(),
            requires_access_token: false,
            output_organized_by: manifest.organized_by.clone(),
            resources: output.iter().map(|file| file.count).sum(),
            output,
            deleted: list(FileList::Deleted),
            error: list(FileList::Error),
            deletions,
            outcomes: outcomes.counts(),
            configuration_digest: configuration.and_then(|entry| Some(entry.get("sha256")?.as_str()?.to_owned())),
            extension: manifest.extension.clone(),
        }
    }
}

impl OutFile {
    /// Describes a downloaded file.
    fn new(file: &DownloadedFile) -> Self {
        Self { resource_type: file.resource_type.clone(), url: file.name.clone(), count: file.lines, size: file.bytes }
    }
}

/// The files of an earlier export in the output directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct EarlierExport {
    /// Paths relative to the output directory. `None` if there was no earlier export.
    files: Option<Vec<PathBuf>>,
}

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
    /// Reads the manifest of an earlier export in `out`. Fails with `InvalidData` if the file is not one.
    pub(crate) fn read(out: &Path) -> io::Result<Self> {
        let path = out.join(MANIFEST_FILE);
        let size = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
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
        Ok(Self { files: Some(files.map(|file| PathBuf::from(file.url)).filter(|path| is_own_name(path)).collect()) })
    }

    /// Removes the files, and then the manifest that names them. After an interruption, the rest is removed the next time.
    pub(crate) fn remove(self, out: &Path) -> Result<(), (PathBuf, io::Error)> {
        let Some(files) = self.files else { return Ok(()) };
        for path in files.iter().map(|file| out.join(file)).chain([out.join(MANIFEST_FILE)]) {
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
        EarlierExport::read(&out).unwrap().remove(&out).unwrap();
        for name in own.iter().chain([&MANIFEST_FILE]) {
            assert!(!out.join(name).exists(), "{name}");
        }
        for name in others {
            assert!(out.join(name).exists(), "{name}");
        }
        assert_eq!(EarlierExport::read(&out).unwrap(), EarlierExport::default());
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
        EarlierExport::read(&out).unwrap().remove(&out).unwrap();
        assert!(elsewhere.join("Bundle-1.ndjson").exists() && elsewhere.join("Patient-1.ndjson").exists());
    }

    #[test]
    fn another_file_of_that_name_is_not_taken_for_a_manifest_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{}", "[]", r#"{"transactionTime":"2026-01-01T00:00:00Z","output":[],"deleted":[],"error":[]}"#] {
            fs::write(folder.path().join(MANIFEST_FILE), text).unwrap();
            assert_eq!(EarlierExport::read(folder.path()).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text}");
        }
    }
}
