//! Copying, listing and deleting of objects, and the metadata that identifies their content.

use aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder;
use aws_sdk_s3::types::{Delete, MetadataDirective, MultipartUpload, ObjectIdentifier};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use headrace_core::job::file::FileSummary;
use headrace_core::vocab::error::StoreError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::bucket::BucketPrefix;
use crate::backoff::Backoff;
use crate::errors::ErrorClass;

/// The media type of every file (Bulk Data Access, "Bulk Data Output File Request").
pub(super) const NDJSON: &str = "application/fhir+ndjson";

/// The metadata entry with a file's checksum. A second writer of the same name compares it with its own content.
pub(super) const CRC_METADATA: &str = "crc64";

/// The characters that a copy source keeps unencoded, apart from letters and digits.
pub(super) const COPY_SOURCE_CHARS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The largest number of objects that one call deletes.
const DELETES_PER_CALL: usize = 1_000;

/// The number of multipart uploads that are aborted concurrently. An export with thousands of workers may leave one of each.
const CONCURRENT_ABORTS: usize = 16;

/// A part of the objects below a prefix.
pub(super) struct ListedPart {
    /// The paths of the objects below the prefix, in the order of S3.
    pub(super) paths: Vec<String>,
    /// True if objects follow.
    pub(super) has_more: bool,
}

/// Adds the encryption key of a bucket, if it has one, to a request that writes an object. The bucket key saves a call of KMS per
/// object.
macro_rules! encrypted {
    ($bucket:expr, $request:expr) => {
        match &$bucket.encryption_key {
            None => $request,
            Some(key) => $request
                .server_side_encryption(aws_sdk_s3::types::ServerSideEncryption::AwsKms)
                .ssekms_key_id(&key.arn)
                .bucket_key_enabled(true),
        }
    };
}
pub(super) use encrypted;

/// Formats the checksum of a file as 16 hexadecimal digits, for [`CRC_METADATA`].
pub(super) fn crc_hex(summary: FileSummary) -> String {
    format!("{:016x}", summary.crc64)
}

