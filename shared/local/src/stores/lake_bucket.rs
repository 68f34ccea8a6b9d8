//! A lake in S3 for the commands that rewrite lakes, which work in threads of their own.

use std::io::{self, Read};
use std::path::Path;

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use headrace_aws::{S3Lake, S3LakeWriter};
use headrace_core::job::task::Pin;
use headrace_core::ports::{ByteStream, CopyOutcome, ResourceSource as _};
use headrace_core::vocab::error::BoxError;
use headrace_lake::writing::{BUCKET_ERROR, LakeBucket};
use tokio::runtime::Handle;

/// A lake in S3 whose calls block.
pub struct BlockingLakeBucket {
    /// The access to write.
    pub writer: S3LakeWriter,
    /// The access to read.
    pub lake: S3Lake,
    /// The name for people: `s3://bucket/prefix`.
    pub shown: String,
    /// The runtime of the calls.
    pub runtime: Handle,
}

impl BlockingLakeBucket {
    /// Makes a call.
    fn call<T, E: Into<BoxError>>(&self, call: impl Future<Output = Result<T, E>>) -> io::Result<T> {
        self.runtime.block_on(call).map_err(bucket_error)
    }
}

/// Converts the error of a call.
fn bucket_error(error: impl Into<BoxError>) -> io::Error {
    io::Error::new(BUCKET_ERROR, error)
}

impl LakeBucket for BlockingLakeBucket {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn prefix(&self) -> &str {
        self.writer.prefix()
    }

    fn has_key(&self, start: &str) -> io::Result<bool> {
        self.call(self.writer.has_key(start))
    }

    fn list(&self, start: &str) -> io::Result<Vec<Pin>> {
        self.call(self.writer.list(start))
    }

    fn read(&self, object: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        let read = self.call(self.writer.read(object))?;
        Ok(read.map(|(content, etag)| (content.to_vec(), etag)))
    }

    fn open(&self, pin: &Pin) -> Box<dyn Read + Send> {
        let stream = self.lake.read(pin, 0..pin.size);
        Box::new(StreamReader { stream, chunk: Bytes::new(), runtime: self.runtime.clone() })
    }

    fn upload(&self, object: &str, file: &Path) -> io::Result<()> {
        self.call(self.writer.upload(object, file))
    }

    fn put_if(&self, object: &str, expected: Option<&str>, content: &[u8]) -> io::Result<Option<String>> {
        self.call(self.writer.write_if(object, expected, Bytes::copy_from_slice(content)))
    }

    fn copy(&self, from: &str, to: &str) -> io::Result<CopyOutcome> {
        self.call(self.writer.copy(from, to))
    }

    fn remove(&self, objects: &[String]) -> io::Result<()> {
        self.call(self.writer.remove(objects))
    }

    fn remove_if(&self, object: &str, etag: &str) -> io::Result<()> {
        self.call(self.writer.remove_if(object, etag))
    }
}

/// A stream that is read by a thread.
struct StreamReader {
    stream: ByteStream,
    chunk: Bytes,
    runtime: Handle,
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(chunk) => self.chunk = chunk.map_err(bucket_error)?,
                None => return Ok(0),
            }
        }
        let count = self.chunk.len().min(buffer.len());
        self.chunk.split_to(count).copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
