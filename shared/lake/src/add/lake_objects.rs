//! Reads the objects of the lake that an addition of Bundles goes into: what references can find there, and which of them are still open.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headrace_core::lake::line::LakeLine;
use headrace_core::lake::ndjson::{LineSplitter, Segment, lines};
use headrace_fhir::semantics::reference::rewrite_references;
use memchr::{memchr, memmem};

use super::AddError;
use super::input::{InputFile, LargeResourcePermit, read_chunks};
use super::known_versions::{KnownVersion, VersionPosition};
use super::names::{NameHasher, may_be_resolved_later};
use crate::progress::Progress;
use crate::sorting::RecordSorter;

/// Passes the offset and the text of each line of an object to `visit`.
pub(super) fn read_object(
    object: &InputFile,
    progress: &Arc<Progress>,
    large_resources: &Mutex<()>,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), AddError>,
) -> Result<(), AddError> {
    let mut splitter = LineSplitter::from_line_start(0, u64::MAX);
    let mut pending_bytes = 0;
    let mut permit = LargeResourcePermit::new(large_resources);
    let mut pass = |segment: &Segment| -> Result<(), AddError> {
        match segment {
            // Exports leave such a line out.
            Segment::OverlongLine { .. } => Ok(()),
            Segment::Lines { offset, bytes } => {
                let mut filled = lines(bytes, *offset).filter(|line| !line.is_blank());
                filled.try_for_each(|line| visit(offset + line.start as u64, line.text))
            }
        }
    };
    let read = read_chunks(object, progress, |chunk| {
        pending_bytes += chunk.len();
        permit.hold(pending_bytes);
        splitter.push(Bytes::copy_from_slice(chunk)).try_for_each(|segment| {
            pending_bytes = chunk.len();
            pass(&segment)
        })
    });
    read.map(drop).and_then(|()| splitter.finish().map_or(Ok(()), |segment| pass(&segment))).map_err(about_lake)
}

/// Converts an error about a file: it is an object of the lake.
fn about_lake(error: AddError) -> AddError {
    if let AddError::Input { file, reason } = error { AddError::LakeObject { object: file, reason } } else { error }
}

/// A collector of the versions in the lake.
pub(super) struct LakeReader {
    pub(super) names: NameHasher,
    pub(super) sorter: RecordSorter<KnownVersion>,
}

impl LakeReader {
    /// Adds a line. One that is not a valid resource is in no export, and counts for nothing here.
    pub(super) fn add_line(&mut self, position: VersionPosition, line: &[u8]) -> io::Result<()> {
        match LakeLine::parse(line) {
            LakeLine::Resource(..) => {
                let text = std::str::from_utf8(line).unwrap_or_default();
                let Some(mut version) = KnownVersion::from_resource(&self.names, text, position) else { return Ok(()) };
                version.has_open_references = has_open_references(text);
                self.sorter.push(version)
            }
            LakeLine::Deletions(deletions) => {
                deletions.iter().try_for_each(|deletion| self.sorter.push(KnownVersion::from_deletion(&self.names, deletion, position)))
            }
            LakeLine::Outcome | LakeLine::Rejected(_) => Ok(()),
        }
    }
}

/// Returns true if a later addition may resolve a reference of a resource.
fn has_open_references(text: &str) -> bool {
    let bytes = text.as_bytes();
    // Most lines have only references that are `Type/id`.
    let may_have_some =
        memchr(b'?', bytes).is_some() || [&b"urn:"[..], b"URN:", b"\\"].iter().any(|word| memmem::find(bytes, word).is_some());
    let mut is_open = false;
    if may_have_some {
        rewrite_references(text, &mut Vec::new(), &mut |reference| {
            is_open |= may_be_resolved_later(reference);
            None
        });
    }
    is_open
}
