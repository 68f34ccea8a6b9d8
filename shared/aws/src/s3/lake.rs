//! An NDJSON lake in S3.

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::types::{Object, ObjectStorageClass, OptionalObjectAttributes, RequestPayer};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use headrace_core::job::task::Pin;
use headrace_core::lake::inner_lake::{contains_lake, inner_lake};
use headrace_core::ports::{ArchivedObject, ByteStream, ListedObject, METADATA_LIMIT_BYTES, MetadataObject, ObjectPage, ResourceSource};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::{BoxError, SourceError};
use headrace_core::vocab::setting::Setting;

use super::bucket::{BucketError, BucketPrefix};
use crate::backoff::Backoff;
use crate::errors::{ErrorClass, Service};

/// The number of bytes that one GET reads. S3 limits the requests to one folder, and thousands of workers together reach that limit before
/// their network's: larger GETs are fewer.
const CHUNK_BYTES: u64 = 8 << 20;

/// The number of concurrent GETs. With [`CHUNK_BYTES`], they use a worker's full network bandwidth and 16 MiB of memory.
const CONCURRENT_GETS: usize = 2;

/// The lake.
#[derive(Clone, Debug)]
pub struct S3Lake(BucketPrefix);

impl S3Lake {
    /// Creates a client of the lake below `prefix` of `bucket`.
    pub fn new(client: &Client, bucket: &str, prefix: &str) -> Self {
        Self(BucketPrefix::new(client, bucket, prefix, "the lake", Setting::SourceBucket.as_str()))
    }

    /// Sets the time that one call waits for an overloaded bucket.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self(BucketPrefix { patience, ..self.0 })
    }

    /// Returns the error for a bucket without access. S3 gives the same answer if a permission is missing and if requesters pay for the
    /// bucket. Only a call that accepts the costs tells them apart: a listing of one object, which costs as much as any listing.
    async fn denied(&self, cause: BoxError) -> SourceError {
        let bucket = &self.0;
        let listing = bucket.client.list_objects_v2().bucket(&bucket.bucket).prefix(&bucket.prefix).max_keys(1);
        let requesters_pay = listing.request_payer(RequestPayer::Requester).send().await.is_ok();
        let remedy = if requesters_pay { bucket.service.requesters_pay() } else { bucket.service.access_denied() };
        SourceError::Misconfigured { remedy, cause }
    }
}

/// Returns true if a listed object cannot be read, judged by its storage class and restore status.
fn is_archived(object: &Object) -> bool {
    let is_archive = matches!(object.storage_class(), Some(ObjectStorageClass::Glacier | ObjectStorageClass::DeepArchive));
    // A restored copy has a day on which it ends. Its class stays that of the archive.
    let is_restored = object.restore_status().is_some_and(|status| status.restore_expiry_date().is_some());
    is_archive && !is_restored
}

impl ResourceSource for S3Lake {
    async fn check(&self) -> Result<(), SourceError> {
        match self.0.check().await {
            Ok(()) => Ok(()),
            Err(BucketError::AccessDenied { cause, .. }) => Err(self.denied(cause).await),
            Err(error @ (BucketError::Misconfigured { .. } | BucketError::Transient(_))) => Err(error.into()),
        }
    }

