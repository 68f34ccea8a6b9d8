//! The first lines of a file that tell Bundles from resources. Documents, messages and Bundles of deletions come among both.

use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::Arc;

use headrace_core::lake::line::LakeLine;
use headrace_core::lake::ndjson::LINE_LIMIT_BYTES;
use headrace_core::vocab::byte_order_mark::without_byte_order_mark;
use headrace_fhir::definitions::ResourceType;

use super::starts_with_bundle;
use crate::add::AddError;
use crate::add::export_files::bundle_lines::collects_resources;
use crate::add::input::InputFile;

/// The content of a file of lines, as far as it tells the format of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineContent {
    /// No line.
    Nothing,
    /// Documents, messages and Bundles of deletions only.
    Either,
    /// A Bundle whose entries belong to the lake.
    Bundles,
    /// A line that is not a Bundle.
    Resources,
}

/// Returns the content of a file of lines by the first line that tells it. Lines after it are not read.
pub(super) fn line_content(file: &InputFile) -> Result<LineContent, AddError> {
    match starts_with_bundle(file)? {
        None => return Ok(LineContent::Nothing),
        Some(false) => return Ok(LineContent::Resources),
        Some(true) => {}
    }
    let failed = |cause| file.read_error(cause);
    let mut reader = BufReader::new(file.open(&Arc::default()).map_err(failed)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(LINE_LIMIT_BYTES as u64 + 1).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(LineContent::Either);
        }
        if let Some(content) = content_by_line(without_byte_order_mark(&line).trim_ascii()) {
            return Ok(content);
        }
    }
}

/// Returns the content of a file by one of its lines. `None` if the line does not tell it.
fn content_by_line(line: &[u8]) -> Option<LineContent> {
    if line.is_empty() {
        return None;
    }
    match LakeLine::parse(line) {
        LakeLine::Deletions(_) => None,
        LakeLine::Resource(head, _) if head.resource_type == ResourceType::BUNDLE => {
            collects_resources(line).then_some(LineContent::Bundles)
        }
        LakeLine::Resource(..) | LakeLine::Outcome => Some(LineContent::Resources),
        // A Bundle over several lines, or one without an id, which is not a resource.
        LakeLine::Rejected(_) => Some(LineContent::Bundles),
    }
}
