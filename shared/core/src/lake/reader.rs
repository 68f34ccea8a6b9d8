//! Reads the whole lines of a slice, compressed or not.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::job::task::Encoding;
use crate::lake::ndjson::{LineSplitter, Segment};
use crate::ports::ByteStream;
use crate::vocab::error::SourceError;

/// Size of the first read beyond the end of a slice, to complete a line that crosses it. Doubled until the line is complete.
const OVERSHOOT_BYTES: u64 = 256 << 10;

/// Size of a chunk of decompressed data.
const DECODED_CHUNK_BYTES: usize = 512 << 10;

/// Part of the error of the zstd library for a frame whose window is larger than its default limit, 128 MiB.
const ZSTD_WINDOW_TOO_LARGE: &str = "too much memory";

/// A part of an object to read.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// Object name, for errors.
    pub object: String,
    /// Compression of the object.
    pub encoding: Encoding,
    /// Range of stored bytes: lines that start within it are read. Compressed objects are always read whole.
    pub range: Range<u64>,
    /// Size of the stored object, in bytes.
    pub size: u64,
    /// Start of the first line to read, in decompressed bytes. 0 starts at the beginning.
    pub offset: u64,
}

/// A reader of the lines of a [`ReadRequest`]. `read` opens a stream of stored bytes of the object.
pub struct LineReader<R> {
    read: R,
    request: ReadRequest,
    stream: ByteStream,
    splitter: LineSplitter,
    /// Number of decompressed bytes to skip.
    skip_bytes: u64,
    /// End of the stored bytes requested so far.
    requested_to: u64,
    overshoot_bytes: u64,
    segments: VecDeque<Segment>,
    is_done: bool,
}

impl<R: Fn(Range<u64>) -> ByteStream> LineReader<R> {
    /// Creates a reader for the requested range of an object. `read` fetches byte ranges of the object.
    pub fn open(request: ReadRequest, read: R) -> Self {
        let (stream, splitter, skip_bytes, requested_to) = match request.encoding {
            Encoding::Plain => {
                let Range { start, end } = request.range;
                let resumes = request.offset > start;
                let from = if resumes { request.offset } else { start.saturating_sub(1) };
                let splitter = if resumes { LineSplitter::from_line_start(from, end) } else { LineSplitter::from_slice_start(start, end) };
                (read(from..end.max(from)), splitter, 0, end.max(from))
            }
            Encoding::Gzip | Encoding::Zstd => {
                let stored = read(0..request.size);
                (
                    decompress(request.encoding, stored, request.object.clone()),
                    LineSplitter::from_line_start(request.offset, u64::MAX),
                    request.offset,
                    request.size,
                )
            }
        };
        let is_done = !splitter.needs_more();
        Self {
            read,
            request,
            stream,
            splitter,
            skip_bytes,
            requested_to,
            overshoot_bytes: OVERSHOOT_BYTES,
            segments: VecDeque::new(),
            is_done,
        }
    }

    /// Returns the next segment of lines, or `None` at the end of the range.
    pub async fn next(&mut self) -> Result<Option<Segment>, SourceError> {
        loop {
            if let Some(segment) = self.segments.pop_front() {
                return Ok(Some(segment));
            }
            if self.is_done {
                return Ok(None);
            }
            match self.stream.next().await.transpose()? {
                Some(chunk) => self.push(chunk),
                // The slice is read, but its last line continues beyond it.
                None if self.requested_to < self.request.size => {
                    let to = self.request.size.min(self.requested_to + self.overshoot_bytes);
                    self.stream = (self.read)(self.requested_to..to);
                    self.requested_to = to;
                    self.overshoot_bytes *= 2;
                }
                None => {
                    self.is_done = true;
                    let splitter = std::mem::replace(&mut self.splitter, LineSplitter::from_line_start(0, 0));
                    self.segments.extend(splitter.finish());
                }
            }
        }
    }

    /// Adds a decompressed chunk: skips the bytes before the offset and splits the rest into lines.
    fn push(&mut self, mut chunk: Bytes) {
        let skipped = usize::try_from(self.skip_bytes).map_or(chunk.len(), |count| count.min(chunk.len()));
        drop(chunk.split_to(skipped));
        self.skip_bytes -= skipped as u64;
        if chunk.is_empty() && skipped > 0 {
            self.push_empty();
            return;
        }
        self.segments.extend(self.splitter.push(chunk));
        self.is_done = !self.splitter.needs_more();
        // A compressed object of a few MB can have a line of many GB.
        if self.segments.is_empty() && self.splitter.skips_overlong_line() && !self.is_done {
            self.push_empty();
        }
    }

    /// Adds a segment without lines. Skipping may take longer than a lease lasts: the caller can extend the lease, or stop.
    fn push_empty(&mut self) {
        self.segments.push_back(Segment::Lines { offset: self.request.offset, bytes: Bytes::new() });
    }
}

/// Decompresses a stream in chunks of bounded size, so that no object can exhaust the memory of a worker.
fn decompress(encoding: Encoding, stored: ByteStream, object: String) -> ByteStream {
    let stored = StreamReader::new(stored.map_err(io::Error::other));
    let into_source_error = move |error: io::Error| {
        let detail = if error.kind() == io::ErrorKind::UnexpectedEof {
            "it is truncated"
        } else if error.to_string().contains(ZSTD_WINDOW_TOO_LARGE) {
            "it was compressed with a window of more than 128 MiB, which does not fit into the memory of a worker; compress it with `zstd` \
             without `--long`, or with `--long=27` at most"
        } else {
            "it is corrupt"
        };
        error
            .into_inner()
            .and_then(|inner| inner.downcast::<SourceError>().ok())
            .map_or_else(|| SourceError::Unreadable { object: object.clone(), detail }, |source| *source)
    };
    match encoding {
        Encoding::Plain => Box::pin(ReaderStream::with_capacity(stored, DECODED_CHUNK_BYTES).map_err(into_source_error)),
        Encoding::Gzip => {
            let mut decoder = GzipDecoder::new(stored);
            decoder.multiple_members(true);
            Box::pin(ReaderStream::with_capacity(decoder, DECODED_CHUNK_BYTES).map_err(into_source_error))
        }
        Encoding::Zstd => {
            let mut decoder = ZstdDecoder::new(stored);
            decoder.multiple_members(true);
            Box::pin(ReaderStream::with_capacity(decoder, DECODED_CHUNK_BYTES).map_err(into_source_error))
        }
    }
}

/// Reads all bytes of a stream. Use only for streams known to be short.
pub async fn read_all(stream: ByteStream) -> Result<Vec<u8>, SourceError> {
    read_sized(stream, 0).await
}

/// Reads all bytes of a stream that has probably this number of bytes. Use only for streams known to be short.
pub async fn read_sized(mut stream: ByteStream, expected: u64) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    while let Some(chunk) = stream.next().await.transpose()? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
