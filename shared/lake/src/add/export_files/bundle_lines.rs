//! Bundles among the lines of an export: exports of the lake would have the Bundle, and not the resources in its entries.

use headrace_core::lake::line::LakeLine;
use headrace_core::lake::ndjson::{Segment, lines};
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::json::JsonValue;
use memchr::memmem;

use crate::add::format::may_hold_bundles_as_data;
use crate::add::input::InputFile;
use crate::add::manifest::Manifest;
use crate::add::{AddError, Addition};

impl Addition<'_> {
    /// Returns true if Bundles in a file are resources of the lake: its name says so, the manifest lists it, or the operator has named the
    /// format.
    pub(super) fn may_hold_bundles(&self, file: &InputFile, manifest: Option<&Manifest>) -> bool {
        self.settings.format.is_some()
            || may_hold_bundles_as_data(file)
            || manifest.is_some_and(|manifest| manifest.lists(file.file_name()))
    }
}

/// Checks that no line of a segment is a Bundle whose entries belong to the lake.
pub(super) fn check_bundles(file: &InputFile, segment: &Segment) -> Result<(), AddError> {
    let Segment::Lines { offset, bytes } = segment else { return Ok(()) };
    match lines(bytes, *offset).find(|line| collects_resources(line.text)) {
        Some(line) => {
            let offset = *offset + line.start as u64;
            let reason = format!(
                "the input has lines that are resources, and at byte {offset} the file has a Bundle: add Bundles in a run of their own, or, \
                 if they are resources themselves, use --format ndjson"
            );
            Err(AddError::Input { file: file.name.clone(), reason })
        }
        None => Ok(()),
    }
}

/// Returns true for a Bundle that only collects resources. Documents and messages are resources of their own, and Bundles of deletions belong to
/// the lake as they are.
pub(in crate::add) fn collects_resources(line: &[u8]) -> bool {
    // Most lines are decided by a search for the name, which may be written with escapes.
    let may_be_bundle = memmem::find(line, b"Bundle").is_some() || memchr::memchr(b'\\', line).is_some();
    if !may_be_bundle {
        return false;
    }
    let LakeLine::Resource(head, _) = LakeLine::parse(line) else { return false };
    if head.resource_type != ResourceType::BUNDLE {
        return false;
    }
    let kind = std::str::from_utf8(line).ok().and_then(|text| JsonValue::from_valid(text).member("type")).and_then(JsonValue::text);
    kind.is_none_or(|kind| !matches!(&*kind, "document" | "message"))
}
