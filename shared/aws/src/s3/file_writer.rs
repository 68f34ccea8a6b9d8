//! Writing of a file to S3: one PutObject from memory, or a multipart upload if the file outgrows that.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use headrace_core::job::file::{FileName, FileSummary, FragmentName};
use headrace_core::metering::with_current_meter;
use headrace_core::ports::FileWriter;
use headrace_core::vocab::error::StoreError;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::bucket::BucketPrefix;
use super::objects::{CRC_METADATA, NDJSON, crc_hex, encrypted};
use crate::backoff::Backoff;
use crate::errors::ErrorClass;

/// The size of a buffer. Bytes are copied into buffers, so that no block of the lake is kept in memory for a few of its lines.
const BUFFER_BYTES: usize = 1 << 20;

/// The largest file that is written with one PutObject: the default file size of 64 MB, and a long last line.
const PUT_LIMIT_BYTES: usize = 72 << 20;

/// The size of a part of a multipart upload. The next part is filled while one is uploaded, so that both together take no more memory than
/// [`PUT_LIMIT_BYTES`]. A folder takes 3,500 parts a second.
const PART_BYTES: usize = 32 << 20;

/// A file that is being written to S3.
pub struct S3FileWriter {
    bucket: BucketPrefix,
    fragment: FragmentName,
    buffers: VecDeque<BytesMut>,
    buffered_bytes: usize,
    upload: Option<MultipartUpload>,
}

/// A multipart upload to the key of the fragment.
struct MultipartUpload {
    id: String,
    completed: Vec<CompletedPart>,
    in_flight: Option<JoinHandle<Result<CompletedPart, StoreError>>>,
}

impl S3FileWriter {
    /// Creates the writer of a new file. `bucket` is the folder of the job. Nothing is sent yet.
    pub(super) fn new(bucket: BucketPrefix, fragment: FragmentName) -> Self {
        Self { bucket, fragment, buffers: VecDeque::new(), buffered_bytes: 0, upload: None }
    }

    /// Returns the S3 key of a file of this job.
    fn key(&self, name: &FileName) -> String {
        self.bucket.key(&name.to_string())
    }

    /// Appends a copy of the bytes to the buffers. Nothing is sent.
    fn buffer(&mut self, mut bytes: Bytes) {
        self.buffered_bytes += bytes.len();
        while !bytes.is_empty() {
            let last = match self.buffers.back_mut() {
                Some(last) if last.len() < BUFFER_BYTES => last,
                Some(_) | None => {
                    // Many files are small, so the first buffer is only as large as the bytes that it gets.
                    let capacity = if self.buffers.is_empty() { bytes.len().min(BUFFER_BYTES) } else { BUFFER_BYTES };
                    self.buffers.push_back(BytesMut::with_capacity(capacity));
                    continue;
                }
            };
            let fitting = (BUFFER_BYTES - last.len()).min(bytes.len());
            last.extend_from_slice(&bytes.split_to(fitting));
        }
    }

    /// Takes the first `count` buffers. Returns a function that creates a body of them, which the SDK can send again, and their length.
    fn take_body(&mut self, count: usize) -> (impl Fn() -> ByteStream + Send + 'static, usize) {
        let taken: Vec<Bytes> = self.buffers.drain(..count.min(self.buffers.len())).map(BytesMut::freeze).collect();
        let length = taken.iter().map(Bytes::len).sum();
        self.buffered_bytes -= length;
        let taken = Arc::new(taken);
        let body = move || {
            let taken = Arc::clone(&taken);
            let body = move || SdkBody::from_body_1_x(BufferBody(taken.iter().cloned().collect()));
            ByteStream::new(SdkBody::retryable(body))
        };
        (body, length)
    }

    /// Writes the whole file with one PutObject.
    async fn put(mut self, name: FileName, summary: FileSummary) -> Result<(), StoreError> {
        let key = self.key(&name);
        let (body, length) = self.take_body(usize::MAX);
        let bucket = &self.bucket;
        let condition = match name {
            FileName::Output(_) => Some("*".to_owned()),
            // No other attempt writes a fragment of this name. An overwriting file replaces whatever exists.
            FileName::Fragment(_) | FileName::Overwrite(_) => None,
        };
        let mut backoff = Backoff::new(bucket.patience);
        loop {
            let put = encrypted!(bucket, bucket.client.put_object())
                .bucket(&bucket.bucket)
                .key(&key)
                .content_type(NDJSON)
                .content_length(i64::try_from(length).unwrap_or(i64::MAX))
                .checksum_crc64_nvme(crc_header(summary.crc64))
                .metadata(CRC_METADATA, crc_hex(summary))
                .set_if_none_match(condition.clone())
                .body(body());
            let Err(error) = put.send().await else { return Ok(()) };
            let class = bucket.service.classify(&error);
            if class == ErrorClass::Stale {
                return bucket.verify_content(&key, summary).await;
            }
            // Overloaded: another writer of the same name was faster or slower by a moment (409), or the bucket gets too many writes (503).
            if class != ErrorClass::Overloaded || !backoff.pause().await {
                return Err(bucket.service.store_error(error));
            }
        }
    }

