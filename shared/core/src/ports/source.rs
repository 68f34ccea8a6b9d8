//! The lake.

use std::ops::Range;
use std::pin::Pin as StdPin;

use bytes::Bytes;
use futures_util::Stream;

use crate::job::task::Pin;
use crate::vocab::error::SourceError;

/// A stream of bytes. It ends after an error.
pub type ByteStream = StdPin<Box<dyn Stream<Item = Result<Bytes, SourceError>> + Send>>;

/// A page of the lake's listing.
#[derive(Clone, Debug, Default)]
pub struct ObjectPage {
    /// The objects. They are sorted by name across all pages.
    pub objects: Vec<Pin>,
    /// The token of the next page. `None` on the last page.
    pub next: Option<String>,
}

/// The lake: the NDJSON objects that exports read.
pub trait ResourceSource: Send + Sync {
    /// Checks that the lake is reachable and configured correctly.
    fn check(&self) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Lists a page of objects. `after` is [`ObjectPage::next`] of the previous page.
    fn list(&self, after: Option<&str>) -> impl Future<Output = Result<ObjectPage, SourceError>> + Send;

    /// Reads a range of an object's stored bytes. Fails if the object has changed since it was pinned. Buffers are bounded.
    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream;
}
