//! Writes a lake in S3, for synchronizations. [`super::lake_objects`] has what programs need that rewrite one.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use headrace_core::ports::{ByteStream as ContentStream, LakeWriter};
use headrace_core::vocab::error::{SourceError, StoreError};
use headrace_core::vocab::setting::Setting;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::bucket::BucketPrefix;
use crate::backoff::Backoff;
use crate::errors::ErrorClass;

/// The name of the store in errors.
const STORE: &str = "the lake";

/// The size of a part of a multipart upload, and of the largest object that is written with one PutObject. The largest object has 10,000
/// parts.
pub(super) const PART_BYTES: usize = 16 << 20;

/// The size of one read of a file, in bytes.
const READ_BYTES: usize = 1 << 20;

/// The condition of a write that must not replace an object.
const IF_ABSENT: &str = "*";

/// A lake that is written.
#[derive(Clone, Debug)]
pub struct S3LakeWriter(pub(super) BucketPrefix);

impl S3LakeWriter {
    /// Creates a writer of the lake below `prefix` of `bucket`.
    pub fn new(client: &Client, bucket: &str, prefix: &str) -> Self {
        Self(BucketPrefix::new(client, bucket, prefix, STORE, Setting::SourceBucket.as_str()))
    }

    /// Sets the time that one call waits for an overloaded bucket.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self(BucketPrefix { patience, ..self.0 })
    }

    /// Writes an object with one call, with an entry of metadata if there is one. Returns its ETag, or `None` if the condition does not hold:
    /// an ETag that the object must have, or that it must not exist.
    pub(super) async fn put_if(
        &self,
        object: &str,
        content: Bytes,
        condition: Condition,
        mark: Option<(&str, &str)>,
    ) -> Result<Option<String>, StoreError> {
        let bucket = &self.0;
        let metadata = mark.map(metadata);
        let (matches, absent) = match condition {
            Condition::ETag(etag) => (Some(etag), None),
            Condition::Absent => (None, Some(IF_ABSENT.to_owned())),
            Condition::None => (None, None),
        };
        let mut backoff = Backoff::new(bucket.patience);
        loop {
            let put = bucket.client.put_object().bucket(&bucket.bucket).key(bucket.key(object)).body(ByteStream::from(content.clone()));
            let error =
                match put.set_metadata(metadata.clone()).set_if_match(matches.clone()).set_if_none_match(absent.clone()).send().await {
                    Ok(written) => return Ok(Some(written.e_tag.unwrap_or_default())),
                    Err(error) => error,
                };
            match bucket.service.classify(&error) {
                ErrorClass::Stale => return Ok(None),
                // An object with a condition on its ETag that does not exist.
                ErrorClass::NotApplied if error.code() == Some("NoSuchKey") => return Ok(None),
                ErrorClass::Overloaded if backoff.pause().await => {}
                ErrorClass::Overloaded
                | ErrorClass::NotApplied
                | ErrorClass::Unknown
                | ErrorClass::NotFound
                | ErrorClass::AccessDenied
                | ErrorClass::KeyUnusable
                | ErrorClass::Unusable
                | ErrorClass::WrongRegion
                | ErrorClass::OutOfSpace
                | ErrorClass::StoreUnusable
                | ErrorClass::Archived => return Err(bucket.service.store_error(error)),
            }
        }
    }

    /// Reads an object with its ETag. Returns `None` if it does not exist.
    pub(super) async fn get(&self, object: &str) -> Result<Option<(Bytes, String)>, StoreError> {
        let bucket = &self.0;
        let response = match bucket.client.get_object().bucket(&bucket.bucket).key(bucket.key(object)).send().await {
            Ok(response) => response,
            Err(error) if matches!(error.as_service_error(), Some(GetObjectError::NoSuchKey(_))) => return Ok(None),
            Err(error) => return Err(bucket.service.store_error(error)),
        };
        let etag = response.e_tag().unwrap_or_default().to_owned();
        let body = response.body.collect().await.map_err(|error| StoreError::NotApplied { store: STORE, cause: error.into() })?;
        Ok(Some((body.into_bytes(), etag)))
    }

    /// Stores a large file as an object that does not exist yet, with an entry of metadata.
    pub(super) async fn put_file(&self, object: &str, file: File, mark: (&str, &str)) -> Result<(), StoreError> {
        let content: ContentStream = Box::pin(stream::try_unfold(file, |mut file| async move {
            let mut chunk = BytesMut::with_capacity(READ_BYTES);
            match file.read_buf(&mut chunk).await {
                Ok(0) => Ok(None),
                Ok(_) => Ok(Some((chunk.freeze(), file))),
                Err(error) => Err(SourceError::Unavailable(error.into())),
            }
        }));
        let mut parts = PartReader { content, buffer: BytesMut::new() };
        let first = parts.next().await?;
        self.put_in_parts(object, first, &mut parts, Some(mark)).await
    }

    /// Writes an object in parts, the first of which is full. It becomes visible at the end.
    async fn put_in_parts(&self, object: &str, first: Bytes, rest: &mut PartReader, mark: Option<(&str, &str)>) -> Result<(), StoreError> {
        let (bucket, key) = (&self.0, self.0.key(object));
        let create = bucket.client.create_multipart_upload().bucket(&bucket.bucket).key(&key).set_metadata(mark.map(metadata));
        let created = create.send().await;
        let created = created.map_err(|error| bucket.service.store_error(error))?;
        let upload = created.upload_id().unwrap_or_default();
        let written = self.upload_parts((&key, upload), first, rest).await;
        match written {
            Ok(parts) => self.complete_upload((&key, upload), parts).await,
            Err(error) => {
                self.abort_upload(&key, upload).await;
                Err(error)
            }
        }
    }

    /// Uploads the parts of an object.
    async fn upload_parts(
        &self,
        (key, upload): (&str, &str),
        first: Bytes,
        rest: &mut PartReader,
    ) -> Result<Vec<CompletedPart>, StoreError> {
        let bucket = &self.0;
        let (mut parts, mut part) = (Vec::new(), first);
        while !part.is_empty() {
            let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
            let request = bucket.client.upload_part().bucket(&bucket.bucket).key(key).upload_id(upload).part_number(number);
            let response = request.body(ByteStream::from(part)).send().await.map_err(|error| bucket.service.store_error(error))?;
            parts.push(CompletedPart::builder().part_number(number).set_e_tag(response.e_tag).build());
            part = rest.next().await?;
        }
        Ok(parts)
    }

    /// Makes the object visible, unless one of its name exists.
    async fn complete_upload(&self, (key, upload): (&str, &str), parts: Vec<CompletedPart>) -> Result<(), StoreError> {
        let bucket = &self.0;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = bucket.client.complete_multipart_upload().bucket(&bucket.bucket).key(key).upload_id(upload);
        match complete.if_none_match(IF_ABSENT).multipart_upload(parts).send().await {
            Ok(_) => Ok(()),
            // The answer to an earlier call was lost. The object is there then.
            Err(error) if error.code() == Some("NoSuchUpload") => {
                let head = bucket.client.head_object().bucket(&bucket.bucket).key(key).send().await;
                head.map(drop).map_err(|error| bucket.service.store_error(error))
            }
            Err(error) => {
                self.abort_upload(key, upload).await;
                if bucket.service.classify(&error) == ErrorClass::Stale { Ok(()) } else { Err(bucket.service.store_error(error)) }
            }
        }
    }

    /// Drops the parts of an upload. The lifecycle rule of the bucket drops those that are left.
    async fn abort_upload(&self, key: &str, upload: &str) {
        let bucket = &self.0;
        let aborted = bucket.client.abort_multipart_upload().bucket(&bucket.bucket).key(key).upload_id(upload).send().await;
        if let Err(error) = aborted {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an incomplete multipart upload to the lake was not aborted; the lifecycle rule of the bucket removes it"
            );
        }
    }
}

