//! `s3s-fs`, corrected to behave like S3 where exports depend on it.
//!
//! | S3 | unmodified `s3s-fs` 0.14.1 |
//! |---|---|
//! | exactly one of several `If-None-Match: *` writers succeeds | several succeed |
//! | a copy respects `If-None-Match: *` | ignores it |
//! | reads respect `If-Match` and `If-None-Match` | ignore both |
//! | a deletion respects `If-Match` | ignores it |
//! | a listing contains ETags | it does not |
//! | a body with a wrong checksum is not stored | it is stored, then rejected; parts are not checked at all |
//! | a write into a missing bucket is rejected | the bucket is created |
//! | completion checks ETags, sizes and order of parts | parts 1..n are joined, only half of them after an error |
//! | a new object keeps nothing of the old one | a completed upload keeps the old object's checksums |
//! | checksums are returned on request | they are always returned |
//! | uploads can be listed | they cannot |
//! | a folder is not an object | HEAD and GET of a folder succeed |

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use aws_smithy_types::base64;
use bytes::Bytes;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::checks;
use super::uploads::Uploads;
use super::write_log::{Encryption, WriteLog};

/// Number of bytes read from disk at a time. The 4 KiB of `s3s-fs`, each read on another thread, limit a GET to 0.3 GB/s.
const READ_BYTES: u64 = 1024 * 1024;

/// Maximum number of keys in a `DeleteObjects` request.
const MAX_DELETES: usize = 1000;

/// Number of locks. The hash of a key selects its lock, so that operations on one object are atomic and others run in parallel.
const LOCKS: usize = 64;

/// S3 implementation over `s3s-fs`.
pub(super) struct PatchedS3 {
    files: FileSystem,
    root: PathBuf,
    locks: Vec<RwLock<()>>,
    hasher: RandomState,
    uploads: Uploads,
    log: WriteLog,
}

impl PatchedS3 {
    /// Opens the S3 whose buckets are folders of `root`. Every write is added to `log`.
    pub(super) fn open(root: &Path, log: WriteLog) -> S3Result<Self> {
        Ok(Self {
            files: FileSystem::new(root)?,
            root: root.canonicalize().map_err(s3s::S3Error::internal_error)?,
            locks: (0..LOCKS).map(|_| RwLock::new(())).collect(),
            hasher: RandomState::new(),
            uploads: Uploads::default(),
            log,
        })
    }

    /// Returns the lock of an object. Several objects may share a lock.
    fn lock(&self, bucket: &str, key: &str) -> S3Result<&RwLock<()>> {
        let hash = self.hasher.hash_one((bucket, key));
        let index = usize::try_from(hash).unwrap_or_default() % LOCKS;
        self.locks.get(index).ok_or_else(|| s3_error!(InternalError))
    }

