//! The socket of a connection. It records the activity, and withholds responses that hyper writes by itself.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::activity::Activity;

/// Beginnings of the responses that hyper writes to a head that it cannot parse.
const BARE_STATUS: [&[u8]; 3] = [b"400 ", b"414 ", b"431 "];

/// The socket of a connection.
#[derive(Debug)]
pub(super) struct TrackedSocket {
    pub(super) stream: TcpStream,
    /// True if a response of hyper was withheld.
    pub(super) has_withheld: bool,
    activity: Arc<Activity>,
}

impl TrackedSocket {
    /// Creates the socket of an accepted connection.
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self { stream, has_withheld: false, activity }
    }

    /// Records the result of a write.
    fn record(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending => self.activity.record_write(false),
            Poll::Ready(_) => self.activity.record_write(true),
        }
    }
}

/// Returns true for a response that hyper writes by itself: it has no body that says what to do. [`super::rejection`] has one. Every
/// response of the service has the header `Cache-Control`, and no part of a body begins like a response.
fn is_bare_response(bytes: &[u8]) -> bool {
    let status = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 ")).unwrap_or_default();
    BARE_STATUS.iter().any(|code| status.starts_with(code))
        && bytes.ends_with(b"\r\n\r\n")
        && memchr::memmem::find(bytes, b"\r\ncache-control:").is_none()
}

impl AsyncRead for TrackedSocket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        match buffer.filled().get(before..) {
            Some(bytes) if !bytes.is_empty() => self.activity.record_read(bytes),
            Some(_) | None => {}
        }
        result
    }
}

impl AsyncWrite for TrackedSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if is_bare_response(bytes) {
            self.has_withheld = true;
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.record(&result);
        result
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(bytes) = slices.first().filter(|bytes| is_bare_response(bytes)) {
            self.has_withheld = true;
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.record(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Does nothing: the connection is shut down after its last response, which may come later than hyper's end.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_responses_that_hyper_writes_by_itself_are_withheld() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert!(is_bare_response(bare));
        assert!(is_bare_response(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: Sun, 29 Nov 2026 16:00:00 GMT\r\n\r\n"));
        assert!(!is_bare_response(b"HTTP/1.1 400 Bad Request\r\ncache-control: no-store\r\ncontent-length: 0\r\n\r\n"));
        assert!(!is_bare_response(b"HTTP/1.1 100 Continue\r\n\r\n"));
        assert!(!is_bare_response(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"));
        assert!(!is_bare_response(b"{\"resourceType\":\"Patient\"}\n"));
        assert!(!is_bare_response(b""));
    }
}
