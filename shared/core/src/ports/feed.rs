//! The ports of a synchronization: the FHIR server that is read, and the lake that is filled from it.

use std::time::Duration;

use bytes::Bytes;

use super::ByteStream;
use crate::vocab::clock::Millis;
use crate::vocab::error::{BoxError, StoreError};

/// The largest page that is read from a FHIR server, in bytes. A page of one resource may be as large as the longest line of a lake.
pub const PAGE_LIMIT_BYTES: u64 = 64 << 20;

/// A request to the FHIR server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginRequest<'a> {
    /// A path and query below the base URL.
    Query(&'a str),
    /// A link that a page has named. It is followed as it was sent.
    Link {
        /// The URL of the page.
        page: &'a str,
        /// The link.
        link: &'a str,
    },
}

/// A successful response of the FHIR server.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OriginPage {
    /// The URL of the page, after redirects.
    pub url: String,
    /// The body, at most [`PAGE_LIMIT_BYTES`].
    pub body: Bytes,
    /// The time by the server's clock.
    pub server_time: Option<Millis>,
}

/// An error of the FHIR server.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The server has rejected the request.
    #[error("the server rejected the request with {status}: {text}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The reason that the server gave.
        text: String,
    },
    /// The server gets too many requests.
    #[error("the server is busy")]
    Busy {
        /// The pause that the server demands.
        retry_after: Option<Duration>,
    },
    /// The page is longer than [`PAGE_LIMIT_BYTES`].
    #[error("a page is longer than {} MiB", PAGE_LIMIT_BYTES >> 20)]
    TooLong,
    /// A link or redirect leads to a place that is not read.
    #[error("{0}")]
    UnsafeUrl(String),
    /// A setting or a credential is wrong, so that no retry can succeed.
    #[error("{0}")]
    Misconfigured(String),
    /// The server did not answer. A retry may succeed.
    #[error("the server did not answer")]
    Unavailable(#[source] BoxError),
}

/// The FHIR server that a lake is filled from.
pub trait OriginServer: Send + Sync {
    /// Reads a page. Makes one attempt.
    fn get(&self, request: OriginRequest<'_>) -> impl Future<Output = Result<OriginPage, OriginError>> + Send;

    /// Waits before the next request.
    fn pause(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// The lake as a synchronization writes it. Exports read it at the same time.
pub trait LakeWriter: Send + Sync {
    /// Stores an object that becomes visible as a whole. An existing object of this name stays: the same task has stored it before.
    fn put(&self, object: &str, content: ByteStream) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores a metadata object, or replaces it.
    fn put_metadata(&self, object: &str, content: Bytes) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Replaces a metadata object that has exactly the content `expected`, or does not exist if that is `None`. Returns false if it is
    /// different.
    fn replace_metadata(
        &self,
        object: &str,
        expected: Option<&[u8]>,
        content: Bytes,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The outcome of a copy within the bucket of a lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyOutcome {
    /// The target is a copy of the source, by this call or by an earlier one.
    Copied,
    /// The target is another object.
    Occupied,
    /// Neither the source nor a copy of it exists.
    Missing,
}

/// The two ports of a synchronization.
pub trait LakeFeed: Send + Sync {
    /// The FHIR server.
    type Origin: OriginServer;
    /// The lake.
    type Lake: LakeWriter;

    /// Returns the FHIR server.
    fn origin(&self) -> &Self::Origin;

    /// Returns the lake.
    fn lake(&self) -> &Self::Lake;
}

/// The ports of a deployment that fills no lake. Every call fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFeed;

/// The text of the errors of [`NoFeed`].
const NO_FEED: &str = "this deployment does not synchronize its lake with a FHIR server";

impl OriginServer for NoFeed {
    async fn get(&self, _: OriginRequest<'_>) -> Result<OriginPage, OriginError> {
        Err(OriginError::Misconfigured(NO_FEED.to_owned()))
    }

    async fn pause(&self, _: Duration) {}
}

/// Returns the error of a write to the lake of a deployment that fills none.
fn no_feed() -> StoreError {
    StoreError::Misconfigured { remedy: NO_FEED.to_owned(), cause: NO_FEED.into() }
}

impl LakeWriter for NoFeed {
    async fn put(&self, _: &str, _: ByteStream) -> Result<(), StoreError> {
        Err(no_feed())
    }

    async fn put_metadata(&self, _: &str, _: Bytes) -> Result<(), StoreError> {
        Err(no_feed())
    }

    async fn replace_metadata(&self, _: &str, _: Option<&[u8]>, _: Bytes) -> Result<bool, StoreError> {
        Err(no_feed())
    }
}

impl LakeFeed for NoFeed {
    type Origin = Self;
    type Lake = Self;

    fn origin(&self) -> &Self {
        self
    }

    fn lake(&self) -> &Self {
        self
    }
}

/// A FHIR server and the lake that it fills.
#[derive(Clone, Debug)]
pub struct Feed<R, W> {
    /// The FHIR server.
    pub origin: R,
    /// The lake.
    pub lake: W,
}

impl<R: OriginServer, W: LakeWriter> LakeFeed for Feed<R, W> {
    type Origin = R;
    type Lake = W;

    fn origin(&self) -> &R {
        &self.origin
    }

    fn lake(&self) -> &W {
        &self.lake
    }
}
