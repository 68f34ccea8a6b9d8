//! The lock that lets one process at a time write a lake.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headrace_core::job::task::Pin;

use super::bucket::{LakeBucket, LockClock, LockedBucket};
use super::private::{create_folder, open_file};
use super::{FaultPoint, OWN_FOLDER, WriteError};
use crate::regular_file::read_regular_file;

/// A lake in a directory or a bucket that only this process writes.
#[derive(Debug)]
pub struct LakeLock {
    /// The directory of the lake. For a bucket, the folder of this machine with its internal folder.
    root: PathBuf,
    pub(super) fault: FaultPoint,
    place: LakePlace,
}

/// The place of a lake that is locked.
#[derive(Debug)]
enum LakePlace {
    /// A directory, with its lock. The system releases it with the process.
    Directory(#[expect(dead_code, reason = "the lock is held as long as the file is open")] File),
    /// A bucket.
    Bucket(Box<LockedBucket>),
}

impl LakeLock {
    /// Locks the lake in the directory `root`, which is created if it does not exist.
    pub fn lock(root: &Path) -> Result<Self, WriteError> {
        Self::lock_with(root, FaultPoint::default())
    }

    /// Locks a lake for a process that stops at a point.
    pub(crate) fn lock_with(root: &Path, fault: FaultPoint) -> Result<Self, WriteError> {
        let lock = try_lock_file(&root.join(OWN_FOLDER), "lock")?.ok_or_else(|| WriteError::Locked(root.to_owned()))?;
        Ok(Self { root: root.to_owned(), fault, place: LakePlace::Directory(lock) })
    }

    /// Locks the lake in a bucket. Files are staged in `temp_folder`.
    pub fn lock_bucket(bucket: Arc<dyn LakeBucket>, temp_folder: &Path, clock: LockClock) -> Result<Self, WriteError> {
        let locked = Box::new(LockedBucket::lock(bucket, temp_folder, clock)?);
        Ok(Self { root: locked.workspace().to_owned(), fault: FaultPoint::default(), place: LakePlace::Bucket(locked) })
    }

    /// Returns the directory of the lake. For a bucket, the folder of this machine with its internal folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the bucket, if the lake is in one.
    pub(crate) fn bucket(&self) -> Option<&LockedBucket> {
        match &self.place {
            LakePlace::Directory(_) => None,
            LakePlace::Bucket(locked) => Some(locked),
        }
    }

    /// Lets no other process move this watermark object of a lake in a directory until the file is dropped. `None` for a bucket, which has
    /// conditional writes.
    pub(crate) fn lock_watermark(&self, object: &str) -> Result<Option<File>, WriteError> {
        if self.bucket().is_some() {
            return Ok(None);
        }
        let path = self.root.join(object);
        lock_watermark(&path).map(Some).map_err(WriteError::at(&path))
    }

    /// Returns the names of the files in a folder of the lake, which need not exist.
    pub(crate) fn file_names(&self, folder: &str) -> Result<Vec<String>, WriteError> {
        let Some(locked) = self.bucket() else {
            let path = self.root.join(folder);
            let found = entries(&path).map_err(WriteError::at(&path))?;
            return Ok(found.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect());
        };
        let start = format!("{folder}/");
        let pins = locked.bucket.list(&start).map_err(locked.failed(&start))?;
        Ok(pins.iter().filter_map(|pin| pin.object.strip_prefix(&start)).filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    /// Reads a small object of the lake. Returns `None` if it does not exist.
    pub(crate) fn read_object(&self, object: &str) -> Result<Option<Vec<u8>>, WriteError> {
        if let Some(locked) = self.bucket() {
            let read = locked.bucket.read(object).map_err(locked.failed(object))?;
            return Ok(read.map(|(content, _)| content));
        }
        let path = self.root.join(object);
        match read_regular_file(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(WriteError::at(&path)(cause)),
        }
    }

    /// Removes an object of the lake in the state in which it was listed.
    pub(crate) fn remove_object(&self, pin: &Pin) -> Result<(), WriteError> {
        if let Some(locked) = self.bucket() {
            locked.check_lock()?;
            return locked.bucket.remove_if(&pin.object, &pin.etag).map_err(locked.failed(&pin.object));
        }
        let path = self.root.join(&pin.object);
        self.fault.pass().and_then(|()| remove_file(&path)).map_err(WriteError::at(&path))?;
        if let Some(folder) = path.parent().filter(|folder| *folder != self.root) {
            // Fails if it is not empty.
            drop(fs::remove_dir(folder));
        }
        Ok(())
    }

    /// Removes a file of a folder below the internal folder.
    pub(crate) fn remove_own_file(&self, path: &Path) -> Result<(), WriteError> {
        if let Some(locked) = self.bucket()
            && let Some(object) = path.strip_prefix(&self.root).ok().and_then(Path::to_str)
        {
            locked.check_lock()?;
            locked.bucket.remove(&[object.replace(std::path::MAIN_SEPARATOR, "/")]).map_err(locked.failed(object))?;
        }
        self.fault.pass().and_then(|()| remove_file(path)).map_err(WriteError::at(path))
    }

    /// Returns a path below the internal folder.
    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.root.join(OWN_FOLDER).join(name)
    }

    /// Returns the paths in a folder below the internal folder. The folder need not exist.
    pub(crate) fn own_entries(&self, name: &str) -> Result<Vec<PathBuf>, WriteError> {
        let folder = self.own(name);
        entries(&folder).map_err(WriteError::at(&folder))
    }
}

/// Locks a file in a folder until it is dropped. Both are created if they do not exist. Returns `None` if another process holds the lock.
pub(super) fn try_lock_file(folder: &Path, name: &str) -> Result<Option<File>, WriteError> {
    create_folder(folder).map_err(WriteError::at(folder))?;
    let path = folder.join(name);
    let file = open_file(&path).map_err(WriteError::at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(WriteError::at(&path)(cause)),
    }
}

/// Waits until no other process compares and replaces this watermark object of a lake in a directory. The lock is held until the file is
/// dropped. Its folder is created if it does not exist.
pub fn lock_watermark(watermark: &Path) -> io::Result<File> {
    watermark.parent().map_or(Ok(()), create_folder)?;
    let file = open_file(&watermark.with_extension("lock"))?;
    file.lock()?;
    Ok(file)
}

/// Removes a file that may not exist.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns the paths in a folder, which need not exist.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
