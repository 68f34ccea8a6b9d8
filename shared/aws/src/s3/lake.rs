//! An NDJSON lake in S3.

use std::ops::Range;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use headrace_core::job::task::Pin;
use headrace_core::ports::{ByteStream, Listing, ResourceSource};
use headrace_core::vocab::error::{SourceError, StoreError};

use super::{Place, Trouble};
use crate::errors::{Called, Sorted};

/// How much one GET asks for.
const RANGE_BYTES: u64 = 4 << 20;

/// GETs in flight: with the range above, what a worker's network takes, in 16 MiB of memory.
const GETS_IN_FLIGHT: usize = 4;

/// The lake.
#[derive(Clone, Debug)]
pub struct S3Lake(Place);

impl S3Lake {
    /// The lake below `prefix` of `bucket`.
    pub fn new(client: &Client, bucket: &str, prefix: &str) -> Self {
        Self(Place::new(client, bucket, prefix, "the lake", "HEADRACE_SOURCE_BUCKET"))
    }
}

impl ResourceSource for S3Lake {
    async fn check(&self) -> Result<(), SourceError> {
        self.0.check().await.map_err(|trouble| match trouble {
            Trouble::Misconfigured { remedy, cause } => SourceError::Misconfigured { remedy, cause },
            Trouble::Passing(error) => SourceError::Unavailable(error.into()),
        })
    }

    async fn list(&self, after: Option<&str>) -> Result<Listing, SourceError> {
        let place = &self.0;
        let page = place
            .client
            .list_objects_v2()
            .bucket(&place.bucket)
            .prefix(&place.prefix)
            .set_continuation_token(after.map(str::to_owned))
            .send()
            .await
            .map_err(|error| source_error(&place.called, error))?;
        let objects = page.contents().iter().filter_map(|object| {
            Some(Pin {
                object: object.key()?.strip_prefix(&place.prefix)?.to_owned(),
                etag: object.e_tag()?.to_owned(),
                size: u64::try_from(object.size()?).ok()?,
            })
        });
        Ok(Listing { objects: objects.collect(), next: page.next_continuation_token().map(str::to_owned) })
    }

    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream {
        let (place, pin) = (self.0.clone(), pin.clone());
        let gets = stream::iter(pieces(range)).map(move |piece| get(place.clone(), pin.clone(), piece));
        Box::pin(gets.buffered(GETS_IN_FLIGHT))
    }
}

/// Cuts a range into what one GET asks for.
pub(super) fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    let mut start = range.start;
    std::iter::from_fn(move || {
        (start < end).then(|| {
            let piece = start..end.min(start + RANGE_BYTES);
            start = piece.end;
            piece
        })
    })
}

async fn get(place: Place, pin: Pin, range: Range<u64>) -> Result<Bytes, SourceError> {
    let changed = || SourceError::Changed { object: pin.object.clone() };
    let sent = place
        .client
        .get_object()
        .bucket(&place.bucket)
        .key(place.object(&pin.object))
        .range(format!("bytes={}-{}", range.start, range.end - 1))
        .if_match(&pin.etag)
        .send()
        .await;
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => {
            let is_gone = matches!(error.as_service_error(), Some(GetObjectError::NoSuchKey(_)));
            let status = error.raw_response().map(|response| response.status().as_u16());
            return Err(match status {
                Some(404 | 412 | 416) => changed(),
                Some(_) | None if is_gone => changed(),
                Some(_) | None => source_error(&place.called, error),
            });
        }
    };
    let bytes = answer.body.collect().await.map_err(|error| SourceError::Unavailable(error.into()))?.into_bytes();
    // A body that was cut off is an error of the connection above; this is an object that is shorter than it was.
    if bytes.len() as u64 == range.end - range.start { Ok(bytes) } else { Err(changed()) }
}

pub(super) fn source_error<E>(called: &Called, error: SdkError<E, HttpResponse>) -> SourceError
where
    E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match called.sort(&error) {
        Sorted::Absent => SourceError::Misconfigured { remedy: called.absent(), cause: error.into() },
        Sorted::Denied => SourceError::Misconfigured { remedy: called.denied(), cause: error.into() },
        Sorted::KeyUnusable => SourceError::Misconfigured { remedy: called.key_unusable(), cause: error.into() },
        Sorted::Unusable => SourceError::Misconfigured { remedy: called.unusable(), cause: error.into() },
        Sorted::NotApplied | Sorted::Unknown | Sorted::Stale => SourceError::Unavailable(error.into()),
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Misconfigured { remedy, cause } => Self::Misconfigured { remedy, cause },
            Trouble::Passing(error) => error,
        }
    }
}
