//! A lake in a bucket, as runs that write one need it.
//!
//! A run works in a folder of this machine as in a lake in a directory: it stages its files there. The bucket has a lock, the list of a run
//! and its staged objects, from which the objects of the lake are copied within the bucket.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use headrace_core::job::task::Pin;
use headrace_core::ports::CopyOutcome;
use headrace_core::vocab::clock::Millis;
use tempfile::TempDir;

use super::bucket_lock::BucketLock;
use super::private::{create_file, create_folder};
use super::{MARKER_FOLDER, OWN_FOLDER, RECEIPT_FOLDER, WriteError};

/// The kind of the errors of a bucket, so that none is taken for damage of the data.
pub const BUCKET_ERROR: io::ErrorKind = io::ErrorKind::ConnectionAborted;

/// A lake in a bucket. All names of objects are below its prefix. Calls block, outside the threads of an asynchronous runtime. Their errors have the
/// kind [`BUCKET_ERROR`].
pub trait LakeBucket: Send + Sync {
    /// Returns the name of the lake for people, such as `s3://bucket/prefix`.
    fn shown(&self) -> String;

    /// Returns the prefix of the lake in its bucket: empty, or ending with a slash.
    fn prefix(&self) -> &str;

    /// Returns true if the bucket, inside or outside of the lake, has a key that begins with `start`. Returns false if its keys must not be
    /// listed there.
    fn has_key(&self, start: &str) -> io::Result<bool>;

    /// Lists the objects whose names begin with `start`, sorted by name.
    fn list(&self, start: &str) -> io::Result<Vec<Pin>>;

    /// Reads an object. Returns its content and its ETag, or `None` if it does not exist.
    fn read(&self, object: &str) -> io::Result<Option<(Vec<u8>, String)>>;

    /// Opens an object. Reading fails if it has changed since it was listed.
    fn open(&self, pin: &Pin) -> Box<dyn Read + Send>;

    /// Stores a file as an object that does not exist yet.
    fn upload(&self, object: &str, file: &Path) -> io::Result<()>;

    /// Writes an object that has the ETag `expected`, or does not exist if that is `None`. Returns its ETag, or `None` if it is different.
    fn put_if(&self, object: &str, expected: Option<&str>, content: &[u8]) -> io::Result<Option<String>>;

    /// Copies an uploaded object to a name that no object has.
    fn copy(&self, from: &str, to: &str) -> io::Result<CopyOutcome>;

    /// Removes objects, which need not exist.
    fn remove(&self, objects: &[String]) -> io::Result<()>;

    /// Removes an object if it still has this ETag.
    fn remove_if(&self, object: &str, etag: &str) -> io::Result<()>;
}

/// The clock of a lock.
pub type LockClock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// A lake in a bucket that only this process writes, until this is dropped.
pub(crate) struct LockedBucket {
    pub(crate) bucket: Arc<dyn LakeBucket>,
    lock: BucketLock,
    workspace: TempDir,
    /// The ETags of the watermark objects that were read. `None` for one that did not exist.
    watermarks: Mutex<HashMap<String, Option<String>>>,
}

impl fmt::Debug for LockedBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedBucket").field("bucket", &self.bucket.shown()).finish_non_exhaustive()
    }
}

impl LockedBucket {
    /// Locks a lake. Files are staged in a folder of their own in `temp_folder`.
    pub(super) fn lock(bucket: Arc<dyn LakeBucket>, temp_folder: &Path, clock: LockClock) -> Result<Self, WriteError> {
        let workspace = tempfile::Builder::new().prefix("headrace-lake-").tempdir_in(temp_folder).map_err(WriteError::at(temp_folder))?;
        let lock = BucketLock::acquire(bucket.clone(), clock)?;
        Ok(Self { bucket, lock, workspace, watermarks: Mutex::default() })
    }

    /// Returns the folder of the files that are staged.
    pub(super) fn workspace(&self) -> &Path {
        self.workspace.path()
    }

    /// Returns the random name of the process that holds the lock.
    pub(super) fn holder(&self) -> &str {
        self.lock.holder()
    }

    /// Fails if another process may have locked the lake meanwhile.
    pub(super) fn check_lock(&self) -> Result<(), WriteError> {
        self.lock.check()
    }

    /// Returns a function that makes an error about an object.
    pub(crate) fn failed(&self, object: &str) -> impl FnOnce(io::Error) -> WriteError + use<> {
        let path = self.shown_object(object);
        |cause| WriteError::File { path, cause }
    }

    /// Returns the name of an object for people.
    pub(crate) fn shown_object(&self, object: &str) -> PathBuf {
        PathBuf::from(format!("{}/{object}", self.bucket.shown()))
    }

    /// Copies the receipts and the markers into the folder of this machine, where runs read them.
    pub(super) fn mirror_own_files(&self) -> Result<(), WriteError> {
        for folder in [RECEIPT_FOLDER, MARKER_FOLDER] {
            let start = format!("{OWN_FOLDER}/{folder}/");
            let local = self.workspace().join(OWN_FOLDER).join(folder);
            create_folder(&local).map_err(WriteError::at(&local))?;
            for pin in self.bucket.list(&start).map_err(self.failed(&start))? {
                let name = pin.object.strip_prefix(&start).unwrap_or_default();
                let path = local.join(name);
                if name.is_empty() || name.contains('/') || name.starts_with('.') || path.exists() {
                    continue;
                }
                let read = self.bucket.read(&pin.object).map_err(self.failed(&pin.object))?;
                let content = read.map(|(content, _)| content).unwrap_or_default();
                let written = create_file(&path).and_then(|mut file| io::Write::write_all(&mut file, &content));
                written.map_err(WriteError::at(&path))?;
            }
        }
        Ok(())
    }

    /// Reads a watermark object, and remembers its state for the write that may follow.
    pub(crate) fn read_watermark(&self, object: &str) -> io::Result<Option<Vec<u8>>> {
        let read = self.bucket.read(object)?;
        let mut watermarks = self.watermarks.lock().unwrap_or_else(PoisonError::into_inner);
        watermarks.insert(object.to_owned(), read.as_ref().map(|(_, etag)| etag.clone()));
        Ok(read.map(|(content, _)| content))
    }

    /// Returns the ETag of a watermark object when it was read: `None` if it was not, `Some(None)` if it did not exist.
    pub(super) fn watermark_state(&self, object: &str) -> Option<Option<String>> {
        self.watermarks.lock().unwrap_or_else(PoisonError::into_inner).get(object).cloned()
    }
}
