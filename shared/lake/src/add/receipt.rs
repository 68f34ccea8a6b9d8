//! The record of what was added to a lake, so that nothing is added twice, and the watermark.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use bytes::Bytes;
use headrace_core::lake::watermark::{WATERMARK_OBJECT, parse_watermark};
use headrace_core::ports::{METADATA_LIMIT_BYTES, MetadataObject};
use headrace_core::vocab::clock::Millis;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::AddError;
use super::input::ContentHash;
use super::report::WatermarkChange;
use crate::writing::{LakeLock, OWN_FOLDER, WriteError};

/// The folder of receipts, below the internal folder.
const RECEIPT_FOLDER: &str = "added";

/// A file that was added.
#[derive(Debug, Deserialize)]
struct ReceiptLine {
    /// The hash of its content.
    file: String,
}

/// The record of a run that has added files to the lake.
#[derive(Clone, Debug)]
pub(super) struct Receipt {
    /// The identity of the run.
    pub(super) run: String,
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
        Self { run, files: hashes.to_vec() }
    }

    /// Returns the content of the receipt.
    pub(super) fn to_lines(&self, now: Millis) -> String {
        let mut lines = format!("{{\"addedAt\":\"{}\"}}\n", now.instant());
        for hash in &self.files {
            lines += &format!("{{\"file\":\"{hash:032x}\"}}\n");
        }
        lines
    }
}

/// The files that were added before.
#[derive(Clone, Debug, Default)]
pub(super) struct AddedFiles {
    runs: HashSet<String>,
    files: HashSet<ContentHash>,
}

impl AddedFiles {
    /// Reads the receipts of a lake.
    pub(super) fn read(lake: &LakeLock) -> Result<Self, AddError> {
        let mut added = Self::default();
        for path in lake.own_entries(RECEIPT_FOLDER)? {
            if let Some(run) = path.file_stem().and_then(|run| run.to_str()) {
                added.runs.insert(run.to_owned());
            }
            added.read_receipt(&path).map_err(WriteError::at(&path))?;
        }
        Ok(added)
    }

    /// Reads one receipt. Lines that are not about a file are skipped.
    fn read_receipt(&mut self, path: &Path) -> io::Result<()> {
        for line in BufReader::new(File::open(path)?).lines() {
            let parsed = serde_json::from_str::<ReceiptLine>(&line?).ok();
            self.files.extend(parsed.and_then(|line| ContentHash::from_str_radix(&line.file, 16).ok()));
        }
        Ok(())
    }

    /// Returns the name of a receipt below the root of the lake.
    pub(super) fn receipt_name(run: &str) -> String {
        format!("{OWN_FOLDER}/{RECEIPT_FOLDER}/{run}.ndjson")
    }

    /// Returns true if the same input was added before.
    pub(super) fn has_run(&self, run: &str) -> bool {
        self.runs.contains(run)
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

/// The new content of a watermark object, if it changes.
pub(super) struct WatermarkFile {
    pub(super) content: Option<String>,
    pub(super) change: WatermarkChange,
}

/// Returns the new content of the watermark object in a folder of the lake, for completeness up to `complete_up_to`. Keeps an object
/// whose watermark is later or invalid, and the members that other programs have written.
pub(super) fn watermark_file(root: &Path, folder: &str, complete_up_to: Millis) -> WatermarkFile {
    let existing = fs::read(root.join(watermark_name(folder))).ok();
    let mut members = serde_json::Map::new();
    if let Some(bytes) = existing {
        let size = bytes.len() as u64;
        let object = MetadataObject { size, bytes: if size > METADATA_LIMIT_BYTES { Bytes::new() } else { bytes.clone().into() } };
        match parse_watermark(&object, Millis(u64::MAX / 2)) {
            Ok(before) if before >= complete_up_to => return WatermarkFile { content: None, change: WatermarkChange::KeptLater(before) },
            Ok(_) => members = serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes)).unwrap_or_default(),
            // Somebody else's mistake is not hidden by writing over it.
            Err(_) => return WatermarkFile { content: None, change: WatermarkChange::KeptInvalid },
        }
    }
    members.insert("completeUpTo".to_owned(), complete_up_to.instant().into());
    let content = format!("{}\n", serde_json::Value::Object(members));
    WatermarkFile { content: Some(content), change: WatermarkChange::Written(complete_up_to) }
}