    async fn list(&self, after: Option<&str>) -> Result<ObjectPage, SourceError> {
        let bucket = &self.0;
        let request = bucket.list_request(after.map(str::to_owned)).optional_object_attributes(OptionalObjectAttributes::RestoreStatus);
        let page = match request.send().await {
            Ok(page) => page,
            Err(error) if bucket.service.classify(&error) == ErrorClass::AccessDenied => return Err(self.denied(error.into()).await),
            Err(error) => return Err(source_error(&bucket.service, error)),
        };
        let mut listed = ObjectPage { next: page.next_continuation_token().map(str::to_owned), ..ObjectPage::default() };
        for object in page.contents() {
            let Some(pin) = pin(bucket, object) else { continue };
            if let Some(folder) = inner_lake(&pin.object) {
                return Err(contains_lake(folder));
            }
            if is_archived(object) {
                let storage_class = object.storage_class().map(|class| class.as_str().to_owned()).unwrap_or_default();
                listed.archived.push(ArchivedObject { pin, storage_class });
            } else {
                listed.objects.push(ListedObject { pin, arrived: arrival(object) });
            }
        }
        Ok(listed)
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
            Err(error) => return Err(source_error(&bucket.service, error).about_object(object)),
        };
        let size = response.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX);
        if size > METADATA_LIMIT_BYTES {
            return Ok(Some(MetadataObject { size, bytes: Bytes::new() }));
        }
        let bytes =
            response.body.collect().await.map_err(|error| SourceError::Unavailable(error.into()).about_object(object))?.into_bytes();
        Ok(Some(MetadataObject { size, bytes }))
    }
}

/// Returns the pin of a listed object.
pub(super) fn pin(bucket: &BucketPrefix, object: &Object) -> Option<Pin> {
    Some(Pin {
        object: object.key()?.strip_prefix(&bucket.prefix)?.to_owned(),
        etag: object.e_tag()?.to_owned(),
        size: u64::try_from(object.size()?).ok()?,
    })
}

/// Returns the time at which a listed object was written. An object without a time counts as new, so that no change is lost.
fn arrival(object: &Object) -> Millis {
    let modified = object.last_modified().and_then(|time| time.to_millis().ok()).and_then(|millis| u64::try_from(millis).ok());
    Millis(modified.unwrap_or(u64::MAX))
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
///
/// The SDK repeats a call that got no answer, but not one whose answer broke off. That would fail an attempt of many thousand calls.
async fn get(bucket: BucketPrefix, pin: Pin, range: Range<u64>) -> Result<Bytes, SourceError> {
    let mut backoff = Backoff::new(bucket.patience);
    loop {
        match get_once(&bucket, &pin, &range).await {
            Err(SourceError::Unavailable(_) | SourceError::Overloaded(_)) if backoff.pause().await => {}
            result => return result,
        }
    }
}

/// Reads a range of a pinned object with one call.
async fn get_once(bucket: &BucketPrefix, pin: &Pin, range: &Range<u64>) -> Result<Bytes, SourceError> {
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
                Some(_) | None if bucket.service.classify(&error) == ErrorClass::Archived => archived(pin, &error),
                Some(_) | None => source_error(&bucket.service, error),
            });
        }
    };
    let bytes = response.body.collect().await.map_err(|error| SourceError::Unavailable(error.into()))?.into_bytes();
    // A body that was cut off is an error of the connection above. A complete body of another length belongs to a changed object.
    if bytes.len() as u64 == range.end - range.start { Ok(bytes) } else { Err(changed()) }
}

/// Returns the error for an object that S3 has in an archive, with its storage class.
fn archived(pin: &Pin, error: &SdkError<GetObjectError, HttpResponse>) -> SourceError {
    let state = if let Some(GetObjectError::InvalidObjectState(state)) = error.as_service_error() { Some(state) } else { None };
    let class = state.and_then(|state| state.storage_class().map(|class| class.as_str()));
    let tier = state.and_then(|state| state.access_tier().map(|tier| tier.as_str()));
    let storage_class = [class, tier].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let storage_class = if storage_class.is_empty() { "an archive class".to_owned() } else { storage_class };
    SourceError::Archived { object: pin.object.clone(), storage_class }
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
        ErrorClass::Overloaded => SourceError::Overloaded(error.into()),
        ErrorClass::NotApplied
        | ErrorClass::Unknown
        | ErrorClass::Stale
        | ErrorClass::Archived
        | ErrorClass::OutOfSpace
        | ErrorClass::StoreUnusable => SourceError::Unavailable(error.into()),
    }
}
