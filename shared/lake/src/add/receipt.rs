//! The record of what was added to a lake, so that nothing is added twice, and the watermark.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use bytes::Bytes;
use headrace_core::lake::watermark::{WATERMARK_OBJECT, is_first_publication, parse_watermark};
use headrace_core::ports::{METADATA_LIMIT_BYTES, MetadataObject};
use headrace_core::vocab::byte_order_mark::without_byte_order_mark;
use headrace_core::vocab::clock::Millis;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::AddError;
use super::completeness::{BEGINNING, Completeness};
use super::input::ContentHash;
use super::report::WatermarkChange;
use crate::regular_file::{open_regular_file, read_regular_file};
use crate::writing::{LakeLock, OWN_FOLDER, RECEIPT_FOLDER, WriteError};

/// The member of the watermark object with the watermark.
const COMPLETE_UP_TO: &str = "completeUpTo";

/// A line of a receipt: the first is about the run, the others are about the files that were added.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReceiptLine {
    /// The number of resources of the input that were left out although they belong to the lake.
    lost: Option<u64>,
    /// The hash of the content of a file.
    file: Option<String>,
}

/// The record of a run that has added files to the lake.
#[derive(Clone, Debug)]
pub(super) struct Receipt {
    /// The identity of the run.
    pub(super) run: String,
    /// The folders of the lake that get the record, each empty or ending in `/`: the lake itself, and those of tenants.
    pub(super) folders: Vec<String>,
    /// The folders of the lake whose tenant is not recorded yet, each with the tenant.
    pub(super) tenants: Vec<(String, String)>,
    /// The hash of each file.
    files: Vec<ContentHash>,
}

impl Receipt {
    /// Creates the record of a run. The identity depends on the contents of the files, in any order, and on the options.
    pub(super) fn new(hashes: &[ContentHash], options: &str) -> Self {
        let mut sorted = hashes.to_vec();
        sorted.sort_unstable();
        let mut hasher = Sha256::new();
        hasher.update(options.as_bytes());
        sorted.iter().for_each(|hash| hasher.update(hash.to_be_bytes()));
        let digest = hasher.finalize();
        let run = hex::encode(digest.get(..size_of::<ContentHash>()).unwrap_or_default());
        Self { run, folders: vec![String::new()], tenants: Vec::new(), files: hashes.to_vec() }
    }

    /// Returns the content of the receipt.
    ///
    /// * `lost`: the number of resources that were left out although they belong to the lake.
    /// * `late`: the number of changes at or before the watermark of the lake.
    pub(super) fn to_lines(&self, now: Millis, lost: u64, late: u64) -> String {
        let mut lines = format!("{{\"addedAt\":\"{}\",\"lost\":{lost},\"late\":{late}}}\n", now.instant());
        for hash in &self.files {
            lines += &format!("{{\"file\":\"{hash:032x}\"}}\n");
        }
        lines
    }
}

/// The files that were added before.
#[derive(Clone, Debug, Default)]
pub(super) struct AddedFiles {
    /// The number of resources that each run has left out although they belong to the lake, if its receipt says so.
    runs: HashMap<String, Option<u64>>,
    files: HashSet<ContentHash>,
}

impl AddedFiles {
    /// Reads the receipts of a lake.
    pub(super) fn read(lake: &LakeLock) -> Result<Self, AddError> {
        let mut added = Self::default();
        for path in lake.own_entries(RECEIPT_FOLDER)? {
            let lost = added.read_receipt(&path).map_err(WriteError::at(&path))?;
            if let Some(run) = path.file_stem().and_then(|run| run.to_str()) {
                added.runs.insert(run.to_owned(), lost);
            }
        }
        Ok(added)
    }

    /// Reads one receipt. Returns the number of resources that the run has left out. Lines that cannot be read are skipped.
    fn read_receipt(&mut self, path: &Path) -> io::Result<Option<u64>> {
        let mut lost = None;
        for line in BufReader::new(open_regular_file(path)?).lines() {
            let Ok(parsed) = serde_json::from_str::<ReceiptLine>(&line?) else { continue };
            lost = lost.or(parsed.lost);
            self.files.extend(parsed.file.and_then(|file| ContentHash::from_str_radix(&file, 16).ok()));
        }
        Ok(lost)
    }

    /// Returns the name of a receipt below the root of the lake.
    pub(super) fn receipt_name(run: &str) -> String {
        format!("{OWN_FOLDER}/{RECEIPT_FOLDER}/{run}.ndjson")
    }