impl BucketPrefix {
    /// Builds a request for a page of the objects below the prefix. `after` is the token of the page before.
    pub(super) fn list_request(&self, after: Option<String>) -> ListObjectsV2FluentBuilder {
        self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix).set_continuation_token(after)
    }

    /// Lists objects below the prefix, up to `limit`, starting after the path `after`. Only the last part may be empty.
    ///
    /// Keys are positions that stay valid. Continuation tokens are opaque, and nothing says for how long S3 accepts them.
    pub(super) async fn list_part(&self, after: Option<&str>, limit: Option<i32>) -> Result<ListedPart, StoreError> {
        let (start, mut token) = (after.map(|path| self.key(path)), None);
        loop {
            let request = self.list_request(token).set_start_after(start.clone()).set_max_keys(limit);
            let page = request.send().await.map_err(|error| self.service.store_error(error))?;
            token = page.next_continuation_token().map(str::to_owned);
            let paths = page.contents().iter().filter_map(|object| object.key()?.strip_prefix(&self.prefix).map(str::to_owned));
            let part = ListedPart { paths: paths.collect(), has_more: token.is_some() };
            // S3 may answer without objects although some follow, for example while it skips versions that were deleted.
            if !part.has_more || !part.paths.is_empty() {
                return Ok(part);
            }
        }
    }

    /// Copies an object within the bucket, inside S3.
    ///
    /// Unless it `overwrites`, an existing object of the target's name stays as it is (rule P4), and success means that it has the same
    /// content.
    pub(super) async fn copy(&self, (from, to): (&str, &str), summary: FileSummary, overwrites: bool) -> Result<(), StoreError> {
        let source = format!("{}/{}", self.bucket, utf8_percent_encode(from, COPY_SOURCE_CHARS));
        let copy = encrypted!(self, self.client.copy_object()).bucket(&self.bucket).key(to).copy_source(source);
        let copy = if overwrites { copy } else { copy.if_none_match("*") };
        let copy = copy.metadata_directive(MetadataDirective::Replace).metadata(CRC_METADATA, crc_hex(summary)).content_type(NDJSON);
        let mut backoff = Backoff::new(self.patience);
        loop {
            let Err(error) = copy.clone().send().await else { return Ok(()) };
            let class = self.service.classify(&error);
            if class == ErrorClass::Stale {
                return self.verify_content(to, summary).await;
            }
            if class != ErrorClass::Overloaded || !backoff.pause().await {
                return Err(self.service.store_error(error));
            }
        }
    }

    /// Checks that an existing object has this content, because an earlier attempt may have written it before it died. Returns
    /// [`StoreError::Stale`] if it has other content.
    pub(super) async fn verify_content(&self, key: &str, summary: FileSummary) -> Result<(), StoreError> {
        let head = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        let head = head.map_err(|error| self.service.store_error(error))?;
        let length = head.content_length().and_then(|length| u64::try_from(length).ok());
        let crc = head.metadata().and_then(|metadata| metadata.get(CRC_METADATA));
        if length == Some(summary.bytes) && crc == Some(&crc_hex(summary)) { Ok(()) } else { Err(StoreError::Stale) }
    }

    /// Checks that an existing object has the length of this content. Returns [`StoreError::Stale`] if it has another.
    pub(super) async fn verify_length(&self, key: &str, summary: FileSummary) -> Result<(), StoreError> {
        let head = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        let length = head.map_err(|error| self.service.store_error(error))?.content_length();
        if length.and_then(|length| u64::try_from(length).ok()) == Some(summary.bytes) { Ok(()) } else { Err(StoreError::Stale) }
    }

    /// Aborts the multipart uploads that dead attempts have left. Their bytes are invisible, but stored.
    pub(super) async fn abort_uploads(&self) -> Result<(), StoreError> {
        let (mut key, mut id) = (None, None);
        loop {
            let list = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(&self.prefix);
            let listed = list.set_key_marker(key).set_upload_id_marker(id).send().await;
            let listed = listed.map_err(|error| self.service.store_error(error))?;
            let aborts: Vec<_> = listed.uploads().iter().map(|upload| self.abort_upload(upload)).collect();
            stream::iter(aborts).buffer_unordered(CONCURRENT_ABORTS).try_collect::<()>().await?;
            (key, id) = (listed.next_key_marker().map(str::to_owned), listed.next_upload_id_marker().map(str::to_owned));
            if listed.is_truncated() != Some(true) || key.is_none() {
                return Ok(());
            }
        }
    }

    /// Aborts a multipart upload, unless it has ended.
    async fn abort_upload(&self, upload: &MultipartUpload) -> Result<(), StoreError> {
        let abort = self.client.abort_multipart_upload().bucket(&self.bucket);
        match abort.set_key(upload.key.clone()).set_upload_id(upload.upload_id.clone()).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.raw_response().is_some_and(|response| response.status().as_u16() == 404) => Ok(()),
            Err(error) => Err(self.service.store_error(error)),
        }
    }

    /// Deletes objects. Keys without an object are ignored.
    pub(super) async fn delete(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let store = self.service.store;
        let not_built = |error: aws_sdk_s3::error::BuildError| StoreError::NotApplied { store, cause: error.into() };
        for batch in keys.chunks(DELETES_PER_CALL) {
            let objects = batch.iter().map(|key| ObjectIdentifier::builder().key(key).build().map_err(not_built));
            let objects = objects.collect::<Result<Vec<_>, _>>()?;
            let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().map_err(not_built)?;
            let response = self.client.delete_objects().bucket(&self.bucket).delete(delete).send().await;
            let response = response.map_err(|error| self.service.store_error(error))?;
            if let Some(error) = response.errors().first() {
                let cause = format!("an object was not deleted: {}", error.code().unwrap_or_default()).into();
                return Err(self.service.store_error_from_code(error.code().unwrap_or_default(), cause));
            }
        }
        Ok(())
    }
}
