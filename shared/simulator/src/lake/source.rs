//! The lake as its port, with the requests of the adapter over S3.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use headrace_core::job::task::Pin;
use headrace_core::ports::{ByteStream, ListedObject, MetadataObject, ObjectPage, ResourceSource};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::SourceError;

use super::content::FRAME_BYTES;
use super::{Lake, LakeObject};
use crate::aws::requests::{Prefix, RequestKind, SlowDown};
use crate::aws::worker::Worker;
use crate::meter::Activity;

/// The stored bytes of an object that one request reads, as in the adapter.
const REQUEST_BYTES: u64 = 8 << 20;

/// The number of requests of a stream that run at the same time, as in the adapter.
const CONCURRENT_GETS: usize = 2;

/// The number of objects on a page of a listing.
const PAGE_OBJECTS: usize = 1_000;

/// The lake, as a process reads it.
#[derive(Clone, Debug)]
pub struct ModelLake {
    /// The objects.
    pub lake: Arc<Lake>,
    /// The requests to the bucket.
    pub prefix: Prefix,
    /// The process.
    pub worker: Worker,
    /// The time that one call waits for an overloaded bucket.
    pub patience: Duration,
    /// The seconds for which a processor works on a GB of decompressed lines.
    pub seconds_per_gb: f64,
}

impl ModelLake {
    /// Reads one range of an object, as one request.
    async fn get(self, object: String, range: Range<u64>) -> Result<Bytes, SourceError> {
        let Some(found) = self.object(&object) else { return Err(SourceError::Changed { object }) };
        let bytes = found.stored.slice(index(range.start)..index(range.end).min(found.stored.len()));
        let call = ("GetObject", self.prefix.parameters().get);
        self.prefix.patient_request(&self.worker, RequestKind::Read, call, self.patience).await.map_err(overloaded)?;
        self.worker.download(bytes.len() as u64 * self.lake.scale.bytes).await;
        Ok(bytes)
    }

    /// Returns the object of this name.
    fn object(&self, name: &str) -> Option<&LakeObject> {
        self.lake.objects.get(*self.lake.by_name.get(name)?)
    }

    /// Takes the time of decrypting, decompressing and selecting the lines in these stored bytes.
    async fn process(&self, object: &str, stored: &Bytes) {
        let Some(object) = self.object(object) else { return };
        let real_stored = stored.len() as u64 * self.lake.scale.bytes;
        self.worker.compute(real_stored, self.worker.processor().transfer).await;
        let lines = real_stored * object.line_bytes / (object.stored.len() as u64).max(1);
        let decompress = if self.lake.is_compressed { self.worker.processor().decompress } else { 0.0 };
        self.worker.compute(lines, self.seconds_per_gb + decompress).await;
    }
}

/// Converts an offset to an index of bytes in memory.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// Converts the error of an overloaded bucket.
pub(crate) fn overloaded(error: SlowDown) -> SourceError {
    SourceError::Overloaded(error.into())
}

/// Cuts what a request has read into pieces of up to `length`: a worker decompresses and selects lines while it receives them.
fn pieces(result: Result<Bytes, SourceError>, length: u64) -> Vec<Result<Bytes, SourceError>> {
    match result {
        Ok(bytes) => chunks(0..bytes.len() as u64, length).map(|piece| Ok(bytes.slice(index(piece.start)..index(piece.end)))).collect(),
        Err(error) => vec![Err(error)],
    }
}

/// Cuts a range into ranges of up to `length`.
pub(crate) fn chunks(range: Range<u64>, length: u64) -> impl Iterator<Item = Range<u64>> {
    let length = length.max(1);
    let count = (range.end.saturating_sub(range.start)).div_ceil(length);
    (0..count).map(move |chunk| range.start + chunk * length..range.end.min(range.start + (chunk + 1) * length))
}

impl ResourceSource for ModelLake {
    async fn check(&self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn list(&self, after: Option<&str>) -> Result<ObjectPage, SourceError> {
        let start = after.and_then(|token| token.parse::<usize>().ok()).unwrap_or_default();
        let started = self.worker.time().elapsed();
        let latency = self.prefix.parameters().list;
        self.prefix.request(&self.worker, RequestKind::Write, "ListObjectsV2", latency).await.map_err(overloaded)?;
        self.worker.add_activity(Activity::Objects, self.worker.time().elapsed() - started);
        let objects = self.lake.objects.iter().skip(start).take(PAGE_OBJECTS).map(|object| ListedObject {
            pin: Pin {
                object: object.name.clone(),
                etag: "\"0123456789abcdef0123456789abcdef\"".to_owned(),
                size: object.stored.len() as u64,
            },
            arrived: Millis(0),
        });
        let next = start + PAGE_OBJECTS;
        let next = (next < self.lake.objects.len()).then(|| next.to_string());
        Ok(ObjectPage { objects: objects.collect(), next, ..ObjectPage::default() })
    }

    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream {
        let object = pin.object.clone();
        let (reader, name) = (self.clone(), object.clone());
        let requests = stream::iter(chunks(range, self.lake.scale.shrink(REQUEST_BYTES)));
        let gets = requests.map(move |chunk| reader.clone().get(name.clone(), chunk)).buffered(CONCURRENT_GETS);
        let frame = self.lake.scale.shrink(FRAME_BYTES);
        let frames = gets.flat_map(move |result| stream::iter(pieces(result, frame)));
        let state = (Box::pin(frames), self.clone(), object);
        Box::pin(stream::unfold(state, |(mut frames, reader, object)| async move {
            let started = reader.worker.time().elapsed();
            let result = frames.next().await?;
            reader.worker.add_activity(Activity::ReadLake, reader.worker.time().elapsed() - started);
            if let Ok(bytes) = &result {
                reader.process(&object, bytes).await;
            }
            Some((result, (frames, reader, object)))
        }))
    }

    async fn read_metadata(&self, _: &str) -> Result<Option<MetadataObject>, SourceError> {
        Ok(None)
    }
}
