//! The lake.

use std::ops::Range;
use std::pin::Pin as StdPin;

use bytes::Bytes;
use futures_util::Stream;

use crate::job::task::Pin;
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;

/// The largest metadata object that is read, in bytes.
pub const METADATA_LIMIT_BYTES: u64 = 64 << 10;

/// A stream of bytes. It ends after an error.
pub type ByteStream = StdPin<Box<dyn Stream<Item = Result<Bytes, SourceError>> + Send>>;

/// A page of the lake's listing.
#[derive(Clone, Debug, Default)]
pub struct ObjectPage {
    /// The objects. They are sorted by name across all pages.
    pub objects: Vec<ListedObject>,
    /// The objects that are in an archive, from which they cannot be read.
    pub archived: Vec<ArchivedObject>,
    /// The entries that exports skip.
    pub skipped: Vec<SkippedEntry>,
    /// The token of the next page. `None` on the last page.
    pub next: Option<String>,
}

/// An entry of the lake that exports skip although it may be meant as data, such as a link to a file that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedEntry {
    /// The name of the entry.
    pub object: String,
    /// The reason.
    pub reason: &'static str,
}

/// An object in the lake's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// The object in its current state.
    pub pin: Pin,
    /// The time at which this state arrived in the lake: `LastModified` in S3, the modification time of a file.
    pub arrived: Millis,
}

/// A small object of the lake that is not data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataObject {
    /// The size in bytes.
    pub size: u64,
    /// The content. Empty if the object is larger than [`METADATA_LIMIT_BYTES`].
    pub bytes: Bytes,
}

/// An object that cannot be read until its owner restores it from an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedObject {
    /// The object.
    pub pin: Pin,
    /// The storage class, as its owner knows it.
    pub storage_class: String,
}

/// The lake: the NDJSON objects that exports read.
pub trait ResourceSource: Send + Sync {
    /// Checks that the lake is reachable and configured correctly.
    fn check(&self) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Lists a page of objects. `after` is [`ObjectPage::next`] of the previous page.
    fn list(&self, after: Option<&str>) -> impl Future<Output = Result<ObjectPage, SourceError>> + Send;

    /// Reads a range of an object's stored bytes. Fails if the object has changed since it was pinned. Buffers are bounded.
    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream;

    /// Reads a small object that is not data, by its name below the root of the lake. Returns `None` if it does not exist.
    fn read_metadata(&self, object: &str) -> impl Future<Output = Result<Option<MetadataObject>, SourceError>> + Send;
}
