//! The formats of input, and how they are distinguished.

mod first_lines;

use std::io::Read as _;
use std::sync::Arc;

use headrace_core::lake::slices::{type_from_file_name, type_from_name};
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::json::JsonValue;

use super::AddError;
use super::input::{FileContent, InputFile};
use super::manifest::Manifest;
use crate::progress::Progress;

use first_lines::{LineContent, line_content};

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

    /// Finds out what the files are: by the description of a table, by the manifest of an export, else by the first line that is a resource, or
    /// a Bundle whose entries belong to the lake.
    pub(super) fn detect(files: &[InputFile]) -> Result<Self, AddError> {
        if files.iter().any(|file| file.file_name() == TABLE_SUMMARY) {
            return Ok(Self::FhirWorks);
        }
        if has_listed_lines(files)? {
            return Ok(Self::Ndjson);
        }
        let lines = files.iter().filter(|file| file.content == FileContent::Lines);
        let (named, others): (Vec<_>, Vec<_>) = lines.partition(|file| may_hold_bundles_as_data(file));
        let (has_lines, mut has_bundles) = (!named.is_empty() || !others.is_empty(), false);
        // Beside files of resources, Bundles in a file that is named for them are resources.
        for file in others.into_iter().chain(named.into_iter().filter(|file| !is_exported_name(file))) {
            match line_content(file)? {
                LineContent::Nothing => {}
                LineContent::Either => has_bundles = true,
                LineContent::Bundles => return Ok(Self::Bundles),
                LineContent::Resources => return Ok(Self::Ndjson),
            }
        }
        let has_json = files.iter().any(|file| file.content == FileContent::Json);
        Ok(if has_lines && !has_bundles && !has_json { Self::Ndjson } else { Self::Bundles })
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

/// Returns true if Bundles in a file of lines may be deletions, or resources of the type Bundle: the name has the word.
pub(super) fn may_hold_bundles_as_data(file: &InputFile) -> bool {
    let mut words = file.file_name().split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| word.eq_ignore_ascii_case("Bundle"))
        || type_from_name(&file.name) == Some(ResourceType::BUNDLE)
        || is_exported_name(file)
}

/// Returns true if a file is named as exports name files with deletions or with resources of the type Bundle.
fn is_exported_name(file: &InputFile) -> bool {
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