/// Returns metadata with one entry.
fn metadata((name, value): (&str, &str)) -> HashMap<String, String> {
    HashMap::from([(name.to_owned(), value.to_owned())])
}

/// The condition of a write.
pub(super) enum Condition {
    /// The object has this ETag.
    ETag(String),
    /// The object does not exist.
    Absent,
    /// There is none.
    None,
}

/// The parts of a stream, each of [`PART_BYTES`] except the last one.
struct PartReader {
    content: ContentStream,
    buffer: BytesMut,
}

impl PartReader {
    /// Reads the next part. It is empty at the end.
    async fn next(&mut self) -> Result<Bytes, StoreError> {
        while self.buffer.len() < PART_BYTES {
            let Some(chunk) = self.content.next().await else { break };
            let chunk = chunk.map_err(|error| StoreError::NotApplied { store: STORE, cause: error.into() })?;
            self.buffer.extend_from_slice(&chunk);
        }
        let length = self.buffer.len().min(PART_BYTES);
        Ok(self.buffer.split_to(length).freeze())
    }
}

impl LakeWriter for S3LakeWriter {
    async fn put(&self, object: &str, content: ContentStream) -> Result<(), StoreError> {
        let mut parts = PartReader { content, buffer: BytesMut::new() };
        let first = parts.next().await?;
        if first.len() < PART_BYTES {
            // An object of this name is the one that the same task has stored before.
            return self.put_if(object, first, Condition::Absent, None).await.map(drop);
        }
        self.put_in_parts(object, first, &mut parts, None).await
    }

    async fn put_metadata(&self, object: &str, content: Bytes) -> Result<(), StoreError> {
        self.put_if(object, content, Condition::None, None).await.map(drop).map_err(|error| error.about_object(object))
    }

    async fn replace_metadata(&self, object: &str, expected: Option<&[u8]>, content: Bytes) -> Result<bool, StoreError> {
        let current = self.get(object).await.map_err(|error| error.about_object(object))?;
        let condition = match (current, expected) {
            (None, None) => Condition::Absent,
            (Some((current, etag)), Some(expected)) if current == expected => Condition::ETag(etag),
            (Some(_), Some(_) | None) | (None, Some(_)) => return Ok(false),
        };
        let replaced = self.put_if(object, content, condition, None).await.map_err(|error| error.about_object(object))?;
        Ok(replaced.is_some())
    }
}
