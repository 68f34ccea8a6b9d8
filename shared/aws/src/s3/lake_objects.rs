//! The objects of a lake in S3 for programs that rewrite it: listed, uploaded from files, copied and removed.

use std::path::Path;

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use bytes::Bytes;
use headrace_core::job::task::Pin;
use headrace_core::ports::CopyOutcome;
use headrace_core::vocab::error::StoreError;
use percent_encoding::utf8_percent_encode;

use super::lake::pin;
use super::lake_writer::{Condition, S3LakeWriter};
use super::objects::COPY_SOURCE_CHARS;
use crate::backoff::Backoff;
use crate::errors::ErrorClass;

/// The metadata entry with the name under which an object was uploaded. Its copies keep it.
const UPLOADED_AS: &str = "uploaded-as";

/// The name of the store in errors.
const STORE: &str = "the lake";

impl S3LakeWriter {
    /// Returns the prefix of the lake in its bucket: empty, or ending with a slash.
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// Returns true if the bucket, inside or outside of the lake, has a key that begins with `start`. Returns false if its keys must not be
    /// listed there.
    pub async fn has_key(&self, start: &str) -> Result<bool, StoreError> {
        let bucket = &self.0;
        match bucket.list_request(None).prefix(start).max_keys(1).send().await {
            Ok(page) => Ok(!page.contents().is_empty()),
            Err(error) if bucket.service.classify(&error) == ErrorClass::AccessDenied => Ok(false),
            Err(error) => Err(bucket.service.store_error(error)),
        }
    }

    /// Lists the objects whose names begin with `start`, sorted by name.
    pub async fn list(&self, start: &str) -> Result<Vec<Pin>, StoreError> {
        let bucket = &self.0;
        let (mut pins, mut after) = (Vec::new(), None);
        loop {
            let request = bucket.list_request(after).prefix(bucket.key(start));
            let page = request.send().await.map_err(|error| bucket.service.store_error(error))?;
            pins.extend(page.contents().iter().filter_map(|object| pin(bucket, object)));
            let Some(next) = page.next_continuation_token() else { break };
            after = Some(next.to_owned());
        }
        pins.sort_by(|one, other| one.object.cmp(&other.object));
        Ok(pins)
    }

    /// Reads an object. Returns its content and its ETag, or `None` if it does not exist.
    pub async fn read(&self, object: &str) -> Result<Option<(Bytes, String)>, StoreError> {
        self.get(object).await
    }

    /// Writes an object that has the ETag `expected`, or does not exist if that is `None`. Returns its ETag, or `None` if it is different.
    pub async fn write_if(&self, object: &str, expected: Option<&str>, content: Bytes) -> Result<Option<String>, StoreError> {
        let condition = expected.map_or(Condition::Absent, |etag| Condition::ETag(etag.to_owned()));
        self.put_if(object, content, condition, None).await
    }

    /// Stores a file as an object that does not exist yet. It becomes visible as a whole.
    pub async fn upload(&self, object: &str, file: &Path) -> Result<(), StoreError> {
        let not_read = |cause: std::io::Error| StoreError::NotApplied { store: STORE, cause: cause.into() };
        if tokio::fs::metadata(file).await.map_err(not_read)?.len() > super::lake_writer::PART_BYTES as u64 {
            return self.upload_in_parts(object, file).await;
        }
        let content = Bytes::from(tokio::fs::read(file).await.map_err(not_read)?);
        // Nobody else uploads under this name: if the object exists, the answer to an earlier call was lost.
        self.put_if(object, content, Condition::Absent, Some((UPLOADED_AS, object))).await.map(drop)
    }

    /// Stores a large file.
    async fn upload_in_parts(&self, object: &str, file: &Path) -> Result<(), StoreError> {
        let not_read = |cause: std::io::Error| StoreError::NotApplied { store: STORE, cause: cause.into() };
        let file = tokio::fs::File::open(file).await.map_err(not_read)?;
        self.put_file(object, file, (UPLOADED_AS, object)).await
    }

    /// Copies an uploaded object to a name that no object has, within S3.
    pub async fn copy(&self, from: &str, to: &str) -> Result<CopyOutcome, StoreError> {
        let bucket = &self.0;
        let source = format!("{}/{}", bucket.bucket, utf8_percent_encode(&bucket.key(from), COPY_SOURCE_CHARS));
        let mut backoff = Backoff::new(bucket.patience);
        loop {
            let copy = bucket.client.copy_object().bucket(&bucket.bucket).key(bucket.key(to)).copy_source(&source).if_none_match("*");
            let Err(error) = copy.send().await else { return Ok(CopyOutcome::Copied) };
            let class = bucket.service.classify(&error);
            if class == ErrorClass::Stale || error.code() == Some("NoSuchKey") {
                return self.copy_state(from, to).await;
            }
            if class != ErrorClass::Overloaded || !backoff.pause().await {
                return Err(bucket.service.store_error(error));
            }
        }
    }

    /// Returns whether the target of a copy that was not made is one already.
    async fn copy_state(&self, from: &str, to: &str) -> Result<CopyOutcome, StoreError> {
        let bucket = &self.0;
        match bucket.client.head_object().bucket(&bucket.bucket).key(bucket.key(to)).send().await {
            Ok(head) => {
                let is_copy = head.metadata().and_then(|metadata| metadata.get(UPLOADED_AS)).is_some_and(|name| name == from);
                Ok(if is_copy { CopyOutcome::Copied } else { CopyOutcome::Occupied })
            }
            Err(error) if error.raw_response().is_some_and(|response| response.status().as_u16() == 404) => Ok(CopyOutcome::Missing),
            Err(error) => Err(bucket.service.store_error(error)),
        }
    }

    /// Removes objects, which need not exist.
    pub async fn remove(&self, objects: &[String]) -> Result<(), StoreError> {
        self.0.delete(objects.iter().map(|object| self.0.key(object)).collect()).await
    }

    /// Removes an object if it still has this ETag.
    pub async fn remove_if(&self, object: &str, etag: &str) -> Result<(), StoreError> {
        let bucket = &self.0;
        let delete = bucket.client.delete_object().bucket(&bucket.bucket).key(bucket.key(object)).if_match(etag);
        match delete.send().await {
            Ok(_) => Ok(()),
            Err(error) if bucket.service.classify(&error) == ErrorClass::Stale || error.code() == Some("NoSuchKey") => Ok(()),
            Err(error) => Err(bucket.service.store_error(error)),
        }
    }
}
