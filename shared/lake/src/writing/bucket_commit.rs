//! Makes the files of a run visible together in a bucket.
//!
//! They are uploaded below `_headrace/staging`, which no export reads. Then a list of their final names is written, and each is copied to its
//! name, within the bucket and only if no object has the name. A run that is stopped before the list is complete has changed nothing, and
//! the next run drops its objects. One that is stopped after that is completed by the next run.

use std::collections::BTreeMap;
use std::path::Path;

use headrace_core::ports::CopyOutcome;
use serde::{Deserialize, Serialize};

use super::bucket::{LakeBucket, LockedBucket};
use super::staging::{LIST, STAGING_FOLDER};
use super::{OWN_FOLDER, WriteError};
use crate::pool::for_each_item;

/// The number of files that are uploaded at the same time. Each takes the memory of two parts of an upload.
const CONCURRENT_UPLOADS: usize = 3;

/// The number of objects that are copied at the same time.
const CONCURRENT_COPIES: usize = 8;

/// A line of the list of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ListedFile {
    /// The name below the folder of the run.
    staged: String,
    /// The name below the root of the lake.
    target: String,
    /// The object that the file may replace. Without it, it replaces none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<ReplacedObject>,
}

/// An object that is replaced.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ReplacedObject {
    /// The ETag. `None` if it did not exist.
    etag: Option<String>,
}

/// Makes staged files of this machine visible, in this order. `files` are pairs of the staged and the final name. Returns the watermark
/// objects that stay as they are, because another process has changed them since they were read.
pub(super) fn commit(locked: &LockedBucket, local: &Path, run: &str, files: &[(String, String)]) -> Result<Vec<String>, WriteError> {
    let folder = format!("{OWN_FOLDER}/{STAGING_FOLDER}/{run}-{}/", locked.holder());
    for_each_item(files, vec![(); CONCURRENT_UPLOADS], |(), _, (staged, _)| {
        locked.check_lock()?;
        let object = format!("{folder}{staged}");
        locked.bucket.upload(&object, &local.join(staged)).map_err(locked.failed(&object))
    })?;
    let mut list = Vec::new();
    for (staged, target) in files {
        let replaces = locked.watermark_state(target).map(|etag| ReplacedObject { etag });
        let line = ListedFile { staged: staged.clone(), target: target.clone(), replaces };
        list.extend(serde_json::to_vec(&line).unwrap_or_default());
        list.push(b'\n');
    }
    locked.check_lock()?;
    let object = format!("{folder}{LIST}");
    if locked.bucket.put_if(&object, None, &list).map_err(locked.failed(&object))?.is_none() {
        return Err(WriteError::DamagedList(locked.shown_object(&object)));
    }
    complete(locked, &folder)
}

/// Completes or drops the runs that were interrupted. Then reads what runs have recorded.
pub(super) fn recover(locked: &LockedBucket) -> Result<(), WriteError> {
    for (folder, has_list) in run_folders(locked.bucket.as_ref()).map_err(locked.failed(STAGING_FOLDER))? {
        if has_list {
            complete(locked, &folder)?;
        } else {
            remove_folder(locked, &folder)?;
        }
    }
    locked.mirror_own_files()
}

/// Returns the folders of runs, and whether each has a list.
fn run_folders(bucket: &dyn LakeBucket) -> std::io::Result<BTreeMap<String, bool>> {
    let start = format!("{OWN_FOLDER}/{STAGING_FOLDER}/");
    let mut folders = BTreeMap::new();
    for pin in bucket.list(&start)? {
        let below = pin.object.strip_prefix(&start).unwrap_or_default();
        if let Some((run, name)) = below.split_once('/') {
            *folders.entry(format!("{start}{run}/")).or_default() |= name == LIST;
        }
    }
    Ok(folders)
}

/// Returns the number of runs that were interrupted while they made their files visible: the lake in the bucket has a part of them.
pub fn unfinished_runs_in(bucket: &dyn LakeBucket) -> std::io::Result<u64> {
    Ok(run_folders(bucket)?.values().filter(|has_list| **has_list).count() as u64)
}

/// Copies the staged objects of a run to their names, and removes its folder.
fn complete(locked: &LockedBucket, folder: &str) -> Result<Vec<String>, WriteError> {
    let list = format!("{folder}{LIST}");
    let damaged = || WriteError::DamagedList(locked.shown_object(&list));
    let (content, _) = locked.bucket.read(&list).map_err(locked.failed(&list))?.ok_or_else(damaged)?;
    let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice::<ListedFile>);
    let files: Vec<ListedFile> = lines.collect::<Result<_, _>>().map_err(|_| damaged())?;
    // Data first, and what speaks of it last.
    let (own, data): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.target.split('/').any(|segment| segment == OWN_FOLDER));
    for_each_item(&data, vec![(); CONCURRENT_COPIES], |(), _, file| copy(locked, folder, file))?;
    let mut kept = Vec::new();
    for file in own {
        match &file.replaces {
            None => copy(locked, folder, &file)?,
            Some(replaced) => {
                if !replace(locked, folder, &file, replaced)? {
                    kept.push(file.target);
                }
            }
        }
    }
    remove_folder(locked, folder)?;
    Ok(kept)
}

/// Copies a staged object to its name.
fn copy(locked: &LockedBucket, folder: &str, file: &ListedFile) -> Result<(), WriteError> {
    locked.check_lock()?;
    match locked.bucket.copy(&format!("{folder}{}", file.staged), &file.target).map_err(locked.failed(&file.target))? {
        CopyOutcome::Copied => Ok(()),
        CopyOutcome::Occupied => Err(WriteError::Occupied(locked.shown_object(&file.target))),
        CopyOutcome::Missing => Err(WriteError::DamagedList(locked.shown_object(&format!("{folder}{LIST}")))),
    }
}

/// Replaces an object. Returns false if another process has changed it since it was read.
fn replace(locked: &LockedBucket, folder: &str, file: &ListedFile, replaced: &ReplacedObject) -> Result<bool, WriteError> {
    let staged = format!("{folder}{}", file.staged);
    // Without the staged object an earlier attempt has replaced the target and was stopped later.
    let Some((content, _)) = locked.bucket.read(&staged).map_err(locked.failed(&staged))? else { return Ok(true) };
    locked.check_lock()?;
    if locked.bucket.put_if(&file.target, replaced.etag.as_deref(), &content).map_err(locked.failed(&file.target))?.is_some() {
        return Ok(true);
    }
    let current = locked.bucket.read(&file.target).map_err(locked.failed(&file.target))?;
    Ok(current.is_some_and(|(current, _)| current == content))
}

/// Removes the objects of a run. The list goes last, so that a run that is complete is never taken for one that is not.
fn remove_folder(locked: &LockedBucket, folder: &str) -> Result<(), WriteError> {
    let list = format!("{folder}{LIST}");
    let pins = locked.bucket.list(folder).map_err(locked.failed(folder))?;
    let staged: Vec<String> = pins.into_iter().map(|pin| pin.object).filter(|object| *object != list).collect();
    locked.check_lock()?;
    locked.bucket.remove(&staged).and_then(|()| locked.bucket.remove(&[list])).map_err(locked.failed(folder))
}
