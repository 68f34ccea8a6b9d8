//! Plain, gzip and Zstandard files as ordinary blocking readers and writers.
//!
//! The workspace carries `async-compression` only. Over a file that never says "not yet" its coders never wait, so one
//! poll is one call; nothing here needs a runtime, and tests may call it from inside one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_compression::tokio::{bufread, write};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

/// Large enough that a file of a lake costs few system calls.
const BUFFER_BYTES: usize = 256 * 1024;

/// How the bytes of an NDJSON file are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// `.ndjson`
    Plain,
    /// `.ndjson.gz`
    Gzip,
    /// `.ndjson.zst`
    Zstd,
}

impl Packing {
    /// What a file's name says about its packing; `None` if it is not an NDJSON file.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        match name {
            _ if name.starts_with('.') => None,
            _ if name.ends_with(".ndjson") => Some(Self::Plain),
            _ if name.ends_with(".ndjson.gz") => Some(Self::Gzip),
            _ if name.ends_with(".ndjson.zst") => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The same NDJSON file's name under this packing.
    pub(super) fn rename(self, path: &Path) -> PathBuf {
        let mut plain = path.to_path_buf();
        if Self::of(path) != Some(Self::Plain) {
            plain.set_extension("");
        }
        match self {
            Self::Plain => plain,
            Self::Gzip => plain.with_added_extension("gz"),
            Self::Zstd => plain.with_added_extension("zst"),
        }
    }
}

/// Opens a file for reading, unpacked; one that holds several gzip members or Zstandard frames is read to its end.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    Ok(match Packing::of(path) {
        Some(Packing::Gzip) => {
            let mut decoder = bufread::GzipDecoder::new(Ready(file));
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, Polled(decoder)))
        }
        Some(Packing::Zstd) => {
            let mut decoder = bufread::ZstdDecoder::new(Ready(file));
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, Polled(decoder)))
        }
        Some(Packing::Plain) | None => Box::new(file),
    })
}

/// A file being written under some packing. Dropping it without [`Sink::finish`] leaves a broken file.
pub(super) enum Sink {
    Plain(BufWriter<File>),
    Gzip(Polled<write::GzipEncoder<Ready<BufWriter<File>>>>),
    Zstd(Polled<write::ZstdEncoder<Ready<BufWriter<File>>>>),
}

impl Sink {
    /// Creates the file and the folders above it.
    pub(super) fn create(path: &Path, packing: Packing) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
        Ok(match packing {
            Packing::Plain => Self::Plain(file),
            Packing::Gzip => Self::Gzip(Polled(write::GzipEncoder::new(Ready(file)))),
            Packing::Zstd => Self::Zstd(Polled(write::ZstdEncoder::new(Ready(file)))),
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

    /// Writes what is still held back, trailers included.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut file) => file.flush(),
            Self::Gzip(encoder) => encoder.shut_down(),
            Self::Zstd(encoder) => encoder.shut_down(),
        }
    }
}

/// A blocking reader or writer as an asynchronous one that is always ready.
pub(super) struct Ready<T>(T);

impl<R: BufRead + Unpin> AsyncRead for Ready<R> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.get_mut().0.read(into.initialize_unfilled());
        Poll::Ready(read.map(|count| into.advance(count)))
    }
}

impl<R: BufRead + Unpin> AsyncBufRead for Ready<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Poll::Ready(self.get_mut().0.fill_buf())
    }

    fn consume(self: Pin<&mut Self>, count: usize) {
        self.get_mut().0.consume(count);
    }
}

impl<W: Write + Unpin> AsyncWrite for Ready<W> {
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

/// The way back: an asynchronous coder over something always ready, called as a blocking one.
pub(super) struct Polled<T>(T);

/// The answer of one poll; "not yet" cannot come from a coder over [`Ready`].
fn answer<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<R: AsyncRead + Unpin> Read for Polled<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(into);
        let mut context = Context::from_waker(Waker::noop());
        answer(Pin::new(&mut self.0).poll_read(&mut context, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl<W: AsyncWrite + Unpin> Write for Polled<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut context = Context::from_waker(Waker::noop());
        answer(Pin::new(&mut self.0).poll_write(&mut context, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut context = Context::from_waker(Waker::noop());
        answer(Pin::new(&mut self.0).poll_flush(&mut context))
    }
}

impl<W: AsyncWrite + Unpin> Polled<W> {
    fn shut_down(mut self) -> io::Result<()> {
        let mut context = Context::from_waker(Waker::noop());
        answer(Pin::new(&mut self.0).poll_shutdown(&mut context))
    }
}