    /// Returns true if the same input was added before.
    pub(super) fn has_run(&self, run: &str) -> bool {
        self.runs.contains_key(run)
    }

    /// Returns the number of resources that a run has left out although they belong to the lake. `None` if that is not known.
    pub(super) fn lost(&self, run: &str) -> Option<u64> {
        self.runs.get(run).copied().flatten()
    }

    /// Returns true if a file with this content was added before.
    pub(super) fn has_file(&self, hash: ContentHash) -> bool {
        self.files.contains(&hash)
    }
}

/// Returns the name of the watermark object of a folder of the lake.
pub(super) fn watermark_name(folder: &str) -> String {
    format!("{folder}{WATERMARK_OBJECT}")
}

/// Returns the moment up to which a folder of the lake is complete. `None` if there is no valid watermark.
pub(super) fn current_watermark(lake: &LakeLock, folder: &str, now: Millis) -> Option<Millis> {
    let object = read_watermark(lake, &watermark_name(folder)).ok().flatten()?;
    parse_watermark(&object, now).ok()
}

/// The new content of a watermark object, if it changes.
pub(super) struct WatermarkFile {
    pub(super) content: Option<String>,
    pub(super) change: WatermarkChange,
}

impl WatermarkFile {
    /// Creates the result for an object that stays as it is.
    fn kept(change: WatermarkChange) -> Self {
        Self { content: None, change }
    }
}

/// Returns the new content of the watermark object in a folder of the lake.
///
/// An object stays if its watermark is not earlier, or if it is not valid: somebody else's mistake is not hidden by writing over it. What the
/// input says of itself does not move the watermark over a gap, and not the object of another pipeline, which knows of other sources. The
/// operator can do both. Members that other programs have written are kept.
pub(super) fn watermark_file(lake: &LakeLock, folder: &str, completeness: Completeness, now: Millis) -> WatermarkFile {
    let up_to = completeness.up_to();
    let Ok(existing) = read_watermark(lake, &watermark_name(folder)) else { return WatermarkFile::kept(WatermarkChange::KeptInvalid) };
    let mut members = serde_json::Map::new();
    let mut before = None;
    if let Some(object) = existing {
        if is_first_publication(&object) {
            return WatermarkFile::kept(WatermarkChange::KeptForSync);
        }
        let Ok(time) = parse_watermark(&object, now) else { return WatermarkFile::kept(WatermarkChange::KeptInvalid) };
        if time >= up_to {
            return WatermarkFile::kept(WatermarkChange::KeptLater(time));
        }
        before = Some(time);
        members = serde_json::from_slice(without_byte_order_mark(&object.bytes)).unwrap_or_default();
    }
    if let Completeness::Period { after, .. } = completeness {
        if members.keys().any(|name| name != COMPLETE_UP_TO) {
            return WatermarkFile::kept(WatermarkChange::KeptOfOthers);
        }
        if before.unwrap_or(BEGINNING) < after {
            return WatermarkFile::kept(WatermarkChange::KeptBeforeGap { before, after });
        }
    }
    members.insert(COMPLETE_UP_TO.to_owned(), up_to.instant().into());
    let content = format!("{}\n", serde_json::Value::Object(members));
    WatermarkFile { content: Some(content), change: WatermarkChange::Written(up_to) }
}

/// Reads a watermark object of the lake. `None` if there is none.
fn read_watermark(lake: &LakeLock, object: &str) -> io::Result<Option<MetadataObject>> {
    let Some(bucket) = lake.bucket() else { return read_file(&lake.root().join(object)) };
    let read = bucket.read_watermark(object)?;
    Ok(read.map(|content| {
        let size = content.len() as u64;
        MetadataObject { size, bytes: if size > METADATA_LIMIT_BYTES { Bytes::new() } else { content.into() } }
    }))
}

/// Reads the file of a watermark object. `None` if there is none. A link that leads nowhere is one that cannot be read.
fn read_file(path: &Path) -> io::Result<Option<MetadataObject>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let size = fs::metadata(path)
        .and_then(|metadata| if metadata.is_file() { Ok(metadata.len()) } else { Err(io::ErrorKind::InvalidData.into()) })?;
    let bytes = if size > METADATA_LIMIT_BYTES { Bytes::new() } else { read_regular_file(path)?.into() };
    Ok(Some(MetadataObject { size, bytes }))
}
