//! A file on its way to S3: one PutObject from memory, or a multipart upload where it outgrows that.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use headrace_core::output::file::{Content, FileName, FragmentName};
use headrace_core::ports::Draft;
use headrace_core::vocab::error::StoreError;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::Place;
use super::parts::{CRC_METADATA, NDJSON, WHAT, encrypted, hex};
use crate::errors::Sorted;

/// Bytes are kept in buffers of this size: own copies, so that no block of the lake is held for a few of its lines.
const SEGMENT_BYTES: usize = 1 << 20;

/// A file up to this size is one PutObject: the default file size of 64 MB and a long last line.
const HELD_BYTES: usize = 72 << 20;

/// The size of one part of a multipart upload; the next one fills while it travels.
const UPLOAD_PART_BYTES: usize = 16 << 20;

/// A file being written.
pub struct S3Draft {
    place: Place,
    tail: FragmentName,
    segments: VecDeque<BytesMut>,
    held_bytes: usize,
    upload: Option<Upload>,
}

/// A multipart upload to the tail's key.
struct Upload {
    id: String,
    done: Vec<CompletedPart>,
    travelling: Option<JoinHandle<Result<CompletedPart, StoreError>>>,
}

impl S3Draft {
    /// `place` is the job's folder.
    pub(super) fn new(place: Place, tail: FragmentName) -> Self {
        Self { place, tail, segments: VecDeque::new(), held_bytes: 0, upload: None }
    }

    fn key(&self, name: &FileName) -> String {
        self.place.object(&name.to_string())
    }

    fn hold(&mut self, mut bytes: Bytes) {
        self.held_bytes += bytes.len();
        while !bytes.is_empty() {
            let room = match self.segments.back_mut() {
                Some(last) if last.len() < SEGMENT_BYTES => last,
                Some(_) | None => {
                    // Small files are many: the first buffer grows with what it gets.
                    let capacity = if self.segments.is_empty() { bytes.len().min(SEGMENT_BYTES) } else { SEGMENT_BYTES };
                    self.segments.push_back(BytesMut::with_capacity(capacity));
                    continue;
                }
            };
            let fits = (SEGMENT_BYTES - room.len()).min(bytes.len());
            room.extend_from_slice(&bytes.split_to(fits));
        }
    }

    /// The first `count` segments as one body that the SDK may send again.
    fn body(&mut self, count: usize) -> (ByteStream, usize) {
        let taken: Vec<Bytes> = self.segments.drain(..count.min(self.segments.len())).map(BytesMut::freeze).collect();
        let length = taken.iter().map(Bytes::len).sum();
        self.held_bytes -= length;
        let again = move || SdkBody::from_body_1_x(Segments(taken.iter().cloned().collect()));
        (ByteStream::new(SdkBody::retryable(again)), length)
    }

    async fn put(mut self, name: FileName, content: Content) -> Result<(), StoreError> {
        let key = self.key(&name);
        let (body, length) = self.body(usize::MAX);
        let place = &self.place;
        let put = encrypted!(place, place.client.put_object())
            .bucket(&place.bucket)
            .key(&key)
            .content_type(NDJSON)
            .content_length(i64::try_from(length).unwrap_or(i64::MAX))
            .checksum_crc64_nvme(base64(content.crc64))
            .metadata(CRC_METADATA, hex(content))
            .body(body);
        let sent = match name {
            FileName::Part(_) => put.if_none_match("*").send().await,
            // No other attempt has its name; or what lies there is to be replaced.
            FileName::Tail(_) | FileName::Anew(_) => put.send().await,
        };
        match sent {
            Ok(_) => Ok(()),
            Err(error) if self.place.called.sort(&error) == Sorted::Stale => self.place.must_hold(&key, content).await,
            Err(error) => Err(self.place.called.store_error(error)),
        }
    }

    /// Sends the held bytes on their way, once those before have arrived.
    async fn send_part(&mut self) -> Result<(), StoreError> {
        let key = self.key(&FileName::Tail(self.tail));
        let mut upload = match self.upload.take() {
            Some(upload) => upload,
            None => {
                let place = &self.place;
                let create = encrypted!(place, place.client.create_multipart_upload());
                let created = create.bucket(&place.bucket).key(&key).content_type(NDJSON).send().await;
                let created = created.map_err(|error| place.called.store_error(error))?;
                let id = created.upload_id().unwrap_or_default().to_owned();
                Upload { id, done: Vec::new(), travelling: None }
            }
        };
        upload.arrive().await?;
        let number = i32::try_from(upload.done.len() + 1).unwrap_or(i32::MAX);
        let (body, length) = self.body(UPLOAD_PART_BYTES / SEGMENT_BYTES);
        let (place, id) = (self.place.clone(), upload.id.clone());
        upload.travelling = Some(tokio::spawn(async move {
            let request = place.client.upload_part().bucket(&place.bucket).key(key).upload_id(id).part_number(number);
            let sent = request.content_length(i64::try_from(length).unwrap_or(i64::MAX)).body(body).send().await;
            let sent = sent.map_err(|error| place.called.store_error(error))?;
            Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
        }));
        self.upload = Some(upload);
        Ok(())
    }

    async fn complete(mut self, name: FileName, content: Content) -> Result<(), StoreError> {
        while !self.segments.is_empty() {
            self.send_part().await?;
        }
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        upload.arrive().await?;
        let tail = self.key(&FileName::Tail(self.tail));
        let place = &self.place;
        place
            .client
            .complete_multipart_upload()
            .bucket(&place.bucket)
            .key(&tail)
            .upload_id(&upload.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(upload.done)).build())
            .send()
            .await
            .map_err(|error| place.called.store_error(error))?;
        match name {
            FileName::Tail(_) => Ok(()),
            FileName::Part(_) | FileName::Anew(_) => {
                let replaces = matches!(name, FileName::Anew(_));
                place.copy((&tail, &self.key(&name)), content, replaces).await?;
                place.delete(vec![tail]).await
            }
        }
    }
}

impl Upload {
    /// Waits for the part that travels.
    async fn arrive(&mut self) -> Result<(), StoreError> {
        if let Some(travelling) = self.travelling.take() {
            let arrived = travelling.await.map_err(|error| StoreError::Unknown { what: WHAT, cause: error.into() })?;
            self.done.push(arrived?);
        }
        Ok(())
    }
}

impl Draft for S3Draft {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.hold(bytes);
        while self.held_bytes > HELD_BYTES || (self.upload.is_some() && self.held_bytes >= UPLOAD_PART_BYTES + SEGMENT_BYTES) {
            self.send_part().await?;
        }
        Ok(())
    }

    async fn settle(self, name: FileName, content: Content) -> Result<(), StoreError> {
        match self.upload {
            None => self.put(name, content).await,
            Some(_) => self.complete(name, content).await,
        }
    }
}

/// A CRC as the header `x-amz-checksum-crc64nvme` has it: base64 of its eight bytes, the highest first.
fn base64(crc: u64) -> String {
    aws_smithy_types::base64::encode(crc.to_be_bytes())
}

/// Buffers as an HTTP body.
struct Segments(VecDeque<Bytes>);

impl Body for Segments {
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
