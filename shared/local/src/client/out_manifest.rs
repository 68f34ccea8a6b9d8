//! `manifest.json` in the output directory: what an export has written.

use serde::Serialize;
use serde_json::Value;

use crate::client::bulk::{DownloadedFile, Manifest};
use crate::client::error_files::{OutcomeCount, Outcomes};
use crate::client::file_names::FileList;

/// Name of the file in the output directory.
pub(crate) const MANIFEST_FILE: &str = "manifest.json";

/// Format of the file. It identifies a file of an earlier export.
pub(crate) const FORMAT: &str = "headrace export 1";

/// The content of `manifest.json`. The members that a Bulk Data manifest has, too, have its names.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutManifest {
    format: &'static str,
    /// The directory or the base URL that was exported. `None` if this machine has de-identified: a path can name a clinic or a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
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
        Self {
            format: FORMAT,
            source: Some(source),
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
            configuration_digest: manifest.configuration_digest().map(str::to_owned),
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