    /// Locks an object against writes until the guard is dropped.
    async fn lock_for_read(&self, bucket: &str, key: &str) -> S3Result<RwLockReadGuard<'_, ()>> {
        Ok(self.lock(bucket, key)?.read().await)
    }

    /// Locks an object against reads and other writes until the guard is dropped.
    async fn lock_for_write(&self, bucket: &str, key: &str) -> S3Result<RwLockWriteGuard<'_, ()>> {
        Ok(self.lock(bucket, key)?.write().await)
    }

    /// Returns the path of an object's file.
    fn path(&self, bucket: &str, key: &str) -> PathBuf {
        self.root.join(bucket).join(key)
    }

    /// Returns the error `NoSuchBucket` if the bucket does not exist.
    fn check_bucket_exists(&self, bucket: &str) -> S3Result<()> {
        if self.root.join(bucket).is_dir() { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    /// Returns the path of the file in which `s3s-fs` keeps an object's ETag and checksums.
    fn metadata_path(&self, bucket: &str, key: &str) -> PathBuf {
        let name = |text: &str| {
            let text = base64::encode(text).replace('+', "-").replace('/', "_");
            text.trim_end_matches('=').to_owned()
        };
        let file = format!(".bucket-{}.object-{}.internal.json", name(bucket), name(key));
        self.root.join(file)
    }

    /// Returns an object's metadata. The caller must hold its lock.
    async fn head<T>(&self, request: &S3Request<T>, bucket: &str, key: &str) -> S3Result<HeadObjectOutput> {
        self.check_bucket_exists(bucket)?;
        if self.path(bucket, key).is_dir() {
            return Err(s3_error!(NoSuchKey));
        }
        let input = HeadObjectInput { bucket: bucket.to_owned(), key: key.to_owned(), ..HeadObjectInput::default() };
        Ok(self.files.head_object(with_input(request, input)).await?.output)
    }

    /// Deletes an object. A missing object is not an error.
    async fn remove<T>(&self, request: &S3Request<T>, bucket: &str, key: &str) -> S3Result<()> {
        let _guard = self.lock_for_write(bucket, key).await?;
        if self.path(bucket, key).is_dir() {
            return Ok(());
        }
        let input = DeleteObjectInput { bucket: bucket.to_owned(), key: key.to_owned(), ..DeleteObjectInput::default() };
        self.files.delete_object(with_input(request, input)).await?;
        Ok(())
    }

    /// Returns the path of the file in which `s3s-fs` keeps a part of a multipart upload.
    fn part_path(&self, upload_id: &str, number: i32) -> PathBuf {
        self.root.join(format!(".upload_id-{upload_id}.part-{number}"))
    }
}

/// Copies a request with another input.
fn with_input<T, U>(request: &S3Request<T>, input: U) -> S3Request<U> {
    S3Request {
        input,
        method: request.method.clone(),
        uri: request.uri.clone(),
        headers: request.headers.clone(),
        extensions: request.extensions.clone(),
        credentials: request.credentials.clone(),
        region: request.region.clone(),
        service: request.service.clone(),
        trailing_headers: request.trailing_headers.clone(),
    }
}

/// Returns true if the request asks for checksums in the response.
fn wants_checksums(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

/// Streams a range of an open file, even if the file is replaced or deleted meanwhile.
fn read_stream(file: File, range: std::ops::Range<u64>) -> StreamingBlob {
    let file = Arc::new(file);
    let pieces = futures_util::stream::try_unfold(range, move |left| {
        let file = Arc::clone(&file);
        async move {
            let size = READ_BYTES.min(left.end - left.start);
            if size == 0 {
                return Ok(None);
            }
            let start = left.start;
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; usize::try_from(size).map_err(std::io::Error::other)?];
                file.read_exact_at(&mut piece, start)?;
                std::io::Result::Ok(Bytes::from(piece))
            });
            let piece = read.await.map_err(std::io::Error::other)??;
            Ok::<_, std::io::Error>(Some((piece, start + size..left.end)))
        }
    });
    StreamingBlob::wrap(pieces)
}