    /// Starts to upload the next part, after the part before is complete.
    async fn upload_part(&mut self) -> Result<(), StoreError> {
        let key = self.key(&FileName::Fragment(self.fragment));
        let mut upload = match self.upload.take() {
            Some(upload) => upload,
            None => {
                let bucket = &self.bucket;
                let create = encrypted!(bucket, bucket.client.create_multipart_upload());
                let create = create.bucket(&bucket.bucket).key(&key).content_type(NDJSON);
                let created = bucket.call_patiently(|| create.clone().send()).await;
                let created = created.map_err(|error| bucket.service.store_error(error))?;
                let id = created.upload_id().unwrap_or_default().to_owned();
                MultipartUpload { id, completed: Vec::new(), in_flight: None }
            }
        };
        upload.wait_for_part(self.bucket.service.store).await?;
        let number = i32::try_from(upload.completed.len() + 1).unwrap_or(i32::MAX);
        let (body, length) = self.take_body(PART_BYTES / BUFFER_BYTES);
        let (bucket, id) = (self.bucket.clone(), upload.id.clone());
        upload.in_flight = Some(tokio::spawn(with_current_meter(async move {
            let upload = || {
                let request = bucket.client.upload_part().bucket(&bucket.bucket).key(&key).upload_id(&id).part_number(number);
                request.content_length(i64::try_from(length).unwrap_or(i64::MAX)).body(body()).send()
            };
            let response = bucket.call_patiently(upload).await;
            let response = response.map_err(|error| bucket.service.store_error(error))?;
            Ok(CompletedPart::builder().part_number(number).set_e_tag(response.e_tag).build())
        })));
        self.upload = Some(upload);
        Ok(())
    }

    /// Completes the multipart upload to the fragment's key, and copies the fragment if the file has another name.
    async fn complete_upload(mut self, name: FileName, summary: FileSummary) -> Result<(), StoreError> {
        while !self.buffers.is_empty() {
            self.upload_part().await?;
        }
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        let bucket = &self.bucket;
        upload.wait_for_part(bucket.service.store).await?;
        let fragment = self.key(&FileName::Fragment(self.fragment));
        let complete = bucket.client.complete_multipart_upload().bucket(&bucket.bucket).key(&fragment).upload_id(&upload.id);
        let complete = complete.multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(upload.completed)).build());
        match bucket.call_patiently(|| complete.clone().send()).await {
            Ok(_) => {}
            // The SDK repeats a call whose answer was lost. The upload is complete then, and S3 may know it no longer.
            Err(error) if error.code() == Some("NoSuchUpload") => bucket.verify_length(&fragment, summary).await?,
            Err(error) => return Err(bucket.service.store_error(error)),
        }
        match name {
            FileName::Fragment(_) => Ok(()),
            FileName::Output(_) | FileName::Overwrite(_) => {
                let overwrites = matches!(name, FileName::Overwrite(_));
                bucket.copy((&fragment, &self.key(&name)), summary, overwrites).await?;
                bucket.delete(vec![fragment]).await
            }
        }
    }
}

impl MultipartUpload {
    /// Waits until the part that is being uploaded, if any, is complete.
    async fn wait_for_part(&mut self, store: &'static str) -> Result<(), StoreError> {
        if let Some(in_flight) = self.in_flight.take() {
            let part = in_flight.await.map_err(|error| StoreError::Unknown { store, cause: error.into() })?;
            self.completed.push(part?);
        }
        Ok(())
    }
}

impl FileWriter for S3FileWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.buffer(bytes);
        while self.buffered_bytes > PUT_LIMIT_BYTES || (self.upload.is_some() && self.buffered_bytes >= PART_BYTES + BUFFER_BYTES) {
            self.upload_part().await?;
        }
        Ok(())
    }

    async fn commit(self, name: FileName, summary: FileSummary) -> Result<(), StoreError> {
        match self.upload {
            None => self.put(name, summary).await,
            Some(_) => self.complete_upload(name, summary).await,
        }
    }
}

/// Formats a CRC for the header `x-amz-checksum-crc64nvme`: base64 of its eight bytes, big-endian.
fn crc_header(crc: u64) -> String {
    aws_smithy_types::base64::encode(crc.to_be_bytes())
}

/// A list of buffers as an HTTP body.
struct BufferBody(VecDeque<Bytes>);

impl Body for BufferBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|bytes| bytes.len() as u64).sum())
    }
}
