//! Writing of files, with the requests of the adapter: one PUT, or a multipart upload of what is too large for one.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headrace_core::job::file::{FileName, FileSummary, FragmentName};
use headrace_core::job::folder::Folder;
use headrace_core::ports::FileWriter;
use headrace_core::vocab::error::StoreError;

use super::files::{STORE, kind, weight};
use super::store::ModelOutput;
use crate::aws::requests::{RequestKind, SlowDown};
use crate::aws::worker::UsedMemory;
use crate::meter::Activity;

/// The largest file that is written with one PUT, in real bytes, as in the adapter.
const PUT_LIMIT_BYTES: u64 = 72 << 20;

/// The size of a part of a multipart upload, in real bytes, as in the adapter.
const PART_BYTES: u64 = 32 << 20;

/// A file that is being written.
#[derive(Debug)]
pub struct ModelWriter {
    output: ModelOutput,
    folder: Folder,
    fragment: FragmentName,
    bytes: BytesMut,
    /// The real bytes for which a byte stands.
    weight: u64,
    memory: UsedMemory,
    /// The real bytes that parts have uploaded. `None` for a file that one PUT can write.
    uploaded: Option<u64>,
}

impl ModelWriter {
    /// Creates the writer of a new file.
    pub(super) fn new(output: ModelOutput, folder: Folder, fragment: FragmentName) -> Self {
        let weight = weight(fragment.kind, output.scale);
        let memory = UsedMemory::new(&output.worker);
        Self { output, folder, fragment, bytes: BytesMut::new(), weight, memory, uploaded: None }
    }

    /// Returns the size of the file so far, in real bytes.
    fn real_bytes(&self) -> u64 {
        self.bytes.len() as u64 * self.weight
    }

    /// Uploads the next part.
    async fn upload_part(&mut self, part: u64) -> Result<(), StoreError> {
        if self.uploaded.is_none() {
            self.send("CreateMultipartUpload", 0).await?;
        }
        self.send("UploadPart", part).await?;
        self.memory.free(part);
        self.uploaded = Some(self.uploaded.unwrap_or_default() + part);
        Ok(())
    }

    /// Sends a request with a body of this many real bytes.
    async fn send(&self, operation: &'static str, body: u64) -> Result<(), StoreError> {
        let worker = &self.output.worker;
        worker.compute(body, worker.processor().transfer).await;
        let started = worker.time().elapsed();
        worker.upload(body).await;
        let call = (operation, self.output.prefix.parameters().put);
        let sent = self.output.prefix.patient_request(worker, RequestKind::Write, call, self.output.patience).await;
        worker.add_activity(Activity::Write, worker.time().elapsed() - started);
        sent.map_err(overloaded)
    }
}

/// Converts the error of an overloaded bucket.
pub(super) fn overloaded(error: SlowDown) -> StoreError {
    StoreError::Overloaded { store: STORE, cause: error.into() }
}

impl FileWriter for ModelWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        if !self.fragment.kind.is_exported() {
            self.output.worker.free_records();
        }
        self.bytes.extend_from_slice(&bytes);
        self.memory.add(bytes.len() as u64 * self.weight);
        while self.real_bytes() - self.uploaded.unwrap_or_default() > if self.uploaded.is_some() { 2 * PART_BYTES } else { PUT_LIMIT_BYTES }
        {
            self.upload_part(PART_BYTES).await?;
        }
        Ok(())
    }

    async fn commit(mut self, name: FileName, summary: FileSummary) -> Result<(), StoreError> {
        if summary.bytes != self.bytes.len() as u64 {
            return Err(StoreError::NotApplied { store: STORE, cause: "the summary is not that of the file".into() });
        }
        let bytes = std::mem::take(&mut self.bytes).freeze();
        let real_bytes = bytes.len() as u64 * self.weight;
        match self.uploaded {
            None => self.send("PutObject", real_bytes).await?,
            Some(uploaded) => {
                let left = real_bytes - uploaded;
                if left > 0 {
                    self.upload_part(left).await?;
                }
                self.send("CompleteMultipartUpload", 0).await?;
                if !matches!(name, FileName::Fragment(_)) {
                    self.output.copy(real_bytes).await?;
                    self.output.delete_one().await?;
                }
            }
        }
        debug_assert_eq!(kind(&name), self.fragment.kind);
        self.output.destination.put(&self.folder, name, bytes, summary)?;
        // The answer takes a moment, in which the process can end.
        self.output.worker.time().sleep(Duration::from_millis(1)).await;
        Ok(())
    }
}
