//! The formats of input, and how they are distinguished.

use std::io::Read as _;
use std::sync::Arc;

use headrace_core::lake::slices::type_from_file_name;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::json::JsonValue;

use super::AddError;
use super::input::{FileContent, InputFile};
use super::manifest::Manifest;
use crate::progress::Progress;

/// The part of a file in which its first `resourceType` must be, in bytes.
const START_BYTES: u64 = 64 << 10;

/// The name of the file that describes the export of a table.
pub(super) const TABLE_SUMMARY: &str = "manifest-summary.json";

/// The format of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputFormat {
    /// Bundles, in files of one Bundle or one a line.
    Bundles,
    /// NDJSON files of resources, such as the export of another server.
    Ndjson,
    /// The export of a DynamoDB table of FHIR Works on AWS.
    FhirWorks,
}

impl InputFormat {
    /// Returns the name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bundles => "bundles",
            Self::Ndjson => "ndjson",
            Self::FhirWorks => "fhir-works",
        }
    }

    /// Finds out what the files are: by the description of a table, by the manifest of an export, else by the first line of a file of lines.
    pub(super) fn detect(files: &[InputFile]) -> Result<Self, AddError> {
        if files.iter().any(|file| file.file_name() == TABLE_SUMMARY) {
            return Ok(Self::FhirWorks);
        }
        if has_listed_lines(files)? {
            return Ok(Self::Ndjson);
        }
        for file in files.iter().filter(|file| file.content == FileContent::Lines && !may_hold_bundles_as_data(file)) {
            // An empty file says nothing.
            let Some(is_bundle) = starts_with_bundle(file)? else { continue };
            return Ok(if is_bundle { Self::Bundles } else { Self::Ndjson });
        }
        let has_lines = files.iter().any(|file| file.content == FileContent::Lines);
        let has_json = files.iter().any(|file| file.content == FileContent::Json);
        Ok(if has_lines && !has_json { Self::Ndjson } else { Self::Bundles })
    }
}

/// Returns true if the manifest of an export lists one of the files of lines. Bundles in it are data or deletions, whatever its name.
fn has_listed_lines(files: &[InputFile]) -> Result<bool, AddError> {
    let lines: Vec<&str> = files.iter().filter(|file| file.content == FileContent::Lines).map(InputFile::file_name).collect();
    // Without lines there may be very many Bundles in files of their own, which need not be opened.
    let candidates = files.iter().filter(|file| file.content == FileContent::Json && !lines.is_empty());
    for file in candidates {
        // A manifest that cannot be read is reported when the files are added.
        let manifest = if is_manifest(file)? { Manifest::read(file).ok() } else { None };
        if manifest.is_some_and(|manifest| lines.iter().any(|name| manifest.lists(name))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns true if Bundles in a file of lines are deletions or resources of the type Bundle.
pub(super) fn may_hold_bundles_as_data(file: &InputFile) -> bool {
    type_from_file_name(&file.name) == Some(ResourceType::BUNDLE) || file.name.split('/').any(|segment| segment == "deleted")
}

/// Returns true if the first line of a file is a Bundle. `None` if the file is empty.
fn starts_with_bundle(file: &InputFile) -> Result<Option<bool>, AddError> {
    let text = read_start(file)?;
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.is_empty() {
        return Ok(None);
    }
    // The text may end anywhere, which ends the members early.
    let kind = JsonValue::from_valid(text).members().find(|(name, _)| name == "resourceType").and_then(|(_, value)| value.text());
    Ok(Some(kind.is_some_and(|kind| kind == "Bundle")))
}

/// Returns true if a JSON file is the manifest of an export and not a Bundle. Its time may come behind the start of the file, after a long
/// list of files.
pub(super) fn is_manifest(file: &InputFile) -> Result<bool, AddError> {
    let text = read_start(file)?;
    let is_bundle = |(name, value): (std::borrow::Cow<'_, str>, JsonValue<'_>)| name == "resourceType" && value.as_str() == "\"Bundle\"";
    let members = || JsonValue::from_valid(text.trim_start_matches('\u{feff}')).members();
    let has = |expected: &str| members().any(|(name, _)| name == expected);
    let has_other_members = || !has("resourceType") && (has("request") || has("requiresAccessToken"));
    Ok(!members().any(is_bundle) && (has("transactionTime") || has_other_members()))
}

/// Reads the start of a file as text.
fn read_start(file: &InputFile) -> Result<String, AddError> {
    let read = || {
        let mut start = Vec::new();
        file.open(&Arc::new(Progress::default()))?.take(START_BYTES).read_to_end(&mut start)?;
        Ok(start)
    };
    let start = read().map_err(|cause| file.read_error(cause))?;
    Ok(String::from_utf8_lossy(&start).into_owned())
}
