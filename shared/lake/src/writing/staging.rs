//! Files that are written and become visible together.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::bucket_commit;
use super::lock::entries;
use super::private::{create_file, create_folder};
use super::{FaultPoint, LakeLock, OWN_FOLDER, WriteError};
use crate::regular_file::open_regular_file;

/// The folder of staged files, below the internal folder.
pub(super) const STAGING_FOLDER: &str = "staging";

/// The name of the list of final names.
pub(super) const LIST: &str = "commit";

/// The files of one run.
#[derive(Debug)]
pub struct Staging<'l> {
    lake: &'l LakeLock,
    folder: PathBuf,
}

impl<'l> Staging<'l> {
    /// Starts a run. Completes earlier runs that were interrupted while they renamed their files, and drops all others.
    pub fn begin(lake: &'l LakeLock, run: &str) -> Result<Self, WriteError> {
        recover(lake)?;
        let folder = lake.own(STAGING_FOLDER).join(run);
        create_folder(&folder).map_err(WriteError::at(&folder))?;
        Ok(Self { lake, folder })
    }

    /// Returns the lake.
    pub(crate) fn lake(&self) -> &'l LakeLock {
        self.lake
    }

    /// Returns the size of a staged file, in bytes.
    pub(crate) fn size(&self, name: &str) -> Result<u64, WriteError> {
        let path = self.folder.join(name);
        fs::metadata(&path).map(|metadata| metadata.len()).map_err(WriteError::at(&path))
    }

    /// Creates a staged file.
    pub(crate) fn create(&self, name: &str) -> Result<File, WriteError> {
        let path = self.folder.join(name);
        self.fault().pass().and_then(|()| create_file(&path)).map_err(WriteError::at(&path))
    }

    /// Writes a staged file.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), WriteError> {
        let mut file = self.create(name)?;
        let written = self.fault().pass().and_then(|()| file.write_all(content)).and_then(|()| file.sync_all());
        written.map_err(WriteError::at(&self.folder.join(name)))
    }

    /// Returns the point at which a test stops the process.
    pub(crate) fn fault(&self) -> &FaultPoint {
        &self.lake.fault
    }

    /// Makes the staged files visible, in this order. `files` are pairs of the staged and the final name, which is relative to the
    /// lake. Returns the watermark objects in a bucket that stay as they are, because another process has changed them meanwhile.
    pub(crate) fn commit(self, files: &[(String, String)]) -> Result<Vec<String>, WriteError> {
        if let Some(locked) = self.lake.bucket() {
            let run = self.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let kept = bucket_commit::commit(locked, &self.folder, run, files)?;
            locked.mirror_own_files()?;
            return Ok(kept);
        }
        let path = self.folder.join("commit.new");
        let mut list = BufWriter::new(self.create("commit.new")?);
        let mut write = || {
            for pair in files {
                serde_json::to_writer(&mut list, pair)?;
                list.write_all(b"\n")?;
            }
            list.flush()?;
            self.fault().pass()?;
            list.get_ref().sync_all()?;
            fs::rename(&path, self.folder.join(LIST))
        };
        write().map_err(WriteError::at(&path))?;
        sync_folder(&self.folder);
        complete(self.lake, &self.folder)?;
        Ok(Vec::new())
    }

    /// Removes the staged files.
    pub(crate) fn discard(self) -> Result<(), WriteError> {
        remove_folder(self.lake, &self.folder)
    }
}

impl Drop for Staging<'_> {
    /// Removes the files of a run that has failed. Those of a run whose list is written become visible later.
    fn drop(&mut self) {
        if self.folder.is_dir() && !self.folder.join(LIST).is_file() {
            drop(remove_folder(self.lake, &self.folder));
        }
    }
}

/// Returns the number of runs that were interrupted while they made their files visible: the lake has a part of them.
pub fn unfinished_runs(root: &Path) -> io::Result<u64> {
    let lists = folders(&root.join(OWN_FOLDER).join(STAGING_FOLDER))?.into_iter().filter(|folder| folder.join(LIST).is_file());
    Ok(lists.count() as u64)
}

/// Completes or drops the runs that were interrupted.
pub(crate) fn recover(lake: &LakeLock) -> Result<(), WriteError> {
    if let Some(locked) = lake.bucket() {
        return bucket_commit::recover(locked);
    }
    let staging = lake.own(STAGING_FOLDER);
    for folder in folders(&staging).map_err(WriteError::at(&staging))? {
        if folder.join(LIST).is_file() { complete(lake, &folder)? } else { remove_folder(lake, &folder)? }
    }
    Ok(())
}

/// Renames the staged files of a run that are not renamed yet, and removes its folder.
fn complete(lake: &LakeLock, folder: &Path) -> Result<(), WriteError> {
    let path = folder.join(LIST);
    let list = BufReader::new(open_regular_file(&path).map_err(WriteError::at(&path))?);
    let mut changed = Vec::new();
    for line in list.lines() {
        let line = line.map_err(WriteError::at(&path))?;
        let (staged, target): (String, String) = serde_json::from_str(&line).map_err(|_| WriteError::DamagedList(path.clone()))?;
        let (staged, target) = (folder.join(staged), lake.root().join(target));
        if let Some(parent) = target.parent()
            && changed.last().is_none_or(|last| last != parent)
        {
            create_folder(parent).map_err(WriteError::at(parent))?;
            changed.push(parent.to_owned());
        }
        // Renamed by an earlier attempt.
        if !staged.exists() {
            continue;
        }
        lake.fault.pass().and_then(|()| fs::rename(&staged, &target)).map_err(WriteError::at(&target))?;
    }
    changed.iter().for_each(|folder| sync_folder(folder));
    remove_folder(lake, folder)
}

/// Removes a folder of staged files. The list goes last, so that a run that is complete is never taken for one that is not.
fn remove_folder(lake: &LakeLock, folder: &Path) -> Result<(), WriteError> {
    let remove = || {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name != LIST) {
                lake.fault.pass()?;
                fs::remove_file(path)?;
            }
        }
        lake.fault.pass()?;
        fs::remove_dir_all(folder)
    };
    remove().map_err(WriteError::at(folder))
}

/// Returns the folders within a folder, which may not exist.
fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = entries(folder)?;
    found.retain(|path| path.is_dir());
    found.sort();
    Ok(found)
}

/// Lets the names in a folder survive a power failure, where the system can.
fn sync_folder(folder: &Path) {
    drop(File::open(folder).and_then(|folder| folder.sync_all()));
}
