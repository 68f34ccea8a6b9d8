//! An NDJSON lake in S3.

use std::ops::Range;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use headrace_core::job::task::Pin;
use headrace_core::ports::{ByteStream, ListedObject, METADATA_LIMIT_BYTES, MetadataObject, ObjectPage, ResourceSource};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::SourceError;
use headrace_core::vocab::setting::Setting;

use super::bucket::BucketPrefix;
use crate::errors::{ErrorClass, Service};

/// The number of bytes that one GET reads.
const CHUNK_BYTES: u64 = 4 << 20;

/// The number of concurrent GETs. With [`CHUNK_BYTES`], they use a worker's full network bandwidth and 16 MiB of memory.
const CONCURRENT_GETS: usize = 4;

/// The lake.
#[derive(Clone, Debug)]
pub struct S3Lake(BucketPrefix);

impl S3Lake {
    /// Creates a client of the lake below `prefix` of `bucket`.
    pub fn new(client: &Client, bucket: &str, prefix: &str) -> Self {
        Self(BucketPrefix::new(client, bucket, prefix, "the lake", Setting::SourceBucket.as_str()))
    }
}

impl ResourceSource for S3Lake {
    async fn check(&self) -> Result<(), SourceError> {
        Ok(self.0.check().await?)
    }

    async fn list(&self, after: Option<&str>) -> Result<ObjectPage, SourceError> {
        let bucket = &self.0;
        let page = bucket.list_request(after.map(str::to_owned)).send().await.map_err(|error| source_error(&bucket.service, error))?;
        let objects = page.contents().iter().filter_map(|object| {
            let pin = Pin {
                object: object.key()?.strip_prefix(&bucket.prefix)?.to_owned(),
                etag: object.e_tag()?.to_owned(),
                size: u64::try_from(object.size()?).ok()?,
            };
            let modified = object.last_modified().and_then(|time| time.to_millis().ok()).and_then(|millis| u64::try_from(millis).ok());
            // An object without a time counts as new, so that no change is lost.
            Some(ListedObject { pin, arrived: Millis(modified.unwrap_or(u64::MAX)) })
        });
        Ok(ObjectPage { objects: objects.collect(), next: page.next_continuation_token().map(str::to_owned) })
    }

    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream {
        let (bucket, pin) = (self.0.clone(), pin.clone());
        let gets = stream::iter(chunks(range)).map(move |chunk| get(bucket.clone(), pin.clone(), chunk));
        Box::pin(gets.buffered(CONCURRENT_GETS))
    }

    async fn read_metadata(&self, object: &str) -> Result<Option<MetadataObject>, SourceError> {
        let bucket = &self.0;
        let response = match bucket.client.get_object().bucket(&bucket.bucket).key(bucket.key(object)).send().await {
            Ok(response) => response,
            Err(error) if matches!(error.as_service_error(), Some(GetObjectError::NoSuchKey(_))) => return Ok(None),
            Err(error) => return Err(source_error(&bucket.service, error)),
        };
        let size = response.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX);
        if size > METADATA_LIMIT_BYTES {
            return Ok(Some(MetadataObject { size, bytes: Bytes::new() }));
        }
        let bytes = response.body.collect().await.map_err(|error| SourceError::Unavailable(error.into()))?.into_bytes();
        Ok(Some(MetadataObject { size, bytes }))
    }
}

/// Cuts a byte range into the ranges that single GET requests read.
pub(super) fn chunks(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    let mut start = range.start;
    std::iter::from_fn(move || {
        (start < end).then(|| {
            let chunk = start..end.min(start + CHUNK_BYTES);
            start = chunk.end;
            chunk
        })
    })
}

/// Reads a range of a pinned object. Returns [`SourceError::Changed`] if the object is not as it was pinned.
async fn get(bucket: BucketPrefix, pin: Pin, range: Range<u64>) -> Result<Bytes, SourceError> {
    let changed = || SourceError::Changed { object: pin.object.clone() };
    let get = bucket.client.get_object().bucket(&bucket.bucket).key(bucket.key(&pin.object)).if_match(&pin.etag);
    let response = match get.range(format!("bytes={}-{}", range.start, range.end - 1)).send().await {
        Ok(response) => response,
        Err(error) => {
            let is_absent = matches!(error.as_service_error(), Some(GetObjectError::NoSuchKey(_)));
            let status = error.raw_response().map(|response| response.status().as_u16());
            return Err(match status {
                Some(404 | 412 | 416) => changed(),
                Some(_) | None if is_absent => changed(),
                Some(_) | None => source_error(&bucket.service, error),
            });
        }
    };
    let bytes = response.body.collect().await.map_err(|error| SourceError::Unavailable(error.into()))?.into_bytes();
    // A body that was cut off is an error of the connection above. A complete body of another length belongs to a changed object.
    if bytes.len() as u64 == range.end - range.start { Ok(bytes) } else { Err(changed()) }
}

/// Converts the SDK error of a read from the lake to a source error.
pub(super) fn source_error<E>(service: &Service, error: SdkError<E, HttpResponse>) -> SourceError
where
    E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match service.classify(&error) {
        ErrorClass::NotFound => SourceError::Misconfigured { remedy: service.not_found(), cause: error.into() },
        ErrorClass::AccessDenied => SourceError::Misconfigured { remedy: service.access_denied(), cause: error.into() },
        ErrorClass::KeyUnusable => SourceError::Misconfigured { remedy: service.key_unusable(), cause: error.into() },
        ErrorClass::Unusable => SourceError::Misconfigured { remedy: service.unusable(), cause: error.into() },
        ErrorClass::WrongRegion => SourceError::Misconfigured { remedy: service.in_another_region(), cause: error.into() },
        ErrorClass::NotApplied | ErrorClass::Unknown | ErrorClass::Stale | ErrorClass::OutOfSpace | ErrorClass::StoreUnusable => {
            SourceError::Unavailable(error.into())
        }
    }
}