#[async_trait]
impl S3 for PatchedS3 {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.files.create_bucket(req).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.files.head_bucket(req).await
    }

    async fn get_bucket_location(&self, req: S3Request<GetBucketLocationInput>) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.files.get_bucket_location(req).await
    }

    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.check_bucket_exists(&req.input.bucket)?;
        let body = checks::collect(req.input.body.take()).await?;
        checks::verify([body.as_ref()], &checks::declared(&req))?;
        req.input.body = Some(StreamingBlob::from(s3s::Body::from(body)));
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let encryption = Encryption::from_request(
            req.input.server_side_encryption.as_ref(),
            req.input.ssekms_key_id.as_ref(),
            req.input.bucket_key_enabled,
        );
        let _guard = self.lock_for_write(&bucket, &key).await?;
        let response = self.files.put_object(req).await?;
        self.log.record("PutObject", (&bucket, &key), encryption);
        Ok(response)
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input.clone();
        let _guard = self.lock_for_read(&input.bucket, &input.key).await?;
        let head = self.head(&req, &input.bucket, &input.key).await?;
        checks::check_conditions(&head, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let size = u64::try_from(head.content_length.unwrap_or_default()).unwrap_or_default();
        let range = match input.range {
            Some(range) => range.check(size)?,
            None => 0..size,
        };
        let file = File::open(self.path(&input.bucket, &input.key)).map_err(s3s::S3Error::internal_error)?;

        let mut response = self.files.get_object(req).await?;
        let got = &mut response.output;
        got.body = Some(read_stream(file, range));
        if !wants_checksums(input.checksum_mode.as_ref()) {
            got.checksum_crc32 = None;
            got.checksum_crc32c = None;
            got.checksum_crc64nvme = None;
            got.checksum_sha1 = None;
            got.checksum_sha256 = None;
        }
        got.content_type = input.response_content_type.or(got.content_type.take());
        got.content_disposition = input.response_content_disposition.or(got.content_disposition.take());
        got.content_encoding = input.response_content_encoding.or(got.content_encoding.take());
        Ok(response)
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = &req.input;
        let _guard = self.lock_for_read(&input.bucket, &input.key).await?;
        let mut head = self.head(&req, &input.bucket, &input.key).await?;
        checks::check_conditions(&head, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        if !wants_checksums(input.checksum_mode.as_ref()) {
            head.checksum_crc32 = None;
            head.checksum_crc32c = None;
            head.checksum_crc64nvme = None;
            head.checksum_sha1 = None;
            head.checksum_sha256 = None;
        }
        Ok(S3Response::new(head))
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let bucket = req.input.bucket.clone();
        let probe = with_input(&req, ());
        let mut response = self.files.list_objects_v2(req).await?;
        for object in response.output.contents.iter_mut().flatten() {
            let key = object.key.clone().unwrap_or_default();
            // An object that was deleted meanwhile stays listed, as in a listing that started before the deletion.
            if let Ok(head) = self.head(&probe, &bucket, &key).await {
                object.e_tag = head.e_tag;
            }
        }
        Ok(response)
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.check_bucket_exists(&req.input.bucket)?;
        if req.input.if_match.is_some() {
            let head = self.head(&req, &req.input.bucket, &req.input.key).await?;
            checks::check_conditions(&head, req.input.if_match.as_ref(), None)?;
        }
        self.remove(&req, &req.input.bucket, &req.input.key).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = &req.input;
        self.check_bucket_exists(&input.bucket)?;
        if input.delete.objects.len() > MAX_DELETES {
            return Err(s3_error!(MalformedXML));
        }
        let mut deleted = Vec::new();
        for object in &input.delete.objects {
            self.remove(&req, &input.bucket, &object.key).await?;
            deleted.push(DeletedObject { key: Some(object.key.clone()), ..DeletedObject::default() });
        }
        let is_verbose = input.delete.quiet != Some(true);
        Ok(S3Response::new(DeleteObjectsOutput { deleted: is_verbose.then_some(deleted), ..DeleteObjectsOutput::default() }))
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        self.check_bucket_exists(&bucket)?;
        if let CopySource::Bucket { bucket, key, .. } = &req.input.copy_source {
            self.head(&req, bucket, key).await?;
        }
        let _guard = self.lock_for_write(&bucket, &key).await?;
        // The S3 model of `s3s` does not have this header yet.
        if req.headers.get("if-none-match").is_some_and(|value| value == "*") && self.path(&bucket, &key).is_file() {
            return Err(s3_error!(PreconditionFailed, "Object already exists"));
        }
        let encryption = Encryption::from_request(
            req.input.server_side_encryption.as_ref(),
            req.input.ssekms_key_id.as_ref(),
            req.input.bucket_key_enabled,
        );
        let response = self.files.copy_object(req).await?;
        self.log.record("CopyObject", (&bucket, &key), encryption);
        Ok(response)
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        self.check_bucket_exists(&bucket)?;
        let encryption = Encryption::from_request(
            req.input.server_side_encryption.as_ref(),
            req.input.ssekms_key_id.as_ref(),
            req.input.bucket_key_enabled,
        );
        let response = self.files.create_multipart_upload(req).await?;
        self.log.record("CreateMultipartUpload", (&bucket, &key), encryption);
        #[expect(clippy::disallowed_methods, reason = "S3 has its own clock")]
        let now = Timestamp::from(std::time::SystemTime::now());
        let id = response.output.upload_id.as_deref().unwrap_or_default();
        self.uploads.begin(id, &bucket, &key, now);
        Ok(response)
    }

    async fn upload_part(&self, mut req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let (id, number) = (req.input.upload_id.clone(), req.input.part_number);
        self.uploads.check_is_open(&id, &req.input.bucket, &req.input.key)?;
        let body = checks::collect(req.input.body.take()).await?;
        let declared = checks::declared(&req);
        checks::verify([body.as_ref()], &declared)?;
        let size = body.len();
        req.input.body = Some(StreamingBlob::from(s3s::Body::from(body)));
        let mut response = self.files.upload_part(req).await?;
        let part = &mut response.output;
        if let Some(e_tag) = part.e_tag.clone() {
            self.uploads.record(&id, number, e_tag, size);
        }
        part.checksum_crc32 = declared.checksum_crc32;
        part.checksum_crc32c = declared.checksum_crc32c;
        part.checksum_crc64nvme = declared.checksum_crc64nvme;
        part.checksum_sha1 = declared.checksum_sha1;
        part.checksum_sha256 = declared.checksum_sha256;
        Ok(response)
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let ListPartsInput { bucket, key, upload_id, .. } = req.input;
        self.uploads.check_is_open(&upload_id, &bucket, &key)?;
        Ok(S3Response::new(ListPartsOutput {
            parts: Some(self.uploads.parts(&upload_id)),
            is_truncated: Some(false),
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(upload_id),
            ..ListPartsOutput::default()
        }))
    }

    async fn list_multipart_uploads(&self, req: S3Request<ListMultipartUploadsInput>) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let ListMultipartUploadsInput { bucket, prefix, .. } = req.input;
        self.check_bucket_exists(&bucket)?;
        Ok(S3Response::new(ListMultipartUploadsOutput {
            uploads: Some(self.uploads.with_prefix(&bucket, prefix.as_deref().unwrap_or_default())),
            is_truncated: Some(false),
            bucket: Some(bucket),
            prefix,
            ..ListMultipartUploadsOutput::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = &req.input;
        let (bucket, key, id) = (input.bucket.clone(), input.key.clone(), input.upload_id.clone());
        self.uploads.check_is_open(&id, &bucket, &key)?;
        let listed = input.multipart_upload.clone().and_then(|listed| listed.parts).unwrap_or_default();
        self.uploads.check_part_list(&id, &listed)?;
        if input.if_match.is_some() {
            return Err(s3_error!(NotImplemented, "the stand-in supports only If-None-Match at completion"));
        }

        let _guard = self.lock_for_write(&bucket, &key).await?;
        if input.if_none_match.is_some() && self.path(&bucket, &key).exists() {
            return Err(s3_error!(PreconditionFailed, "Object already exists"));
        }
        let mut known = serde_json::json!({});
        if let Some(sum) = &input.checksum_crc64nvme {
            let parts = listed.iter().filter_map(|part| part.part_number);
            let parts = parts.map(|number| std::fs::read(self.part_path(&id, number)));
            let parts = parts.collect::<Result<Vec<_>, _>>().map_err(s3s::S3Error::internal_error)?;
            let declared = Checksum { checksum_crc64nvme: Some(sum.clone()), ..Checksum::default() };
            checks::verify(parts.iter().map(Vec::as_slice), &declared)?;
            known = serde_json::json!({ "checksum_crc64nvme": sum });
        }
        // The completion below adds the ETag to the contents of this file, so checksums of an older object must be gone.
        std::fs::write(self.metadata_path(&bucket, &key), known.to_string()).map_err(s3s::S3Error::internal_error)?;
        let response = self.files.complete_multipart_upload(req).await?;
        self.uploads.end(&id);
        Ok(response)
    }

    async fn abort_multipart_upload(&self, req: S3Request<AbortMultipartUploadInput>) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let id = req.input.upload_id.clone();
        self.uploads.check_is_open(&id, &req.input.bucket, &req.input.key)?;
        let response = self.files.abort_multipart_upload(req).await?;
        self.uploads.end(&id);
        Ok(response)
    }
}
