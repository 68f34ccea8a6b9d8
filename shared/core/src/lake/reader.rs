//! Whole lines out of one slice, wherever it lies and however it is stored.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::job::task::Encoding;
use crate::lake::ndjson::{Piece, Splitter};
use crate::ports::ByteStream;
use crate::vocab::error::SourceError;

/// How much is read at first to complete the line that crosses a slice's end; doubled until it is complete.
const LOOK_BEYOND_BYTES: u64 = 256 << 10;

/// How much is decompressed at a time.
const DECODED_CHUNK_BYTES: usize = 512 << 10;

/// What to read.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Named in errors.
    pub object: String,
    /// How it is stored.
    pub encoding: Encoding,
    /// The lines that begin here (counted as stored) are ours. Compressed objects are read whole.
    pub range: Range<u64>,
    /// The size of the stored object.
    pub size: u64,
    /// Where to go on: the beginning of a line, counted after decompression; 0 to begin.
    pub offset: u64,
}

/// Reads the lines of an [`Extent`] in blocks. `read` gives stored bytes of the object.
pub struct LineReader<R> {
    read: R,
    extent: Extent,
    stream: ByteStream,
    splitter: Splitter,
    /// Decompressed bytes still to be passed over.
    pass_over: u64,
    /// Stored bytes before this have been asked for.
    asked_to: u64,
    look_beyond: u64,
    pieces: VecDeque<Piece>,
    is_done: bool,
}

impl<R: Fn(Range<u64>) -> ByteStream> LineReader<R> {
    /// Begins to read.
    pub fn open(extent: Extent, read: R) -> Self {
        let (stream, splitter, pass_over, asked_to) = match extent.encoding {
            Encoding::Plain => {
                let Range { start, end } = extent.range;
                let goes_on = extent.offset > start;
                let from = if goes_on { extent.offset } else { start.saturating_sub(1) };
                let splitter = if goes_on { Splitter::at_line(from, end) } else { Splitter::at_slice(start, end) };
                (read(from..end.max(from)), splitter, 0, end.max(from))
            }
            Encoding::Gzip | Encoding::Zstd => {
                let stored = read(0..extent.size);
                (
                    decoded(extent.encoding, stored, extent.object.clone()),
                    Splitter::at_line(extent.offset, u64::MAX),
                    extent.offset,
                    extent.size,
                )
            }
        };
        let is_done = !splitter.wants_more();
        Self { read, extent, stream, splitter, pass_over, asked_to, look_beyond: LOOK_BEYOND_BYTES, pieces: VecDeque::new(), is_done }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Piece>, SourceError> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Some(piece));
            }
            if self.is_done {
                return Ok(None);
            }
            match self.stream.next().await.transpose()? {
                Some(chunk) => self.take(chunk),
                None if self.asked_to < self.extent.size => {
                    let to = self.extent.size.min(self.asked_to + self.look_beyond);
                    self.stream = (self.read)(self.asked_to..to);
                    self.asked_to = to;
                    self.look_beyond *= 2;
                }
                None => {
                    self.is_done = true;
                    let splitter = std::mem::replace(&mut self.splitter, Splitter::at_line(0, 0));
                    self.pieces.extend(splitter.finish());
                }
            }
        }
    }

    fn take(&mut self, mut chunk: Bytes) {
        let passed = usize::try_from(self.pass_over).map_or(chunk.len(), |over| over.min(chunk.len()));
        drop(chunk.split_to(passed));
        self.pass_over -= passed as u64;
        self.pieces.extend(self.splitter.feed(chunk));
        self.is_done = !self.splitter.wants_more();
    }
}

/// Decompresses a stream chunk by chunk, so that no object can blow up a worker's memory.
fn decoded(encoding: Encoding, stored: ByteStream, object: String) -> ByteStream {
    let stored = StreamReader::new(stored.map_err(io::Error::other));
    let explain = move |error: io::Error| {
        let detail = if error.kind() == io::ErrorKind::UnexpectedEof { "it ends too early" } else { "its bytes are damaged" };
        error
            .into_inner()
            .and_then(|inner| inner.downcast::<SourceError>().ok())
            .map_or_else(|| SourceError::Unreadable { object: object.clone(), detail }, |source| *source)
    };
    match encoding {
        Encoding::Plain => Box::pin(ReaderStream::with_capacity(stored, DECODED_CHUNK_BYTES).map_err(explain)),
        Encoding::Gzip => {
            let mut decoder = GzipDecoder::new(stored);
            decoder.multiple_members(true);
            Box::pin(ReaderStream::with_capacity(decoder, DECODED_CHUNK_BYTES).map_err(explain))
        }
        Encoding::Zstd => {
            let mut decoder = ZstdDecoder::new(stored);
            decoder.multiple_members(true);
            Box::pin(ReaderStream::with_capacity(decoder, DECODED_CHUNK_BYTES).map_err(explain))
        }
    }
}

/// All bytes of a stream that is known to be short.
pub async fn collect(mut stream: ByteStream) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await.transpose()? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
