//! Plain, gzip and Zstandard files as blocking readers and writers.
//!
//! The workspace depends on `async-compression` only. Over a blocking file its coders never return `Pending`, so one poll is one
//! call. No runtime is needed, and tests may call this module from inside one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_compression::tokio::{bufread, write};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

/// Buffer size of files. Large enough to need few system calls.
const BUFFER_BYTES: usize = 256 * 1024;

/// Compression of an NDJSON file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Uncompressed: `.ndjson`.
    Plain,
    /// Gzip: `.ndjson.gz`.
    Gzip,
    /// Zstandard: `.ndjson.zst`.
    Zstd,
}

impl Compression {
    /// Returns the compression of a file by its name, or `None` if it is not an NDJSON file.
    pub fn from_path(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        match name {
            _ if name.starts_with('.') => None,
            _ if name.ends_with(".ndjson") => Some(Self::Plain),
            _ if name.ends_with(".ndjson.gz") => Some(Self::Gzip),
            _ if name.ends_with(".ndjson.zst") => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Returns the file name of the NDJSON file with this compression.
    pub(super) fn rename(self, path: &Path) -> PathBuf {
        let mut plain = path.to_path_buf();
        if Self::from_path(path) != Some(Self::Plain) {
            plain.set_extension("");
        }
        match self {
            Self::Plain => plain,
            Self::Gzip => plain.with_added_extension("gz"),
            Self::Zstd => plain.with_added_extension("zst"),
        }
    }
}

/// Opens a file and decompresses it while reading. Several gzip members or Zstandard frames are read to the end.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    Ok(match Compression::from_path(path) {
        Some(Compression::Gzip) => {
            let mut decoder = bufread::GzipDecoder::new(BlockingStream(file));
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, PolledOnce(decoder)))
        }
        Some(Compression::Zstd) => {
            let mut decoder = bufread::ZstdDecoder::new(BlockingStream(file));
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, PolledOnce(decoder)))
        }
        Some(Compression::Plain) | None => Box::new(file),
    })
}

/// Compressed file that is being written. It is incomplete until [`CompressedFile::close`].
pub(super) enum CompressedFile {
    Plain(BufWriter<File>),
    Gzip(PolledOnce<write::GzipEncoder<BlockingStream<BufWriter<File>>>>),
    Zstd(PolledOnce<write::ZstdEncoder<BlockingStream<BufWriter<File>>>>),
}

impl CompressedFile {
    /// Creates the file and its parent folders.
    pub(super) fn create(path: &Path, compression: Compression) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
        Ok(match compression {
            Compression::Plain => Self::Plain(file),
            Compression::Gzip => Self::Gzip(PolledOnce(write::GzipEncoder::new(BlockingStream(file)))),
            Compression::Zstd => Self::Zstd(PolledOnce(write::ZstdEncoder::new(BlockingStream(file)))),
        })
    }

    /// Appends all of `bytes`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    /// Writes buffered data and the trailer.
    pub(super) fn close(self) -> io::Result<()> {
        match self {
            Self::Plain(mut file) => file.flush(),
            Self::Gzip(encoder) => encoder.shut_down(),
            Self::Zstd(encoder) => encoder.shut_down(),
        }
    }
}

/// Adapter that makes a blocking reader or writer asynchronous. It is always ready.
pub(super) struct BlockingStream<T>(T);

impl<R: BufRead + Unpin> AsyncRead for BlockingStream<R> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.get_mut().0.read(into.initialize_unfilled());
        Poll::Ready(read.map(|count| into.advance(count)))
    }
}

impl<R: BufRead + Unpin> AsyncBufRead for BlockingStream<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Poll::Ready(self.get_mut().0.fill_buf())
    }

    fn consume(self: Pin<&mut Self>, count: usize) {
        self.get_mut().0.consume(count);
    }
}

impl<W: Write + Unpin> AsyncWrite for BlockingStream<W> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.get_mut().0.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().0.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().0.flush())
    }
}

/// Adapter that makes an asynchronous coder over a [`BlockingStream`] blocking again.
pub(super) struct PolledOnce<T>(T);

/// Returns the result of a poll. `Pending` cannot occur over a [`BlockingStream`].
fn poll_result<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<R: AsyncRead + Unpin> Read for PolledOnce<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(into);
        let mut context = Context::from_waker(Waker::noop());
        poll_result(Pin::new(&mut self.0).poll_read(&mut context, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl<W: AsyncWrite + Unpin> Write for PolledOnce<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut context = Context::from_waker(Waker::noop());
        poll_result(Pin::new(&mut self.0).poll_write(&mut context, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut context = Context::from_waker(Waker::noop());
        poll_result(Pin::new(&mut self.0).poll_flush(&mut context))
    }
}

impl<W: AsyncWrite + Unpin> PolledOnce<W> {
    /// Finishes the compressed stream.
    fn shut_down(mut self) -> io::Result<()> {
        let mut context = Context::from_waker(Waker::noop());
        poll_result(Pin::new(&mut self.0).poll_shutdown(&mut context))
    }
}
