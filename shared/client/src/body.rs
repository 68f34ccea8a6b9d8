//! Bodies of responses: content codings, time limits and size limits.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use bytes::Bytes;
use futures_util::stream;
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt as _};
use tokio::time::Instant;
use tokio_util::io::StreamReader;

use crate::error::TransportError;
use crate::limits::{MAX_BODY_PERIODS, MIN_PROGRESS_BYTES};
use crate::text::shorten;

/// A content coding that this client decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// No coding.
    Identity,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Coding {
    /// Returns the coding of a body (RFC 9110, section 8.4).
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, TransportError> {
        let values = headers.get_all(CONTENT_ENCODING).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase());
        let values: Vec<String> = values.collect();
        let codings = values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|coding| !matches!(*coding, "" | "identity"));
        match codings.collect::<Vec<_>>()[..] {
            [] => Ok(Self::Identity),
            ["gzip" | "x-gzip"] => Ok(Self::Gzip),
            ["zstd"] => Ok(Self::Zstd),
            ref others => Err(TransportError::UnknownEncoding(shorten(&others.join(", "), 100))),
        }
    }

    /// Decodes a body. It may have several gzip members or Zstandard frames; without the later ones it would be cut off.
    pub fn decode<'r>(self, body: impl AsyncBufRead + Send + 'r) -> Pin<Box<dyn AsyncRead + Send + 'r>> {
        match self {
            Self::Identity => Box::pin(body),
            Self::Gzip => {
                let mut decoder = GzipDecoder::new(body);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            Self::Zstd => {
                let mut decoder = ZstdDecoder::new(body);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
        }
    }
}

/// A body that must make progress: some bytes, or its end, in each period.
pub struct PacedBody {
    response: Response,
    period: Duration,
    period_ends: Instant,
    bytes_in_period: usize,
}

impl PacedBody {
    /// Starts to read the body of a response.
    pub fn new(response: Response, period: Duration) -> Self {
        Self { response, period, period_ends: Instant::now() + period, bytes_in_period: 0 }
    }

    /// Returns the next bytes as they were sent, or `None` at the end.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        let chunk = tokio::time::timeout_at(self.period_ends, self.response.chunk()).await;
        let chunk = chunk.map_err(|_| TransportError::Stalled(self.period))?;
        let chunk = chunk.map_err(|error| TransportError::Connection(error.without_url()))?;
        self.bytes_in_period += chunk.as_ref().map_or(0, Bytes::len);
        if self.bytes_in_period >= MIN_PROGRESS_BYTES {
            self.bytes_in_period = 0;
            self.period_ends = Instant::now() + self.period;
        }
        Ok(chunk)
    }
}

/// Reads and decodes a small body.
///
/// * `period`: the time in which the body must make progress. The whole body must end within [`MAX_BODY_PERIODS`] of them.
/// * `limit`: the most bytes after decoding. A longer body is an error, and no more of it is read.
pub async fn read_bounded(response: Response, period: Duration, limit: usize) -> Result<Vec<u8>, TransportError> {
    let coding = Coding::from_headers(response.headers())?;
    let chunks = stream::try_unfold(PacedBody::new(response, period), |mut body| async move {
        let chunk = body.next_chunk().await.map_err(io::Error::other)?;
        Ok::<_, io::Error>(chunk.map(|chunk| (chunk, body)))
    });
    let body = coding.decode(StreamReader::new(Box::pin(chunks)));
    let mut bytes = Vec::new();
    let longest = period * MAX_BODY_PERIODS;
    let read = tokio::time::timeout(longest, body.take(limit as u64 + 1).read_to_end(&mut bytes)).await;
    read.map_err(|_| TransportError::TooSlow(longest))?.map_err(transport_error)?;
    if bytes.len() > limit { Err(TransportError::TooLong(limit)) } else { Ok(bytes) }
}

/// Returns the error of the transport that passed through a decoder, or that the decoder itself failed.
pub fn transport_error(error: io::Error) -> TransportError {
    error.into_inner().and_then(|inner| inner.downcast().ok()).map_or(TransportError::Encoding, |inner| *inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_coding_is_read_in_every_spelling_and_an_unknown_one_is_named() {
        let coding = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, value.parse().unwrap());
            }
            Coding::from_headers(&headers).map_err(|error| error.to_string())
        };
        assert_eq!(coding(&[]), Ok(Coding::Identity));
        assert_eq!(coding(&["identity"]), Ok(Coding::Identity));
        for text in ["gzip", "GZip", "x-gzip", " gzip ", "identity, gzip"] {
            assert_eq!(coding(&[text]), Ok(Coding::Gzip), "{text}");
        }
        assert_eq!(coding(&["zstd"]), Ok(Coding::Zstd));
        for values in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"], &["deflate"]] {
            assert!(coding(values).unwrap_err().contains("was not requested"), "{values:?}");
        }
    }
}
