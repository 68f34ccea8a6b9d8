//! Writes the output files of a directory.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use headrace_core::job::file::{FileName, FileSummary};
use headrace_core::job::folder::Folder;
use headrace_core::metering::count;
use headrace_core::ports::FileWriter;
use headrace_core::vocab::error::StoreError;

use super::blocking_call::{BlockingCall, in_place};
use super::growing_file::GrowingFile;
use super::output::{DirectoryOutputStore, link_file};

/// Size of the write buffer, in bytes. Larger writes bypass it.
const BUFFER_BYTES: usize = 64 << 10;

/// A file that is being written under a temporary name. It is deleted if it is dropped before its commit.
#[derive(Debug)]
pub struct DirectoryFileWriter {
    store: DirectoryOutputStore,
    folder: Folder,
    path: Arc<PathBuf>,
    /// `None` before the first write.
    file: Option<GrowingFile>,
    buffer: Vec<u8>,
    is_committed: bool,
}

impl DirectoryFileWriter {
    /// Creates the writer of a file of `store` with this temporary path.
    pub(super) fn new(store: DirectoryOutputStore, folder: Folder, path: PathBuf) -> Self {
        Self { store, folder, path: Arc::new(path), file: None, buffer: Vec::new(), is_committed: false }
    }

    /// Writes the buffer and then `bytes`. Creates the file at the first call.
    fn write_through(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(GrowingFile::create(&self.path)?),
        };
        file.append(&self.buffer, bytes)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left in the buffer and closes the file.
    fn finish(&mut self) -> io::Result<()> {
        self.write_through(&[])?;
        self.file.take().map_or(Ok(()), GrowingFile::finish)
    }
}

impl FileWriter for DirectoryFileWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        if self.buffer.len() + bytes.len() < BUFFER_BYTES {
            self.buffer.extend_from_slice(&bytes);
            return Ok(());
        }
        let call = BlockingCall::Output(Arc::clone(&self.path));
        in_place(&call, || self.write_through(&bytes)).map_err(self.store.error_at(&self.folder))
    }

    async fn commit(mut self, name: FileName, summary: FileSummary) -> Result<(), StoreError> {
        let failed = self.store.error_at(&self.folder);
        let call = BlockingCall::Output(Arc::clone(&self.path));
        in_place(&call, || {
            self.finish().map_err(&failed)?;
            let (from, to) = (self.path.as_path(), self.store.path(&self.folder, &name));
            match name {
                FileName::Output(_) => {
                    link_file(from, &to, summary).map_err(&failed)?.or_stale()?;
                    fs::remove_file(from).map_err(&failed)
                }
                // A fragment's name contains its attempt, so it is unique; an existing file of the other kind is to be replaced.
                FileName::Fragment(_) | FileName::Overwrite(_) => fs::rename(from, &to).map_err(&failed),
            }?;
            self.store.add_own_file(&to, summary);
            Ok::<_, StoreError>(())
        })?;
        self.is_committed = true;
        count(|usage| {
            usage.puts += 1;
            usage.bytes_written += summary.bytes;
        });
        Ok(())
    }
}

impl Drop for DirectoryFileWriter {
    fn drop(&mut self) {
        if !self.is_committed && self.path.exists() {
            // If this fails, the file is deleted when the job is swept.
            drop(fs::remove_file(self.path.as_path()));
        }
    }
}
