//! Reads the lines of a lake as exports do.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use headrace_core::job::task::Slice;
use headrace_core::lake::ndjson::{Segment, lines};
use headrace_core::lake::reader::{LineReader, ReadRequest};
use headrace_core::ports::{ByteStream, ResourceSource};
use headrace_core::vocab::error::SourceError;

use crate::progress::Progress;

/// A line of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SliceLine<'a> {
    /// The number of the line in the slice, from 0.
    pub(crate) index: u64,
    /// The offset of the line in the object, in decompressed bytes.
    pub(crate) offset: u64,
    /// The text without its line end. `None` if the line is too long to be read.
    pub(crate) text: Option<&'a [u8]>,
}

/// Passes each line of a slice to `visit`, until that fails. Returns the number of lines.
pub(crate) async fn read_slice<S: ResourceSource, E: From<SourceError>>(
    source: &S,
    slice: &Slice,
    progress: &Arc<Progress>,
    mut visit: impl FnMut(SliceLine<'_>) -> Result<(), E> + Send,
) -> Result<u64, E> {
    let request = ReadRequest {
        object: slice.pin.object.clone(),
        encoding: slice.encoding,
        range: slice.start..slice.end,
        size: slice.pin.size,
        offset: 0,
    };
    let read = |range| -> ByteStream {
        let progress = progress.clone();
        Box::pin(source.read(&slice.pin, range).inspect_ok(move |chunk| progress.add(chunk.len() as u64)))
    };
    let mut reader = LineReader::open(request, read);
    let mut index = 0;
    while let Some(segment) = reader.next().await? {
        match segment {
            Segment::OverlongLine { offset } => {
                visit(SliceLine { index, offset, text: None })?;
                index += 1;
            }
            Segment::Lines { offset, bytes } => {
                for line in lines(&bytes, offset) {
                    visit(SliceLine { index, offset: offset + line.start as u64, text: Some(line.text) })?;
                    index += 1;
                }
            }
        }
    }
    Ok(index)
}
