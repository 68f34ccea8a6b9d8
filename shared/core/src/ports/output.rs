//! The store of output files.

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use super::ByteStream;
use crate::job::file::{FileName, FileSummary, Fragment, FragmentName, OutputFile, OutputFileName};
use crate::job::file_names::FileNames;
use crate::job::folder::Folder;
use crate::request::ConfigName;
use crate::vocab::error::StoreError;

/// A file that is being written. If it is dropped without [`FileWriter::commit`], no file becomes visible.
pub trait FileWriter: Send {
    /// Appends bytes to the file.
    fn write(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Completes the file under its name.
    ///
    /// An existing file with the same name and content counts as success. An existing file with other content stays
    /// unchanged, and the result is [`StoreError::Stale`] (rule P4); except for [`FileName::Overwrite`], which replaces it.
    fn commit(self, name: FileName, summary: FileSummary) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The destinations of output files: the deployment's own and those of clients. The [`Folder`] of a job determines the
/// destination.
pub trait OutputStore: Send + Sync {
    /// The type of a file that is being written.
    type Writer: FileWriter;

    /// True if files that are being written are in memory.
    const BUFFERS_OPEN_FILES: bool;

    /// True if [`Self::promote`] copies the bytes of the fragment, which takes time.
    const COPIES_TO_PROMOTE: bool;

    /// Checks that a destination is reachable and configured correctly. `own` is a client's own destination, as it is
    /// registered; `None` is the deployment's.
    fn check(&self, own: Option<&str>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads an anonymization configuration from the folder [`crate::request::ANONYMIZATION_FOLDER`] of a destination.
    /// `own` is as in [`Self::check`]. With `etag`, only a file with this entity tag is returned.
    fn anonymization_config(
        &self,
        own: Option<&str>,
        name: &ConfigName,
        etag: Option<&str>,
    ) -> impl Future<Output = Result<ConfigLookup, StoreError>> + Send;

    /// Reads the keys of an anonymization configuration: the file beside it with the suffix `.keys`, as it is stored. Returns
    /// `None` if there is no such file.
    fn anonymization_keys(&self, own: Option<&str>, name: &ConfigName) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// Starts a new file. It can be committed as this fragment or as an output file.
    fn new_fragment(&self, folder: &Folder, fragment: FragmentName) -> impl Future<Output = Result<Self::Writer, StoreError>> + Send;

    /// Copies a fragment to an output file inside the store, without transferring its bytes through this process.
    fn promote(&self, folder: &Folder, fragment: &Fragment, file: OutputFileName) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Copies an output file to another number of its kind inside the store, and replaces a file of that name. The original stays until
    /// unrecorded files are deleted.
    fn renumber(&self, folder: &Folder, file: &OutputFile, number: u32) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads a range of bytes of a fragment, as a stream of chunks.
    fn read(&self, folder: &Folder, fragment: &FragmentName, range: Range<u64>) -> ByteStream;

    /// Returns how a client gets a recorded output file: a presigned URL, or a local path.
    fn file_access(
        &self,
        folder: &Folder,
        file: &OutputFile,
        request: FileRequest,
    ) -> impl Future<Output = Result<FileAccess, StoreError>> + Send;

    /// Deletes all files in the folder except `keep`. Returns the number of deleted files.
    fn delete_all_except(&self, folder: &Folder, keep: &FileNames) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes all files except `keep` in one part of the folder: the first one, or the one after the position `after`, at which an earlier
    /// part ended. A part takes few seconds, so that a caller extends its lease or records the position before the next one. A position
    /// stays valid, whatever is written or deleted meanwhile, also for other processes.
    ///
    /// The default is a store whose folders have one part.
    fn delete_part_except(
        &self,
        folder: &Folder,
        keep: &FileNames,
        _after: Option<&str>,
    ) -> impl Future<Output = Result<DeletedPart, StoreError>> + Send {
        async { Ok(DeletedPart { deleted: self.delete_all_except(folder, keep).await?, next: None }) }
    }
}

/// Deletes all files in the folder except `keep`, part by part, for a store whose folders have several. Returns the number of deleted files.
pub async fn delete_all_parts(store: &impl OutputStore, folder: &Folder, keep: &FileNames) -> Result<u64, StoreError> {
    let (mut deleted, mut position) = (0, None::<String>);
    loop {
        let part = store.delete_part_except(folder, keep, position.as_deref()).await?;
        deleted += part.deleted;
        position = part.next;
        if position.is_none() {
            return Ok(deleted);
        }
    }
}

/// A part of a folder whose files were deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedPart {
    /// The number of deleted files.
    pub deleted: u64,
    /// The position at which the part ended. `None` after the last part.
    pub next: Option<String>,
}

/// The part of a file that a client requests. A presigned URL is valid for one of them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRequest {
    /// The bytes.
    Content,
    /// The size and the other headers of a download.
    Headers,
}

/// A client's access to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// A presigned URL, valid for five minutes.
    Redirect(String),
    /// The path of the file on this machine.
    Local(PathBuf),
}

/// The result of reading an anonymization configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigLookup {
    /// The bytes of the file and its entity tag, in quotes.
    Found(Bytes, String),
    /// The destination has no file of this name.
    Absent,
    /// The file does not have the requested entity tag.
    Changed,
    /// The file is longer than [`crate::request::MAX_CONFIG_BYTES`].
    TooLong,
}
