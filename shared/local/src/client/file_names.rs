//! Local names of downloaded files. They are made here, and never taken from a URL: two URLs can end alike, and a server must not
//! choose what is written where.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::manifest::{Manifest, ManifestFile};

/// The list of a manifest that contains a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileList {
    /// Resources.
    Output,
    /// Deletions.
    Deleted,
    /// OperationOutcomes.
    Error,
}

/// A file of a manifest with its local name.
#[derive(Clone, Debug)]
pub(crate) struct NamedFile {
    /// Path relative to the output directory, such as `Patient-1.ndjson` or `deleted/Bundle-1.ndjson`.
    pub(crate) name: String,
    pub(crate) list: FileList,
    pub(crate) file: ManifestFile,
    /// True if no other file of the manifest has the URL of this one up to its query.
    pub(crate) has_own_path: bool,
}

impl NamedFile {
    /// Returns the part of the URL that names the file. A query may be a signature that changes, unless files differ in it alone.
    pub(crate) fn lasting_url(&self) -> &str {
        if self.has_own_path { path_of(&self.file.url) } else { &self.file.url }
    }
}

/// Returns a URL up to its query.
fn path_of(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// Returns the files of a manifest in its order, with names that differ also where a file system ignores case.
pub(crate) fn named_files(manifest: &Manifest) -> Vec<NamedFile> {
    let organized_by = manifest.organized_by.as_deref();
    let lists = [
        ("", FileList::Output, &manifest.output, organized_by.unwrap_or("file")),
        ("deleted/", FileList::Deleted, &manifest.deleted, "Bundle"),
        ("error/", FileList::Error, &manifest.error, "OperationOutcome"),
    ];
    let repeated = repeated_paths(manifest);
    let named = lists.into_iter().flat_map(|(folder, list, files, default_type)| name_list(folder, list, files, default_type));
    named.map(|file| NamedFile { has_own_path: !repeated.contains(path_of(&file.file.url)), ..file }).collect()
}

/// Returns the URLs up to their query that several files of a manifest have.
fn repeated_paths(manifest: &Manifest) -> BTreeSet<&str> {
    let files = [&manifest.output, &manifest.deleted, &manifest.error].into_iter().flatten();
    let mut seen = BTreeSet::new();
    files.map(|file| path_of(&file.url)).filter(|path| !seen.insert(*path)).collect()
}

/// Names the files of one list: the type and a number that counts from 1 within the type.
fn name_list(folder: &str, list: FileList, files: &[ManifestFile], default_type: &str) -> Vec<NamedFile> {
    let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
    let name = |file: &ManifestFile| {
        let kind = file.resource_type.as_deref().unwrap_or(default_type);
        let number = numbers.entry(kind.to_ascii_lowercase()).and_modify(|number| *number += 1).or_insert(1);
        NamedFile { name: format!("{folder}{kind}-{number}.ndjson"), list, file: file.clone(), has_own_path: true }
    };
    files.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a file of this type and URL.
    fn file(kind: &str, url: &str) -> ManifestFile {
        let resource_type = Some(kind.to_owned()).filter(|kind| !kind.is_empty());
        ManifestFile { resource_type, url: url.to_owned(), count: None, size: None, checksum: None }
    }

    /// Returns a manifest of these files.
    fn manifest(output: Vec<ManifestFile>, deleted: Vec<ManifestFile>, error: Vec<ManifestFile>, organized_by: Option<&str>) -> Manifest {
        Manifest {
            transaction_time: String::new(),
            request: None,
            requires_access_token: None,
            organized_by: organized_by.map(str::to_owned),
            output,
            deleted,
            error,
            extension: serde_json::Value::Null,
            next: None,
            server_time: None,
            warnings: Vec::new(),
        }
    }

    /// Returns the local names of a manifest.
    fn names(manifest: &Manifest) -> Vec<String> {
        named_files(manifest).into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn names_are_made_from_the_type_and_a_number_and_are_unique() {
        let output = vec![
            file("Patient", "https://h/files/Patient/1.ndjson"),
            file("Observation", "https://h/files/Observation/1.ndjson"),
            file("Patient", "https://h/export?page=1"),
            file("Patient", "https://h/export?page=2"),
            file("PATIENT", "https://h/x"),
            file("", "https://h/..%2f..%2fetc%2fpasswd"),
            file("", "https://h/"),
        ];
        let deleted = vec![file("Bundle", "https://h/output/Patient.ndjson"), file("Patient", "https://h/deleted/Patient.ndjson")];
        let error = vec![file("OperationOutcome", "https://h/error.ndjson"), file("", "https://h/error.ndjson?2")];
        assert_eq!(
            names(&manifest(output, deleted, error, None)),
            [
                "Patient-1.ndjson",
                "Observation-1.ndjson",
                "Patient-2.ndjson",
                "Patient-3.ndjson",
                "PATIENT-4.ndjson",
                "file-1.ndjson",
                "file-2.ndjson",
                "deleted/Bundle-1.ndjson",
                "deleted/Patient-1.ndjson",
                "error/OperationOutcome-1.ndjson",
                "error/OperationOutcome-2.ndjson",
            ]
        );
        let manifest_of = |urls: &[&str]| manifest(urls.iter().map(|url| file("Patient", url)).collect(), Vec::new(), Vec::new(), None);
        let lasting = |urls: &[&str]| named_files(&manifest_of(urls)).iter().map(|file| file.lasting_url().to_owned()).collect::<Vec<_>>();
        assert_eq!(lasting(&["https://h/a?s=1", "https://h/b?s=1"]), ["https://h/a", "https://h/b"]);
        assert_eq!(
            lasting(&["https://h/a?n=1", "https://h/a?n=2", "https://h/b?n=1"]),
            ["https://h/a?n=1", "https://h/a?n=2", "https://h/b"]
        );
        let blocks = manifest(vec![file("", "https://h/1"), file("", "https://h/2")], Vec::new(), Vec::new(), Some("Patient"));
        assert_eq!(names(&blocks), ["Patient-1.ndjson", "Patient-2.ndjson"]);
    }
}
